"""Launches as JSON lines: raw samples with everything that decides a result. Standard library only."""

import json
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Literal, get_args

from benchmarks.environment import Environment

SCHEMA = 1

# baseline: what others are compared with. candidate: what is compared. again: the baseline as an arm of its own (A/A).
Role = Literal["baseline", "candidate", "again"]
Numbers = dict[str, float]


@dataclass(frozen=True)
class Measured:
    """What is measured in one launch of one arm."""

    case: str  # such as "gpt, 2 x 8, torchrun"; arms are compared within it
    arm: str
    index: int  # of the launch within the arm; equal indices of two arms are a pair
    numbers: Numbers  # "..._seconds", "..._per_second" and "..._bytes" are compared, all others only kept
    settings: Mapping[str, Any] = field(default_factory=dict)  # what the harness chose: seed, batch, steps, model, ...
    labels: tuple[str, ...] = ()  # what must be read with every number of this launch, such as "plumbing check"


@dataclass(frozen=True, kw_only=True)
class Launch(Measured):
    """A line of JSON."""

    suite: str  # what the benchmark is about, such as "training"; judged fit or unfit as a whole
    role: Role
    environment: Environment
    steps: tuple[tuple[float, ...], ...] = ()  # seconds, for each rank, warm-up included; empty where there are none
    time: str = field(default_factory=lambda: datetime.now(timezone.utc).isoformat(timespec="seconds"))  # ISO 8601

    @property
    def all_labels(self) -> tuple[str, ...]:
        """With "fake SMDDP", which no caller can forget."""
        return (*(["fake SMDDP"] if self.environment.fake_smddp else []), *self.labels)


def append(path: Path, *launches: Launch) -> None:
    """Add lines; each run has a file of its own, so nothing that a killed one left is continued.

    Raises ValueError where a number is not finite; then nothing is written.
    """
    lines = [json.dumps({"schema": SCHEMA, **asdict(each)}, allow_nan=False, sort_keys=True) for each in launches]
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.writelines(f"{line}\n" for line in lines)


def read(path: Path) -> list[Launch]:
    """All launches of a file; a torn last line is left out with a warning, another bad one raises ValueError."""
    lines = path.read_text(encoding="utf-8").split("\n")
    launches = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            content = json.loads(line)
        except ValueError:
            content = None
            if number == len(lines):
                warnings.warn(f"{path}: left out line {number}, the last one: it is torn", stacklevel=2)
                continue
        try:
            launches.append(_launch(content))
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{path}, line {number}: {error}") from error
    return launches


def _launch(content: object) -> Launch:
    if not isinstance(content, dict):
        raise ValueError("not a JSON object")
    if content.get("schema") != SCHEMA:
        raise ValueError(f"schema {content.get('schema')!r}; this program reads schema {SCHEMA}")
    if content["role"] not in get_args(Role):
        raise ValueError(f"role {content['role']!r} is none of {', '.join(get_args(Role))}")
    made = {name: value for name, value in content.items() if name != "schema"}
    made["environment"] = Environment(**{**content["environment"], "gpus": tuple(content["environment"]["gpus"])})
    made["steps"] = tuple(tuple(rank) for rank in content["steps"])
    made["labels"] = tuple(content["labels"])
    return Launch(**made)


def role_of(arm: str, arms: Sequence[str]) -> Role:
    """Of an arm among those of its case, by its name: the first is the baseline."""
    return "baseline" if arm == arms[0] else "again" if arm == f"{arms[0]} again" else "candidate"


def interleaved(arms: Sequence[str], launches: int) -> Iterator[tuple[str, int]]:
    """Order of launches, (arm, index): A B, B A, A B, ..., so that a steady drift meets all arms alike.

    Only an even number of launches cancels the drift wholly.
    """
    if len(set(arms)) != len(arms) or len(arms) < 2:  # noqa: PLR2004 - a pair
        raise ValueError(f"{list(arms)}: at least two arms, each named once")
    for index in range(launches):
        for arm in arms if index % 2 == 0 else reversed(arms):
            yield arm, index


def in_turn(
    case: str, launches: int, arms: Mapping[str, Callable[[], Numbers]], **settings: object
) -> Iterator[Measured]:
    """Call what measures each arm, the arms interleaved."""
    for arm, index in interleaved(tuple(arms), launches):
        yield Measured(case, arm, index, arms[arm](), settings)
