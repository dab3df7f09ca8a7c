"""One process of a trial: runs its operations one after the other with all other ranks, and writes down each outcome.

Started by `children` with a `Task` as JSON; ends by being killed where an operation hangs.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from lightning_sagemaker.probe import operations
from lightning_sagemaker.probe.agreement import Agreement
from lightning_sagemaker.probe.guarded import first_line
from lightning_sagemaker.probe.trials import INIT, TRIALS, Task, begun

_PEERS_LEFT = 3  # the exit code where not all ranks came: the next process meets them again


def main(task: Task) -> int:
    """Run the operations from the task's first on.

    Args:
        task: What this process was given.

    Returns:
        The exit code.
    """
    trial = TRIALS[task.trial]
    device = torch.device("cpu")
    if torch.cuda.is_available() and trial.backend is not None:
        device = torch.device("cuda", task.local_rank % torch.cuda.device_count())
        torch.cuda.set_device(device)
    agreement = Agreement(
        task.address,
        task.port,
        rank=task.rank,
        world_size=task.world_size,
        serves=False,
        patience=task.patience,
    )
    attempt = operations.Attempt(task, trial, agreement, device)
    first = (INIT,) if task.start and INIT in trial.operations else ()
    patience = task.patience  # a process that was killed elsewhere takes its time to come again
    with Path(task.results).open("a", encoding="utf-8", buffering=1) as file:
        for operation in (*first, *trial.operations[task.start :]):
            try:
                agreement.all_come(f"{task.trial}/{task.start}/{operation}", patience)
            except TimeoutError:
                return _PEERS_LEFT
            patience = 2 * task.limit
            file.write(json.dumps(begun(operation)) + "\n")
            result = _outcome(attempt, operation)
            file.write(json.dumps(result) + "\n")
            if operation == INIT and result["outcome"] != "ok":
                return 0  # nothing else can be tried
    if trial.destroys and dist.is_initialized():
        dist.destroy_process_group()
    return 0


def _outcome(attempt: operations.Attempt, operation: str) -> dict[str, Any]:
    begin = time.monotonic()
    told: dict[str, Any]
    try:
        text = getattr(operations, operation)(attempt)
        if attempt.device.type == "cuda":
            torch.cuda.synchronize()  # NCCL's and SMDDP's errors may come with the result only
        told = {"outcome": "ok", **({"text": text} if text else {})}
    except operations.NotTriedError as error:
        told = {"outcome": "not tried", "text": str(error)}
    except BaseException as error:  # noqa: BLE001 - the answer that was asked for
        told = {"outcome": "error", "text": first_line(error)}
    return {"operation": operation, **told, "seconds": round(time.monotonic() - begin, 2)}


if __name__ == "__main__":
    sys.exit(main(Task(**json.loads(sys.argv[1]))))
