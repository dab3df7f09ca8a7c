"""All that is a learning rate is multiplied, in real Trainers of both distributions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch.optim import SGD, AdamW, lr_scheduler
from torch.optim.swa_utils import SWALR

from lightning_sagemaker import LearningRateScaling

from .conftest import BATCHES, close, cosine, messages, ramp

if TYPE_CHECKING:
    import logging
    from collections.abc import Callable

    from .conftest import Lab


def test_each_parameter_group_keeps_its_own_rate(lab: Lab) -> None:
    def configure(one: Any, two: Any) -> Any:
        groups: list[dict[str, Any]] = [{"params": one}, {"params": two, "lr": 0.001}]
        return SGD(groups, lr=0.1)

    model = lab.model(configure)
    assert lab.rates(LearningRateScaling(warmup_steps=6), model=model) == close(
        [0.1 * f, 0.001 * f] for f in ramp(4, 6)
    )


SCHEDULERS: dict[str, Callable[[Any], Any]] = {
    "ChainedScheduler": lambda o: lr_scheduler.ChainedScheduler(
        [lr_scheduler.ConstantLR(o, 0.5, 3), lr_scheduler.ExponentialLR(o, 0.9)]
    ),
    "ConstantLR": lambda o: lr_scheduler.ConstantLR(o, 0.5, 3),
    "CosineAnnealingLR": lambda o: lr_scheduler.CosineAnnealingLR(o, 5, eta_min=0.02),
    "CosineAnnealingWarmRestarts": lambda o: lr_scheduler.CosineAnnealingWarmRestarts(o, 4, eta_min=0.02),
    "CyclicLR": lambda o: lr_scheduler.CyclicLR(o, 0.03, 0.2, 3, cycle_momentum=False),
    "ExponentialLR": lambda o: lr_scheduler.ExponentialLR(o, 0.9),
    "LambdaLR": lambda o: lr_scheduler.LambdaLR(o, lambda step: 1 / (1 + step)),
    "LinearLR": lambda o: lr_scheduler.LinearLR(o, 0.1, total_iters=5),
    "MultiStepLR": lambda o: lr_scheduler.MultiStepLR(o, [2, 3], 0.5),
    "MultiplicativeLR": lambda o: lr_scheduler.MultiplicativeLR(o, lambda step: 1 - 0.01 * step),
    "OneCycleLR": lambda o: lr_scheduler.OneCycleLR(o, 0.3, 13, cycle_momentum=False),
    "PolynomialLR": lambda o: lr_scheduler.PolynomialLR(o, 12, 2),
    "ReduceLROnPlateau": lambda o: lr_scheduler.ReduceLROnPlateau(o, patience=0, factor=0.5, min_lr=0.02, eps=0.012),
    "SWALR": lambda o: SWALR(o, 0.02, anneal_epochs=4),
    "SequentialLR": lambda o: lr_scheduler.SequentialLR(
        o, [lr_scheduler.LinearLR(o, 0.1, total_iters=2), lr_scheduler.CosineAnnealingLR(o, 5, 0.01)], [2]
    ),
    "StepLR": lambda o: lr_scheduler.StepLR(o, 2, 0.5),
}


@pytest.mark.parametrize("interval", ["step", "epoch"])
@pytest.mark.parametrize("name", SCHEDULERS)
def test_every_schedule_is_what_it_is_times_the_factor(
    lab: Lab, name: str, interval: str, said: list[logging.LogRecord]
) -> None:
    def configure(*parameters: Any) -> Any:
        optimizer = SGD(parameters, lr=0.1)
        scheduler = {"scheduler": SCHEDULERS[name](optimizer), "interval": interval, "monitor": "flat"}
        return {"optimizer": optimizer, "lr_scheduler": scheduler}

    plain = [rate for (rate,) in lab.rates(model=lab.model(configure))]
    scaled = lab.rates(LearningRateScaling(warmup_steps=6), model=lab.model(configure))
    assert len(set(plain)) > 1
    assert scaled == close([rate * factor] for rate, factor in zip(plain, ramp(4, 6), strict=True))
    assert [record.levelname for record in said] == ["INFO"]


def test_a_scheduler_tells_the_rate_that_is_in_effect(lab: Lab) -> None:
    trainer = lab.trainer(LearningRateScaling(warmup_steps=6), epochs=1)
    trainer.fit(lab.model(cosine))
    (config,) = trainer.lr_scheduler_configs
    assert config.scheduler.get_last_lr() == [group["lr"] for group in trainer.optimizers[0].param_groups]


def test_the_lowest_rate_of_groups_to_come_is_scaled_too(lab: Lab) -> None:
    def configure(*parameters: Any) -> Any:
        optimizer = SGD(parameters, lr=0.1)
        scheduler = lr_scheduler.ReduceLROnPlateau(optimizer, min_lr=0.02)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "monitor": "flat"}}

    trainer = lab.trainer(LearningRateScaling(warmup_steps=0))
    trainer.fit(lab.model(configure))
    (config,) = trainer.lr_scheduler_configs
    if not hasattr(config.scheduler, "default_min_lr"):
        pytest.skip("this torch's ReduceLROnPlateau knows no groups that come later")
    assert config.scheduler.default_min_lr == pytest.approx(0.08)


def test_all_of_torch_s_schedulers_are_tested() -> None:
    kinds = {kind.__name__ for kind in vars(lr_scheduler).values() if isinstance(kind, type)}
    bases = {"LRScheduler", "_LRScheduler"}
    ours = {
        name
        for name in kinds - bases
        if issubclass(getattr(lr_scheduler, name, int), (lr_scheduler.LRScheduler, lr_scheduler.ReduceLROnPlateau))
    }
    assert ours == SCHEDULERS.keys() - {"SWALR"}


def test_a_group_that_is_added_later_keeps_its_rate_also_when_resumed(lab: Lab) -> None:
    class Unfreeze(lab.pl.Callback):  # type: ignore[name-defined,misc]
        def on_train_epoch_start(self, trainer: Any, *_: Any) -> None:
            if trainer.current_epoch == 2:
                trainer.optimizers[0].add_param_group({"params": [torch.nn.Parameter(torch.zeros(1))], "lr": 0.3})

        def on_fit_start(self, trainer: Any, *_: Any) -> None:
            if ckpt_path:  # as Lightning's own callbacks for fine-tuning do
                trainer.optimizers[0].add_param_group({"params": [torch.nn.Parameter(torch.zeros(1))]})

    ckpt_path: str | None = None
    rates = lab.rates(LearningRateScaling(warmup_steps=3), Unfreeze())
    assert [len(groups) for groups in rates] == [1] * 6 + [2] * 6
    assert rates[-6:] == close([[0.4, 0.3]] * 6)
    ckpt_path = lab.saved(LearningRateScaling(warmup_steps=3), Unfreeze(), epochs=3)
    assert lab.rates(LearningRateScaling(warmup_steps=3), Unfreeze(), ckpt_path=ckpt_path) == close([[0.4, 0.3]] * 3)


def test_a_rate_that_is_a_tensor_is_changed_in_place(lab: Lab) -> None:
    lr = torch.tensor(0.1, dtype=torch.float64)
    model = lab.model(lambda *parameters: AdamW(parameters, lr=lr))
    assert lab.rates(LearningRateScaling(warmup_steps=6), model=model) == close([0.1 * factor] for factor in ramp(4, 6))
    assert float(lr) == pytest.approx(0.4)


def test_a_tensor_that_parameter_groups_and_optimizers_share_is_multiplied_once(lab: Lab) -> None:
    lr = torch.tensor(0.1, dtype=torch.float64)

    def configure(*parameters: Any) -> Any:
        groups = [{"params": [parameter]} for parameter in parameters]
        return [AdamW(groups, lr=lr), AdamW([torch.nn.Parameter(torch.zeros(1))], lr=lr)]

    model = lab.model(configure)
    model.automatic_optimization = False
    trainer = lab.trainer(LearningRateScaling(warmup_steps=0))
    trainer.fit(model)
    rates = [[float(group["lr"]) for group in optimizer.param_groups] for optimizer in trainer.optimizers]
    assert rates == close([[0.4, 0.4], [0.4]])


def test_a_schedule_of_a_tensor_is_what_it_is_times_the_factor(lab: Lab) -> None:
    def configure(*parameters: Any) -> Any:
        optimizer = AdamW(parameters, lr=torch.tensor(0.1, dtype=torch.float64))
        return [optimizer], [lr_scheduler.StepLR(optimizer, 2, 0.5)]

    plain = [rate for (rate,) in lab.rates(model=lab.model(configure))]
    scaled = lab.rates(LearningRateScaling(warmup_steps=6), model=lab.model(configure))
    assert scaled == close([rate * factor] for rate, factor in zip(plain, ramp(4, 6), strict=True))


def test_a_world_of_one_leaves_optimizer_and_scheduler_as_they_are(lab: Lab) -> None:
    def configure(*parameters: Any) -> Any:
        optimizer = SGD(parameters, lr=1)
        return [optimizer], [lr_scheduler.CosineAnnealingLR(optimizer, 12, eta_min=0)]

    states = []
    for callbacks in ([LearningRateScaling()], []):
        trainer = lab.trainer(*callbacks, world_size=1)
        trainer.fit(lab.model(configure))
        (config,) = trainer.lr_scheduler_configs
        states.append(repr((trainer.optimizers[0].state_dict()["param_groups"], config.scheduler.state_dict())))
    assert states[0] == states[1]


def test_an_optimizer_that_outlives_its_fit_is_not_scaled_again(lab: Lab) -> None:
    made: list[Any] = []

    def configure(*parameters: Any) -> Any:
        made.append(made[0] if made else SGD(parameters, lr=0.1))
        return made[-1]

    model = lab.model(configure)
    assert lab.rates(LearningRateScaling(warmup_steps=6), model=model)[-1] == close([[0.4]])[0]
    assert lab.rates(LearningRateScaling(warmup_steps=6), model=model) == close([[0.4]] * 12)


def test_a_group_without_a_rate_is_an_error(lab: Lab) -> None:
    def configure(*parameters: Any) -> Any:
        optimizer = SGD(parameters, lr=0.1)
        optimizer.param_groups[0]["lr"] = None
        return optimizer

    with pytest.raises(TypeError, match=r"^Parameter group 0 of SGD has lr=None; expected a number\. HINT: "):
        lab.rates(LearningRateScaling(), model=lab.model(configure))


class Own:
    """A scheduler of no kind that torch knows."""

    def __init__(self, optimizer: Any) -> None:
        self.optimizer = optimizer

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, _: dict[str, Any]) -> None:
        pass


def test_a_scheduler_that_is_none_of_torch_s_is_an_error(lab: Lab) -> None:
    def configure(*parameters: Any) -> Any:
        optimizer = SGD(parameters, lr=0.1)
        return [optimizer], [Own(optimizer)]

    model = lab.model(configure)
    type(model).lr_scheduler_step = lambda *_: None
    with pytest.raises(TypeError, match=r"^LearningRateScaling cannot scale .*\.Own, which .* HINT: remove the callb"):
        lab.rates(LearningRateScaling(), model=model)


def test_a_scheduler_derived_from_torch_s_is_scaled_with_a_warning(lab: Lab, said: list[logging.LogRecord]) -> None:
    class Mine(lr_scheduler.LRScheduler):
        def get_lr(self) -> Any:
            return [lr / (1 + self.last_epoch) for lr in self.base_lrs]

    def configure(*parameters: Any) -> Any:
        optimizer = SGD(parameters, lr=0.1)
        return [optimizer], [Mine(optimizer)]

    rates = lab.rates(LearningRateScaling(warmup_steps=0), model=lab.model(configure))
    assert rates == close([0.4 / epoch] for epoch in (1, 2, 3, 4) for _ in range(BATCHES))
    assert [record.levelname for record in said] == ["WARNING", "INFO"]
    assert ".Mine computes from the rates of its optimizer (`base_lrs`), but no" in messages(said)[0]
