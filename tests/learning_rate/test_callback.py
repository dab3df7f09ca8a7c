"""When the callback scales, what it says and what it refuses, in real Trainers of both distributions."""

from __future__ import annotations

import copy
import importlib
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

from lightning_sagemaker import LearningRateScaling
from lightning_sagemaker.learning_rate import _replicas

from .conftest import BATCHES, QUIET, close, cosine, messages, ramp

if TYPE_CHECKING:
    import logging

    from .conftest import Lab, Rates


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


def test_a_second_fit_scales_its_new_optimizers_once(lab: Lab) -> None:
    recorder = lab.recorder()
    trainer, model = lab.trainer(LearningRateScaling(warmup_steps=6), recorder), lab.model()
    trainer.fit(model)
    trainer.fit_loop.max_epochs = 8
    trainer.fit(model)
    assert recorder.rates == close([0.1 * factor] for factor in ramp(4, 6) * 2)


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
    assert _replicas(trainer) == 8
    trainer.strategy.__class__ = type("Both", (type(trainer.strategy), Mesh), {})
    assert _replicas(trainer) == 2


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


def test_without_an_optimizer_there_is_nothing_to_scale(lab: Lab, said: list[logging.LogRecord]) -> None:
    said.clear()
    with pytest.warns(UserWarning, match="will run with no optimizer"):
        lab.rates(LearningRateScaling(), model=lab.model(lambda *_: None))
    assert messages(said) == []


def test_a_callback_is_one_of_all_distributions_that_are_imported(lab: Lab) -> None:
    packages = [sys.modules[name] for name in ("lightning.pytorch", "pytorch_lightning") if name in sys.modules]
    assert lab.pl in packages
    assert all(isinstance(LearningRateScaling(), package.Callback) for package in packages)


def test_the_callback_can_be_derived_from_copied_and_pickled() -> None:
    callback = Derived(rule="sqrt", warmup_steps=7)
    for twin in (copy.deepcopy(callback), pickle.loads(pickle.dumps(callback))):
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
