"""All ranks load the same checkpoint, on hosts with disks of their own. In SageMaker training jobs."""

from __future__ import annotations

from typing import Any

from lightning_sagemaker.environment import SageMakerEnvironment, process_group
from lightning_sagemaker.patches import wrap

_AUTOMATIC = "_lightning_sagemaker_automatic"
_WORDS = (None, "best", "last", "hpc")  # for which Lightning looks for a file by itself


def note_process_group(cluster_environment: Any, timeout: Any, *, was_there: bool) -> None:
    """Register a process group of our environment for sending checkpoints between hosts."""
    from lightning_sagemaker.checkpoint import other_hosts

    is_ours = isinstance(cluster_environment, SageMakerEnvironment)
    if is_ours and not (was_there and other_hosts.current()):
        from torch.distributed.distributed_c10d import default_pg_timeout

        other_hosts.begin(cluster_environment.job, (timeout or default_pg_timeout).total_seconds())
    elif not is_ours and not was_there:
        other_hosts.end()


def patch_checkpoint_connector(module: Any) -> None:
    """Let ranks compare what they are about to load."""

    @wrap(module._CheckpointConnector, "_select_ckpt_path")
    def _select_ckpt_path(select: Any, connector: Any, state_fn: Any, ckpt_path: Any, *args: Any, **kwargs: Any) -> Any:
        is_given = ckpt_path not in _WORDS or (ckpt_path is None and getattr(connector, "_user_managed", False))
        setattr(connector, _AUTOMATIC, not is_given)
        return select(connector, state_fn, ckpt_path, *args, **kwargs)

    @wrap(module._CheckpointConnector, "resume_start")
    def resume_start(start: Any, connector: Any, checkpoint_path: Any = None, *args: Any, **kwargs: Any) -> None:
        is_automatic = vars(connector).pop(_AUTOMATIC, False)  # not for what a tuner restores by itself
        if connector.trainer.world_size > 1:
            checkpoint_path = _agreed(connector.trainer, checkpoint_path, is_automatic)
        start(connector, checkpoint_path, *args, **kwargs)


def _agreed(trainer: Any, path: Any, is_automatic: bool) -> Any:
    """What this rank loads, at a point where all ranks of the job's process group load something."""
    from lightning_sagemaker.checkpoint import other_hosts
    from lightning_sagemaker.checkpoint.comparison import Comparison

    environment = getattr(trainer._accelerator_connector, "cluster_environment", None)
    hosts, group = other_hosts.current(), process_group()
    if not isinstance(environment, SageMakerEnvironment) or hosts is None or group is None:
        return path
    if group.get_world_size() != trainer.world_size:
        return path
    is_fit, is_comparable = trainer.state.fn == "fit", _is_stock(trainer.strategy.checkpoint_io)
    return Comparison(hosts, is_comparable=is_comparable, is_fit=is_fit).agree(path, is_automatic=is_automatic)


def _is_stock(checkpoint_io: Any) -> bool:
    """Whether paths are files that Lightning writes: a user's plugin may treat a path differently."""
    while type(checkpoint_io).__module__.startswith(("lightning.", "lightning_fabric.", "pytorch_lightning.")):
        wrapped = getattr(checkpoint_io, "checkpoint_io", None)  # AsyncCheckpointIO wraps another one
        if wrapped is None:
            return True
        checkpoint_io = wrapped
    return False


def patch_strategy(module: Any) -> None:
    """Remove a file that came from rank 0's host when rank 0 removes it: tuners remove what they restored."""

    @wrap(module.Strategy, "remove_checkpoint")
    def remove_checkpoint(remove: Any, strategy: Any, filepath: Any) -> None:
        from lightning_sagemaker.checkpoint.other_hosts import forget

        remove(strategy, filepath)
        forget(filepath)


def patch_saving(module: Any) -> None:
    """Let ``load_from_checkpoint`` find a file that another host has written."""

    @wrap(module, "_load_from_checkpoint")
    def _load_from_checkpoint(load: Any, cls: Any, checkpoint_path: Any, /, *args: Any, **kwargs: Any) -> Any:
        # Often called on rank 0 alone, or in vain: nobody waits for rank 0 here.
        return _load_brought(lambda: load(cls, checkpoint_path, *args, **kwargs), checkpoint_path, patience=0.0)


def patch_fabric(module: Any) -> None:
    """Let ``Fabric.load`` and ``load_raw`` find a file that another host has written."""
    for name in ("load", "load_raw"):

        @wrap(module.Fabric, name)
        def load_brought(load: Any, fabric: Any, /, path: Any, *args: Any, **kwargs: Any) -> Any:
            return _load_brought(lambda: load(fabric, path, *args, **kwargs), path)


def _load_brought(load: Any, path: Any, **options: float) -> Any:
    from lightning_sagemaker.checkpoint.other_hosts import fetch_if_missing

    known = fetch_if_missing(path, **options)
    try:
        return load()
    except FileNotFoundError as error:
        if not known:
            raise
        raise FileNotFoundError(f"{error}. {known}. HINT: let rank 0 write it through Lightning first.") from error
