"""What the checks before a process group cost where all is well: on test hosts, so as root.

The processes of one job, one on each host, make a process group again and again, with the package's checks and
without, in turn. All wait at a store of this program's own before each time, so that what is measured is the checks,
and not that hosts start apart; the slowest process counts.
"""

import json
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.samples import Measured, interleaved

ARMS = ("off", "off again", "on")
LIMITS = {"on": ("120", "300")}  # seconds of LIGHTNING_SAGEMAKER_REACHABILITY and _HEARTBEAT
_OWN_PORT, _FIRST_PORT = 20000, 20001


def measure(launches: int = 30, hosts: int = 4) -> Iterator[Measured]:
    """Run one job on test hosts.

    Args:
        launches: Groups of each arm.
        hosts: Of the job.
    """
    from tests.cluster.hosts import Cluster  # noqa: PLC0415 - of this process alone
    from tests.cluster.launch import Job  # noqa: PLC0415 - the same

    names = [f"algo-{number}" for number in range(hosts, 0, -1)]
    with tempfile.TemporaryDirectory() as name, Cluster(names, Path(name)) as cluster:
        arguments = {"folder": str(cluster.shared), "rounds": launches}
        job = Job(cluster, "none", Path(__file__), arguments, processes=1).start()
        codes = job.wait(300 + 2 * launches)
        if set(codes.values()) != {0}:
            raise RuntimeError(f"exit codes {codes}:\n{job.text}")
        taken = json.loads((cluster.shared / "taken.json").read_text())
    for arm, index, seconds in taken["groups"]:
        further = {} if index else {"start to first group, s": taken["first"]}
        yield Measured(f"{hosts} hosts", arm, index, {"group_seconds": seconds} | further)


def make_groups(folder: Path, rounds: int) -> None:
    """Make all groups, and write down how long each took, on rank 0."""
    import psutil  # noqa: PLC0415 - of the hosts' processes alone, as all of these
    import torch.distributed as dist  # noqa: PLC0415
    from lightning.fabric.utilities.distributed import _init_dist_connection  # noqa: PLC0415

    from lightning_sagemaker import SageMakerEnvironment  # noqa: PLC0415
    from lightning_sagemaker.distributed.store import TCPStore  # noqa: PLC0415

    job = SageMakerEnvironment().job
    rank, world_size = job.node_rank, job.num_nodes
    own = TCPStore(job.main_address, _OWN_PORT, world_size, is_master=rank == 0)

    def together(key: str) -> None:
        if own.add(key, 1) == world_size:
            own.set(f"{key}, all", "")
        own.wait([f"{key}, all"])

    groups: list[tuple[str, int, float]] = []
    first = 0.0
    for number, (arm, index) in enumerate(interleaved(ARMS, rounds)):
        limits = LIMITS.get(arm, ("0", "0"))
        os.environ["LIGHTNING_SAGEMAKER_REACHABILITY"], os.environ["LIGHTNING_SAGEMAKER_HEARTBEAT"] = limits
        os.environ["MASTER_PORT"] = str(_FIRST_PORT + number)
        environment: Any = SageMakerEnvironment()
        together(f"before {number}")
        begin = time.perf_counter()
        _init_dist_connection(environment, "gloo", rank, world_size)
        seconds = time.perf_counter() - begin
        first = first or time.time() - psutil.Process().create_time()
        own.set(f"{number}/{rank}", str(seconds))  # and all are read, so that nobody takes its store away too early
        groups.append((arm, index, max(float(own.get(f"{number}/{other}")) for other in range(world_size))))
        dist.destroy_process_group()
    if rank == 0:
        (folder / "taken.json").write_text(json.dumps({"first": first, "groups": groups}))
    together("the end")  # rank 0 keeps the store until the others have read it


if __name__ == "__main__":
    from jsonargparse import auto_cli

    auto_cli(make_groups, as_positional=False)
