"""What a situation is, and in which arms it is run beside stock."""

from __future__ import annotations

import functools
import importlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from lightning_sagemaker.changes import CHANGES

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

# Jobs: one process; two processes of one host under torchrun; two hosts without a launcher, one process on each, who
# share a disk, which SageMaker's do not; the same with a disk for each.
JobName = Literal["one", "two", "hosts", "disks"]
MODULES = (  # of `situations`, by subject
    "callbacks",
    "checkpoints",
    "cli",
    "data",
    "disks",
    "ends",
    "fabric",
    "folders",
    "glue",
    "hosts",
    "launchers",
    "loops",
    "metrics",
    "optimization",
    "platforms",
    "programs",
    "reductions",
    "restarts",
    "started",
    "surroundings",
    "tensors",
    "worlds",
)
STOCK = "stock"
ABORTED = "terminate called without an active exception"  # in stock, after a process has trained: pytorch#190489
# Arms that are compared with stock's, and the variables that make them. "off" has every change switched off but the
# first, so what differs there is a change without a row, or a row that cannot be switched off.
ARMS: dict[str, dict[str, str]] = {
    STOCK: {"LIGHTNING_SAGEMAKER_AUTOLOAD": "0"},
    "plugin": {},
    "metrics": {"LIGHTNING_SAGEMAKER_METRICS": "1"},
    "resume": {"LIGHTNING_SAGEMAKER_RESUME": "1"},
    "export": {"LIGHTNING_SAGEMAKER_EXPORT": "best"},
    "off": {"LIGHTNING_SAGEMAKER_DISABLE": ",".join(c.name for c in CHANGES if c.name != "environment")},
}
_ON_REQUEST = {
    "metric_lines": "metrics",
    "progress_bar": "metrics",
    "resume": "resume",
    "export": "export",
}  # rows that only one arm asks for
ANY = "<any>"  # an allowed value that the test does not know; it has to differ from stock's all the same


@dataclass(frozen=True)
class Situation:
    """Something that a user's script does.

    Attributes:
        run: Does it, in a folder of its own, and returns what JSON can hold; it is given the number of the start.
        job: Which job it needs.
        arms: In which arms it is compared with stock.
        allowed: By row of the table of changes, what differs where that row is on: key of the record, value.
        exit_code: With which the script ends in stock.
        starts: How often the script is started.
        new_disk: Whether a later start finds the job's checkpoint folder only, as in a new container.
        nightly: Whether it is dear, and another shows the same with other numbers, a launcher, a strategy or Fabric.
    """

    run: Callable[[int], Any]
    job: JobName
    arms: tuple[str, ...]
    allowed: Mapping[str, Mapping[str, Any]]
    exit_code: int
    starts: int
    new_disk: bool
    nightly: bool

    @property
    def name(self) -> str:
        return self.run.__name__

    def allowances(self, arm: str) -> dict[str, Mapping[str, Any]]:
        """What may differ in an arm, by the rows that are on in it."""
        return {
            row: values
            for row, values in self.allowed.items()
            if arm != "off" and _ON_REQUEST.get(row, arm) == arm and values
        }


SITUATIONS: dict[str, Situation] = {}


def situation(
    job: JobName = "one",
    *,
    arms: tuple[str, ...] = ("plugin", "metrics", "off"),
    allowed: Mapping[str, Mapping[str, Any]] | None = None,
    exit_code: int = 0,
    starts: int = 1,
    new_disk: bool = False,
    nightly: bool = False,
) -> Callable[[Callable[[int], Any]], Callable[[int], Any]]:
    """Register a situation; see :class:`Situation`."""
    rows = {change.name for change in CHANGES}
    if unknown := set(allowed or ()) - rows:
        raise ValueError(f"{sorted(unknown)} are no rows of the table of changes: {sorted(rows)}")

    def register(run: Callable[[int], Any]) -> Callable[[int], Any]:
        assert run.__name__ not in SITUATIONS, run.__name__
        SITUATIONS[run.__name__] = Situation(run, job, arms, allowed or {}, exit_code, starts, new_disk, nightly)
        return run

    return register


WITH_RESUME = ("plugin", "metrics", "resume", "off")
ONCE = ("plugin",)  # for what takes seconds


# Stock assumes a disk that all hosts share, and fails where the second host looks for the file.
SENT = {"same_checkpoint": {"exit code": 0, "rank *: *": ANY, "files in*": ANY, "content of*": ANY}}


def program(*jobs: JobName, reloads: bool = False) -> Callable[[Callable[[int], Any]], Callable[[int], Any]]:
    """Register a program once for each job, with the job's name after its own; nightly where two processes show it.

    Args:
        jobs: Which jobs it is run in.
        reloads: Whether all ranks load what rank zero has written: in stock that fails where disks are not shared.
    """

    def register(run: Callable[[int], Any]) -> Callable[[int], Any]:
        for job in jobs:
            named = functools.partial(run)
            functools.update_wrapper(named, run)
            named.__name__ = f"{run.__name__}_{job}"  # type: ignore[attr-defined]
            fails = reloads and job == "disks"
            nightly = "two" in jobs and job != "two"
            situation(job, arms=ONCE, exit_code=int(fails), allowed=SENT if fails else None, nightly=nightly)(named)
        return run

    return register


def load() -> dict[str, Situation]:
    """All situations by name."""
    for name in MODULES:
        importlib.import_module(f"tests.beside_stock.situations.{name}")
    return SITUATIONS
