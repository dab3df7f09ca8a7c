"""One line of the job's log for each observation: what is written into it, and how it is found again."""

from __future__ import annotations

import json
import os
import re
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lightning_sagemaker.redaction import redact

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

MARK = "lightning_sagemaker probe: "
# Below PIPE_BUF: one write is then one piece, also where all processes of a host share a pipe, and mpirun, which
# forwards 4096 bytes at a time, puts no label into it.
_LONGEST = 3500
_LONGEST_TEXT = 400


@dataclass(frozen=True)
class Observation:
    """What one process saw.

    Attributes:
        rank: Its global rank; ``None`` where nothing tells it.
        host: Name of its host.
        key: What was looked at.
        value: What was seen: JSON.
    """

    rank: int | None
    host: str
    key: str
    value: Any


def line(observation: Observation, environ: Mapping[str, str]) -> str:
    """The line for an observation, without what must not be seen.

    Args:
        observation: The observation.
        environ: Variables of the process; what those with a credential's name hold is taken out of every text.
    """

    def clean(value: Any) -> Any:
        if isinstance(value, dict):
            return {clean(str(name)): clean(each) for name, each in value.items()}
        if isinstance(value, list | tuple | set | frozenset):
            return [clean(each) for each in value]
        if not isinstance(value, str):
            return value
        value = redact(value, environ)
        return value if len(value) <= _LONGEST_TEXT else value[:_LONGEST_TEXT] + "..."

    content = {"rank": observation.rank, "host": observation.host, "key": observation.key}
    value = clean(observation.value)
    text = json.dumps({**content, "value": value}, default=str)
    if len(text) > _LONGEST:  # ASCII, so characters are bytes
        text = json.dumps({**content, "value": {"cut": json.dumps(value, default=str)[: _LONGEST // 2]}})
    return MARK + text


def say(observation: Observation) -> None:
    """Print an observation to the job's log, in one write.

    Args:
        observation: The observation.
    """
    sys.stdout.flush()
    os.write(1, f"{line(observation, os.environ)}\n".encode())


def read(log: Iterable[str]) -> tuple[list[Observation], int]:
    """Find the observations in a log.

    Args:
        log: Its lines, with whatever launchers and log services put before and after.

    Returns:
        The observations, in the log's order, and the number of those that are torn.
    """
    found, torn, decoder = [], 0, json.JSONDecoder()
    for text in log:
        for mark in re.finditer(re.escape(MARK), text):
            try:
                content, _ = decoder.raw_decode(text, mark.end())
                found.append(Observation(**content))
            except (ValueError, TypeError):  # noqa: PERF203 - each line by itself
                torn += 1
    return found, torn
