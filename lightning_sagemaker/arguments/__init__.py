"""Passes a script's command line to it in a training job.

SageMaker's launchers know hyperparameters only, and write each as ``--name value``, sorted by name. So flags,
positional arguments (LightningCLI's ``fit``, Hydra's ``key=value``), repeated names and another order are lost
(sagemaker-python-sdk#2689, #1837, #4247). Whatever can be a hyperparameter is one, for the job page and for tuning
jobs, which change its value; where the launcher's own line would be another one, an entry script restores it.
"""

from __future__ import annotations

import json
import math
import re
import shlex
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

ENTRY = "_lightning_sagemaker_entry.py"  # name of the entry script in the source folder
ENTRY_ARGUMENTS = "_lightning_sagemaker_entry.json"  # what it reads
_ENTRY_SOURCE = Path(__file__).with_name("entry.py")
_OPTION = re.compile(r"--?[A-Za-z][\w.-]*", re.ASCII)
_LONGEST_NAME = 256  # characters; as the next two in the API reference, CreateTrainingJob, HyperParameters
_LONGEST = 2500  # characters of a value
_MOST = 80  # of 100 pairs; the rest is left to the launcher's own


@dataclass(frozen=True)
class Carried:
    """A command line as a job passes it on.

    Attributes:
        hyperparameters: By name; a number where its text stays the same, else a string.
        line: The command line, in the order given. ``{"prefix": "--lr=", "hyperparameter": "lr"}`` is an argument that
            ends in the value of a hyperparameter.
        by_entry_script: Whether the launcher's own command line would differ, so that the entry script is needed.
        in_pairs: Whether it would differ in the order of options and in the form ``--name=value`` at most, which an
            estimator of one's own cannot keep and few scripts look at.
    """

    hyperparameters: Mapping[str, float | str]
    line: Sequence[str | dict[str, str]]
    by_entry_script: bool
    in_pairs: bool

    def write(self, folder: Path, script: str) -> None:
        """Write the entry script, and the file that it reads, into a source folder; the script is relative to it."""
        (folder / ENTRY).write_text(_ENTRY_SOURCE.read_text(encoding="utf-8"), encoding="utf-8")
        told = {"script": script, "arguments": self.line}
        (folder / ENTRY_ARGUMENTS).write_text(json.dumps(told, indent=1), encoding="utf-8")


def carry(arguments: Sequence[str]) -> Carried:
    """Decide how a command line reaches the script; it arrives unchanged in any case.

    ``arguments`` are what follows the script's name. A null character, which no process can be given, is a ValueError.
    """
    if broken := [text for text in arguments if "\0" in text]:
        raise ValueError(f"Script argument {broken[0]!r} has a null character. HINT: no process can be given one.")
    hyperparameters: dict[str, float | str] = {}
    line: list[str | dict[str, str]] = []
    pairs: list[str] = []
    rest = list(arguments)
    while rest:
        argument = rest.pop(0)
        option, equals, value = argument.partition("=")
        if not equals and rest and not _OPTION.match(rest[0]):
            value = rest[0]
        name = option.lstrip("-")
        if _OPTION.fullmatch(option) and name not in hyperparameters and _fits(hyperparameters, name, value):
            hyperparameters[name] = _number_or_text(value)
            pairs += [option, value]
            if not equals:
                line.append(option)
                rest.pop(0)
            line.append({"prefix": f"{option}=" if equals else "", "hyperparameter": name})
        else:
            line.append(argument)
    launched = launcher_line(hyperparameters)
    options = sum(isinstance(part, dict) and not part["prefix"] for part in line)
    in_pairs = options == sum(isinstance(part, str) for part in line) and sorted(pairs) == sorted(launched)
    return Carried(hyperparameters, line, launched != list(arguments), in_pairs)


def launcher_line(hyperparameters: Mapping[str, float | str]) -> list[str]:
    """The command line that the training toolkit builds from hyperparameters (``mapping.to_cmd_args``).

    SDK v3's drivers write a name of one letter with two dashes as well, and keep the order.
    """
    named = sorted(hyperparameters.items())
    pairs = [(f"--{name}" if len(name) > 1 else f"-{name}", str(value)) for name, value in named]
    return [text for pair in pairs for text in pair]


def _fits(others: Mapping[str, float | str], name: str, value: str) -> bool:
    """Whether a hyperparameter can hold a value, and each launcher can write it: those of old images use a shell."""
    return (
        shlex.quote(value) == value
        and not name.startswith("sagemaker_")  # the launchers' own
        and len(name) <= _LONGEST_NAME
        and len(value) <= _LONGEST
        and len(others) < _MOST
    )


def _number_or_text(text: str) -> float | str:
    for kind in (int, float):
        with suppress(ValueError):
            number = kind(text)
            if str(number) == text and math.isfinite(number):
                return number
    return text
