"""Facts about a Trainer and a Fabric without arguments, made in this process for a report."""

from __future__ import annotations

from typing import Any


def trainer_facts(module: Any) -> dict[str, Any]:
    """Make ``Trainer()``, as ``PL_TRAINER_*`` and the job shape it, and describe it; no process group is made."""
    trainer = module.Trainer()
    return _facts(trainer._accelerator_connector, trainer.strategy)


def fabric_facts(module: Any) -> dict[str, Any]:
    """Make ``Fabric()`` of ``lightning.fabric`` or ``lightning_fabric``, and describe it as `trainer_facts` does."""
    fabric = module.Fabric()
    return _facts(fabric._connector, fabric.strategy)


def _facts(connector: Any, strategy: Any) -> dict[str, Any]:
    environment, backend = connector.cluster_environment, None
    if hasattr(strategy, "process_group_backend"):
        # The first thing that `fit` and `launch` do: the environment may refuse the world.
        (getattr(strategy, "set_world_ranks", None) or strategy._set_world_ranks)()
        backend = strategy.process_group_backend or strategy._get_process_group_backend()
    return {
        "cluster_environment": type(environment).__name__,
        "num_nodes": connector._num_nodes_flag,
        "devices": len(connector._parallel_devices),
        "world_size": getattr(strategy, "world_size", 1),
        "creates_processes_externally": environment.creates_processes_externally,
        "strategy": type(strategy).__name__,
        "backend": backend,
    }
