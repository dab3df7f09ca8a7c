"""From what each rank measured to one launch in the samples file, by way of the store that made the process group."""

import json
import os
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import torch.distributed as dist

from benchmarks.environment import gather
from benchmarks.plan import SIMULATED, World
from benchmarks.samples import Launch, append


def of_all_ranks(mine: Any) -> list[Any] | None:  # noqa: ANN401 - what JSON can say
    """Values of all ranks on rank 0, None on the others.

    Not by a collective: SMDDP has none for objects, and what is measured should not be what carries the result.
    """
    if not dist.is_initialized():
        return [mine]
    store = dist.distributed_c10d._get_default_store()  # noqa: SLF001 - torch has no public name for it
    store.set(f"benchmark/{dist.get_rank()}", json.dumps(mine))
    if dist.get_rank():
        store.get("benchmark/read")  # rank 0 may be the one that serves the store
        return None
    values = [json.loads(store.get(f"benchmark/{rank}")) for rank in range(dist.get_world_size())]
    store.set("benchmark/read", "yes")
    return values


def main() -> None:
    """Measure on this rank; rank 0 adds one launch for each case."""
    planned, path = json.loads(sys.argv[1]), Path(sys.argv[2])
    settings, worker = planned["settings"], import_module(f"benchmarks.workers.{planned.pop('worker')}")
    del planned["environ"]  # in which this process is already; the rest is the launch's
    if (ranks := of_all_ranks(worker.measure(settings))) is None:
        return
    from lightning_sagemaker.job import SageMakerJob  # noqa: PLC0415 - after the measurement: stock is without us

    job, processes = SageMakerJob.detect(), settings["processes_per_host"]
    world = World(settings["world_size"] // processes, processes, "none" if job is None else job.launcher)
    environment = gather(
        dist.get_backend() if dist.is_initialized() else "none",
        launcher=world.launcher,
        hosts=world.hosts,
        instance_type=None if job is None or SIMULATED in os.environ else job.instance_type,
    )
    about = {**planned, "environment": environment, "labels": () if environment.gpus else ("plumbing check",)}
    launches = []
    for each in zip(*ranks, strict=True):
        names, steps, numbers = zip(*each, strict=True)
        found = worker.combine(settings, steps, numbers)
        launches.append(Launch(case=f"{names[0]}, {world}", steps=steps, numbers=found, **about))
    append(path, *launches)


if __name__ == "__main__":
    main()
