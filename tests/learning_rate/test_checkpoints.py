"""A training that is resumed goes on where it was, also in another world."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

import pytest
import torch

from lightning_sagemaker import LearningRateScaling

from .conftest import BATCHES, close, cosine, messages, ramp

if TYPE_CHECKING:
    import logging

    from .conftest import Lab


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
