"""Measure, and write the report: ``python -m benchmarks run [--full] [--suites NAME ...]``.

Jobs are simulated on this machine (`lightning-sagemaker simulate`), so what runs here is what `benchmarks/job.py` runs
on SageMaker. Harness and measured processes may have different environments: `--python` is the latter's.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections import deque
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING

from tqdm import tqdm

from benchmarks import report
from benchmarks.job import launches
from benchmarks.plan import SIMULATED, World
from benchmarks.samples import read

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

ROOT = Path(__file__).resolve().parents[1]
SUITES = ("training", "logging", "self-check", "collectives", "start-up", "locking", "diagnosis")
LAUNCHERS = {"torch_distributed": "torchrun", "none": "none", "smdistributed": "mpirun"}
LONG = ("self-check", "diagnosis")  # with --full, or by name
MARK = "benchmark: "  # how measuring programs tell of a launch that is done
TOLD = 40  # lines of a failed step that are shown


@dataclass(frozen=True)
class Step:
    """One program to run, and how many launches it makes."""

    title: str
    command: tuple[str, ...]
    count: int


def steps(suites: Sequence[str], python: str, samples: Path, *, full: bool, count: int) -> Iterator[Step]:
    """All programs of a run, in order."""
    options = (f"--launches={count}", f"--scale={'full' if full else 'quick'}", f"--output={samples}")
    for distribution, hosts, processes, found in _worlds(full):
        named = [suite for suite in found if suite in suites]
        if named:
            world = World(hosts, processes, LAUNCHERS[distribution])
            simulated = ("--hosts", str(hosts), "--processes-per-host", str(processes), "--distribution", distribution)
            # One thread for each process: two that share two cores' worth of threads measure each other.
            environ = ("--env", "OMP_NUM_THREADS=1", "--env", f"{SIMULATED}=1")
            job = (
                "--source-dir",
                str(ROOT),
                str(ROOT / "benchmarks" / "job.py"),
                "--",
                f"--suites={','.join(named)}",
                *options,
            )
            yield Step(
                f"{', '.join(named)}: {world}, {distribution}",
                (python, "-m", "lightning_sagemaker.cli", "simulate", *simulated, *environ, *job),
                len(launches(named, world, full=full, count=count)),
            )
    own = {
        "start-up": ("benchmarks.start_up", 5 * count, ()),
        "locking": ("benchmarks.locking", count, () if full else ("--waiters=3", "--rounds=4")),
        "diagnosis": ("benchmarks.diagnosis", 3 * count, ()),
    }
    for suite, (module, made, further) in own.items():
        if suite in suites:
            yield Step(suite, (python, "-m", module, str(samples), f"--launches={count}", *further), made)


def _worlds(full: bool) -> list[tuple[str, int, int, tuple[str, ...]]]:
    """Distribution, hosts, processes on each, suites."""
    further = [
        ("none", 1, 1, ("training",)),  # what scaling efficiency compares with
        ("torch_distributed", 1, 4, ("training",)),
        ("smdistributed", 2, 1, ("training",)),
    ]
    return [
        ("torch_distributed", 1, 2, ("training", "logging", "self-check")),
        ("torch_distributed", 1, 4, ("logging",)),
        ("smdistributed", 2, 1, ("collectives",)),
        *(further if full else []),
    ]


def follow(step: Step, bar: tqdm[int]) -> None:
    """Run a program to its end.

    Raises:
        RuntimeError: It failed; the end of its output is in the message.
    """
    environ = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
    told: deque[str] = deque(maxlen=TOLD)
    bar.set_description(step.title)
    with subprocess.Popen(  # noqa: S603 - our command
        step.command, env=environ, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=ROOT
    ) as process:
        for line in process.stdout or ():
            told.append(line)
            if MARK in line and bar.n < (bar.total or 0):
                bar.update()
    if process.returncode:
        raise RuntimeError(f"{step.title} ended with exit code {process.returncode}:\n{''.join(told)}")


def main(arguments: Sequence[str]) -> int:
    """Measure and report; 1 if the report is unfit."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks run", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--suites", nargs="+", choices=SUITES, metavar="NAME", help=f"of {', '.join(SUITES)}")
    parser.add_argument("--full", action="store_true", help="more models, worlds and sizes, and blocked ports (root)")
    parser.add_argument("--launches", type=int, help="of each arm (default: 5, with --full 12)")
    parser.add_argument("--python", default=sys.executable, help="that has torch and Lightning (default: this one)")
    parser.add_argument("--output", type=Path, default=ROOT / "build" / "benchmarks", metavar="FOLDER")
    given = parser.parse_args(arguments)
    suites = given.suites or [suite for suite in SUITES if given.full or suite not in LONG]
    samples = given.output.resolve() / f"samples-{datetime.now(timezone.utc):%Y%m%dT%H%M%SZ}.jsonl"
    count = given.launches or (12 if given.full else 5)
    planned = list(steps(suites, given.python, samples, full=given.full, count=count))
    with tqdm(total=sum(step.count for step in planned), unit="launch", smoothing=0.1) as bar:
        for step in planned:
            follow(step, bar)
    judged = report.write(read(samples), given.output)
    print(given.output / "report.md")
    return int(any(suite.unfit for suite in judged))
