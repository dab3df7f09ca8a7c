"""This package's own settings: what each means, and the function that reads it, which the package itself goes by."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from lightning_sagemaker.changes import VARIABLE as DISABLE
from lightning_sagemaker.changes import disabled
from lightning_sagemaker.checkpoint.export import VARIABLE as EXPORT
from lightning_sagemaker.checkpoint.export import asked_for
from lightning_sagemaker.environment import RANK_PROCESS
from lightning_sagemaker.locking.directory import base_folder
from lightning_sagemaker.metrics import INTERVAL, SECONDS
from lightning_sagemaker.metrics import VARIABLE as METRICS
from lightning_sagemaker.settings import RESUME, seconds, switch
from lightning_sagemaker.smddp.policy import VARIABLE as ON_MISSING
from lightning_sagemaker.smddp.policy import read_policy

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from lightning_sagemaker.findings import Level

PREFIX = "LIGHTNING_SAGEMAKER_"
AUTOLOAD = f"{PREFIX}AUTOLOAD"
# Set by us for processes of ours, and by whom, in words.
OF_COMMANDS = {
    f"{PREFIX}STANDIN_": "of the simulation's stand-in for SMDDP",
    f"{PREFIX}SIMULATION": "of `simulate`, by which it knows its processes",
    RANK_PROCESS: "of a rank, for the processes that it starts",
}


@dataclass(frozen=True)
class Setting:
    """A variable of ours.

    Attributes:
        variable: Its name.
        default: What holds where it is unset or empty, in words.
        meaning: What it does.
        read: What the package reads it with; raises where it cannot.
        level: What it means that it cannot be read.
    """

    variable: str
    default: str
    meaning: str
    read: Callable[[Mapping[str, str]], object] = lambda _: None
    level: Level = "fail"

    def problem(self, environ: Mapping[str, str]) -> str | None:
        """What is wrong with its value in an environment; ``None`` where nothing is."""
        try:
            self.read(environ)
        except (OSError, ValueError) as error:
            return str(error)
        return None


def _seconds(name: str, default: float, meaning: str) -> Setting:
    variable = PREFIX + name
    return Setting(variable, f"{default:g}", meaning, lambda environ: seconds(variable, default, environ))


SETTINGS = (
    Setting(
        AUTOLOAD,
        "1",
        "0 switches the plugin off",
        lambda environ: switch(AUTOLOAD, environ, default=True),
        "warn",  # it stays on
    ),
    Setting(DISABLE, "none", "changes of Lightning's behaviour that are left out", disabled, "warn"),  # all stay on
    Setting(EXPORT, "none", "best, last: the checkpoint that rank 0 copies into the job's model", asked_for),
    _seconds("HEARTBEAT", 300, "seconds of silence after which the job ends"),
    Setting(f"{PREFIX}LOCK_DIR", "in shared memory, or TMPDIR", "folder of lock files", base_folder),
    Setting(
        METRICS,
        "0",
        "1: rank 0 prints progress and logged metrics where the job page finds them",
        lambda environ: switch(METRICS, environ),
    ),
    Setting(
        ON_MISSING,
        "native",
        'what strategy="smddp" does where SMDDP cannot be used',
        lambda environ: read_policy(None, environ),
    ),
    _seconds(INTERVAL.removeprefix(PREFIX), SECONDS, "seconds between two lines of progress, with METRICS"),
    _seconds("REACHABILITY", 120, "seconds of no answer after which the job ends"),
    Setting(
        RESUME,
        "0",
        "1: each fit continues from the newest checkpoint of its own place",
        lambda environ: switch(RESUME, environ),
    ),
    Setting(f"{PREFIX}RUN_ID", "none", "names a run outside jobs"),
)


def is_on(name: str, environ: Mapping[str, str], *, default: bool = False) -> bool:
    """Whether a switch is on; what cannot be read is as if it were not there, and a finding of its own."""
    try:
        return switch(name, environ, default=default)
    except ValueError:
        return default
