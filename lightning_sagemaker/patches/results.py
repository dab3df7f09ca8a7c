"""Metrics logged with ``sync_dist=True``, whose reductions start when they are logged and are waited for when read."""

from __future__ import annotations

import os
from contextlib import nullcontext
from typing import Any

from lightning_sagemaker.job import is_training_job
from lightning_sagemaker.patches import wrap

_PENDING = "_lightning_sagemaker_pending"
_CAN_WAIT = "reduce_that_can_wait"  # as in `smddp.strategies`


def patch_strategies(module: Any) -> None:
    """Mark the reductions of Lightning's own strategies: a barrier and an ``all_reduce`` in place, and nothing else.

    DeepSpeed's strategy inherits DDP's, and so do a script's own. Only the function that is there now is meant: where
    a subclass, an instance or a script has put another in its place, nothing else reduces what is logged.
    """
    if not is_training_job(os.environ):
        return
    for name in ("DDPStrategy", "FSDPStrategy", "ModelParallelStrategy"):
        strategy_class = getattr(module, name, None)  # the last one since Lightning 2.4
        if strategy_class is not None and _CAN_WAIT not in vars(strategy_class):
            setattr(strategy_class, _CAN_WAIT, strategy_class.reduce)


def patch_result(module: Any) -> None:
    """Let logged metrics be reduced without waiting where the strategy allows it; reading the metrics waits for them.

    ``strategy.reduce`` itself cannot do it: users call it too, for values that they need there and then.
    """
    collection_class = module._ResultCollection

    @wrap(collection_class, "metrics", always=True)
    def metrics_waited_for(metrics: Any, results: Any, /, *args: Any, **kwargs: Any) -> Any:
        if pending := getattr(results, _PENDING, None):
            pending.wait()
        return metrics(results, *args, **kwargs)

    @wrap(collection_class, "to", always=True)
    def to_after_waiting(to: Any, results: Any, /, *args: Any, **kwargs: Any) -> Any:
        # At the end of a run, also of one that failed: what is moved is copied, so it must be there.
        if pending := getattr(results, _PENDING, None):
            pending.wait_quietly()
        return to(results, *args, **kwargs)

    # What graphs leave out once need not be left out twice.
    collection_class.log = getattr(collection_class.log, "_torchdynamo_orig_callable", collection_class.log)

    @wrap(collection_class, "log", always=True)
    def log_without_waiting(log: Any, results: Any, /, *args: Any, **kwargs: Any) -> None:
        pending = _pending(results, kwargs.get("sync_dist_fn")) if kwargs.get("sync_dist") else None
        if pending is None:
            log(results, *args, **kwargs)
            return
        kwargs["sync_dist_fn"] = pending.reduce
        # With a graph, who logs may go on calculating with what Lightning keeps.
        with nullcontext() if kwargs.get("enable_graph") else pending:
            log(results, *args, **kwargs)

    # As Lightning's own `log`, which graphs leave out.
    collection_class.log = module.torch.compiler.disable(collection_class.log)


def _pending(results: Any, reduce: Any) -> Any:
    """The pending reductions of a collection, or ``None`` where the strategy's ``reduce`` has to be called."""
    pending = getattr(results, _PENDING, None)
    if pending is not None and pending.strategy_reduce == reduce:
        return pending
    if reduce != getattr(getattr(reduce, "__self__", None), _CAN_WAIT, ()):
        return None
    from lightning_sagemaker.metrics.log_reduction import PendingReductions

    if pending is not None:
        pending.wait()
    pending = PendingReductions(reduce)
    setattr(results, _PENDING, pending)
    return pending
