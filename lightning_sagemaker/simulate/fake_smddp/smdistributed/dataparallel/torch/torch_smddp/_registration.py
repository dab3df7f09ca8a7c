"""Registration with torch, which other groups may stand beside this one (none), and the quiet end."""

from __future__ import annotations

import atexit
import functools
import sys
import weakref
from typing import TYPE_CHECKING, Any

import torch.distributed as dist
from torch.distributed import distributed_c10d

from ._group import ProcessGroupSMDDP
from ._limits import Limits, unsupported
from ._log import CallLog

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import timedelta

    from torch._C._distributed_c10d import Store

NAME = "smddp"

_RANKS = ("RANK", "OMPI_COMM_WORLD_RANK")
# Lightning's own launcher sets neither.
_LIGHTNING_RANKS = ("NODE_RANK", "LOCAL_RANK")

_groups: weakref.WeakSet[ProcessGroupSMDDP] = weakref.WeakSet()


def register(limits: Limits, environ: Mapping[str, str]) -> None:
    """Make torch know the backend; each group looks in ``environ`` for the variable of the log."""

    def create(store: Store, rank: int, size: int, timeout: timedelta) -> ProcessGroupSMDDP:
        backend = _nccl(store, rank, size, timeout) if limits.device == "cuda" else _gloo(store, rank, size, timeout)
        group = ProcessGroupSMDDP(backend, rank, size, limits, CallLog.from_environment(environ, rank))
        _groups.add(group)
        return group

    # Some versions of torch make a backend with `devices` the default one of those devices.
    defaults = getattr(dist.Backend, "default_device_backend_map", {})
    before = dict(defaults)
    dist.Backend.register_backend(NAME, create, devices=[limits.device])
    defaults.clear()
    defaults.update(before)
    _guard_creation()
    atexit.register(_close_all)


def announce(limits: Limits, environ: Mapping[str, str]) -> None:
    """Print on rank 0 that this is not the real library."""
    ranks = [name for name in _RANKS if name in environ] or _LIGHTNING_RANKS
    if all(environ.get(name, "0") == "0" for name in ranks):
        library, tensors = ("NCCL", "CUDA") if limits.device == "cuda" else ("gloo", "CPU")
        sys.stderr.write(
            "*** FAKE SMDDP, NOT AWS's library: lightning-sagemaker plays its documented limits "
            f"over {library} ({tensors} tensors). Its speed means nothing. "
            f"AllGather side {'on' if limits.allgather else 'off'} ({limits.allgather_reason}); "
            f"instance type {limits.instance_type or 'unknown'}. ***\n",
        )


def _gloo(store: Store, rank: int, size: int, timeout: timedelta) -> object:
    return dist.ProcessGroupGloo(store, rank, size, timeout=timeout)


def _nccl(store: Store, rank: int, size: int, timeout: timedelta) -> object:
    options = dist.ProcessGroupNCCL.Options()
    options._timeout = timeout  # noqa: SLF001 - as torch itself does; its public argument is newer
    return dist.ProcessGroupNCCL(store, rank, size, options)


def _guard_creation() -> None:
    """Refuse every group beside ours, of whichever backend and made by whichever function of torch.

    All of them (``new_group``, ``new_subgroups``, DeviceMesh, ...) end in one function of torch; a hook for this exists
    in its latest versions only.
    """
    original = distributed_c10d._new_process_group_helper  # noqa: SLF001

    @functools.wraps(original)
    def guarded(size: int, rank: int, ranks: list[int], backend: str, *arguments: Any, **keywords: Any) -> Any:
        names = {part.rpartition(":")[2] for part in str(backend).lower().split(",")}
        if not ranks and NAME in names and len(names) > 1:
            raise unsupported(f"init_process_group({str(backend)!r})", "no second backend beside it")
        if ranks:
            default = distributed_c10d._get_default_group()  # noqa: SLF001
            if isinstance(default, ProcessGroupSMDDP):
                error = unsupported("new_group", f"documented as unsupported; {backend} was asked for ranks {ranks}")
                raise default.refused("new_group", error, backend=str(backend), ranks=list(ranks))
            if NAME in names:
                raise unsupported("new_group", f"documented as unsupported; beside {dist.get_backend(default)}")
        return original(size, rank, ranks, backend, *arguments, **keywords)

    distributed_c10d._new_process_group_helper = guarded  # type: ignore[assignment]  # noqa: SLF001


def _close_all() -> None:
    """End what a script left open: how the real one ends then is unknown, and gloo may abort the process."""
    for group in list(_groups):
        group.close()
