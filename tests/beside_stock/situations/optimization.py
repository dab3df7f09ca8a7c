"""How a model is trained: the weights tell."""

from __future__ import annotations

from typing import Any

import torch
from lightning.pytorch.callbacks import LearningRateMonitor, StochasticWeightAveraging
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.strategies import DDPStrategy
from torch import nn

from tests.beside_stock.model import Model, fitted, loader, smddp, trainer, weights
from tests.beside_stock.registry import situation


class Surgery(Model):
    """Gradients of one loss are kept, without a copy, while another is differentiated (PCGrad)."""

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False

    def training_step(self, batch: list[torch.Tensor], _index: int) -> None:
        optimizer: Any = self.optimizers()
        found = []
        for loss in (self.loss(batch), (self.net(batch[0]) - batch[1]).abs().mean()):
            optimizer.zero_grad()
            self.manual_backward(loss)
            found.append([parameter.grad for parameter in self.parameters()])
        for parameter, first, second in zip(self.parameters(), *found, strict=True):
            assert first is not None
            assert second is not None
            parameter.grad = first + second
        optimizer.step()


@situation("two")
def kept_gradients(_start: int) -> Any:
    t, m = trainer(), Surgery()
    t.fit(m, loader())
    return fitted(m, t)


@situation("two", nightly=True)
def kept_gradients_with_smddp(_start: int) -> Any:
    t, m = trainer(strategy=smddp()), Surgery()
    t.fit(m, loader())
    return fitted(m, t)


class TwoOptimizers(Model):
    """A generator and a critic, by turns."""

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.critic = nn.Linear(1, 1)

    def training_step(self, batch: list[torch.Tensor], index: int) -> None:
        optimizers: Any = self.optimizers()
        first, second = optimizers
        optimizer, loss = (first, self.loss(batch)) if index % 2 else (second, self.critic(self.net(batch[0])).mean())
        self.toggle_optimizer(optimizer)
        optimizer.zero_grad()
        self.manual_backward(loss)
        self.clip_gradients(optimizer, gradient_clip_val=0.5)
        optimizer.step()
        self.untoggle_optimizer(optimizer)
        self.lr_schedulers().step()  # type: ignore[union-attr]

    def configure_optimizers(self) -> Any:
        first = torch.optim.Adam(self.net.parameters(), 0.01)
        schedule = torch.optim.lr_scheduler.StepLR(first, 3)
        return [first, torch.optim.SGD(self.critic.parameters(), 0.1)], [schedule]


@situation("two")
def two_optimizers_by_hand(_start: int) -> Any:
    strategy = "ddp_find_unused_parameters_true"
    t, m = trainer(strategy=strategy), TwoOptimizers()
    t.fit(m, loader())
    return fitted(m, t)


@situation("two")
def accumulated_and_clipped_gradients(_start: int) -> Any:
    t, m = trainer(accumulate_grad_batches=3, gradient_clip_val=0.1), Model()
    t.fit(m, loader())
    return fitted(m, t)


@situation("two", nightly=True)
def accumulated_and_clipped_gradients_with_smddp(_start: int) -> Any:
    t, m = trainer(strategy=smddp(), accumulate_grad_batches=3, gradient_clip_val=0.1), Model()
    t.fit(m, loader())
    return fitted(m, t)


@situation("two")
def averaged_weights(_start: int) -> Any:
    """SWA copies the module (pytorch-lightning#17229 is about what cannot be copied)."""
    t, m = trainer(callbacks=[StochasticWeightAveraging(0.01, swa_epoch_start=1)], max_epochs=4), Model()
    t.fit(m, loader())
    return fitted(m, t)


@situation()
def rates_in_the_loggers_file(_start: int) -> Any:
    class Scheduled(Model):
        def configure_optimizers(self) -> Any:
            optimizer = torch.optim.SGD(self.parameters(), self.lr)
            schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=16)
            return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    monitor = LearningRateMonitor("step", log_momentum=True)
    t, m = trainer(logger=CSVLogger("logs"), callbacks=[monitor], log_every_n_steps=1), Scheduled()
    t.fit(m, loader())
    return fitted(m, t)


@situation("two")
def precisions(_start: int) -> Any:
    result = {}
    for precision in ("bf16-true", "bf16-mixed", "16-mixed", "64-true"):
        t, m = trainer(precision=precision, max_epochs=1), Model()
        t.fit(m, loader())
        result[precision] = [weights(m), str(m.dtype)]
    return result


@situation("two")
def a_strategy_of_the_users(_start: int) -> Any:
    """Options that differ from the defaults, and what the model is wrapped in."""
    strategy = DDPStrategy(find_unused_parameters=True, gradient_as_bucket_view=True, static_graph=False)
    t, m = trainer(strategy=strategy, sync_batchnorm=True), Model()
    seen = []

    class Looks(Model):
        def on_train_start(self) -> None:
            wrapped: Any = self.trainer.strategy.model
            seen.extend([type(wrapped).__name__, wrapped.find_unused_parameters, wrapped.gradient_as_bucket_view])

    m = Looks()
    t.fit(m, loader())
    return fitted(m, t) | {"seen": seen, "strategy": t.strategy is strategy}


@situation("two")
def overfitted_on_a_few_batches(_start: int) -> Any:
    t, m = trainer(overfit_batches=2, max_epochs=3), Model()
    t.fit(m, loader(), loader())
    return fitted(m, t)


@situation("two")
def limits_and_sanity(_start: int) -> Any:
    arguments = {"limit_train_batches": 0.5, "limit_val_batches": 1, "val_check_interval": 2, "max_steps": 5}
    t, m = trainer(**arguments, inference_mode=False), Model()
    t.fit(m, loader(), loader())
    return fitted(m, t) | {"batches of an epoch": t.num_training_batches, "last": t.is_last_batch}


@situation("two")
def gathered_with_gradients(_start: int) -> Any:
    class Gathers(Model):
        def training_step(self, batch: list[torch.Tensor], _index: int) -> Any:
            found = self.all_gather(self.net(batch[0]), sync_grads=True)
            return (torch.as_tensor(found) - 1).square().mean()

    t, m = trainer(), Gathers()
    t.fit(m, loader())
    return fitted(m, t)
