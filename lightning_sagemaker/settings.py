"""This package's settings, one row each: environment variables, what they may be, and what they do.

Those who go by them, the doctor and docs/settings.md all read this table.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

PREFIX = "LIGHTNING_SAGEMAKER_"
AUTOLOAD = f"{PREFIX}AUTOLOAD"
DISABLE = f"{PREFIX}DISABLE"
EXPORT = f"{PREFIX}EXPORT"
HEARTBEAT = f"{PREFIX}HEARTBEAT"
LOCK_DIR = f"{PREFIX}LOCK_DIR"
METRICS = f"{PREFIX}METRICS"
ON_MISSING = f"{PREFIX}ON_MISSING"
PROGRESS = f"{PREFIX}PROGRESS"
REACHABILITY = f"{PREFIX}REACHABILITY"
RESUME = f"{PREFIX}RESUME"
RUN_ID = f"{PREFIX}RUN_ID"

_SWITCH = {"1": True, "true": True, "yes": True, "on": True, "0": False, "false": False, "no": False, "off": False}


class Setting(NamedTuple):
    """A variable of ours."""

    name: str  # the variable
    default: str  # what holds where it is unset or empty: 0 or 1 of a switch, a number of seconds, words
    # What it may be; ``switch`` and ``seconds`` have a reader of their own, as have single words.
    values: str | tuple[str, ...]
    meaning: str  # what it does
    page: str  # where more is said of it, within docs/
    read_in: str  # who reads it, and when


_ROWS = (
    Setting(
        *(AUTOLOAD, "1", "switch", "0 switches the plugin off, as if it were not installed"),
        *("detection.md#is-it-loaded", "`_autoload.py`, when torch is imported"),
    ),
    Setting(
        *(DISABLE, "none", "names of changes, separated by commas"),
        "leaves these changes of Lightning's behaviour out, one by one",
        *("changes.md", "`changes.py`, when Lightning is imported, and where the change is made"),
    ),
    Setting(
        *(EXPORT, "none", ("best", "last")),
        "the checkpoint that rank 0 copies into the job's model when a `fit` has ended",
        "checkpoints.md#export-to-the-jobs-model",
        "`checkpoint/export.py`, when a Trainer is made, and after each `fit`",
    ),
    Setting(
        *(HEARTBEAT, "300", "seconds", "silence of a rank or host after which the job ends"),
        *("network.md#silence", "`distributed/heartbeat.py`, when a process group is made"),
    ),
    Setting(
        *(
            LOCK_DIR,
            "/dev/shm, else TMPDIR, else /tmp",  # noqa: S108 - says where, and opens nothing
            "a folder on the host's own disk, the same for all its processes",
        ),
        *("where lock files lie", "locking.md", "`locking/directory.py`, at each lock"),
    ),
    Setting(
        *(METRICS, "0", "switch"),
        "rank 0 prints progress and logged metrics where the job page's definitions find them; `submit` sets 1",
        *("metrics.md", "`patches/metrics.py`, when a Trainer is made"),
    ),
    Setting(
        *(ON_MISSING, "native", ("native", "error")),
        'what `strategy="smddp"` does where SMDDP cannot be used; an argument `on_missing=` comes first',
        *("smddp.md#when-the-library-is-missing", "`smddp/availability.py`, when a strategy is made"),
    ),
    Setting(
        *(PROGRESS, "30", "seconds", f"time between two lines of progress within an epoch, with {METRICS}=1"),
        *("metrics.md", "`patches/metrics.py`, when a Trainer is made"),
    ),
    Setting(
        *(REACHABILITY, "120", "seconds", "no answer of a host after which the job ends"),
        *("network.md", "`distributed/rendezvous.py`, when a process group is made, and in torchrun's agents"),
    ),
    Setting(
        *(RESUME, "0", "switch"),
        "checkpoints lie where a restart finds them, and each `fit` continues from the newest of its own place;"
        " `submit --spot` sets 1",
        *("checkpoints.md", "`checkpoint/resume.py`, at each `fit`"),
    ),
    Setting(
        *(RUN_ID, "none", "any text", "names a run outside jobs, for processes that shall share locks"),
        *("locking.md#who-shares-a-lock", "`locking/directory.py`, at each lock"),
    ),
)
SETTINGS = {row.name: row for row in _ROWS}


def seconds(name: str, environ: Mapping[str, str] | None = None) -> float:
    """Value of a variable in seconds; 0 means off."""
    text, default = _text(name, environ), SETTINGS[name].default
    try:
        value = float(text or default)
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise _malformed(name, text, "a number of seconds, 0 to switch it off", f"{default} s")
    return value


def switch(name: str, environ: Mapping[str, str] | None = None) -> bool:
    """Whether a variable switches something on."""
    text, default = _text(name, environ), SETTINGS[name].default
    value = _SWITCH.get((text or default).lower())
    if value is None:
        raise _malformed(name, text, "1 (or true, yes, on) or 0 (or false, no, off)", default)
    return value


def word(name: str, environ: Mapping[str, str] | None = None) -> str | None:
    """The word that a variable is; ``None`` where it is unset or empty, and has no default."""
    text, default, words = _text(name, environ), SETTINGS[name].default, SETTINGS[name].values
    if text and text not in words:
        raise _malformed(name, text, " or ".join(words), default)
    return text or (default if default in words else None)


def check(name: str, environ: Mapping[str, str]) -> None:
    """Read a variable as those do who go by it."""
    values = SETTINGS[name].values
    if isinstance(values, tuple):
        word(name, environ)
    elif values in ("switch", "seconds"):
        (switch if values == "switch" else seconds)(name, environ)


def _text(name: str, environ: Mapping[str, str] | None) -> str:
    return (os.environ if environ is None else environ).get(name, "").strip()


def _malformed(name: str, text: str, expected: str, default: str) -> ValueError:
    return ValueError(
        f"Environment variable `{name}`={text!r}; expected {expected}. HINT: leave it out for the default, {default}."
    )
