"""Metrics logged with ``sync_dist=True``, where a strategy of ours coalesces their reductions."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from lightning_sagemaker.patches import first_time

if TYPE_CHECKING:
    from types import ModuleType


def patch_result(module: ModuleType) -> None:
    """Let a strategy's ``coalesced`` reduce what is logged; whoever looks at the metrics has it reduced at once.

    ``strategy.reduce`` itself cannot do it: users call it too, for values that they need there and then.

    Args:
        module: ``*.trainer.connectors.logger_connector.result`` of either distribution.
    """
    collection_class = module._ResultCollection
    if not first_time(collection_class):
        return
    log, metrics = collection_class.log, collection_class.metrics

    @functools.wraps(log)
    def log_coalesced(results: Any, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401
        strategy = getattr(kwargs.get("sync_dist_fn"), "__self__", None)
        coalesced = getattr(strategy, "coalesced", None)
        if coalesced is not None:
            kwargs["sync_dist_fn"] = coalesced.reduce
            results.coalesced = coalesced
        log(results, *args, **kwargs)

    @functools.wraps(metrics)
    def metrics_reduced(results: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
        coalesced = getattr(results, "coalesced", None)
        if coalesced is not None:
            coalesced.reduce_all()
        return metrics(results, *args, **kwargs)

    # As Lightning's own `log`, which graphs leave out.
    collection_class.log, collection_class.metrics = module.torch.compiler.disable(log_coalesced), metrics_reduced
