"""Progress of the training functions, for the CLI or a notebook to display."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from grm_service.serving.service import Service
    from grm_service.training.rejection_sampling import Selection


class TrainingCallback:
    """Receives the progress of a stage. Override the methods you need; by default they do nothing."""

    def on_rows_skipped(self, counts: Mapping[str, int]) -> None:
        """Handle the rows of the data that are not trained on, counted by reason."""

    def on_files_unread(self, names: Sequence[str]) -> None:
        """Handle the files in the data's folder that are no data files."""

    def on_engine_loading(self, service: Service) -> None:
        """Handle the start of the engine that samples."""

    def on_sampling_begin(self, remaining: int, total: int) -> None:
        """Handle the start of sampling; `total - remaining` items are in the file already."""

    def on_item_sampled(self) -> None:
        """Handle the end of one item."""

    def on_sampling_end(self) -> None:
        """Handle the end of sampling, also after an error."""

    def on_trajectories_selected(self, selection: Selection) -> None:
        """Handle the result of rejection sampling."""

    def on_trajectories_skipped(self, counts: Mapping[str, int]) -> None:
        """Handle the trajectories that a meta RM is not trained on, counted by reason."""

    def on_train_begin(self, counts: Mapping[str, int]) -> None:
        """Handle the start of the trainer; `counts` has the sizes, such as "trainable parameters"."""
