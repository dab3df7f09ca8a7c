"""What several subcommands do alike: exit codes, options, output, versions."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, TextIO

from lightning_sagemaker import folders

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_SHARDED = ":sharded"  # behind the place of a channel that is ShardedByS3Key
BAD_INPUT = 2  # exit code of every subcommand, as argparse's
INTERRUPTED = 130  # exit code after Ctrl-C, as a shell's: 128 and the signal's number


def pairs(texts: Sequence[str], usage: str) -> dict[str, str]:
    """Read ``NAME=VALUE`` texts of a repeatable option; ``usage`` is the option and what it takes, for the error."""
    found: dict[str, str] = {}
    option = usage.split(maxsplit=1)[0]
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals:
            raise ValueError(f"{option} is {text!r}, expected a name, =, and a value. HINT: {usage}")
        if found.setdefault(name, value) != value:
            raise ValueError(f"{option} has {name!r} twice, with two values. HINT: one of them, or another name.")
    return found


def variables(texts: Sequence[str], usage: str) -> dict[str, str]:
    """Read ``NAME=VALUE`` texts, and ``NAME`` alone: a value of this process, which then stands in no command line."""
    found: dict[str, str] = {}
    option = usage.split(maxsplit=1)[0]
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals and name not in os.environ:
            raise ValueError(f"{option} is {text!r}, which is not set in this environment. HINT: {usage}")
        found[name] = value if equals else os.environ[name]  # the last of a name counts
    return found


def channels(texts: Sequence[str], usage: str) -> tuple[dict[str, str], tuple[str, ...]]:
    """Read ``NAME=PLACE[:sharded]`` texts: the place of each channel, and the names of those that are sharded."""
    given = pairs(texts, usage)
    sharded = tuple(name for name, place in given.items() if place.endswith(_SHARDED))
    return {name: place.removesuffix(_SHARDED) for name, place in given.items()}, sharded


def printable(line: str) -> str:
    """A line of outside without control characters and what UTF-8 cannot say: those are escaped."""
    return "".join(character if character.isprintable() else ascii(character)[1:-1] for character in line.expandtabs())


def one_line(text: str) -> str:
    """A text of outside on one line, `printable`."""
    return printable(" ".join(text.split()))


def some(names: Iterable[str], most: int = 5) -> str:
    """The first of many names, of files perhaps, and how many more there are."""
    given = [folders.printable(name) for name in names]
    return ", ".join(given[:most]) + (f" and {len(given) - most} more" if len(given) > most else "")


def write(text: str, stream: TextIO) -> None:
    """Write a text; characters that the stream's encoding lacks, as errors of libraries have them, are escaped."""
    encoding = stream.encoding or "utf-8"
    stream.write(text.encode(encoding, "backslashreplace").decode(encoding))


def installed_version(distribution: str) -> str | None:
    """Version of a distribution in this environment; ``None`` if it is not installed."""
    import importlib.metadata  # slow, and not needed by each command

    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None
