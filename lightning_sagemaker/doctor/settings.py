"""This package's own settings: what each means, and whether its value can be read."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

PREFIX = "LIGHTNING_SAGEMAKER_"
OF_SIMULATE = f"{PREFIX}STANDIN_"  # set for the stand-in of SMDDP


@dataclass(frozen=True)
class Setting:
    """A variable of ours.

    Attributes:
        name: Its name without ``LIGHTNING_SAGEMAKER_``.
        default: What holds where it is unset or empty, in words.
        meaning: What it does.
        accepts: Whether the package can read a value.
        expected: What it expects, in words.
    """

    name: str
    default: str
    meaning: str
    accepts: Callable[[str], bool] = lambda _: True
    expected: str = ""

    @property
    def variable(self) -> str:
        """The whole name."""
        return PREFIX + self.name


def _is_seconds(text: str) -> bool:
    try:
        return 0 <= float(text) < float("inf")
    except ValueError:
        return not text.strip()


def _is_folder(text: str) -> bool:
    try:
        return Path(text).is_dir()
    except (OSError, ValueError):  # too long, or no path at all
        return False


_SECONDS = "a number of seconds, 0 to switch it off"
SETTINGS = (
    Setting("AUTOLOAD", "1", "0 switches the plugin off"),
    Setting("HEARTBEAT", "300", "seconds of silence after which the job ends", _is_seconds, _SECONDS),
    Setting("LOCK_DIR", "in shared memory, or TMPDIR", "folder of lock files", _is_folder, "a folder"),
    Setting(
        "ON_MISSING",
        "native",
        'what strategy="smddp" does where SMDDP cannot be used',
        lambda text: text in ("native", "error"),
        "'native' or 'error'",
    ),
    Setting(
        "METRICS",
        "0",
        "1: rank 0 prints logged metrics where the job page finds them",
        lambda text: text in ("", "0", "1"),
        "1, to print them, or 0",
    ),
    Setting("REACHABILITY", "120", "seconds of no answer after which the job ends", _is_seconds, _SECONDS),
    Setting(
        "RESUME",
        "0",
        "1: the first fit continues from the newest checkpoint",
        lambda text: text in ("0", "1"),
        "1, to continue from the newest checkpoint, or 0",
    ),
    Setting("RUN_ID", "none", "names a run outside jobs"),
)
