"""Lightning's collectives, of what SMDDP supports: all_reduce with SUM, and all_gather; a barrier at the store."""

from __future__ import annotations

import itertools
import os
from contextlib import nullcontext
from functools import reduce
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist
from torch.distributed import ReduceOp

from lightning_sagemaker.distributed.failure_file import describe
from lightning_sagemaker.distributed.store import Arrival, PrefixStore, default_store
from lightning_sagemaker.distributed.waiting import Wait, leave_store
from lightning_sagemaker.redaction import redact
from lightning_sagemaker.smddp.availability import BACKEND

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from torch import Tensor

    from lightning_sagemaker.distributed.store import Store

# torch's operation, and what does the same with the tensors of two ranks.
_OPERATIONS: dict[str, tuple[Any, Callable[[Tensor, Tensor], Tensor] | None]] = {
    "sum": (ReduceOp.SUM, None),
    "avg": (ReduceOp.AVG, None),
    "min": (ReduceOp.MIN, torch.minimum),
    "max": (ReduceOp.MAX, torch.maximum),
    "product": (ReduceOp.PRODUCT, torch.mul),
    "band": (ReduceOp.BAND, torch.bitwise_and),
    "bor": (ReduceOp.BOR, torch.bitwise_or),
    "bxor": (ReduceOp.BXOR, torch.bitwise_xor),
}
_barriers = itertools.count()  # all ranks make their barriers in the same order, as they would make groups


class Reduction:
    """A reduction over all ranks that has started; its result is written into the given tensor.

    A mean is a sum and a division; a mean of integers is truncated, as Lightning does it on gloo. On SMDDP, operations
    other than sum and mean gather and reduce locally. One collective each: Lightning puts a barrier before it, but a
    reduction waits for all ranks by itself. With ``wait``, sending waits for the result; else the tensor may be read
    once :meth:`finish` has returned.
    """

    def __init__(self, tensor: Tensor, group: Any, reduce_op: ReduceOp | str | None, *, wait: bool) -> None:
        name, operation = _operation(reduce_op)
        # Sparse tensors have no memory format.
        carried = tensor.contiguous() if tensor.layout is torch.strided else tensor
        self._tensor, self._carried = tensor, carried
        self._divide_by, self._pairwise = 1, None
        if name and dist.get_backend() == BACKEND:
            self._pairwise = _OPERATIONS[name][1]
        if name == "avg" and dist.get_backend(group) in ("gloo", BACKEND):
            operation, self._divide_by = ReduceOp.SUM, dist.get_world_size(group)
        with _writing_to(tensor):
            if self._pairwise is not None:
                self._gathered, self._work = _gather(carried, group, wait=wait)
            else:
                self._work = dist.all_reduce(carried, op=operation, group=group, async_op=not wait)

    def wait(self) -> None:
        """Wait until all ranks have sent theirs; the result is not written yet."""
        if self._work is not None:
            self._work.wait()

    def finish(self) -> Tensor:
        """Wait for the result."""
        self.wait()
        tensor, result = self._tensor, self._carried
        with _writing_to(tensor):
            if self._pairwise is not None:
                result = reduce(self._pairwise, self._gathered)
            elif self._divide_by > 1:
                result = result.div_(self._divide_by) if result.is_floating_point() else result / self._divide_by
            if result is tensor:
                return tensor
            # Autograd sees the division of a mean, as in stock Lightning, and no other write.
            place = tensor if self._divide_by > 1 else tensor.data
            _once(place, tensor).copy_(_once(result, tensor))
            return tensor

    def invalidate(self) -> None:
        """Fill the tensor of a failed reduction with NaN."""
        if self._tensor.is_floating_point() or self._tensor.is_complex():
            with _writing_to(self._tensor):
                self._tensor.fill_(torch.nan)


def reduce_in_place(tensor: Tensor, group: Any = None, reduce_op: ReduceOp | str | None = "mean") -> Tensor:
    """Reduce a tensor over all ranks and write the result into it, as Lightning's ``reduce`` and ``all_reduce`` do.

    ``reduce_op`` is ``mean``, ``avg``, ``sum``, ``min``, ``max``, ``product``, ``band``, ``bor``, ``bxor``, the
    :class:`torch.distributed.ReduceOp` of the same name, or ``None`` for a sum. Others are handed to a backend other
    than SMDDP as they are.
    """
    return Reduction(tensor, group, reduce_op, wait=True).finish()


def all_gather(tensor: Tensor, group: Any = None) -> Tensor:
    """Gather a tensor of equal shape from all ranks; gradients flow back to the rank that each part came from.

    torch's own differentiable all_gather needs all_to_all for the way back; this one needs all_reduce. Shape ``(...)``
    becomes ``(world_size, ...)``, in the order of ranks.
    """
    return _AllGather.apply(tensor, group)  # type: ignore[no-any-return,no-untyped-call]


class _AllGather(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, tensor: Tensor, group: Any) -> Tensor:
        context.group = group
        return torch.stack(_gather(tensor.contiguous(), group)[0])

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor, None]:
        total = gradient.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total, op=ReduceOp.SUM, group=context.group)
        return total[dist.get_rank(context.group)], None


def _gather(tensor: Tensor, group: Any, *, wait: bool = True) -> tuple[list[Tensor], Any]:
    gathered = [torch.empty_like(tensor) for _ in range(dist.get_world_size(group))]
    return gathered, dist.all_gather(gathered, tensor, group=group, async_op=not wait)


def _operation(reduce_op: Any) -> tuple[str, Any]:
    """Our name for an operation, and torch's."""
    if reduce_op is None:
        return "sum", ReduceOp.SUM
    if isinstance(reduce_op, str):
        name = "avg" if reduce_op.lower() == "mean" else reduce_op.lower()
        if name in _OPERATIONS:
            return name, _OPERATIONS[name][0]
    elif isinstance(reduce_op, ReduceOp | ReduceOp.RedOpType):
        return next((name for name, (known, _) in _OPERATIONS.items() if reduce_op == known), ""), reduce_op
    raise ValueError(f"reduce_op={reduce_op!r} is not known here. HINT: use one of mean, {', '.join(_OPERATIONS)}.")


def _once(tensor: Tensor, expanded: Tensor) -> Tensor:
    """The part of a tensor that another, expanded one of its shape has own memory for; all of it where none repeats."""
    if expanded.layout is torch.strided:
        for dimension, (size, stride) in enumerate(zip(expanded.shape, expanded.stride(), strict=True)):
            if size > 1 and stride == 0:
                tensor = tensor.narrow(dimension, 0, 1)
    return tensor


def _writing_to(tensor: Tensor) -> AbstractContextManager[object]:
    """What torch wants around writing to a tensor that was made under ``inference_mode``."""
    return torch.inference_mode() if tensor.is_inference() else nullcontext()


class StoreBarrier:
    """A sequence of barriers between all ranks, without a time limit, at the store of the first process group.

    Lightning (2.3 and later) guards an overridden ``prepare_data`` and ``Fabric.rank_zero_first`` by a new gloo group,
    and AWS says that SMDDP allows neither ``new_group`` nor another backend beside it.
    """

    def __init__(self) -> None:
        self._store = PrefixStore(f"barrier/{next(_barriers)}", default_store())
        self._passed = 0

    def wait(self) -> None:
        """Wait until all ranks have called this as often."""
        size, place, self._passed = dist.get_world_size(), self._place(), self._passed + 1
        here = Arrival(place, size)
        number = here.arrive()
        what = lambda: f"all ranks to reach the same point: {here.arrived} of {size} have"  # noqa: E731
        # The first one speaks: rank 0 may be the one that works while the others wait.
        if failure := Wait(f"Rank {dist.get_rank()}", what, speaks=number == 1).until(here.outcome):
            self._leave(place)
            raise RuntimeError(failure)

    def fail(self, error: BaseException) -> None:
        """Make all ranks at the next barrier raise an error with the text of this rank's error."""
        what = redact(describe(error), os.environ)  # for the logs of the others
        place, size = self._place(), dist.get_world_size()
        Arrival(place, size).fail(f"rank {dist.get_rank()} failed while the others waited for it: {what}")
        self._leave(place)

    def _place(self) -> Store:
        return PrefixStore(str(self._passed), self._store)

    @staticmethod
    def _leave(place: Store) -> None:
        rank = dist.get_rank()
        leave_store(place, dist.get_world_size(), f"Rank {rank}", has_server=rank == 0)
