"""One collective for all the metrics that a training step logs with ``sync_dist=True``, instead of one for each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist

from lightning_sagemaker.smddp.collectives import reduce_in_place

if TYPE_CHECKING:
    from typing_extensions import Self


class Coalesced:
    """Reductions that wait for each other; as a context manager it is the time in which they do.

    Ranks take the same way through a step, as they must where each metric is reduced by itself; so all of them have the
    same metrics in the same order when it ends. Nothing is reduced where the step fails: the others are told by what
    ended this rank.
    """

    def __init__(self) -> None:
        self._waits = False
        self._waiting: dict[tuple[Any, ...], list[torch.Tensor]] = {}

    def __enter__(self) -> Self:
        self._waits = True
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._waits = False
        if kind is None:
            self.reduce_all()
        self._waiting.clear()

    def reduce(self, tensor: torch.Tensor, group: Any = None, reduce_op: Any = "mean") -> torch.Tensor:  # noqa: ANN401
        """Reduce a tensor over all ranks in place: inside of the context by its end, else at once.

        Args:
            tensor: Shape ``()``, as Lightning keeps what is logged.
            group: Process group; all ranks by default.
            reduce_op: As for `collectives.reduce_in_place`.

        Returns:
            ``tensor``.
        """
        if not dist.is_initialized():
            return tensor
        if not self._waits or tensor.requires_grad:  # with `enable_graph`, who logs may go on calculating with it
            return reduce_in_place(tensor, group, reduce_op)
        self._waiting.setdefault((group, reduce_op, tensor.dtype, tensor.device), []).append(tensor)
        return tensor

    def reduce_all(self) -> None:
        """Reduce what waits, with one collective for each operation, dtype and group."""
        waiting, self._waiting = self._waiting, {}
        for (group, reduce_op, _, _), tensors in waiting.items():
            for tensor, value in zip(tensors, reduce_in_place(torch.stack(tensors), group, reduce_op), strict=True):
                tensor.set_(value)  # a view of the result: no copy for each metric
