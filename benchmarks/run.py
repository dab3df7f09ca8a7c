"""Measure, and write the report: ``python -m benchmarks run [--full] [--suites NAME ...]``.

Jobs are simulated on this machine (`lightning-sagemaker simulate`), so what runs here is what `benchmarks/job.py` runs
on SageMaker. Harness and measured processes may have different environments: `--python` is the latter's.
"""

import argparse
import os
import subprocess
import sys
from collections import deque
from collections.abc import Iterator, Sequence
from datetime import datetime, timezone
from pathlib import Path

from benchmarks import report
from benchmarks.plan import SIMULATED, SUITES
from benchmarks.samples import read

ROOT = Path(__file__).resolve().parents[1]
DISTRIBUTIONS = {"torchrun": "torch_distributed", "mpirun": "smdistributed"}
MARK = "benchmark: "  # how measuring programs tell of a launch that is done
TOLD = 40  # lines of a failed step that are shown


def steps(
    suites: Sequence[str], python: str, samples: Path, *, full: bool, launches: int
) -> Iterator[tuple[str, tuple[str, ...]]]:
    """All programs of a run, in order: what they measure, and their commands."""
    for name in suites:
        suite = SUITES[name]
        for world in (*suite.worlds, *(suite.further if full else ())):
            simulated = (
                *("--hosts", str(world.hosts), "--processes-per-host", str(world.processes)),
                *("--distribution", DISTRIBUTIONS[world.launcher], "--source-dir", str(ROOT)),
                # One thread for each process: two that share two cores' worth of threads measure each other.
                *("--env", "OMP_NUM_THREADS=1", "--env", f"{SIMULATED}=1", str(ROOT / "benchmarks" / "job.py")),
            )
            options = (f"--launches={launches}", f"--scale={'full' if full else 'quick'}", f"--output={samples}")
            command = (python, "-m", "lightning_sagemaker.cli", "simulate", *simulated, "--", f"--suites={name}")
            yield f"{name}, {world}", (*command, *options)
        if suite.cases is None:
            own = (f"--launches={suite.times * launches}", *(() if full else suite.quick))
            yield name, (python, "-m", "benchmarks.local", name, str(samples), *own)


def follow(title: str, command: Sequence[str]) -> None:
    """Run a program to its end, and show what it says of its launches; RuntimeError with its last words if it fails."""
    environ = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
    told: deque[str] = deque(maxlen=TOLD)
    with subprocess.Popen(  # noqa: S603 - our command
        command, env=environ, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=ROOT
    ) as process:
        for line in process.stdout or ():
            told.append(line)
            if MARK in line:
                print(f"{datetime.now():%H:%M:%S} {title}: {line.partition(MARK)[2]}", end="", flush=True)  # noqa: DTZ005 - the reader's
    if process.returncode:
        raise RuntimeError(f"{title} ended with exit code {process.returncode}:\n{''.join(told)}")


def main(arguments: Sequence[str]) -> int:
    """Measure and report; 1 if the report is unfit."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks run", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--suites", nargs="+", choices=SUITES, metavar="NAME", help=f"of {', '.join(SUITES)}")
    parser.add_argument("--full", action="store_true", help="more models, worlds and sizes, and the self-check")
    parser.add_argument("--launches", type=int, help="of each arm (default: 5, with --full 12)")
    parser.add_argument("--python", default=sys.executable, help="that has torch and Lightning (default: this one)")
    parser.add_argument("--output", type=Path, default=ROOT / "build" / "benchmarks", metavar="FOLDER")
    given = parser.parse_args(arguments)
    suites = given.suites or [name for name, suite in SUITES.items() if given.full or not suite.by_name]
    given.output.mkdir(parents=True, exist_ok=True)  # below /tmp, what a simulated host makes stays its own
    samples = given.output.resolve() / f"samples-{datetime.now(timezone.utc):%Y%m%dT%H%M%SZ}.jsonl"
    launches = given.launches or (12 if given.full else 5)
    for title, command in steps(suites, given.python, samples, full=given.full, launches=launches):
        follow(title, command)
    judged = report.write(read(samples), given.output)
    print(given.output / "report.md")
    return int(any(suite.unfit for suite in judged))
