"""What one ``self.log(..., sync_dist=True)`` costs: steps with many metrics against steps with none, and local ones."""

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

import torch
from torch.utils.data import DataLoader

from benchmarks.samples import Numbers
from benchmarks.steps import slowest_rank
from benchmarks.workers.training import Training, trainer

KINDS = (None, False, True)  # of steps, in turn: nothing is logged, or metrics with this `sync_dist`
WARM_UP = 5  # steps of each kind that are not counted


class Logging(Training):
    """A tiny network; the kinds of steps take turns, so that all meet the same disturbances."""

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """SGD."""
        return torch.optim.SGD(self.parameters(), lr=1e-3)

    def training_step(self, batch: torch.Tensor, batch_idx: int) -> torch.Tensor:  # type: ignore[override]
        """Loss; in two kinds of steps also the metrics."""
        loss: torch.Tensor = self.net(batch).square().mean()
        sync_dist = KINDS[batch_idx % len(KINDS)]
        if sync_dist is not None:
            value = loss.detach()
            for number in range(self.settings["metrics"]):
                name = f"metric {number}, reduced" if sync_dist else f"metric {number}"
                self.log(name, value, sync_dist=sync_dist)
        return loss


def measure(settings: Mapping[str, Any]) -> list[tuple[str, list[float], Numbers]]:
    """One training."""
    torch.manual_seed(settings["seed"])
    batches: Any = [torch.randn(4, 8) for _ in range(len(KINDS) * settings["steps"] + 1)]
    module = Logging(torch.nn.Linear(8, 1), settings)
    trainer(settings, max_epochs=1).fit(module, DataLoader(batches, batch_size=None))
    return [(f"{settings['metrics']} metrics", module.seconds[0], {})]


def combine(settings: Mapping[str, Any], steps: Sequence[Sequence[float]], _: Sequence[Numbers]) -> Numbers:
    """What the medians of the three kinds differ in; without metrics all steps are of one kind."""
    seconds = slowest_rank(steps)
    if not settings["metrics"]:
        return {"step_seconds": float(median(seconds[WARM_UP:]))}
    silent, local, logged = (float(median(seconds[kind :: len(KINDS)][WARM_UP:])) for kind in range(len(KINDS)))
    return {
        "sync_dist_per_metric_seconds": (logged - silent) / settings["metrics"],
        "reduction_per_metric_seconds": (logged - local) / settings["metrics"],  # without Lightning's bookkeeping
        "step_without_metrics_seconds": silent,
        "step_with_local_metrics_seconds": local,
        "step_with_metrics_seconds": logged,
    }
