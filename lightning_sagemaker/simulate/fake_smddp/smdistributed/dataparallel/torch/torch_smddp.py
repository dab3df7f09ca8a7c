"""Fake SMDDP: importing it registers a torch.distributed backend ``smddp`` with the real one's documented limits.

Its two own variables, read at import as the library's are, are in docs/settings.md.

Collectives run over gloo on CPU tensors, and where CUDA is, over NCCL on CUDA tensors and on nothing else: on a machine
without CUDA, CPU tensors stand for the device's.

Documented words of its errors are ``SMDDP does not support: ReduceOp`` and ``SMDDP does not support: _allgather_base``;
the same pattern is used where only the limit is known or likely. What follows in brackets is always the fake's own.

Documented: the list of collectives, SUM only, no ``new_group``, no second backend, no ``barrier(device_ids=...)``, the
AllGather side's two conditions, the instance types and that they are checked at import. Not documented, and taken for
unsupported here: gather, scatter, all-to-all, point to point, coalesced and sparse forms, CPU tensors where CUDA is.
Not known, and allowed here: every dtype that gloo or NCCL reduces, ``reduce_scatter`` with the AllGather side on.
"""

from __future__ import annotations

import atexit
import functools
import json
import os
import sys
import time
import weakref
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist
from torch.distributed import ReduceOp, distributed_c10d

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from datetime import timedelta

    from torch._C._distributed_c10d import Store

# The collectives that AWS's API document lists, by the name of their method on a process group.
_DOCUMENTED = {name: name for name in ("broadcast", "reduce", "barrier")}
_DOCUMENTED |= {"allreduce": "all_reduce", "allgather": "all_gather"}
# The AllGather side, which FSDP uses: by default on under torchrun only.
_ALLGATHER_SIDE = {
    "_allgather_base": "all_gather_into_tensor",
    "reduce_scatter": "reduce_scatter",
    "_reduce_scatter_base": "reduce_scatter_tensor",
}
_ALLOWED = _DOCUMENTED | _ALLGATHER_SIDE
# Everything else that torch can ask of a process group.
_REFUSED = (
    *("_start_coalescing", "allgather_coalesced", "allgather_into_tensor_coalesced", "allreduce_coalesced", "alltoall"),
    *("alltoall_base", "gather", "recv", "recv_anysource", "reduce_scatter_tensor_coalesced", "scatter", "send"),
)
# Newer names that torch has given to methods since; errors keep the name that SMDDP's users know.
_NEWER_NAMES = {
    "_allgather_base": "all_gather_single",
    "_reduce_scatter_base": "reduce_scatter_single",
    "allgather_into_tensor_coalesced": "all_gather_single_coalesced",
    "alltoall_base": "all_to_all_single",
    "reduce_scatter_tensor_coalesced": "reduce_scatter_single_coalesced",
}


def _unsupported(what: str, detail: str = "") -> RuntimeError:
    """The real one's error, with the fake's own explanation."""
    return RuntimeError(f"SMDDP does not support: {what} ({f'{detail}; ' if detail else ''}fake SMDDP)")


def _accepted_instance_type() -> str:
    """The instance type; a RuntimeError where SMDDP does not run on it."""
    for variable in ("SAGEMAKER_INSTANCE_TYPE", "SM_CURRENT_INSTANCE_TYPE"):
        if name := os.environ.get(variable):
            break
    else:
        # What the real one then does is unknown. Fatal it cannot be: jobs on one host or by torchrun lack the first.
        return "unknown"
    accept = "LIGHTNING_SAGEMAKER_FAKE_SMDDP_INSTANCE_TYPES"
    accepted = [part.strip() for part in os.environ.get(accept, "").split(",") if part.strip()]
    # Before 2.3 also p3.16xlarge and p3dn.24xlarge, which AWS has deprecated since; this plays a later release.
    accepted = accepted or ["ml.p4d.24xlarge", "ml.p4de.24xlarge"]
    if name not in accepted and "any" not in accepted:
        hint = f"{variable}; it runs on {', '.join(accepted)}. HINT: {accept}=any switches this check off"
        raise _unsupported(f"instance type {name}", hint)
    return name


def _allgather() -> tuple[bool, str]:
    """Whether the AllGather side is on, and why it is, or is not."""
    if "TORCHELASTIC_RUN_ID" in os.environ:
        return True, "torchrun"
    if os.environ.get("SMDATAPARALLEL_OPTIMIZE_SDP", "").lower() == "true":
        return True, "SMDATAPARALLEL_OPTIMIZE_SDP=true"
    launcher = "mpirun" if "OMPI_COMM_WORLD_SIZE" in os.environ else "no torchrun"
    return False, f"{launcher}, and SMDATAPARALLEL_OPTIMIZE_SDP was not true at import"


# Read once, as the real one does: a variable set later changes nothing. The first may raise, before anything is
# registered: a failed import must leave no backend behind.
_INSTANCE_TYPE = _accepted_instance_type()
_ALLGATHER, _ALLGATHER_REASON = _allgather()
_DEVICE = "cuda" if torch.cuda.is_available() else "cpu"  # of the tensors that collectives take
_FOLDER = os.environ.get("LIGHTNING_SAGEMAKER_FAKE_SMDDP_LOG")
_LOG = Path(_FOLDER).absolute() if _FOLDER else None  # a script may change its folder


def _accessors(attribute: str) -> tuple[Callable[[Any], str], Callable[[Any, str], None]]:
    """What returns an attribute, and what sets it."""
    return lambda self: getattr(self, attribute), lambda self, value: setattr(self, attribute, value)


class ProcessGroupSMDDP(dist.ProcessGroup):
    """A process group that checks, logs and hands on to gloo or NCCL.

    Its collectives are added below, from the tables of what is allowed and what is not. torch's C++ callers (DDP's
    reducer and its broadcasts) reach them too.
    """

    def __init__(self, backend: Any, rank: int, size: int) -> None:
        # The backend is gloo's or NCCL's group, which does the work. Nobody else may hold it: `shutdown` ends it by
        # letting go.
        # The other constructor, with a store, makes an object that C++ cannot call back.
        super().__init__(rank, size)  # type: ignore[call-arg]
        self._backend = backend
        self._always = {"group_size": size, "rank": rank}
        self._name = self._description = ""
        self._note("init", device=_DEVICE, allgather=_ALLGATHER)

    # torch's base class asks the backends registered with it for its names; this one has none. Which of these C++ asks
    # for, and which only Python can give, depends on torch's version.
    def getBackendName(self) -> str:  # noqa: N802
        """The name that the group has for torch."""
        return "smddp"

    getGroupName, setGroupName = _accessors("_name")  # noqa: N815
    getGroupDesc, setGroupDesc = _accessors("_description")  # noqa: N815
    _set_group_name, _set_group_desc = setGroupName, setGroupDesc  # type: ignore[assignment]
    group_name, group_desc = property(getGroupName), property(getGroupDesc)

    def call(self, method: str, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> dist.Work:
        """Run a collective if it is allowed, with arguments in whichever of torch's forms."""
        if method in _REFUSED:
            raise self.refused(method, method)
        name = _ALLOWED[method]
        if self._backend is None:
            raise RuntimeError(f"{name}: the process group was destroyed (fake SMDDP)")
        # What a rank gives (or gets, to scatter): one tensor, which these have behind what they fill.
        given = list(_tensors(arguments[1 if method in ("allgather", "_allgather_base") else 0 :][:1]))
        options = [*arguments, *keywords.values()]
        facts = _facts(method, given, options)
        for what, detail in _broken_limits(method, given, options, facts.get("reduce_op", "SUM")):
            raise self.refused(name, what, detail, **facts)
        self._note(name, **facts)
        # Deprecated under its older name where torch has the newer.
        run = getattr(self._backend, _NEWER_NAMES.get(method, method), None) or getattr(self._backend, method)
        work: dist.Work = run(*arguments, **keywords)
        return work

    def refused(self, op: str, what: str, detail: str = "", **facts: object) -> RuntimeError:
        """Log that something is not supported, for callers that swallow the error; return that, to be raised."""
        error = _unsupported(what, detail)
        self._note(op, **facts, refused=str(error))
        return error

    def shutdown(self) -> None:
        """End the group, also where a model still holds it; calling it again does nothing.

        ``destroy_process_group`` calls this (not yet in torch 2.5: there the process's end does). gloo's threads end
        with the last reference to its group. One that lives on into the interpreter's end aborts it.
        """
        backend, self._backend = self._backend, None
        if backend is None:
            return
        self._note("destroy")
        end = getattr(backend, "shutdown", None) or getattr(backend, "_shutdown", None)
        if _DEVICE == "cuda" and end is not None:
            end()

    def _note(self, op: str, **facts: object) -> None:
        if _LOG:
            _LOG.mkdir(parents=True, exist_ok=True)
            line = json.dumps({"op": op, **facts, **self._always, "time": round(time.time(), 6)})
            with (_LOG / f"rank-{self._always['rank']}.jsonl").open("ab", buffering=0) as file:
                file.write(line.encode() + b"\n")  # at once: a killed process leaves no part of a line


def _tensors(value: object) -> Iterator[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, list | tuple):
        for part in value:
            yield from _tensors(part)


def _facts(method: str, given: list[torch.Tensor], options: list[Any]) -> dict[str, Any]:
    """What the log says of a call."""
    facts: dict[str, Any] = {}
    if given:
        facts |= {"dtype": str(given[0].dtype).removeprefix("torch."), "shape": list(given[0].shape)}
        facts["bytes"] = given[0].numel() * given[0].element_size()
    for option in options:
        if hasattr(option, "rootRank"):
            facts["root"] = option.rootRank
    return facts | ({"reduce_op": _reduce_op(options)} if "reduce" in method else {})


def _broken_limits(method: str, given: list[torch.Tensor], options: list[Any], op: str) -> Iterator[tuple[str, str]]:
    """What of a call is not supported, and in which way; the first counts."""
    name = _ALLOWED[method]
    if any(getattr(option, "device_ids", None) for option in options):
        yield "barrier(device_ids=...)", ""
    if method in _ALLGATHER_SIDE and not _ALLGATHER:
        yield method, f"the AllGather side is off: {_ALLGATHER_REASON}"
    if op != "SUM":
        yield "ReduceOp", f"{op}; SUM only"
    if len(given) > 1:
        yield f"{name} of several tensors", ""
    for tensor in _tensors(options):
        if tensor.device.type != _DEVICE:
            yield f"{tensor.device.type} tensors", f"{name} takes {_DEVICE} tensors only"
        if tensor.layout != torch.strided:
            yield "sparse tensors", name


def _reduce_op(options: list[Any]) -> str:
    """Name of the reduction for which one of the arguments asks, itself or by its attribute."""
    for option in options:
        op = option if isinstance(option, ReduceOp | ReduceOp.RedOpType) else getattr(option, "reduceOp", None)
        if op is not None:
            op = op if isinstance(op, ReduceOp) else ReduceOp(op)  # a constant on the left equals nothing
            return next((name for name in ReduceOp.RedOpType.__members__ if op == getattr(ReduceOp, name)), "unknown")
    return "SUM"


def _collective(method: str) -> Callable[..., dist.Work]:
    return lambda self, *arguments, **keywords: self.call(method, arguments, keywords)


for _method in (*_ALLOWED, *_REFUSED):
    # torch asks a type, not an object, for its overrides, and by either name.
    for _alias in {_method, _NEWER_NAMES.get(_method, _method)}:
        setattr(ProcessGroupSMDDP, _alias, _collective(_method))

_groups: weakref.WeakSet[ProcessGroupSMDDP] = weakref.WeakSet()


def _create(store: Store, rank: int, size: int, timeout: timedelta) -> ProcessGroupSMDDP:
    if _DEVICE == "cuda":
        options = dist.ProcessGroupNCCL.Options()
        options._timeout = timeout  # noqa: SLF001 - as torch itself does; its public argument is newer
        group = ProcessGroupSMDDP(dist.ProcessGroupNCCL(store, rank, size, options), rank, size)
    else:
        group = ProcessGroupSMDDP(dist.ProcessGroupGloo(store, rank, size, timeout=timeout), rank, size)
    _groups.add(group)
    return group


@atexit.register
def _shut_down_all() -> None:
    """End what a script left open: how the real one ends then is unknown, and gloo may abort the process."""
    for group in list(_groups):
        group.shutdown()


# Some versions of torch make a backend with `devices` the default one of those devices.
_defaults = getattr(dist.Backend, "default_device_backend_map", {})
_before = dict(_defaults)
dist.Backend.register_backend("smddp", _create, devices=[_DEVICE])
_defaults.clear()
_defaults.update(_before)
_original = distributed_c10d._new_process_group_helper  # noqa: SLF001


@functools.wraps(_original)
def _guarded(size: int, rank: int, ranks: list[int], backend: str, *arguments: Any, **keywords: Any) -> Any:
    """Refuse every group beside ours, of whichever backend and made by whichever function of torch.

    All of them (``new_group``, ``new_subgroups``, DeviceMesh, ...) end in one function of torch; a hook for this exists
    in its latest versions only.
    """
    names = {part.rpartition(":")[2] for part in str(backend).lower().split(",")}
    if not ranks and "smddp" in names and len(names) > 1:
        raise _unsupported(f"init_process_group({str(backend)!r})", "no second backend beside it")
    if ranks:
        default = distributed_c10d._get_default_group()  # noqa: SLF001
        if isinstance(default, ProcessGroupSMDDP):
            asked = f"documented as unsupported; {backend} was asked for ranks {ranks}"
            raise default.refused("new_group", "new_group", asked, backend=str(backend), ranks=list(ranks))
        if "smddp" in names:
            raise _unsupported("new_group", f"documented as unsupported; beside {dist.get_backend(default)}")
    return _original(size, rank, ranks, backend, *arguments, **keywords)


distributed_c10d._new_process_group_helper = _guarded  # type: ignore[assignment]  # noqa: SLF001
# Lightning's own launcher sets neither of the first two.
_ranks = [name for name in ("RANK", "OMPI_COMM_WORLD_RANK") if name in os.environ] or ["NODE_RANK", "LOCAL_RANK"]
if all(os.environ.get(name, "0") == "0" for name in _ranks):
    sys.stderr.write(
        "*** FAKE SMDDP, NOT AWS's library: lightning-sagemaker plays its documented limits "
        f"over {'NCCL (CUDA tensors)' if _DEVICE == 'cuda' else 'gloo (CPU tensors)'}. Its speed means nothing. "
        f"AllGather side {'on' if _ALLGATHER else 'off'} ({_ALLGATHER_REASON}); instance type {_INSTANCE_TYPE}. ***\n"
    )
