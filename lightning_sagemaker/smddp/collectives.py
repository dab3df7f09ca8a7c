"""Lightning's reductions, by what SMDDP can do: all_reduce with SUM, and all_gather."""

from __future__ import annotations

from functools import reduce
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist
from torch.distributed import ReduceOp

from lightning_sagemaker.smddp.probe import BACKEND

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

_OPERATIONS = {
    "sum": ReduceOp.SUM,
    "avg": ReduceOp.AVG,
    "min": ReduceOp.MIN,
    "max": ReduceOp.MAX,
    "product": ReduceOp.PRODUCT,
    "band": ReduceOp.BAND,
    "bor": ReduceOp.BOR,
    "bxor": ReduceOp.BXOR,
}
_PAIRWISE: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "min": torch.minimum,
    "max": torch.maximum,
    "product": torch.mul,
    "band": torch.bitwise_and,
    "bor": torch.bitwise_or,
    "bxor": torch.bitwise_xor,
}


def reduce_in_place(tensor: Tensor, group: Any = None, reduce_op: ReduceOp | str | None = "mean") -> Tensor:  # noqa: ANN401
    """Reduce a tensor over all ranks and write the result into it, as Lightning's ``reduce`` and ``all_reduce`` do.

    A mean is a sum and a division; a mean of integers is truncated, as Lightning does it on gloo. On SMDDP, operations
    other than sum and mean gather and reduce locally. One collective a call: Lightning puts a barrier before each, but
    a reduction waits for all ranks by itself.

    Args:
        tensor: Any shape, also empty and 0-dim, of any dtype that the backend carries.
        group: Process group; all ranks by default.
        reduce_op: ``"mean"``, ``"avg"``, ``"sum"``, ``"min"``, ``"max"``, ``"product"``, ``"band"``, ``"bor"``,
            ``"bxor"``, the :class:`torch.distributed.ReduceOp` of the same name, or ``None`` for a sum.

    Returns:
        ``tensor``.

    Raises:
        ValueError: The operation is none of these.
    """
    name, backend, carried = _name(reduce_op), dist.get_backend(group), tensor.contiguous()
    if name == "sum" or (name == "avg" and backend in ("gloo", BACKEND)):
        dist.all_reduce(carried, op=ReduceOp.SUM, group=group)
        if name == "avg":
            world_size = dist.get_world_size(group)
            carried = carried.div_(world_size) if carried.is_floating_point() else carried / world_size
    elif backend == BACKEND:
        carried = reduce(_PAIRWISE[name], _gather(carried, group))
    else:
        dist.all_reduce(carried, op=_OPERATIONS[name], group=group)
    return tensor if carried is tensor else tensor.copy_(carried)


def all_gather(tensor: Tensor, group: Any = None) -> Tensor:  # noqa: ANN401
    """Gather a tensor of equal shape from all ranks; gradients flow back to the rank that each part came from.

    torch's own differentiable all_gather needs all_to_all for the way back; this one needs all_reduce.

    Args:
        tensor: Shape ``(...)``.
        group: Process group; all ranks by default.

    Returns:
        Shape ``(world_size, ...)``, in the order of ranks.
    """
    return _AllGather.apply(tensor, group)  # type: ignore[no-any-return,no-untyped-call]


class _AllGather(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, tensor: Tensor, group: Any) -> Tensor:  # noqa: ANN401
        context.group = group
        return torch.stack(_gather(tensor.contiguous(), group))

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor, None]:  # noqa: ANN401
        total = gradient.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total, op=ReduceOp.SUM, group=context.group)
        return total[dist.get_rank(context.group)], None


def _gather(tensor: Tensor, group: Any) -> list[Tensor]:  # noqa: ANN401
    gathered = [torch.empty_like(tensor) for _ in range(dist.get_world_size(group))]
    dist.all_gather(gathered, tensor, group=group)
    return gathered


def _name(reduce_op: ReduceOp | str | None) -> str:
    if reduce_op is None:
        return "sum"
    if isinstance(reduce_op, str):
        name = "avg" if reduce_op.lower() == "mean" else reduce_op.lower()
    else:
        name = next((name for name, operation in _OPERATIONS.items() if reduce_op == operation), "")  # type: ignore[comparison-overlap]
    if name in _OPERATIONS:
        return name
    raise ValueError(f"reduce_op={reduce_op!r} is not known here. HINT: use one of mean, {', '.join(_OPERATIONS)}.")
