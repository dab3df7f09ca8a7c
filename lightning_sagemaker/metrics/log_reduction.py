"""Reductions of metrics logged with ``sync_dist=True``: sent when a metric is logged, waited for when one is read."""

from __future__ import annotations

from collections import deque
from contextlib import nullcontext, suppress
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist

from lightning_sagemaker.smddp.collectives import Reduction

if TYPE_CHECKING:
    from collections.abc import Callable

    from typing_extensions import Self

_MOST = 256  # reductions under way; a step that logs more waits for its first ones


class PendingReductions:
    """Reductions that have been sent and not yet waited for; as a context manager it is the time of one ``log``.

    All ranks send the same reductions in the same order, where stock Lightning sends them: when a metric is logged.
    Waiting for them is local, so a part of the ranks may do it.
    """

    def __init__(self, strategy_reduce: Callable[..., Any]) -> None:
        self.strategy_reduce = strategy_reduce
        self._logging = False
        self._sent: deque[tuple[Reduction, torch.cuda.Stream | None]] = deque()

    def __enter__(self) -> Self:
        self._logging = True
        return self

    def __exit__(self, *_: object) -> None:
        self._logging = False

    def __reduce__(self) -> tuple[type[Self], tuple[Callable[..., Any]]]:
        # A copy of what was logged has finished values and nothing to wait for. Lightning keeps `reduce` with each
        # metric, as it keeps the strategy's in stock.
        self.wait()
        return type(self), (self.strategy_reduce,)

    def reduce(self, tensor: torch.Tensor, group: Any = None, reduce_op: Any = "mean") -> Any:
        """Reduce a tensor over all ranks in place: by the next :meth:`wait` while something is logged, else at once."""
        plain = tensor.layout is torch.strided and tensor.is_contiguous() and not tensor.requires_grad
        if not (self._logging and plain and dist.is_initialized()):
            return self.strategy_reduce(tensor, group, reduce_op=reduce_op)
        if len(self._sent) >= _MOST:
            self._finish_first()
        # The value belongs to the stream that logs, whichever stream is current when somebody reads it.
        stream = torch.cuda.current_stream(tensor.device) if tensor.is_cuda else None
        # In place: what Lightning keeps of a logged value is a copy of its own, of shape `()`.
        self._sent.append((Reduction(tensor, group, reduce_op, wait=False), stream))
        return tensor

    def wait(self) -> None:
        """Wait for all of them; the tensors then hold the results, or NaN where the backend raises an error."""
        if self._sent and self._sent[-1][1] is None:
            # The last one first: on the CPU this thread is then woken once, and not by each of them.
            with suppress(Exception):  # which its own turn raises
                self._sent[-1][0].wait()
        while self._sent:
            self._finish_first()

    def wait_quietly(self) -> None:
        """Wait for all of them at the end of a run, perhaps after an error, which a failed reduction must not hide."""
        while self._sent:
            with suppress(Exception):
                self._finish_first()

    def _finish_first(self) -> None:
        reduction, stream = self._sent.popleft()
        with nullcontext() if stream is None else torch.cuda.stream(stream):
            try:
                reduction.finish()
            except Exception:
                reduction.invalidate()
                raise
