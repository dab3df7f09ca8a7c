"""The programs of ``python -m benchmarks run``, one after the other.

Jobs are simulated on this machine (`lightning-sagemaker simulate`), so what runs here is what `benchmarks/job.py` runs
on SageMaker. Harness and measured processes may have different environments: `--python` is the latter's.
"""

import os
import subprocess
from collections import deque
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path

from benchmarks.plan import SIMULATED, SUITES

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
