"""``SMDDPStrategy`` and ``SMDDPFSDPStrategy``: one mixin, joined with each of Lightning's base classes.

There are eight classes: DDP and FSDP, for Trainer and Fabric, of both distributions.
"""

from __future__ import annotations

import functools
import importlib.util
import os
import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal, get_args

import torch.distributed as dist
from torch import Tensor

from lightning_sagemaker.distributed.rendezvous import watched
from lightning_sagemaker.messages import say
from lightning_sagemaker.smddp import availability, collectives
from lightning_sagemaker.smddp.availability import BACKEND, OnMissing, Sharding

if TYPE_CHECKING:
    from torch.distributed import ReduceOp

Package = Literal["lightning.pytorch", "pytorch_lightning", "lightning.fabric", "lightning_fabric"]


class _SMDDPMixin:
    """Lightning's strategy of the same kind over AWS's SMDDP collectives, or over NCCL or gloo without them.

    By name: ``strategy="smddp"`` or ``"smddp_fsdp"``, which always fits the Trainer or Fabric that gets it. A class
    fits one distribution. Where both are installed, import yours before this name.

    Args:
        on_missing: What to do if SMDDP cannot be used: ``"native"``, the default, trains with NCCL or gloo and logs
            a warning; ``"error"`` raises. The environment variable ``LIGHTNING_SAGEMAKER_ON_MISSING`` sets the default.
        kwargs: Arguments of the Lightning strategy of the same kind, with its defaults.

    Raises:
        RuntimeError: SMDDP cannot be used, and ``on_missing`` is ``"error"``.
        ValueError: ``on_missing`` is neither.
        TypeError: ``process_group_backend`` is given, other than as Lightning's own default.
    """

    _sharding: Sharding
    _process_group_backend: str | None

    def __init__(self, *args: Any, on_missing: OnMissing | None = None, **kwargs: Any) -> None:
        given = kwargs.pop("process_group_backend", None)
        if given is not None:
            raise TypeError(
                f"process_group_backend={given!r} was given to {type(self).__name__}, which"
                " chooses the backend itself. HINT: leave it out, or use Lightning's own strategy."
            )
        backend = availability.choose_backend(self._sharding, on_missing)
        super().__init__(*args, process_group_backend=backend, **kwargs)  # type: ignore[call-arg]

    @property
    def process_group_backend(self) -> str | None:
        """The backend actually in use: ``"smddp"``, ``"nccl"`` or ``"gloo"``; ``None`` while the device is unknown."""
        known = self._on_smddp or not self.parallel_devices  # type: ignore[attr-defined]
        return self._process_group_backend if known else self._get_process_group_backend()  # type: ignore[attr-defined]

    @property
    def _on_smddp(self) -> bool:
        return self._process_group_backend == BACKEND

    def _configure_launcher(self) -> None:
        # Lightning's own check goes by the names and the exact type of its own strategies.
        if self._sharding == "sharded" and self.root_device.type != "cuda":  # type: ignore[attr-defined]
            raise ValueError(
                f"{type(self).__name__} shards over GPUs, but the accelerator is {self.root_device.type!r}."  # type: ignore[attr-defined]
                ' HINT: run on GPUs with accelerator="gpu", or use strategy="smddp".'
            )
        if self._on_smddp and getattr(self, "_layer_sync", None) is not None:
            availability.advise_on_sync_batchnorm()
        super()._configure_launcher()  # type: ignore[misc]

    def setup_environment(self) -> None:
        """Make the process group: an SMDDP group here, without ``device_id``, any other as Lightning does."""
        if self._on_smddp and not dist.is_initialized():
            self.accelerator.setup_device(self.root_device)  # type: ignore[attr-defined]
            environment = self.cluster_environment  # type: ignore[attr-defined]
            os.environ["MASTER_ADDR"] = environment.main_address
            os.environ["MASTER_PORT"] = str(environment.main_port)
            rank, world_size, timeout = environment.global_rank(), environment.world_size(), self._timeout  # type: ignore[attr-defined]
            with watched(environment, rank, world_size, timeout, BACKEND) as options:
                dist.init_process_group(BACKEND, rank=rank, world_size=world_size, timeout=timeout, **options)
            if rank == 0:
                say("distributed_backend=%s, %d processes", BACKEND, world_size)
        super().setup_environment()  # type: ignore[misc]

    def broadcast(self, obj: Any, src: int = 0) -> Any:
        """Broadcast any object, as tensors on the device, since SMDDP has no CPU tensors."""
        if not self._on_smddp or not dist.is_initialized():
            return super().broadcast(obj, src)  # type: ignore[misc]
        objects = [obj]
        dist.broadcast_object_list(objects, src, device=self.root_device)  # type: ignore[attr-defined]
        return objects[0]

    def all_gather(self, tensor: Tensor, group: Any = None, sync_grads: bool = False) -> Tensor:
        """Gather a tensor from all ranks; shape ``(world_size, ...)``."""
        if self._on_smddp and sync_grads and dist.is_initialized():
            return collectives.all_gather(tensor, group)
        return super().all_gather(tensor, group, sync_grads)  # type: ignore[misc,no-any-return]

    @classmethod
    def register_strategies(cls, _registry: object) -> None:
        """Register nothing: the inherited method would register Lightning's names again."""


def _reduce(
    _strategy: _SMDDPMixin,
    tensor: Any,
    group: Any = None,
    reduce_op: ReduceOp | str | None = "mean",
) -> Any:
    """Reduce a tensor over all ranks, in place; other objects are returned as they are."""
    if isinstance(tensor, Tensor) and dist.is_available() and dist.is_initialized():
        return collectives.reduce_in_place(tensor, group, reduce_op)
    return tensor


@functools.cache
def strategy_class(package: Package, sharding: Sharding) -> type:
    """Class of the strategy for a Trainer or Fabric."""
    kind = "DDPStrategy" if sharding == "replicated" else "FSDPStrategy"
    base, name = getattr(import_module(f"{package}.strategies"), kind), f"SMDDP{kind.removeprefix('DDP')}"
    members = {
        "__module__": __name__,
        "__qualname__": f"{name}_for_{package.replace('.', '__')}",
        "__doc__": _SMDDPMixin.__doc__,
        "_sharding": sharding,
    }
    # Logged metrics are reduced by it without waiting: `patches.results`.
    names = ("all_reduce",) if "fabric" in package else ("reduce", "reduce_that_can_wait")
    return type(name, (_SMDDPMixin, base), members | dict.fromkeys(names, _reduce))


def __getattr__(name: str) -> type:
    """A class by the name that pickle knows it by: eight classes of two names need a name each."""
    kind, _, known = name.partition("_for_")
    for package in get_args(Package):
        if kind in ("SMDDPStrategy", "SMDDPFSDPStrategy") and known == package.replace(".", "__"):
            return class_by_name(kind, package)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def class_by_name(name: str, *packages: Package) -> type:
    """Class that ``SMDDPStrategy`` or ``SMDDPFSDPStrategy`` stands for.

    The class is made for the first package that is imported, else installed: where neither is imported yet, nothing
    tells which one will be. A class that decides later would have no base, and Trainers refuse what has not theirs.
    """
    imported = (package for package in packages if package in sys.modules)
    installed = (package for package in packages if importlib.util.find_spec(package.partition(".")[0]))
    package = next(imported, None) or next(installed, packages[0])
    return strategy_class(package, "sharded" if "FSDP" in name else "replicated")
