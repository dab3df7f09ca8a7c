"""The folders of one Trainer's checkpoints, in this start of the job and in earlier ones.

By default that is where Lightning puts them, and nothing here moves them. Where ``LIGHTNING_SAGEMAKER_RESUME=1`` asks
for training to go on after a restart, a folder that would be lost with the container is replaced by the same relative
one below the job's checkpoint folder, which SageMaker keeps.
"""

from __future__ import annotations

import functools
import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightning_sagemaker.changes import is_on
from lightning_sagemaker.checkpoint.newest import CONFIG, checkpoint_folder
from lightning_sagemaker.folders import file_system_of, is_network
from lightning_sagemaker.job import base_dir
from lightning_sagemaker.messages import log, say
from lightning_sagemaker.settings import RESUME, switch

if TYPE_CHECKING:
    from collections.abc import Iterator

_ANY = "*"  # stands for the version of a logger
_instead: dict[str, str] = {}  # Lightning's own folder, by the one that is in its place


@dataclass(frozen=True)
class Place:
    """A folder of checkpoints that belongs to one Trainer.

    In another start, a logger's version is another one where its folder was kept, or is random (Weights & Biases,
    MLflow), so a ``*`` stands for it in the pattern.
    """

    folder: str  # in this start of the job
    pattern: str

    def folders(self) -> list[Path]:
        """Folders of this place that exist, of this start of the job and of earlier ones."""
        head, star, tail = self.pattern.partition(f"{os.sep}{_ANY}{os.sep}")
        if not star:
            return [Path(head)]
        # Its own one too: a version that is empty, or has a folder in it, is no part that the pattern finds.
        found = {*Path(head).glob(f"{_ANY}{os.sep}{tail}"), Path(self.folder)}
        return [folder for folder in sorted(found) if folder.is_dir()]


def lightning_place(trainer: Any) -> Place:
    """Where Lightning puts a Trainer's checkpoints, unless its ``ModelCheckpoint`` has been given a folder."""
    root: str = trainer.default_root_dir
    names: list[tuple[str, ...]] = [()]
    if trainer.loggers:
        with suppress(Exception):  # a logger's own; where Lightning needs a name or version, it asks and says so
            logger = trainer.loggers[0]
            version = logger.version if isinstance(logger.version, str) else f"version_{logger.version}"
            names = [(str(logger.name), part) for part in (version, _ANY)]
            root = root if logger.save_dir is None else logger.save_dir
    folders = [os.path.join(root, *parts, "checkpoints") for parts in names]  # noqa: PTH118 - may be a URL
    return Place(folders[0], folders[-1])


def persistent_place(place: Place, root: Path | None = None) -> Place:
    """The folder below the job's checkpoint folder that replaces one outside it; one below it stays itself."""
    root = checkpoint_folder() if root is None else root
    return place if root is None else Place(*(_below(root, path) for path in (place.folder, place.pattern)))


def replacement(folder: str) -> str:
    """The folder for Lightning's own one, which would be lost."""
    found = persistent_place(Place(folder, folder)).folder
    _instead[found] = folder
    return found


def is_lost(folder: str) -> bool:
    """Whether a folder is lost when the container ends, although the job has a checkpoint folder that is kept."""
    root = checkpoint_folder()
    if root is None or "://" in folder:
        return False
    if _is_below(folder, root, *_uploaded()):
        return False
    path = _real(folder)
    there = next(parent for parent in (path, *path.parents) if parent.exists())
    kind = file_system_of(there) if there.is_dir() else None
    return kind is None or not is_network(kind)  # FSx and EFS stay


def link(folder: str) -> None:
    """Replace a folder that the script chose, and that would be lost, by a link to its place below the job's folder.

    So both hold: the script finds its files where it put them, also those of earlier starts, and a restart keeps them.
    A folder that has something in it stays as it is.
    """
    path, target = Path(folder), Path(persistent_place(Place(folder, folder)).folder)
    with suppress(OSError):  # another process of this host has made it, or the file system has no links
        target.mkdir(parents=True, exist_ok=True)
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_dir() and not path.is_symlink():
            path.rmdir()  # which does nothing to one that is not empty
        path.symlink_to(target, target_is_directory=True)


@functools.cache
def say_where(folder: str) -> None:
    """Log once where checkpoints are, if that is not Lightning's folder, or if they will be lost there."""
    try:
        root = checkpoint_folder()
    except ValueError as error:  # nobody asked for that file, so training goes on without it
        log.warning("Whether checkpoints in %s are lost with this container is unknown: %s", folder, error)
        return
    if root is None:
        return
    if is_lost(folder):
        if (base_dir(os.environ) / "input" / "config" / CONFIG).is_file() and is_on("checkpoint_hint"):
            log.warning(
                "Checkpoints lie in %s, which is lost with this container: SageMaker keeps %s (checkpointconfig.json)."
                " HINT: give ModelCheckpoint a `dirpath` below it; or leave `dirpath` out and set %s=1, and training"
                " also continues after a restart.",
                *(folder, root, RESUME),
            )
    elif switch(RESUME) and _is_below(folder, *_uploaded()) and not _is_below(folder, root):
        log.warning(
            "%s=1, but checkpoints lie in %s, which SageMaker uploads at the job's end, and does not bring back at a"
            " restart: training would start from the beginning. HINT: a folder below %s, or none (`dirpath`,"
            " `default_root_dir`).",
            *(RESUME, folder, root),
        )
    elif Path(folder).is_symlink() and switch(RESUME):
        say("%s=1: %s is a link to %s, which SageMaker keeps", RESUME, folder, Path(folder).readlink())
    elif folder in _instead:
        say("%s=1: checkpoints lie in %s, which SageMaker keeps, instead of %s", RESUME, folder, _instead[folder])


def candidate_places(trainer: Any) -> Iterator[Place]:
    """Places that may have a Trainer's checkpoints of earlier starts, the likeliest first, each once."""
    given = [getattr(callback, "dirpath", None) for callback in trainer.checkpoint_callbacks]
    seen = set()
    for dirpath in given or [None]:
        place = _named(trainer, dirpath)
        # What SIGTERM left lies below the job's folder, wherever the others are.
        for found in (place, persistent_place(place)):
            if found not in seen:
                seen.add(found)
                yield found


def _named(trainer: Any, dirpath: Any) -> Place:
    """The place of a ``ModelCheckpoint``, which knows its folder from its first ``setup`` on, whoever chose it."""
    stock = lightning_place(trainer)
    defaults = (stock, persistent_place(stock))
    given = Place(str(dirpath), str(dirpath))
    return next((place for place in defaults if dirpath in (None, place.folder)), given)


def _uploaded() -> tuple[Path, Path]:
    """Folders that SageMaker uploads at the job's end, and brings back to no restart."""
    return base_dir(os.environ) / "model", base_dir(os.environ) / "output"


def _is_below(folder: str, *parents: Path) -> bool:
    return any(_real(folder).is_relative_to(_real(parent)) for parent in parents)


def _below(root: Path, folder: str) -> str:
    path = _real(folder)
    # Below the working directory, as that may be named by the time of this start (Hydra).
    above = next(above for above in (_real(root), _real("."), Path(path.anchor)) if path.is_relative_to(above))
    return str(root / path.relative_to(above))


def _real(path: str | Path) -> Path:
    # Lightning resolves links in a `dirpath`; the pattern's star is a name like others here.
    return Path(os.path.realpath(Path(path).expanduser()))
