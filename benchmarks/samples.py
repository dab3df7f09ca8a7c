"""Launches as JSON lines: raw samples with everything that decides a result. Standard library only."""

from __future__ import annotations

import json
import warnings
from dataclasses import asdict, dataclass, field
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any, Literal, get_args

from benchmarks.environment import Environment

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

SCHEMA = 1

# baseline: what others are compared with. candidate: what is compared. again: the baseline as an arm of its own (A/A).
Role = Literal["baseline", "candidate", "again"]


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


@dataclass(frozen=True)
class Launch:
    """One launch of one arm.

    Attributes:
        suite: What the benchmark is about, such as "training"; judged fit or unfit as a whole.
        case: What is measured, such as "resnet50, 2 x 8"; arms are compared within it.
        arm: Name of the variant.
        role: Of the arm within the case.
        index: Of the launch within the arm; equal indices of two arms are a pair.
        settings: What the harness chose: seed, batch, steps, model, dtype, bucket size, strategy, ...
        environment: What it ran on and with.
        steps: Seconds per step, for each rank, warm-up included; empty where a suite has no steps.
        numbers: Further results. "..._seconds" and "..._per_second" are compared, all others only kept.
        labels: What must be read with every number of this launch, such as "plumbing check".
        time: Start, UTC.
    """

    suite: str
    case: str
    arm: str
    role: Role
    index: int
    settings: Mapping[str, Any]
    environment: Environment
    steps: tuple[tuple[float, ...], ...] = ()
    numbers: Mapping[str, float] = field(default_factory=dict)
    labels: tuple[str, ...] = ()
    time: str = field(default_factory=_now)

    @property
    def all_labels(self) -> tuple[str, ...]:
        """With "stand-in", which no caller can forget."""
        return (*(["stand-in"] if self.environment.stand_in else []), *self.labels)


def append(path: Path, *launches: Launch) -> None:
    """Add lines; the rest of a line that an earlier run was killed in goes first.

    Raises:
        ValueError: A number is not finite.
    """
    lines = [
        json.dumps({"schema": SCHEMA, **asdict(launch)}, allow_nan=False, sort_keys=True) + "\n" for launch in launches
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+b") as file:
        file.seek(0)
        rest = file.read().rpartition(b"\n")[2]
        if rest and _parsed(rest) is None:
            file.truncate(file.tell() - len(rest))
            warnings.warn(f"{path}: dropped a torn last line", stacklevel=2)
        elif rest:
            file.write(b"\n")
        file.write("".join(lines).encode())


def read(path: Path) -> list[Launch]:
    """All launches of a file; a torn last line is left out with a warning.

    Raises:
        ValueError: Another line is not a launch of this schema.
    """
    lines = path.read_bytes().split(b"\n")
    launches = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        content = _parsed(line)
        if content is None and number == len(lines):
            warnings.warn(f"{path}: left out line {number}, the last one: it is torn", stacklevel=2)
            continue
        try:
            launches.append(_launch(content))
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{path}, line {number}: {error}") from error
    return launches


def interleaved(arms: Sequence[str], launches: int) -> Iterator[tuple[str, int]]:
    """Order of launches, (arm, index): A B, B A, A B, ..., so that a steady drift meets all arms alike.

    Only an even number of launches cancels the drift wholly.

    Raises:
        ValueError: Fewer than two arms, or one arm twice.
    """
    if len(set(arms)) != len(arms) or len(arms) < 2:  # noqa: PLR2004 - a pair
        raise ValueError(f"{list(arms)}: at least two arms, each named once")
    for index in range(launches):
        for arm in arms if index % 2 == 0 else reversed(arms):
            yield arm, index


def _parsed(line: bytes) -> dict[str, Any] | None:
    try:
        content = json.loads(line)
    except ValueError:
        return None
    return content if isinstance(content, dict) else None


def _launch(content: dict[str, Any] | None) -> Launch:
    if content is None:
        raise ValueError("not a JSON object")
    if content.get("schema") != SCHEMA:
        raise ValueError(f"schema {content.get('schema')!r}; this program reads schema {SCHEMA}")
    if content["role"] not in get_args(Role):
        raise ValueError(f"role {content['role']!r} is none of {', '.join(get_args(Role))}")
    environment = dict(content["environment"])
    environment["gpus"] = tuple(environment["gpus"])
    kept = {name: value for name, value in content.items() if name != "schema"}
    kept["environment"] = Environment(**environment)
    kept["steps"] = tuple(tuple(rank) for rank in content["steps"])
    kept["labels"] = tuple(content["labels"])
    return Launch(**kept)
