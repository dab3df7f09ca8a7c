"""Errors that ranks write: held back until the job is known to fail, and shortened to what matters for the report."""

from __future__ import annotations

import re
import time
from collections import defaultdict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lightning_sagemaker.simulate.streams import Stream

_SHOWN = 20
# A launcher has noticed after this long that a rank has failed, on a busy machine too. A traceback whose process lives
# on is one that the script has caught.
_PATIENCE = 5.0
_TRACEBACK = re.compile(r"(\[rank\d+\]: ?)?Traceback \(most recent call last\):")  # torch marks those of its ranks
_PREFIX = re.compile(r"\[rank\d+\]: ?")
_FRAME = re.compile(r'  File "(.*)", line \d+')
_OF_OTHERS = re.compile(r"/(?:site|dist)-packages/|/lib(?:64)?/python3|^<frozen ")


class HeldErrors:
    """Holds back tracebacks, and all errors of a job that is known to fail, so that the report stays readable.

    Args:
        verbose: Keep nothing.
    """

    def __init__(self, *, verbose: bool) -> None:
        self._verbose = verbose
        self._held: defaultdict[Stream, list[str]] = defaultdict(list)
        self._since: dict[Stream, float] = {}

    def shown(self, stream: Stream, lines: list[str], *, failing: bool) -> list[str]:
        """The lines of a standard error that are shown at once; the others are held.

        Args:
            stream: Who wrote them.
            lines: Complete lines.
            failing: Whether the job is known to fail.
        """
        if self._verbose or not stream.error:
            return lines
        first = 0
        if stream not in self._since and not failing:
            first = next((index for index, line in enumerate(lines) if _TRACEBACK.match(line)), len(lines))
        if first < len(lines):
            self._since.setdefault(stream, time.monotonic())
            self._held[stream] += lines[first:]
        return lines[:first]

    def released(self, *, ended_well: bool = False) -> Iterator[tuple[Stream, list[str]]]:
        """Lines that belong to no failure after all: their process lives on, or the job has ended well."""
        now = time.monotonic()
        for stream in [each for each, since in self._since.items() if ended_well or now - since > _PATIENCE]:
            del self._since[stream]
            yield stream, self._held.pop(stream)

    @property
    def left_out(self) -> int:
        """How many lines were held to the end."""
        return sum(map(len, self._held.values()))


def has_traceback(tail: list[str]) -> bool:
    """Whether a standard error shows an uncaught Python exception, or one that looks so."""
    return any(map(_TRACEBACK.match, tail))


def error_text(tail: list[str]) -> list[str]:
    """The part of an error that matters: of its last traceback the frames of the user's code and the last one.

    Args:
        tail: Last lines of a standard error.

    Returns:
        At most 20 lines, the last of them the error's own.
    """
    starts = [index for index, line in enumerate(tail) if _TRACEBACK.match(line)]
    if not starts:
        return tail[-_SHOWN:]
    head, *rest = [_PREFIX.sub("", line, count=1) for line in tail[starts[-1] :]]
    frames: list[list[str]] = []
    while rest and rest[0].startswith("  "):
        line = rest.pop(0)
        if _FRAME.match(line) or not frames:
            frames.append([])
        if line.strip(" ~^"):
            frames[-1].append(line)
    text, skipped = [head], False
    for index, frame in enumerate(frames):
        place = _FRAME.match(frame[0])
        if index < len(frames) - 1 and place and _OF_OTHERS.search(place[1]):
            skipped = True
            continue
        text += ["  ..."] * skipped + frame
        skipped = False
    text += rest
    return text if len(text) <= _SHOWN else [text[0], "  ...", *text[-_SHOWN + 2 :]]
