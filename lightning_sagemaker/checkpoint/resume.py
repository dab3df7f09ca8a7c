"""The checkpoint that a ``fit`` continues from with ``LIGHTNING_SAGEMAKER_RESUME=1``.

Each Trainer continues from what the same Trainer of an earlier start has left, and takes nobody else's. It is known by

* its place (folder, logger's name), see :mod:`lightning_sagemaker.checkpoint.place`;
* its number among the Trainers of a process that fit in this place (folds, pretraining and finetuning);
* the process: what another training script of this very container has written, or two of an earlier one, is left alone.
  Ranks that Lightning spawns or forks, anew for each Trainer, count as the process that starts them.

Checkpoints carry these as a mark. One without a mark, written before it was asked for, counts as the first Trainer's.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import re
from collections import Counter, defaultdict
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from lightning_sagemaker import processes
from lightning_sagemaker.changes import is_on
from lightning_sagemaker.checkpoint.newest import age, candidates, checkpoint_folder, read_all
from lightning_sagemaker.checkpoint.place import candidate_places, persistent_place
from lightning_sagemaker.checkpoint.reading import read
from lightning_sagemaker.job import in_training_job, is_training_job
from lightning_sagemaker.messages import log, say
from lightning_sagemaker.settings import RESUME, switch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from lightning_sagemaker.checkpoint.reading import Facts

_TRAININGS = "trainings.json"
_HINT_OWN_FOLDERS = "HINT: give each training a logger name, a `dirpath` or a `default_root_dir` of its own."


@dataclass(frozen=True)
class CheckpointOwner:
    """The owner of a checkpoint."""

    place: str  # pattern of its folder, below the job's checkpoint folder
    training: int  # number of the Trainer among those that fit in this place in one process, from 1
    start: str  # of the job's container; empty where nothing tells one from the next
    process: str  # or the launcher that started all ranks of a host


_owners: WeakKeyDictionary[object, CheckpointOwner] = WeakKeyDictionary()  # by Trainer
_trainings: Counter[str] = Counter()  # by place
_starters: dict[int, tuple[str, str]] = {}  # by id of a rank that Lightning has started: `_process()` of who started it


def is_asked_for() -> bool:
    """Whether training resumes after a restart."""
    return switch(RESUME) and is_on("resume") and is_training_job(os.environ)


def begin(trainer: Any) -> None:
    """Count a Trainer among those that fit in its place; a second call does nothing."""
    if trainer not in _owners:
        pattern = persistent_place(next(candidate_places(trainer))).pattern
        root = checkpoint_folder()
        key = str(Path(pattern).relative_to(root)) if root and Path(pattern).is_relative_to(root) else pattern
        _trainings[key] += 1
        _owners[trainer] = CheckpointOwner(key, _trainings[key], *_process())


def save_trainings(folder: str) -> None:
    """Tell the ranks that this process starts, or who started this one, which Trainers have fit so far."""
    with suppress(OSError):
        Path(folder, _TRAININGS).write_text(json.dumps([_trainings, *_process()]), encoding="utf-8")


def load_trainings(folder: str, *, as_rank: bool) -> bool:
    """Learn which Trainers have fit in the process that started this rank, or in the ranks that this one started.

    Returns whether anybody counts them.
    """
    with suppress(OSError, ValueError):  # a rank was killed while it wrote
        trainings, start, process = json.loads(Path(folder, _TRAININGS).read_bytes())
        _trainings.update(Counter(trainings) - _trainings)
        if as_rank:
            _starters[os.getpid()] = start, process
        return True
    return False


def mark_of(trainer: Any) -> dict[str, str | int] | None:
    """The owner's entry in a checkpoint of this Trainer; ``None`` if it has run no ``fit`` that can be resumed."""
    mark = _owners.get(trainer)
    return None if mark is None else asdict(mark)


def checkpoint_to_resume(trainer: Any) -> str | None:
    """Newest complete checkpoint of an earlier start of this Trainer that is ahead of it."""
    mine = _owners[trainer]
    # All ranks look, for jobs in which nobody compares what they found; one of them speaks.
    note = log.warning if trainer.is_global_zero else log.debug
    found = {path: facts for path, facts in _own(trainer, mine, note) if _can_continue(trainer, path, facts, note)}
    starts = defaultdict(set)
    for facts in found.values():
        starts[facts.mark.get("start")].add(facts.mark.get("process"))
    if clash := sorted(str(start) for start, writers in starts.items() if start and len(writers) > 1):
        note(
            "Several training processes of an earlier start (%s) wrote checkpoints in %s, and nothing tells which of"
            " them this one continues: it starts from the beginning. %s",
            ", ".join(clash),
            mine.place,
            _HINT_OWN_FOLDERS,
        )
        return None
    newest = max(found, key=lambda path: age(path, found[path]), default=None)
    if newest is None and trainer.is_global_zero and not trainer.global_step:  # a later fit goes on from where it is
        say("%s=1: training starts from the beginning: %s", RESUME, _nothing(trainer))
    return None if newest is None else str(newest)


def say_continued(path: str) -> None:
    """Log on rank zero what training continues from, after it was loaded."""
    facts = read(Path(path))
    say("%s=1: training continues from %s (step %d, epoch %d)", RESUME, path, facts.step, facts.epoch)


def _can_continue(trainer: Any, path: Path, facts: Facts, note: Callable[..., None]) -> bool:
    """Whether a checkpoint is ahead of a fit's progress, and not beyond its end."""
    if facts.step <= trainer.global_step:
        return False  # a later fit of the same Trainer goes on from where it is
    limits = (("max_steps", trainer.max_steps, facts.step), ("max_epochs", trainer.max_epochs, facts.epoch))
    beyond = [f"{name}={most}" for name, most, at in limits if most is not None and -1 < most < at]
    if beyond:  # Lightning refuses it; it may be of a later fit of this Trainer, which has other limits
        note(
            "Checkpoint %s is skipped: it is of step %d, epoch %d, which is beyond %s",
            *(path, facts.step, facts.epoch, " and ".join(beyond)),
        )
    return not beyond


def _own(trainer: Any, mine: CheckpointOwner, note: Callable[..., None]) -> Iterator[tuple[Path, Facts]]:
    """Complete checkpoints of this Trainer, whatever start of the job left them."""
    siblings = set()
    folders = [folder for place in candidate_places(trainer) if "://" not in place.folder for folder in place.folders()]
    paths = {path: None for folder in folders for path in candidates(folder)}
    for path, facts in read_all(paths, note).items():
        mark = {"place": mine.place, "training": 1, "start": "", "process": ""} | dict(facts.mark)
        if (mark["place"], mark["training"]) != (mine.place, mine.training):
            continue
        if mine.start and mark["start"] == mine.start and mark["process"] != mine.process:
            siblings.add(path.parent)
            continue
        yield path, facts
    for folder in sorted(siblings):
        note(
            "Another training process of this container wrote checkpoints in %s, which this one does not continue. %s",
            folder,
            _HINT_OWN_FOLDERS,
        )


def _nothing(trainer: Any) -> str:
    if checkpoint_folder() is None:
        return (
            "the job has no checkpoint folder. HINT: give it a place for checkpoints in S3 (CheckpointConfig, or"
            " checkpoint_s3_uri)."
        )
    places = sorted({re.sub(r"\*", "...", place.pattern) for place in candidate_places(trainer)})
    if urls := [place for place in places if "://" in place]:
        from lightning_sagemaker.redaction import redact  # its patterns take long, and few have a URL

        where = redact(urls[0], os.environ)
        return f"no checkpoint is looked for in {where}. HINT: `fit(ckpt_path=...)` resumes from a URL."
    return f"there is no complete checkpoint of it in {' or '.join(places)}"


def _process() -> tuple[str, str]:
    """The start of the job's container, and this process's identity in it; empty where nothing tells."""
    if os.getpid() in _starters:
        return _starters[os.getpid()]
    if not _has_container():
        return "", ""
    try:
        identity = ":".join(map(str, processes.run_leader()))
    except RuntimeError:
        return "", ""
    # The script has started it for a fold, or a trial; but for a function that torch's agent runs, and starts again.
    if multiprocessing.parent_process() is not None and "TORCHELASTIC_RUN_ID" not in os.environ:
        identity += f":{os.getpid()}:{processes.start_of(os.getpid())}"
    return processes.container(), identity


def _has_container() -> bool:
    """Whether the job has a container of its own; if not, a machine tries jobs, one after the other."""
    with suppress(OSError):  # another user's process
        entries = (processes.PROC / "1" / "environ").read_bytes().decode(errors="replace").split("\0")
        return in_training_job(dict(entry.partition("=")[::2] for entry in entries))
    return False
