"""Writes the pictures of the pages to docs/pictures; ``--check`` only compares."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import NamedTuple

from drawing import Drawing

FOLDER = Path(__file__).resolve().parents[1] / "docs" / "pictures"
_WIDTH, _HOST, _RANK = 760, 350, 150


class Mode(NamedTuple):
    """A launch mode: its name, what is told of it, its hosts in order, and who starts the ranks on each."""

    name: str
    told: str
    hosts: tuple[str, str]
    starters: tuple[str, str]


MODES = (
    Mode(
        "torchrun",
        "SageMaker starts torchrun on every host; ranks are torchrun's, and any host may lead",
        *(("algo-2", "algo-1"), ("torchrun", "torchrun")),
    ),
    Mode(
        "mpirun, or SMDDP's launcher",
        "SageMaker starts mpirun on the leader; ranks are Open MPI's",
        *(("algo-2", "algo-1"), ("mpirun", "orted")),
    ),
    Mode(
        "no launcher",
        "SageMaker starts the script once on every host; the package numbers hosts, Lightning starts the rest",
        *(("algo-1", "algo-2"), ("rank 0", "rank 2")),
    ),
)


def worlds() -> Drawing:
    """Hosts, who starts the processes on them, and the ranks that come of it, in three launch modes."""
    picture = Drawing(_WIDTH, 480, "How two hosts of two GPUs become a world of four ranks, in three launch modes")
    for number, mode in enumerate(MODES):
        top = 16 + 156 * number
        picture.text(16, top + 14, mode.name, "strong")
        picture.text(16, top + 32, mode.told, "dim")
        for host, (name, starter) in enumerate(zip(mode.hosts, mode.starters, strict=True)):
            left = 16 + (_HOST + 28) * host
            is_rank = starter.startswith("rank")
            picture.box(left, top + 42, _HOST, 100)
            picture.text(left + 12, top + 62, name, "code")
            picture.box(left + 12, top + 74, 96, 36, "rank" if is_rank else "")
            picture.text(left + 60, top + 97, starter, "middle code")
            for place, gpu in enumerate((1,) if is_rank else (0, 1)):
                at = top + (74 if is_rank else 52) + 44 * place
                picture.box(left + 180, at, _RANK, 36, "rank")
                picture.text(left + 180 + _RANK // 2, at + 23, f"rank {2 * host + gpu}, GPU {gpu}", "middle code")
                picture.arrow(left + 108, top + 92, left + 177, at + 18)
    return picture


def blocked() -> Drawing:
    """Two hosts whose security group lets nothing through, and what is said when."""
    picture = Drawing(_WIDTH, 236, "A blocked port: stock waits for 15 minutes, the package names it after 6 seconds")
    for left, name, what in ((16, "algo-1", "port 7777"), (_WIDTH - 216, "algo-2", "its ranks")):
        picture.box(left, 16, 200, 64)
        picture.text(left + 100, 42, name, "middle code")
        picture.text(left + 100, 64, what, "middle dim")
    picture.arrow(_WIDTH - 224, 48, 226, 48, "cut")
    picture.text(_WIDTH // 2, 38, "dropped by the security group", "middle dim")
    rows = [
        ("stock torchrun", ("after 136 s: a line, no name", "after 902 s: an error, no name"), "bad"),
        ("with the package", ("after 6 s: named, on both hosts", "after 120 s: the job ends"), "good"),
    ]
    for number, (name, events, kind) in enumerate(rows):
        y = 112 + 44 * number
        picture.text(16, y + 19, name, "strong")
        for place, text in enumerate(events):
            picture.box(180 + 282 * place, y, 266, 28, kind)
            picture.text(313 + 282 * place, y + 19, text, "middle")
    picture.text(16, 218, "Seen on test hosts (network namespaces whose packets are dropped), not on AWS.", "dim")
    return picture


def spot() -> Drawing:
    """The life of a job on spot instances."""
    title = "A spot job: interrupted, started again on other hosts, resumed from its newest complete checkpoint"
    picture = Drawing(_WIDTH, 196, title)
    steps = [
        ("fit, epochs 0 to 3", ("checkpoints in", "/opt/ml/checkpoints"), "rank"),
        ("interruption", ("hosts are taken away,", "perhaps within a write"), "bad"),
        ("second start", ("same job, other hosts,", "in another order"), ""),
        ("fit, from epoch 3", ("newest complete one,", "on every host"), "good"),
    ]
    for number, (name, lines, kind) in enumerate(steps):
        left = 16 + 186 * number
        picture.box(left, 20, 166, 44, kind)
        picture.text(left + 83, 47, name, "middle strong")
        for line, words in enumerate(lines):
            picture.text(left + 83, 86 + 20 * line, words, "middle dim")
        if number < len(steps) - 1:
            picture.arrow(left + 166, 42, left + 184, 42)
    picture.box(16, 136, _WIDTH - 36, 40)
    picture.text(
        _WIDTH // 2, 161, "s3://bucket/checkpoints, kept the same by SageMaker (--checkpoint-uri)", "middle code"
    )
    return picture


if __name__ == "__main__":
    made = {"worlds.svg": worlds(), "blocked.svg": blocked(), "spot.svg": spot()}
    FOLDER.mkdir(exist_ok=True)
    wrong = []
    for file, drawing in made.items():
        if "--check" not in sys.argv:
            (FOLDER / file).write_text(str(drawing), encoding="utf-8")
        elif (FOLDER / file).read_text(encoding="utf-8") != str(drawing):
            wrong.append(file)
    if wrong:
        sys.exit(f"{', '.join(wrong)} differ from what makes them. HINT: run scripts/pictures.py")
