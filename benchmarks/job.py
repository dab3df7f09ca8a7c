"""The benchmark as a SageMaker job, or as a simulated one: every process of the job runs this file.

One launch after the other, in an order in which all processes agree: for each, every process starts one child with the
ranks that it has itself, and waits for it. So one job holds many launches of all arms, interleaved, and each has fresh
processes, as one process can hold one backend only. Rank 0's children add their results to the samples file.
"""

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # started as a script, whose own folder is what Python knows

from benchmarks.plan import Planned, World, plan  # noqa: E402

STARTED = "BENCHMARK_STARTED"  # seconds since the epoch at which the worker's process was started
LIMIT = 1800.0  # seconds that one launch may take
TIMED_OUT = 124
OUTPUT = "/opt/ml/output/data"  # SageMaker uploads it; what SM_OUTPUT_DATA_DIR says in every launch mode


def main(arguments: Sequence[str] | None = None) -> int:
    """Run all launches; the first that fails ends the job with its exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--suites", required=True, help="separated by commas")
    parser.add_argument("--launches", type=int, default=6, help="of each arm; an even number cancels a steady drift")
    # No flags: what SageMaker passes on are hyperparameters, a value for each name.
    parser.add_argument("--scale", choices=("quick", "full"), default="quick", help="of models and sizes")
    parser.add_argument("--device", choices=("cpu", "gpu"), default="cpu", help="of each process")
    parser.add_argument("--output", type=Path, help="samples file (default: in the job's output folder)")
    parser.add_argument("--limit", type=float, default=LIMIT, metavar="SECONDS", help="for one launch")
    given = parser.parse_args(arguments)
    from lightning_sagemaker.job import SageMakerJob  # noqa: PLC0415 - of the job's environment

    job = SageMakerJob.detect()
    if job is None:
        raise RuntimeError(
            "this is no SageMaker training job. HINT: run `python -m benchmarks run`, which simulates one"
        )
    world = World(job.num_nodes, job.local_world_size or 1, job.launcher, given.device == "gpu")
    output = given.output or Path(os.environ.get("SM_OUTPUT_DATA_DIR", OUTPUT), "samples.jsonl")
    size = {"full": given.scale == "full", "launches": given.launches}
    planned = [each for name in given.suites.split(",") for each in plan(name, world, **size)]
    begin = time.monotonic()
    for number, launch in enumerate(planned):
        code = _run(launch, number, job.main_port, output, given.limit)
        if code:
            print(f"benchmark: {launch.suite}, {launch.arm}, launch {launch.index} ended with exit code {code}")
            return code
        if job.is_rank_zero:
            left = (time.monotonic() - begin) / (number + 1) * (len(planned) - number - 1)
            told = f"benchmark: {number + 1} of {len(planned)} launches, {left / 60:.1f} min left"
            print(f"{told}: {launch.suite}, {launch.settings.get('model', world)}, {launch.arm}", flush=True)
    return 0


# First of the ports for launches. Linux gives those from 32768 on to connections, so that one beside torchrun's own,
# which is from there on a single host, may be in use at any moment.
_BELOW = 21_000


def _run(launch: Planned, number: int, port: int, output: Path, limit: float) -> int:
    # Lines of metrics are work that the plugin would do in one arm only.
    environ = os.environ | {"LIGHTNING_SAGEMAKER_METRICS": "0", **launch.environ}
    environ["PYTHONPATH"] = os.pathsep.join(filter(None, (str(ROOT), environ.get("PYTHONPATH"))))
    environ[STARTED] = repr(time.time())
    # A store of its own for each launch: in one that serves all, as torchrun's agents have it, each would read what its
    # predecessor left.
    environ |= {"MASTER_PORT": str(_BELOW + (port + number) % 8_000), "TORCHELASTIC_USE_AGENT_STORE": "False"}
    command = [sys.executable, "-m", "benchmarks.workers", launch.to_json(), str(output)]
    try:
        return subprocess.run(command, env=environ, check=False, timeout=limit).returncode  # noqa: S603 - our command
    except subprocess.TimeoutExpired:
        print(f"benchmark: no end after {limit:g} s: {launch.to_json()}")
        return TIMED_OUT


if __name__ == "__main__":
    sys.exit(main())
