"""This package's settings, as the doctor checks them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lightning_sagemaker.changes import disabled
from lightning_sagemaker.environment import RANK_PROCESS
from lightning_sagemaker.locking.directory import base_folder
from lightning_sagemaker.settings import AUTOLOAD, DISABLE, LOCK_DIR, PREFIX, SETTINGS, check, switch

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from lightning_sagemaker.findings import Level

# Set by us for processes of ours, and by whom, in words.
OF_COMMANDS = {
    f"{PREFIX}FAKE_SMDDP_": "of the simulation's fake SMDDP",
    f"{PREFIX}SIMULATION": "of `simulate`, by which it knows its processes",
    RANK_PROCESS: "of a rank, for the processes that it starts",
}
_READERS: dict[str, Callable[[Mapping[str, str]], object]] = {DISABLE: disabled, LOCK_DIR: base_folder}
LEVELS: dict[str, Level] = {AUTOLOAD: "warn", DISABLE: "warn"}  # what they would switch off stays on


def problem(name: str, environ: Mapping[str, str]) -> str | None:
    """What is wrong with a setting in an environment; ``None`` if nothing is."""
    try:
        check(name, environ)
        if reader := _READERS.get(name):
            reader(environ)
    except (OSError, ValueError) as error:
        return str(error)
    return None


def is_on(name: str, environ: Mapping[str, str]) -> bool:
    """Whether a switch is on; a malformed value counts as unset, and is a finding of its own."""
    try:
        return switch(name, environ)
    except ValueError:
        return SETTINGS[name].default == "1"
