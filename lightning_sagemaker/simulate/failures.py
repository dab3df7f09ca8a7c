"""What failed in a job: the launchers' messages, whose own exit code often does not tell, and the ranks' errors."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lightning_sagemaker.simulate.output import Stream

_SHOWN = 20
# A launcher has noticed after this long that a rank has failed, on a busy machine too. A traceback whose process lives
# on is one that the script has caught.
_PATIENCE = 5.0
_TRACEBACK = re.compile(r"(\[rank\d+\]: ?)?Traceback \(most recent call last\):")  # torch marks those of its ranks
_PREFIX = re.compile(r"\[rank\d+\]: ?")
_FRAME = re.compile(r'  File "(.*)", line \d+')
_OF_OTHERS = re.compile(r"/(?:site|dist)-packages/|/lib(?:64)?/python3|^<frozen ")
_FAILING = re.compile(
    r"""
      failed \ \(exitcode:\ (?P<code>-?\d+)\)\ local_rank:\ (?P<local_rank>\d+)  # torchrun: which worker it was,
    | Sending \ process\ \d+\ closing\ signal                                    # and before that: the others are ended
    | (?:^\s*Process\ name:\ \[.*,           # Open MPI 4 (mpirun) and 5 (prterun): an exit,
       | noticed\ that\ process\ rank\       # a signal,
       | exited\ due\ to\ process\ rank\     # an abort; their own exit code is the rank's
      )(?P<rank>\d+)(?:\]|\ with\ PID)
    """,
    re.VERBOSE,
)


@dataclass(frozen=True)
class Failure:
    """The first failure of a job.

    Args:
        host: Host on which it happened, if known.
        rank: Global rank that failed, if known.
        code: Exit code as a shell reports it: 128 + n for signal n.
        error: Last part of what the failed process wrote to its standard error.
    """

    host: str | None
    rank: int | None
    code: int
    error: list[str]

    def happened(self) -> str:
        """One line on where it happened."""
        rank = "" if self.rank is None else f", rank {self.rank}"
        return f"the job failed on {self.host}{rank}, exit code {self.code}:"

    def __str__(self) -> str:
        return "\n".join([self.happened(), *(f"  {line}" for line in self.error)])

    __repr__ = __str__


class Diagnosis(NamedTuple):
    """A launcher's message that its job is failing; ``None`` for what it does not name."""

    code: int | None = None  # negative for a signal
    local_rank: int | None = None
    rank: int | None = None


def read(line: str) -> Diagnosis | None:
    """What a line of torchrun's or mpirun's own output says about a failure, if anything."""
    found = _FAILING.search(line)
    if found is None:
        return None
    return Diagnosis(**{name: int(text) for name, text in found.groupdict().items() if text})


class HeldErrors:
    """Holds back tracebacks, and all errors of a job that is known to fail, so that the report stays readable."""

    def __init__(self, *, verbose: bool) -> None:
        self._verbose = verbose  # hold nothing
        self._held: dict[Stream, tuple[float, list[str]]] = {}  # since when, and what

    def shown(self, stream: Stream, lines: list[str], *, failing: bool) -> list[str]:
        """The lines of a stream that are shown at once; the others are held."""
        if self._verbose or not stream.error:
            return lines
        first = 0
        if stream not in self._held and not failing:
            first = next((index for index, line in enumerate(lines) if _TRACEBACK.match(line)), len(lines))
        if first < len(lines):
            self._held.setdefault(stream, (time.monotonic(), []))[1].extend(lines[first:])
        return lines[:first]

    def released(self, *, ended_well: bool = False) -> Iterator[tuple[Stream, list[str]]]:
        """Lines that belong to no failure after all: their process lives on, or the job has ended well."""
        now = time.monotonic()
        for stream in [one for one, (since, _) in self._held.items() if ended_well or now - since > _PATIENCE]:
            yield stream, self._held.pop(stream)[1]

    @property
    def left_out(self) -> int:
        """How many lines were held to the end."""
        return sum(len(lines) for _, lines in self._held.values())


def has_traceback(tail: list[str]) -> bool:
    """Whether a standard error shows an uncaught Python exception, or one that looks so."""
    return any(map(_TRACEBACK.match, tail))


def error_text(tail: list[str]) -> list[str]:
    """The part of an error that matters: of its last traceback the frames of the user's code and the last one."""
    starts = [index for index, line in enumerate(tail) if _TRACEBACK.match(line)]
    if not starts:
        return tail[-_SHOWN:]
    lines = [_PREFIX.sub("", line, count=1) for line in tail[starts[-1] :]]
    end = next((index for index, line in enumerate(lines) if index and not line.startswith("  ")), len(lines))
    text, hidden = [lines[0]], False
    last = max((index for index in range(1, end) if _FRAME.match(lines[index])), default=0)
    for index, line in enumerate(lines[1:end], start=1):
        if place := _FRAME.match(line):
            hidden = index < last and _OF_OTHERS.search(place[1]) is not None
            if hidden and text[-1] != "  ...":
                text.append("  ...")
        if not hidden and line.strip(" ~^"):
            text.append(line)
    text += lines[end:]
    return text if len(text) <= _SHOWN else [text[0], "  ...", *text[-_SHOWN + 2 :]]
