"""What breaks between hosts, ours against stock Lightning, side by side on test hosts: as root, on Linux.

    python benchmarks/faults.py [--faults NAME ...] [--modes NAME ...] [--patience SECONDS] [--output FILE.jsonl]
    python benchmarks/faults.py --faults none --repeat 50 --processes 1  # short trainings to their end

For each fault and launch mode: seconds from the fault until a line names it, and until all processes of both hosts are
gone; a run that is still there after the patience is counted as such. Limits of ours are as by default, divided by
`--scale`, which is said in the output.
"""

from __future__ import annotations

import argparse
import itertools
import json
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.cluster import faults
from tests.cluster.hosts import Cluster
from tests.cluster.launch import MODES, REPOSITORY, Job

if TYPE_CHECKING:
    from collections.abc import Callable

    import psutil

STEADY = REPOSITORY / "tests" / "programs" / "steady.py"
# Lines that name the fault: ours, and what stock parts say that a user could act on.
NAMED = re.compile(
    r"gets no answer from|name is not known|addresses of .* cannot be retrieved|waited \d+ s|has gone silent"
    r"|has been stopped by|ended without an exception|imed out|onnection (reset|closed) by|SIGKILL|lost communication"
)


def _rank_process(job: Job, rank: int) -> psutil.Process:
    seen = (job.cluster.shared / "seen" / f"rank-{rank}").read_text()
    for process in job.world[rank // 2].processes():
        status = Path(f"/proc/{process.pid}/status").read_text(encoding="utf-8")
        if status.partition("NSpid:")[2].splitlines()[0].split()[-1] == seen:
            return process
    raise LookupError(f"rank {rank} is gone")


def _kill(job: Job) -> str:
    rank = random.randrange(4)  # noqa: S311 - no secret; rank 0 has the store
    _rank_process(job, rank).kill()
    return f"rank {rank}"


def _stop(job: Job) -> None:
    _rank_process(job, 3).send_signal(signal.SIGSTOP)


def _pull(job: Job) -> None:
    faults.pull_cable(job.world[1])


def _block_main(job: Job) -> None:
    faults.drop(job.world[0], "tcp dport 7777")


def _forget_main(job: Job) -> None:
    job.world[1].knows({})


def _block_peers(job: Job) -> None:
    faults.drop(job.world[0], "ct state new tcp dport != { 22, 7777 }")
    faults.drop(job.world[1], "ct state new tcp dport != 22")


# Fault: what is done, and whether it is done to a training that runs already.
FAULTS: dict[str, tuple[Callable[[Job], str | None], bool]] = {
    "none": (lambda _: None, False),  # a short training to its end: every exit code must be 0
    "blocked main port": (_block_main, False),
    "blocked peer ports": (_block_peers, False),
    "wrong name": (_forget_main, False),  # the second host never learns the first one's name
    "killed rank": (_kill, True),
    "stopped rank": (_stop, True),
    "pulled cable": (_pull, True),
    "late host": (lambda _: None, False),  # the second host starts 90 s after the first
    "absent host": (lambda _: None, False),  # it never does; both arms wait for as long as the process group does
}
ARMS = ("ours", "stock")
_LATE = 90.0  # seconds
_GROUP_TIMEOUT = 60.0  # seconds, instead of torch's 1,800


def measure(fault: str, mode: str, arm: str, scale: float, patience: float, *, processes: int = 2) -> dict[str, object]:
    """One run on two hosts; faults that strike a rank need two processes on each."""
    act, during = FAULTS[fault]
    environ = {
        "LIGHTNING_SAGEMAKER_REACHABILITY": f"{120 / scale:g}",
        "LIGHTNING_SAGEMAKER_HEARTBEAT": f"{300 / scale:g}",
    }
    if arm == "stock":
        environ = {
            "LIGHTNING_SAGEMAKER_AUTOLOAD": "0",
            "PL_TRAINER_NUM_NODES": "2",
            "PL_TRAINER_DEVICES": str(processes),
        }
    with tempfile.TemporaryDirectory() as name, Cluster(("algo-2", "algo-1"), _prepared(Path(name))) as cluster:
        (cluster.shared / "seen").mkdir()
        for path in Path(name).glob("ssh-key*"):
            shutil.copy(path, cluster.shared)
        arguments = {"folder": str(cluster.shared / "seen"), "steps": 10**6 if during else 5, "pause": 0.02}
        if fault in ("absent host", "wrong name"):
            arguments["timeout"] = _GROUP_TIMEOUT
        job = Job(cluster, mode, STEADY, arguments, environ=environ, processes=processes)
        if not during:
            act(job)
        late = fault in ("late host", "absent host")
        job.start(*[job.world[0].name] if late else [])
        begin, struck = time.monotonic(), None
        if fault == "late host":
            time.sleep(_LATE)
            job.start(job.world[1].name)
        hosts = job.world[:1] if fault == "absent host" else job.world
        if during:
            while len(list((cluster.shared / "seen").glob("step-*"))) < 4:  # noqa: PLR2004 - 2 hosts x 2 processes
                if time.monotonic() - begin > 120 or any(host.code() is not None for host in job.world):  # noqa: PLR2004
                    return {
                        "fault": fault,
                        "mode": mode,
                        "arm": arm,
                        "scale": scale,
                        "failed to start": job.text[-2000:],
                    }
                time.sleep(0.1)
            time.sleep(random.uniform(0, 10))  # noqa: S311 - at any moment
            begin = time.monotonic()
            struck = act(job)
        while any(host.code() is None for host in hosts) and time.monotonic() - begin < patience:
            time.sleep(0.1)
        said = [
            (host.started + second - begin, line)
            for host in job.world
            for second, line in host.lines
            if host.started + second >= begin and NAMED.search(line)
        ]
        first = min(said, default=None)
        gone = all(host.code() is not None for host in hosts)
        return {
            "fault": fault,
            "mode": mode,
            "arm": arm,
            "scale": scale,
            "struck": struck,
            "first line": None if first is None else round(first[0], 1),
            "line": None if first is None else first[1][:200],
            "gone after": round(time.monotonic() - begin, 1) if gone else None,
            "exit codes": [host.code() for host in hosts],
            "aborts": job.text.count("terminate called"),
            "job page": job.world[0].failure()[:120],
        }


def _prepared(folder: Path) -> Path:
    subprocess.run(  # noqa: S603 - the command is ours
        ["/usr/bin/ssh-keygen", "-q", "-t", "rsa", "-N", "", "-f", str(folder / "ssh-key")], check=True
    )
    return folder


def main() -> None:
    """Run all that is asked for, and write one JSON line each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--faults", nargs="+", choices=FAULTS, default=list(FAULTS)[1:])
    parser.add_argument("--modes", nargs="+", choices=MODES, default=["none", "torch_distributed", "mpi"])
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=list(ARMS))
    parser.add_argument("--patience", type=float, default=150.0, help="seconds after which a run counts as hanging")
    parser.add_argument("--scale", type=float, default=10.0, help="our default limits are divided by it")
    parser.add_argument("--processes", type=int, default=2, help="on each host; 1 makes `--faults none` cheaper")
    parser.add_argument("--repeat", type=int, default=1, help="rounds over all of these")
    parser.add_argument("--output", type=Path, default=Path("build/faults.jsonl"))
    given = parser.parse_args()
    given.output.parent.mkdir(parents=True, exist_ok=True)
    with given.output.open("a", encoding="utf-8") as file:
        rounds = itertools.product(range(given.repeat), given.faults, given.modes, given.arms)
        for _, fault, mode, arm in rounds:
            if mode in ("none", "v3-none") and arm == "stock":
                continue  # stock makes no world of two hosts there: each takes itself for the first one
            result = measure(fault, mode, arm, given.scale, given.patience, processes=given.processes)
            file.write(json.dumps(result) + "\n")
            file.flush()
            print(json.dumps(result))


if __name__ == "__main__":
    main()
