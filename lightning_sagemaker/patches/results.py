"""Metrics logged with ``sync_dist=True``, whose reductions an SMDDP strategy starts without waiting."""

from __future__ import annotations

import functools
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

from lightning_sagemaker.patches import first_time

if TYPE_CHECKING:
    from types import ModuleType


def patch_result(module: ModuleType) -> None:
    """Let a strategy's ``pending_reductions`` reduce logged metrics; reading the metrics waits for them.

    ``strategy.reduce`` itself cannot do it: users call it too, for values that they need there and then.

    Args:
        module: ``*.trainer.connectors.logger_connector.result`` of either distribution.
    """
    collection_class = module._ResultCollection
    if not first_time(collection_class):
        return
    log, metrics, to = collection_class.log, collection_class.metrics, collection_class.to

    @functools.wraps(log)
    def log_without_waiting(results: Any, *args: Any, **kwargs: Any) -> None:
        reduce = kwargs.get("sync_dist_fn")
        pending_reductions = getattr(getattr(reduce, "__self__", None), "pending_reductions", None)
        pending = None if pending_reductions is None else pending_reductions(reduce)
        if pending is None:
            log(results, *args, **kwargs)
            return
        kwargs["sync_dist_fn"] = pending.reduce
        results.pending_reductions = pending
        # With a graph, who logs may go on calculating with what Lightning keeps.
        with nullcontext() if kwargs.get("enable_graph") else pending:
            log(results, *args, **kwargs)

    @functools.wraps(metrics)
    def metrics_waited_for(results: Any, *args: Any, **kwargs: Any) -> Any:
        pending = getattr(results, "pending_reductions", None)
        if pending is not None:
            pending.wait()
        return metrics(results, *args, **kwargs)

    @functools.wraps(to)
    def to_after_waiting(results: Any, *args: Any, **kwargs: Any) -> Any:
        # At the end of a run, also of one that failed: what is moved is copied, so it must be there.
        pending = getattr(results, "pending_reductions", None)
        if pending is not None:
            pending.wait_quietly()
        return to(results, *args, **kwargs)

    # As Lightning's own `log`, which graphs leave out.
    collection_class.log = module.torch.compiler.disable(log_without_waiting)
    collection_class.metrics, collection_class.to = metrics_waited_for, to_after_waiting
