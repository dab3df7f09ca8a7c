"""What is tried with process groups, from the least dangerous to the most, each trial in processes of its own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

Outcome = Literal["ok", "error", "hang", "ended", "not tried"]

INIT = "init"


@dataclass(frozen=True)
class Trial:
    """Operations that are tried one after the other in one process of each rank.

    Attributes:
        backend: Backend of the process group that the operations use; ``None`` where each makes its own.
        operations: Names of functions of `operations`; ``init`` makes the group.
        device_id: Whether the group is bound to its device, as Lightning does since 2.5.5.
        destroys: Whether the group is destroyed at the end.
    """

    backend: str | None
    operations: tuple[str, ...]
    device_id: bool = False
    destroys: bool = True


# What AWS's API document lists comes first, then what it does not, so that a crash or a hang loses little.
TRIALS = {
    "gloo": Trial(None, ("rendezvous", "rendezvous_again")),
    "nccl": Trial(
        "nccl",
        (INIT, "all_reduce_sum", "all_reduce_avg", "broadcast", "all_gather", "barrier", "gloo_group_beside"),
        device_id=True,
    ),
    "smddp": Trial(
        "smddp",
        (
            *(INIT, "all_reduce_sum", "all_reduce_sum_int64", "broadcast", "all_gather", "barrier", "reduce"),
            *("broadcast_object", "all_gather_into_tensor", "all_reduce_avg", "all_reduce_max", "barrier_device_ids"),
            *("gather", "scatter", "all_to_all", "cpu_tensor", "gloo_group_beside", "new_group", "second_init"),
        ),
    ),
    "smddp_device_id": Trial("smddp", (INIT, "all_reduce_sum", "barrier"), device_id=True),
    "smddp_exit": Trial("smddp", (INIT, "all_reduce_sum"), destroys=False),
}


@dataclass(frozen=True)
class Task:
    """What one process of a trial is given.

    Attributes:
        trial: Name of the trial.
        start: Index of the first operation after ``init``: those before it have been tried by an earlier process.
        rank: Global rank.
        world_size: Number of ranks.
        local_rank: Index on this host.
        address: Host of rank 0.
        port: Port on which the ranks agree with each other.
        job_port: Port of the job's rendezvous there.
        limit: Seconds for an operation.
        patience: Seconds for the others to come.
        results: File for the results, one JSON line each.
    """

    trial: str
    start: int
    rank: int
    world_size: int
    local_rank: int
    address: str
    port: int
    job_port: int
    limit: float
    patience: float
    results: str


def begun(operation: str) -> dict[str, Any]:
    """The line that announces an operation."""
    return {"operation": operation, "outcome": "begun"}
