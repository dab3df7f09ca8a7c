"""The process group: checks, logs and hands on to gloo or NCCL."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist

from ._limits import ALLGATHER_COLLECTIVES, COLLECTIVES, NEWER_NAMES, REFUSED, Limits, reduce_op_name, unsupported
from ._log import CallLog, described

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_NAMES = COLLECTIVES | ALLGATHER_COLLECTIVES
# Where among its arguments a method has the one tensor that a rank gives (or, to scatter, gets).
_POSITION = {"allgather": 1, "_allgather_base": 1}


class ProcessGroupSMDDP(dist.ProcessGroup):
    """A fake of SMDDP's process group.

    Its collectives are added below, from the tables of what is allowed and what is not. torch's C++ callers (DDP's
    reducer and its broadcasts) reach them too.
    """

    def __init__(self, backend: Any, rank: int, size: int, limits: Limits, log: CallLog | None) -> None:
        # The backend is gloo's or NCCL's group, which does the work. Nobody else may hold it: `close` ends it by
        # letting go.
        # The other constructor, with a store, makes an object that C++ cannot call back.
        super().__init__(rank, size)  # type: ignore[call-arg]
        self._backend = backend
        self._size = size
        self._limits = limits
        self._log = log
        self._name = self._description = ""
        self._note("init", group_size=size, device=limits.device, allgather=limits.allgather)

    # torch's base class asks the backends registered with it for these; this one has none. Which of them C++ asks for,
    # and which only Python can give, depends on torch's version.
    def getBackendName(self) -> str:  # noqa: N802
        """The name that the group has for torch."""
        return "smddp"

    def getGroupName(self) -> str:  # noqa: N802
        """Return what `setGroupName` was told."""
        return self._name

    def setGroupName(self, name: str) -> None:  # noqa: N802
        """Remember the name under which torch registers the group."""
        self._name = name

    def getGroupDesc(self) -> str:  # noqa: N802
        """Return what `setGroupDesc` was told."""
        return self._description

    def setGroupDesc(self, description: str) -> None:  # noqa: N802
        """Remember what torch says the group is for."""
        self._description = description

    _set_group_name, _set_group_desc = setGroupName, setGroupDesc  # type: ignore[assignment]
    group_name, group_desc = property(getGroupName), property(getGroupDesc)

    def call(self, method: str, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> dist.Work:
        """Run an allowed collective, with arguments in whichever of torch's forms."""
        name = _NAMES[method]
        if self._backend is None:
            raise RuntimeError(f"{name}: the process group was destroyed (fake SMDDP)")
        facts: dict[str, Any] = {}
        try:
            for fact in self._checked(method, arguments, keywords):
                facts |= fact
        except RuntimeError as error:
            raise self.refused(name, error, **facts) from None
        self._note(name, **facts, group_size=self._size)
        # Deprecated under its older name where torch has the newer.
        run = getattr(self._backend, NEWER_NAMES.get(method, method), None) or getattr(self._backend, method)
        work: dist.Work = run(*arguments, **keywords)
        return work

    def refused(self, op: str, error: RuntimeError, **facts: object) -> RuntimeError:
        """Log that something was refused, for callers that swallow the error; return that, to be raised."""
        self._note(op, **facts, group_size=self._size, refused=str(error))
        return error

    def shutdown(self) -> None:
        """End the group; ``destroy_process_group`` calls this (not yet in torch 2.5: there the process's end does)."""
        self.close()

    def close(self) -> None:
        """End the group, also where a model still holds it; calling it again does nothing.

        gloo's threads end with the last reference to its group. One that lives on into the interpreter's end aborts it.
        """
        backend, self._backend = self._backend, None
        if backend is None:
            return
        self._note("destroy", group_size=self._size)
        end = getattr(backend, "shutdown", None) or getattr(backend, "_shutdown", None)
        if self._limits.device == "cuda" and end is not None:
            end()
        if self._log is not None:
            self._log.close()
            self._log = None

    def _checked(self, method: str, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """Apply the limits one after the other; between them, yield what the log is to say."""
        options = [*arguments, *keywords.values()]
        if method == "barrier":
            if any(getattr(option, "device_ids", None) for option in options):
                raise unsupported("barrier(device_ids=...)")
            return
        given = list(_tensors(arguments[_POSITION.get(method, 0)]))
        if given:
            yield described(given[0])
        for option in options:
            if hasattr(option, "rootRank"):
                yield {"root": option.rootRank}
        self._limits.check_method(method)
        if "reduce" in method:
            op = reduce_op_name(next(filter(None, map(_reduce_op, options)), dist.ReduceOp.SUM))
            yield {"reduce_op": op}
            if op != "SUM":
                raise unsupported("ReduceOp", f"{op}; SUM only")
        if len(given) > 1:
            raise unsupported(f"{_NAMES[method]} of several tensors")
        self._limits.check_tensors(_NAMES[method], list(_tensors(arguments)))

    def _note(self, op: str, **facts: object) -> None:
        if self._log is not None:
            self._log.write(op, **facts)


def _tensors(value: object) -> Iterator[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, list | tuple):
        for part in value:
            yield from _tensors(part)


def _reduce_op(option: object) -> object:
    """The reduction that an argument asks for, if it is one that does."""
    if isinstance(option, dist.ReduceOp | dist.ReduceOp.RedOpType):
        return option
    return getattr(option, "reduceOp", None)


def _allowed(method: str) -> Callable[..., dist.Work]:
    def collective(self: ProcessGroupSMDDP, *arguments: Any, **keywords: Any) -> dist.Work:
        return self.call(method, arguments, keywords)

    return collective


def _refused(method: str) -> Callable[..., dist.Work]:
    def collective(self: ProcessGroupSMDDP, *_: object, **__: object) -> dist.Work:
        raise self.refused(method, unsupported(method))

    return collective


for _methods, _make in ((_NAMES, _allowed), (REFUSED, _refused)):
    for _method in _methods:
        # torch asks a type, not an object, for its overrides, and by either name.
        for _alias in {_method, NEWER_NAMES.get(_method, _method)}:
            setattr(ProcessGroupSMDDP, _alias, _make(_method))
