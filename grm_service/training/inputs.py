"""Inputs of the training functions: preference items and files of trajectories, and their hashes."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from grm_service.engines.files.download import sha256
from grm_service.errors import BadTask
from grm_service.evaluation.dataset import Item, subset
from grm_service.evaluation.loading import load
from grm_service.profiles.catalog import format_fingerprint
from grm_service.profiles.profile import Profile
from grm_service.training.callbacks import TrainingCallback
from grm_service.training.trajectories import read_trajectories


def read_items(data: str | Path, limit: int | None, callback: TrainingCallback) -> list[Item]:
    """Return the items that have a single best response, at most `limit`, each source in proportion.

    Raises BadTask if the data cannot be read.
    """
    dataset = load(str(data))
    # A tie has no label to learn.
    items = [item for item in dataset.items if len(item.correct) == 1]
    callback.on_rows_skipped(dataset.left_out | {"no single best response": len(dataset.items) - len(items)})
    callback.on_files_unread(dataset.unread)
    return items if limit is None else subset(items, limit)


def require_same_format(profile: Profile, files: Iterable[Path]) -> None:
    """Raise BadTask if a file's trajectories were sampled with another prompt or output format."""
    for file in files:
        setup, _ = read_trajectories(file)
        if setup.form != format_fingerprint(profile):
            raise BadTask(
                f"{file} was sampled with the profile {setup.profile}, whose prompt or output format is not "
                f"that of {profile.name}: sample it again"
            )


def input_hashes(
    items: Sequence[Item], trajectories: Sequence[Path], general: str | Path | None = None
) -> Mapping[str, str]:
    """Return the SHA-256 of every input that the result depends on, by its name in the manifest."""
    files = {f"trajectories_{i}": file for i, file in enumerate(trajectories)}
    if general is not None:
        files["general"] = Path(general)
    hashes = {name: sha256(file) for name, file in files.items()}
    # The items are hashed and not their file: data can also be a folder or a dataset of the hub.
    lines = "\n".join(f"{item.id} {item.digest}" for item in items)
    return hashes | {"data": hashlib.sha256(lines.encode()).hexdigest()}
