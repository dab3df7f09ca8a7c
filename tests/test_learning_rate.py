"""The scaling rules, and the callback in real Trainers of both distributions."""

from __future__ import annotations

import copy
import importlib
import importlib.util
import json
import logging
import math
import os
import pickle
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.optim import SGD, AdamW, lr_scheduler
from torch.optim.swa_utils import SWALR

from lightning_sagemaker import LearningRateScaling, learning_rate, scale_learning_rate

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    Rates = list[list[float]]

# --- the rules -------------------------------------------------------------------------------------------------------

rates = st.floats(1e-12, 1e6)
sizes = st.integers(1, 2**20)
rules = st.sampled_from(["linear", "sqrt"])


@given(lr=rates, world_size=sizes, base=sizes)
def test_the_linear_rule_is_proportional_to_the_world_size(lr: float, world_size: int, base: int) -> None:
    scaled = scale_learning_rate(lr, world_size=world_size, base_world_size=base)
    assert scaled == pytest.approx(lr * world_size / base)


@given(lr=rates, world_size=sizes, base=sizes)
def test_the_sqrt_rule_applied_twice_is_the_linear_rule(lr: float, world_size: int, base: int) -> None:
    once = scale_learning_rate(lr, world_size=world_size, base_world_size=base, rule="sqrt")
    twice = scale_learning_rate(once, world_size=world_size, base_world_size=base, rule="sqrt")
    assert twice == pytest.approx(scale_learning_rate(lr, world_size=world_size, base_world_size=base))


@given(lr=rates, world_size=sizes, rule=rules)
def test_equal_world_sizes_leave_the_rate_bit_by_bit(lr: float, world_size: int, rule: Any) -> None:
    assert scale_learning_rate(lr, world_size=world_size, base_world_size=world_size, rule=rule) == lr


@given(lr=rates, first=sizes, second=sizes, third=sizes, rule=rules)
def test_scaling_by_way_of_another_world_size_changes_nothing(
    lr: float, first: int, second: int, third: int, rule: Any
) -> None:
    there = scale_learning_rate(lr, world_size=second, base_world_size=first, rule=rule)
    further = scale_learning_rate(there, world_size=third, base_world_size=second, rule=rule)
    assert further == pytest.approx(scale_learning_rate(lr, world_size=third, base_world_size=first, rule=rule))


def test_an_integer_rate_becomes_a_float() -> None:
    assert isinstance(scale_learning_rate(1, world_size=1), float)


@pytest.mark.parametrize("lr", [0, 0.0, -0.1, math.inf, -math.inf, math.nan])
def test_a_rate_that_is_none_is_an_error_that_names_it(lr: float) -> None:
    with pytest.raises(ValueError, match=rf"^lr={lr!r}; expected a finite number > 0\. HINT: "):
        scale_learning_rate(lr, world_size=2)


@pytest.mark.parametrize("lr", [True, "0.1", None, 1j])
def test_a_rate_that_is_no_number_is_an_error_that_names_it(lr: Any) -> None:
    with pytest.raises(TypeError, match=r"^lr=.*; expected a number > 0\. HINT: "):
        scale_learning_rate(lr, world_size=2)


@pytest.mark.parametrize("name", ["world_size", "base_world_size"])
@pytest.mark.parametrize(("size", "error"), [(0, ValueError), (-1, ValueError), (True, TypeError), (2.0, TypeError)])
def test_a_size_that_is_none_is_an_error_that_names_it(name: str, size: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match=rf"^{name}={size!r}; expected an integer >= 1\. HINT: "):
        scale_learning_rate(0.1, **{"world_size": 2, name: size})


def test_an_unknown_rule_is_an_error_that_names_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"^rule='cubic'; expected \"linear\" or \"sqrt\"\. HINT: "):
        scale_learning_rate(0.1, world_size=2, rule="cubic")  # type: ignore[arg-type]


def test_the_world_size_has_to_be_named() -> None:
    with pytest.raises(TypeError, match="positional"):
        scale_learning_rate(0.1, 2)  # type: ignore[call-arg]


# --- real Trainers ---------------------------------------------------------------------------------------------------

BATCHES = 3  # of an epoch
QUIET = {"accelerator": "cpu", "enable_progress_bar": False, "enable_model_summary": False, "logger": False}


@pytest.fixture(params=["lightning.pytorch", "pytorch_lightning"])
def lab(request: pytest.FixtureRequest, tmp_path: Path) -> Lab:
    if importlib.util.find_spec(request.param.partition(".")[0]) is None:
        pytest.skip(f"`{request.param}` is not installed")
    return Lab(request.param, tmp_path)


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[logging.LogRecord]:
    """What our logger was told."""
    records: list[logging.LogRecord] = []
    monkeypatch.setattr(learning_rate.log, "handle", records.append)
    monkeypatch.setattr(learning_rate.log, "isEnabledFor", lambda level: level >= logging.INFO)
    return records


def messages(said: list[logging.LogRecord]) -> list[str]:
    return [record.getMessage() for record in said]


class Lab:
    """Trainers, models and callbacks of one distribution."""

    def __init__(self, package: Any, folder: Path) -> None:
        self.pl = importlib.import_module(package)
        self.boring: Any = importlib.import_module(f"{package}.demos.boring_classes")
        self.single: Any = importlib.import_module(f"{package}.strategies").SingleDeviceStrategy
        self.folder = folder

    def trainer(self, *callbacks: Any, world_size: int = 4, epochs: int = 4, **given: Any) -> Any:
        """Trainer with one process that believes to be one of many."""
        strategy = self.single("cpu")
        strategy.world_size = world_size
        given = {"limit_train_batches": BATCHES, "limit_val_batches": 0, "enable_checkpointing": False, **given}
        given |= {"max_epochs": epochs, "strategy": strategy, "default_root_dir": self.folder}
        return self.pl.Trainer(callbacks=list(callbacks), **QUIET, **given)

    def model(self, configure: Callable[..., Any] | None = None) -> Any:
        """Model whose optimizers are what a function makes of its two parameters; SGD with lr 0.1 if not given."""

        class Model(self.boring.BoringModel):  # type: ignore[name-defined,misc]
            def configure_optimizers(self) -> Any:
                return configure(*self.parameters()) if configure else SGD(self.parameters(), lr=0.1)

            def training_step(self, batch: Any, batch_idx: int) -> Any:
                self.log("flat", 1.0)
                return super().training_step(batch, batch_idx)

        return Model()

    def gan(self) -> Any:
        """Model with two optimizers, of lr 0.1 and 0.01, and schedulers that it steps itself."""

        class Gan(self.boring.BoringModel):  # type: ignore[name-defined,misc]
            automatic_optimization = False

            def configure_optimizers(self) -> Any:
                layer: Any = self.layer
                optimizers = [SGD([layer.weight], lr=0.1), SGD([layer.bias], lr=0.01)]
                return optimizers, [lr_scheduler.StepLR(optimizer, 2) for optimizer in optimizers]

            def training_step(self, batch: Any, _batch_idx: int) -> None:
                for optimizer, scheduler in zip(self.optimizers(), self.lr_schedulers(), strict=True):
                    self.manual_backward(self.step(batch))
                    optimizer.step()
                    scheduler.step()

            def on_train_epoch_end(self) -> None:
                pass

        return Gan()

    def recorder(self) -> Any:
        """Callback that notes the learning rates with which steps are made, in `rates`."""

        class Recorder(self.pl.Callback):  # type: ignore[name-defined,misc]
            def __init__(self) -> None:
                self.rates: Rates = []

            def on_before_optimizer_step(self, _trainer: Any, _module: Any, optimizer: Any) -> None:
                self.rates.append([float(group["lr"]) for group in optimizer.param_groups])

        return Recorder()

    def rates(self, *callbacks: Any, model: Any = None, ckpt_path: str | None = None, **given: Any) -> Rates:
        """The learning rates of a training: of each step, of each parameter group."""
        recorder = self.recorder()
        trainer = self.trainer(*callbacks, recorder, **given)
        trainer.fit(model or self.model(), ckpt_path=ckpt_path)
        return recorder.rates  # type: ignore[no-any-return]

    def saved(self, *callbacks: Any, model: Any = None, **given: Any) -> str:
        """Path of a checkpoint of a training."""
        trainer = self.trainer(*callbacks, **given)
        trainer.fit(model or self.model())
        path = str(self.folder / "saved.ckpt")
        trainer.save_checkpoint(path)
        return path


def ramp(target: float, steps: int, low: float = 1) -> list[float]:
    """Factors of twelve steps."""
    return [target if step >= steps else low + (target - low) * step / steps for step in range(12)]


def close(rates: Iterable[Iterable[float]]) -> Any:
    return [pytest.approx(list(groups), rel=1e-9) for groups in rates]


def test_the_rate_rises_in_a_straight_line_and_stays(lab: Lab) -> None:
    rates = lab.rates(LearningRateScaling(warmup_steps=6))
    assert rates == close([lr] for lr in [0.1, 0.15, 0.2, 0.25, 0.3, 0.35, *[0.4] * 6])


def test_without_warm_up_the_first_step_has_the_scaled_rate(lab: Lab) -> None:
    assert lab.rates(LearningRateScaling(warmup_steps=0)) == [[0.4]] * 12


def test_the_warm_up_takes_five_epochs_where_nothing_else_is_said(lab: Lab) -> None:
    rates = lab.rates(LearningRateScaling(), epochs=6)
    assert rates[:12] == close([0.1 * factor] for factor in ramp(4, 5 * BATCHES))
    assert rates[-BATCHES - 1][0] < 0.39
    assert rates[-BATCHES:] == close([[0.4]] * BATCHES)


def test_the_sqrt_rule_and_the_base_world_size_are_followed(lab: Lab) -> None:
    callback = LearningRateScaling(rule="sqrt", base_world_size=2, warmup_steps=0)
    assert lab.rates(callback, world_size=18) == close([[0.3]] * 12)


def test_a_rate_that_gets_smaller_does_so_at_once(lab: Lab) -> None:
    assert lab.rates(LearningRateScaling(base_world_size=8, warmup_steps=6)) == close([[0.05]] * 12)


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


def test_the_warm_up_counts_optimizer_steps_and_not_batches(lab: Lab) -> None:
    given: dict[str, Any] = {"limit_train_batches": 12, "accumulate_grad_batches": 4}
    expected = close([0.1 * factor] for factor in ramp(4, 6))
    assert lab.rates(LearningRateScaling(warmup_steps=6), **given) == expected
    # five epochs of three steps each
    assert lab.rates(LearningRateScaling(), **given) == close([0.1 * factor] for factor in ramp(4, 15))


def test_with_several_optimizers_the_warm_up_counts_the_steps_of_each(lab: Lab) -> None:
    rates = lab.rates(LearningRateScaling(warmup_steps=6), model=lab.gan())
    decay = [0.1 ** (step // 2) for step in range(12)]
    assert rates[::2] == close([0.1 * d * f] for d, f in zip(decay, ramp(4, 6), strict=True))
    assert rates[1::2] == close([0.01 * d * f] for d, f in zip(decay, ramp(4, 6), strict=True))


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


def test_a_schedule_of_a_tensor_is_what_it_is_times_the_factor(lab: Lab) -> None:
    def configure(*parameters: Any) -> Any:
        optimizer = AdamW(parameters, lr=torch.tensor(0.1, dtype=torch.float64))
        return [optimizer], [lr_scheduler.StepLR(optimizer, 2, 0.5)]

    plain = [rate for (rate,) in lab.rates(model=lab.model(configure))]
    scaled = lab.rates(LearningRateScaling(warmup_steps=6), model=lab.model(configure))
    assert scaled == close([rate * factor] for rate, factor in zip(plain, ramp(4, 6), strict=True))


def test_who_looks_at_the_rate_before_a_batch_sees_the_one_that_the_batch_gets(lab: Lab) -> None:
    class Monitor(lab.pl.Callback):  # type: ignore[name-defined,misc]
        seen: Rates = []  # noqa: RUF012

        def on_train_batch_start(self, trainer: Any, *_: Any) -> None:
            self.seen.append([group["lr"] for group in trainer.optimizers[0].param_groups])

    rates = lab.rates(Monitor(), LearningRateScaling(warmup_steps=6))
    assert Monitor.seen == rates


def test_after_the_warm_up_a_batch_costs_no_look_at_the_trainer(lab: Lab) -> None:
    callback = LearningRateScaling(warmup_steps=6)
    lab.rates(callback)
    callback.on_train_batch_end(None)  # type: ignore[arg-type]


def test_an_optimizer_step_that_amp_skips_counts_as_one(lab: Lab) -> None:
    precision = importlib.import_module(f"{lab.pl.__name__}.plugins").MixedPrecision
    if not hasattr(torch.amp, "GradScaler"):
        pytest.skip("this torch has no gradient scaler for CPUs")
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    model = lab.model()
    skipped: list[int] = []

    class Overflow(lab.pl.Callback):  # type: ignore[name-defined,misc]
        def on_before_optimizer_step(self, trainer: Any, module: Any, _optimizer: Any) -> None:
            if trainer.global_step == 2:
                skipped.append(2)
                for parameter in module.parameters():
                    parameter.grad.fill_(math.inf)

    given: dict[str, Any] = {"plugins": [precision("16-mixed", "cpu", scaler)]}
    rates = lab.rates(Overflow(), LearningRateScaling(warmup_steps=6), model=model, **given)
    assert skipped == [2]
    assert rates == close([0.1 * factor] for factor in ramp(4, 6))


# --- fits after fits -------------------------------------------------------------------------------------------------


def test_a_second_fit_scales_its_new_optimizers_once(lab: Lab) -> None:
    recorder = lab.recorder()
    trainer, model = lab.trainer(LearningRateScaling(warmup_steps=6), recorder), lab.model()
    trainer.fit(model)
    trainer.fit_loop.max_epochs = 8
    trainer.fit(model)
    assert recorder.rates == close([0.1 * factor] for factor in ramp(4, 6) * 2)


def test_an_optimizer_that_outlives_its_fit_is_not_scaled_again(lab: Lab) -> None:
    made: list[Any] = []

    def configure(*parameters: Any) -> Any:
        made.append(made[0] if made else SGD(parameters, lr=0.1))
        return made[-1]

    model = lab.model(configure)
    assert lab.rates(LearningRateScaling(warmup_steps=6), model=model)[-1] == close([[0.4]])[0]
    assert lab.rates(LearningRateScaling(warmup_steps=6), model=model) == close([[0.4]] * 12)


def test_a_test_with_a_checkpoint_between_two_fits_changes_nothing(lab: Lab) -> None:
    recorder = lab.recorder()
    trainer, model = lab.trainer(LearningRateScaling(warmup_steps=6), recorder, limit_test_batches=1), lab.model()
    trainer.fit(model)
    trainer.save_checkpoint(lab.folder / "fit.ckpt")
    trainer.test(model, ckpt_path=lab.folder / "fit.ckpt", verbose=False)
    trainer.fit_loop.max_epochs = 8
    trainer.fit(model)
    assert recorder.rates == close([0.1 * factor] for factor in ramp(4, 6) * 2)


def test_validation_and_prediction_are_not_touched(lab: Lab, said: list[logging.LogRecord]) -> None:
    said.clear()
    model = lab.model(lambda *_: pytest.fail("no optimizer is needed"))
    trainer = lab.trainer(LearningRateScaling(), limit_val_batches=1, limit_predict_batches=1)
    trainer.validate(model, verbose=False)
    trainer.predict(model)
    assert messages(said) == []


# --- checkpoints -----------------------------------------------------------------------------------------------------


def cosine(*parameters: Any) -> Any:
    optimizer = SGD(parameters, lr=0.1)
    scheduler = lr_scheduler.CosineAnnealingLR(optimizer, 12, eta_min=0.01)
    return [optimizer], [{"scheduler": scheduler, "interval": "step"}]


@pytest.mark.parametrize("epochs", [1, 3])
def test_a_resumed_training_has_the_rates_of_an_undisturbed_one(lab: Lab, epochs: int) -> None:
    undisturbed = lab.rates(LearningRateScaling(warmup_steps=6), model=lab.model(cosine))
    path = lab.saved(LearningRateScaling(warmup_steps=6), model=lab.model(cosine), epochs=epochs)
    resumed = lab.rates(LearningRateScaling(warmup_steps=6), model=lab.model(cosine), ckpt_path=path)
    assert resumed == undisturbed[epochs * BATCHES :]


def test_a_checkpoint_from_the_middle_of_an_epoch_is_continued_alike(lab: Lab) -> None:
    checkpoints = importlib.import_module(f"{lab.pl.__name__}.callbacks").ModelCheckpoint
    every = checkpoints(dirpath=lab.folder, filename="{step}", every_n_train_steps=1, save_top_k=-1)
    undisturbed = lab.rates(
        every, LearningRateScaling(warmup_steps=6), model=lab.model(cosine), enable_checkpointing=True
    )
    for step in (2, 5, 7):
        path = str(lab.folder / f"step={step}.ckpt")
        resumed = lab.rates(LearningRateScaling(warmup_steps=6), model=lab.model(cosine), ckpt_path=path)
        assert resumed[: 12 - step] == undisturbed[step:]  # Lightning 2.2 trains on one batch more


@pytest.mark.parametrize(("before", "after"), [(4, 2), (8, 4), (4, 1)])
def test_a_training_that_is_resumed_in_a_smaller_world_has_its_rate_at_once(
    lab: Lab, before: int, after: int, said: list[logging.LogRecord]
) -> None:
    path = lab.saved(LearningRateScaling(warmup_steps=3), world_size=before, epochs=2)
    said.clear()
    rates = lab.rates(LearningRateScaling(warmup_steps=3), world_size=after, ckpt_path=path)
    assert rates == close([[0.1 * after]] * 6)
    line = (
        f"learning rate {0.1 * before:.1f} -> {0.1 * after:.1f} (linear rule, world size {after} over 1), at once; the"
        f" checkpoint's training was scaled by {before}, this one by {after}"
    )
    assert messages(said) == [line]


def test_a_training_that_is_resumed_in_a_larger_world_warms_up_to_its_rate(
    lab: Lab, said: list[logging.LogRecord]
) -> None:
    path = lab.saved(LearningRateScaling(warmup_steps=3), world_size=2, epochs=2)
    said.clear()
    rates = lab.rates(LearningRateScaling(warmup_steps=3), ckpt_path=path)
    assert rates == close([lr] for lr in [0.2, 0.8 / 3, 1 / 3, 0.4, 0.4, 0.4])
    line = "learning rate 0.2 -> 0.4 (linear rule, world size 4 over 1), reached after 3 steps; "
    assert messages(said) == [line + "the checkpoint's training was scaled by 2, this one by 4"]


def test_schedules_follow_when_a_training_is_resumed_in_another_world(lab: Lab) -> None:
    plain = lab.rates(model=lab.model(cosine))
    path = lab.saved(LearningRateScaling(warmup_steps=3), model=lab.model(cosine), epochs=2)
    rates = lab.rates(LearningRateScaling(warmup_steps=3), model=lab.model(cosine), world_size=2, ckpt_path=path)
    assert rates == close([2 * rate] for (rate,) in plain[6:])


def test_a_checkpoint_of_a_training_without_the_callback_is_scaled_from_there_on(lab: Lab) -> None:
    path = lab.saved(epochs=1)
    rates = lab.rates(LearningRateScaling(warmup_steps=6), ckpt_path=path)
    assert rates == close([0.1 * factor] for factor in ramp(4, 6)[:9])


def test_without_the_callback_a_checkpoint_goes_on_with_the_rate_that_it_holds(lab: Lab) -> None:
    path = lab.saved(LearningRateScaling(warmup_steps=3), epochs=2)
    assert lab.rates(ckpt_path=path) == close([[0.4]] * 6)


def test_a_checkpoint_whose_format_drops_unknown_keys_is_not_scaled_again(lab: Lab) -> None:
    path = lab.saved(LearningRateScaling(warmup_steps=6), model=lab.model(cosine), epochs=1)
    undisturbed = lab.rates(LearningRateScaling(warmup_steps=6), model=lab.model(cosine))
    saved = torch.load(path, weights_only=False)
    del saved["optimizer_states"][0]["param_groups"][0]["lightning_sagemaker_factor"]
    torch.save(saved, path)
    assert lab.rates(LearningRateScaling(warmup_steps=6), model=lab.model(cosine), ckpt_path=path) == undisturbed[3:]


def test_a_checkpoint_with_the_callback_loads_as_weights_only(lab: Lab) -> None:
    path = lab.saved(LearningRateScaling(warmup_steps=6), epochs=1)
    saved = torch.load(path, weights_only=True)
    assert saved["callbacks"]["LearningRateScaling"] == {
        "factor": 2.5,
        "ramp": {"start": 0, "low": 1.0, "target": 4.0},
    }


# --- what is said, and errors ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "world_size", "line"),
    [
        ({"warmup_steps": 6}, 8, "learning rate 0.1 -> 0.8 (linear rule, world size 8 over 1), reached after 6 steps"),
        ({"warmup_steps": 0}, 8, "learning rate 0.1 -> 0.8 (linear rule, world size 8 over 1), at once"),
        ({"rule": "sqrt"}, 1, "learning rate 0.1 stays (sqrt rule, world size 1 over 1)"),
        ({"base_world_size": 4}, 4, "learning rate 0.1 stays (linear rule, world size 4 over 4)"),
    ],
)
def test_one_line_says_what_is_scaled(
    lab: Lab, given: dict[str, Any], world_size: int, line: str, said: list[logging.LogRecord]
) -> None:
    said.clear()
    lab.rates(LearningRateScaling(**given), world_size=world_size)
    assert [(record.levelname, record.getMessage()) for record in said] == [("INFO", line)]


def test_the_line_names_the_rates_of_all_groups_and_the_steps_that_are_left(
    lab: Lab, said: list[logging.LogRecord]
) -> None:
    path = lab.saved(LearningRateScaling(warmup_steps=6), model=lab.gan(), epochs=1)
    said.clear()
    lab.rates(LearningRateScaling(warmup_steps=6), model=lab.gan(), ckpt_path=path)
    assert messages(said) == [
        "learning rate 0.25, 0.025 -> 0.4, 0.04 (linear rule, world size 4 over 1), reached after 3 steps"
    ]


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


def test_ranks_other_than_0_say_nothing(lab: Lab, said: list[logging.LogRecord]) -> None:
    said.clear()
    trainer = lab.trainer(LearningRateScaling(warmup_steps=0))
    trainer.strategy.__class__ = type("Other", (lab.single,), {"is_global_zero": False})
    trainer.fit(lab.model())
    assert trainer.optimizers[0].param_groups[0]["lr"] == 0.4
    assert messages(said) == []


@pytest.mark.parametrize("given", [{"epochs": 1}, {"max_steps": 5}])
def test_a_warm_up_that_training_does_not_reach_the_end_of_is_a_warning(
    lab: Lab, given: dict[str, Any], said: list[logging.LogRecord]
) -> None:
    lab.rates(LearningRateScaling(warmup_steps=6), **given)
    last = given.get("max_steps", BATCHES)
    assert [record.levelname for record in said] == ["WARNING"]
    assert f"; but training ends before, at step {last} of 6. HINT: pass a smaller warmup_steps." in messages(said)[0]


def test_a_training_without_a_number_of_epochs_is_not_called_too_short(lab: Lab, said: list[logging.LogRecord]) -> None:
    lab.rates(LearningRateScaling(warmup_steps=6), epochs=-1, max_steps=12)
    assert [record.levelname for record in said] == ["INFO"]


def test_with_tensor_parallelism_only_processes_with_data_of_their_own_count(lab: Lab) -> None:
    class Mesh(lab.pl.strategies.ParallelStrategy):  # type: ignore[name-defined,misc]
        distributed_sampler_kwargs = {"num_replicas": 2, "rank": 0}  # noqa: RUF012

    Mesh.__abstractmethods__ = frozenset()
    trainer = lab.trainer(world_size=8)
    assert learning_rate._replicas(trainer) == 8
    trainer.strategy.__class__ = type("Both", (type(trainer.strategy), Mesh), {})
    assert learning_rate._replicas(trainer) == 2


@pytest.mark.parametrize(
    ("given", "error", "text"),
    [
        ({"rule": "cubic"}, ValueError, "rule='cubic'; expected"),
        ({"base_world_size": 0}, ValueError, "base_world_size=0; expected"),
        ({"warmup_steps": -1}, ValueError, "warmup_steps=-1; expected an integer >= 0"),
        ({"warmup_steps": 1.5}, TypeError, "warmup_steps=1.5; expected an integer >= 0"),
        ({"warmup_steps": True}, TypeError, "warmup_steps=True; expected an integer >= 0"),
    ],
)
def test_a_wrong_argument_is_an_error_at_construction(given: dict[str, Any], error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=rf"^{text}.* HINT: "):
        LearningRateScaling(**given)


def test_epochs_of_unknown_length_are_an_error_unless_there_is_nothing_to_warm_up(lab: Lab) -> None:
    text = r"^LearningRateScaling\(warmup_steps=None\) warms up for 5 epochs, but .* HINT: pass the number, such as "
    with pytest.raises(ValueError, match=text):
        lab.rates(LearningRateScaling(), model=lab.gan())
    endless: dict[str, Any] = {"limit_train_batches": 1.0, "max_steps": 12, "epochs": -1}
    model = lab.model()
    stream = type("Stream", (torch.utils.data.IterableDataset,), {"__iter__": lambda _: iter(torch.ones(99, 32))})()
    model.train_dataloader = lambda: torch.utils.data.DataLoader(stream)
    with pytest.raises(ValueError, match=text):
        lab.rates(LearningRateScaling(), model=model, **endless)
    assert len(lab.rates(LearningRateScaling(), model=model, world_size=1, **endless)) == 12
    assert lab.rates(LearningRateScaling(warmup_steps=6), model=model, **endless) == close(
        [0.1 * f] for f in ramp(4, 6)
    )


def test_a_group_without_a_rate_is_an_error(lab: Lab) -> None:
    def configure(*parameters: Any) -> Any:
        optimizer = SGD(parameters, lr=0.1)
        optimizer.param_groups[0]["lr"] = None
        return optimizer

    with pytest.raises(TypeError, match=r"^Parameter group 0 of SGD has lr=None; expected a number\. HINT: "):
        lab.rates(LearningRateScaling(), model=lab.model(configure))


def test_without_an_optimizer_there_is_nothing_to_scale(lab: Lab, said: list[logging.LogRecord]) -> None:
    said.clear()
    with pytest.warns(UserWarning, match="will run with no optimizer"):
        lab.rates(LearningRateScaling(), model=lab.model(lambda *_: None))
    assert messages(said) == []


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


# --- both distributions ----------------------------------------------------------------------------------------------


def test_a_callback_is_one_of_all_distributions_that_are_imported(lab: Lab) -> None:
    packages = [sys.modules[name] for name in ("lightning.pytorch", "pytorch_lightning") if name in sys.modules]
    assert lab.pl in packages
    assert all(isinstance(LearningRateScaling(), package.Callback) for package in packages)


def test_the_callback_can_be_derived_from_copied_and_pickled() -> None:
    callback = Derived(rule="sqrt", warmup_steps=7)
    for twin in (copy.deepcopy(callback), pickle.loads(pickle.dumps(callback))):  # noqa: S301
        assert type(twin) is Derived
        assert vars(twin) == vars(callback)


class Derived(LearningRateScaling):
    pass


TWO = """
import json, sys
from lightning_sagemaker import LearningRateScaling
assert not {{"lightning.pytorch", "pytorch_lightning"}} & set(sys.modules)
from {package} import Callback, Trainer
from {package}.demos.boring_classes import BoringModel
from torch.optim import SGD
from torch.optim.lr_scheduler import CosineAnnealingLR

class Model(BoringModel):
    def configure_optimizers(self):
        optimizer = SGD(self.parameters(), lr=0.1)
        return [optimizer], [{{"scheduler": CosineAnnealingLR(optimizer, 12, eta_min=0.01), "interval": "step"}}]

class Recorder(Callback):
    def __init__(self):
        self.rates = []
    def on_before_optimizer_step(self, trainer, module, optimizer):
        self.rates.append([group["lr"] for group in optimizer.param_groups])

found = []
for epochs in (4, 1):
    recorder = Recorder()
    trainer = Trainer(max_epochs=epochs, strategy="ddp", callbacks=[LearningRateScaling(warmup_steps=6), recorder],
                      limit_train_batches=3, limit_val_batches=0, enable_checkpointing=False, **{quiet})
    trainer.fit(Model())
    found.append(recorder.rates)
trainer.save_checkpoint("two.ckpt")
open(f"rank-{{trainer.global_rank}}.json", "w").write(json.dumps(found))
"""


def test_a_job_of_two_processes_scales_by_two_and_a_new_process_continues_its_checkpoint(lab: Lab) -> None:
    (lab.folder / "two.py").write_text(TWO.format(package=lab.pl.__name__, quiet=QUIET))
    config = lab.folder / "ml" / "input" / "config"
    config.mkdir(parents=True)
    (config / "resourceconfig.json").write_text(json.dumps({"current_host": "algo-1", "hosts": ["algo-1"]}))
    job = {"TRAINING_JOB_NAME": "digits", "SAGEMAKER_BASE_DIR": str(lab.folder / "ml"), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", "two.py"],
        env=os.environ | job,
        cwd=lab.folder,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    undisturbed, begun = json.loads((lab.folder / "rank-0.json").read_text())
    assert json.loads((lab.folder / "rank-1.json").read_text()) == [undisturbed, begun]
    line = "learning rate 0.1 -> 0.2 (linear rule, world size 2 over 1), reached after 6 steps"
    assert done.stderr.count(line) == 2  # of rank 0, for each fit
    plain = lab.rates(model=lab.model(cosine))
    assert undisturbed == close([rate * f] for (rate,), f in zip(plain, ramp(2, 6), strict=True))
    assert begun == undisturbed[:BATCHES]
    path, model = str(lab.folder / "two.ckpt"), lab.model(cosine)
    assert (
        lab.rates(LearningRateScaling(warmup_steps=6), world_size=2, model=model, ckpt_path=path)
        == undisturbed[BATCHES:]
    )
