"""What breaks between hosts, ours against stock Lightning, on test hosts that are network namespaces: so as root.

For each fault and launch mode: seconds from the fault until a line names it, and until all processes of both hosts are
gone; where a run is still there after the patience, that stands in the place of its time, as a lower bound, and a label
says so. Limits of ours are as by default, divided by ``scale``. Every run is printed as a line of JSON too.
"""

import json
import random
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from signal import SIGSTOP
from typing import Any, NamedTuple

import psutil

from benchmarks.samples import Measured, interleaved
from tests.cluster import faults
from tests.cluster.hosts import Cluster
from tests.cluster.launch import Job

ARMS = ("ours", "ours again", "stock")
STEADY = Path(__file__).resolve().parents[2] / "tests" / "programs" / "steady.py"
# Lines that name the fault: ours, and what stock parts say that a user could act on.
NAMED = re.compile(
    r"gets no answer from|name is not known|addresses of .* cannot be retrieved|waited \d+ s|has gone silent"
    r"|has been stopped by|ended without an exception|imed out|onnection (reset|closed) by|SIGKILL|lost communication"
)
LATE = 90.0  # seconds
GROUP_TIMEOUT = 60.0  # seconds, instead of torch's 1,800


def _process(job: Job, rank: int) -> psutil.Process:
    seen = (job.cluster.shared / "seen" / f"rank-{rank}").read_text()
    for process in job.world[rank // 2].processes():
        status = Path(f"/proc/{process.pid}/status").read_text(encoding="utf-8")
        if status.partition("NSpid:")[2].splitlines()[0].split()[-1] == seen:
            return process
    raise LookupError(f"rank {rank} is gone")


def _block_peers(job: Job) -> None:
    for host, open_ports in zip(job.world, ("{ 22, 7777 }", "22"), strict=True):  # the main one is the first host's
        faults.drop(host, f"ct state new tcp dport != {open_ports}")


class Fault(NamedTuple):
    """What is done, whether to a training that runs already, and to which host something else happens."""

    act: Callable[[Job], object]
    during: bool = False
    second_host: str = ""


FAULTS = {
    "none": Fault(lambda _: None),  # a short training to its end: every exit code must be 0
    "blocked main port": Fault(lambda job: faults.drop(job.world[0], "tcp dport 7777")),
    "blocked peer ports": Fault(_block_peers),
    "wrong name": Fault(lambda job: job.world[1].knows({})),  # the second host never learns the first one's name
    "killed rank": Fault(lambda job: _process(job, random.randrange(4)).kill(), during=True),  # noqa: S311 - any; 0 has the store
    "stopped rank": Fault(lambda job: _process(job, 3).send_signal(SIGSTOP), during=True),
    "pulled cable": Fault(lambda job: faults.pull_cable(job.world[1]), during=True),
    "late host": Fault(lambda _: None, second_host="late"),
    "absent host": Fault(lambda _: None, second_host="absent"),
}


def run(fault: str, mode: str, arm: str, *, scale: float, patience: float, processes: int) -> dict[str, Any]:
    """One run on two hosts; faults that strike a rank need two processes on each."""
    act, during, second_host = FAULTS[fault]
    ours = {"LIGHTNING_SAGEMAKER_REACHABILITY": f"{120 / scale:g}", "LIGHTNING_SAGEMAKER_HEARTBEAT": f"{300 / scale:g}"}
    stock = {"LIGHTNING_SAGEMAKER_AUTOLOAD": "0", "PL_TRAINER_NUM_NODES": "2", "PL_TRAINER_DEVICES": str(processes)}
    environ = stock if arm == "stock" else ours
    with tempfile.TemporaryDirectory() as name, Cluster(("algo-2", "algo-1"), Path(name)) as cluster:
        (cluster.shared / "seen").mkdir()
        key = str(cluster.shared / "ssh-key")
        subprocess.run([shutil.which("ssh-keygen") or "", "-q", "-t", "rsa", "-N", "", "-f", key], check=True)  # noqa: S603 - ours
        arguments = {"folder": str(cluster.shared / "seen"), "steps": 10**6 if during else 5, "pause": 0.02}
        if fault in ("absent host", "wrong name"):
            arguments["timeout"] = GROUP_TIMEOUT
        job = Job(cluster, mode, STEADY, arguments, environ=environ, processes=processes)
        if not during:
            act(job)
        job.start(*[job.world[0].name] if second_host else [])
        begin = time.monotonic()
        if second_host == "late":
            time.sleep(LATE)
            job.start(job.world[1].name)
        hosts = job.world[:1] if second_host == "absent" else job.world
        if during:
            while len(list((cluster.shared / "seen").glob("step-*"))) < 4:  # noqa: PLR2004 - 2 hosts x 2 processes
                if time.monotonic() - begin > 120 or any(host.code() is not None for host in job.world):  # noqa: PLR2004
                    raise RuntimeError(f"{fault}, {mode}, {arm}: no training to strike:\n{job.text[-2000:]}")
                time.sleep(0.1)
            time.sleep(random.uniform(0, 10))  # noqa: S311 - at any moment
            begin = time.monotonic()
            act(job)
        while any(host.code() is None for host in hosts) and time.monotonic() - begin < patience:
            time.sleep(0.1)
        codes, ended = [host.code() for host in hosts], time.monotonic() - begin
        said = [(host.started + second - begin, line) for host in job.world for second, line in host.lines]
        named = min(((after, line) for after, line in said if after >= 0 and NAMED.search(line)), default=(None, ""))
        return {
            "named after": named[0],
            "line": named[1][:200],
            "gone after": None if None in codes else ended,
            "exit codes": codes,
            "aborts": job.text.count("terminate called"),
            "job page": job.world[0].failure()[:120],
        }


def measure(
    launches: int = 6,
    *,
    names: tuple[str, ...] = ("blocked main port",),
    modes: tuple[str, ...] = ("torch_distributed",),
    patience: float = 60.0,
    scale: float = 10.0,
    processes: int = 2,
) -> Iterator[Measured]:
    """Break something in trainings on two hosts.

    Args:
        launches: Of each arm.
        names: Of faults; "none" is a short training to its end.
        modes: Launch modes, of tests/cluster/launch.py.
        patience: Seconds after which a run counts as hanging.
        scale: Our default limits are divided by it.
        processes: On each host; 1 makes "none" cheaper.
    """
    settings: dict[str, Any] = {"scale": scale, "patience": patience, "processes": processes}
    for fault in names:
        for mode in modes:
            # Stock makes no world of two hosts where there is no launcher.
            left = [arm for arm in ARMS if arm != "stock" or not mode.endswith("none")]
            for arm, index in interleaved(left, launches):
                found = run(fault, mode, arm.removesuffix(" again"), **settings)
                print(json.dumps({"fault": fault, "mode": mode, "arm": arm} | found))
                seconds = {what: found[f"{what} after"] for what in ("named", "gone")}
                numbers = {f"{what}_seconds": patience if it is None else it for what, it in seconds.items()}
                labels = tuple(f"not {what} in {patience:g} s" for what, it in seconds.items() if it is None)
                yield Measured(f"{fault}, {mode}", arm, index, numbers, settings, labels)
