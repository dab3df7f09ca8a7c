"""Measures what the rendezvous costs in a healthy job: as root, on test hosts, in one run.

    python benchmarks/meeting.py [--hosts N] [--rounds N]

Seconds that the making of a process group takes with the package's checks and without, and their difference as a share
of the time from a process's start to its first group: less than that is no time to a first step.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.cluster.hosts import Cluster
from tests.cluster.launch import REPOSITORY, Job

WORKER = REPOSITORY / "benchmarks" / "workers" / "meeting.py"


def main() -> None:
    """Measure once, and print what was found as one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hosts", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=30)
    given = parser.parse_args()
    names = [f"algo-{number}" for number in range(given.hosts, 0, -1)]
    with tempfile.TemporaryDirectory() as name, Cluster(names, Path(name)) as cluster:
        arguments = {"folder": str(cluster.shared), "rounds": given.rounds}
        job = Job(cluster, "none", WORKER, arguments, processes=1).start()
        codes = job.wait(120)
        if set(codes.values()) != {0}:
            raise RuntimeError(f"exit codes {codes}:\n{job.text}")
        taken = json.loads((cluster.shared / "taken.json").read_text())
    more = [on - off for on, off in zip(taken["on"], taken["off"], strict=True)]
    print(
        json.dumps(
            {
                "hosts": given.hosts,
                "on, ms": _milliseconds(taken["on"]),
                "off, ms": _milliseconds(taken["off"]),
                "more, ms": _milliseconds(more),
                "start to first group, s": round(taken["first"], 2),
                "share of it, %": round(100 * statistics.median(more) / taken["first"], 2),
            }
        )
    )


def _milliseconds(seconds: list[float]) -> dict[str, float]:
    """The quartiles."""
    names = ("quarter", "median", "three quarters")
    return {name: round(1000 * value, 1) for name, value in zip(names, statistics.quantiles(seconds), strict=True)}


if __name__ == "__main__":
    main()
