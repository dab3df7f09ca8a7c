"""The callback: it sets the factor in the learning rates during a training.

Since schedules stay what they are, times a factor (see ``rates``), warm-up is nothing but a factor that grows. Chaining
torch's ``LinearLR`` would not do, since schedulers that compute from the first rate overwrite it.

A checkpoint has the factor once more, in the callback's state, since some formats keep only the keys of a parameter
group that they know.
"""

from __future__ import annotations

import math
import sys
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from lightning_sagemaker.learning_rate import rates
from lightning_sagemaker.learning_rate.rule import Rule, check_integer, scale_learning_rate
from lightning_sagemaker.messages import log, speak

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pytorch_lightning import LightningModule, Trainer
    from torch.optim import Optimizer

_EPOCHS = 5  # of warm-up, as Goyal et al. chose it


@dataclass(frozen=True)
class _Ramp:
    """The change of the factor from one value to another."""

    start: int  # the Trainer's global step at its begin
    low: float
    target: float

    def at(self, progress: float) -> float:
        """Factor after a fraction of the warm-up."""
        return self.target if progress >= 1 else self.low + (self.target - self.low) * progress


_LEVEL = _Ramp(start=0, low=1.0, target=1.0)


class _Callback:
    """Placeholder for the base classes of the distributions."""


class LearningRateScaling(_Callback):
    """Callback that scales all learning rates to the number of processes, after a linear warm-up.

    At each step the learning rate is what your optimizer and your schedulers make it, times a factor, which grows in a
    straight line from 1 to that of :func:`scale_learning_rate` (Goyal et al. 2017, section 2.2, "gradual warmup"). It
    does nothing but say so where there is nothing to scale, and has no part in validation, test and prediction.

        >>> Trainer(callbacks=[LearningRateScaling()])  # doctest: +SKIP

    A training that is resumed goes on where it was. On another world size the factor goes on from the checkpoint's one:
    upwards with a new warm-up, downwards at once.

    Args:
        rule: ``"linear"``, or ``"sqrt"`` for Adam and its relatives.
        base_world_size: Number of processes that the learning rate in your code was chosen for.
        warmup_steps: Optimizer steps until the scaled rate is reached; 0 for none. ``None`` takes five epochs. A rate
            that becomes smaller needs no warm-up, and gets none.

    Raises:
        TypeError, ValueError: An argument is not what it should be. When training starts: the length of five epochs is
            not known, a parameter group has no learning rate, or a scheduler is not one of torch's kind.
    """

    def __init__(self, *, rule: Rule = "linear", base_world_size: int = 1, warmup_steps: int | None = None) -> None:
        _join_distributions()
        scale_learning_rate(1.0, world_size=1, base_world_size=base_world_size, rule=rule)  # checks them here and now
        if warmup_steps is not None:
            check_integer("warmup_steps", warmup_steps, 0, "pass the optimizer steps of the warm-up, 0 for none.")
        self.rule: Rule = rule
        self.base_world_size = base_world_size
        self.warmup_steps = warmup_steps
        self._ramp = _LEVEL
        self._factor: float | None = None  # that this fit has set, or the one that its checkpoint was saved with
        self._length = 0  # of the warm-up, in the Trainer's global steps
        self._warming_up = False

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:  # noqa: ARG002
        """Forget the previous fit."""
        if stage == "fit":
            self._ramp, self._factor, self._warming_up = _LEVEL, None, False

    def state_dict(self) -> dict[str, Any]:
        """The factor in the saved learning rates, and its warm-up."""
        return {} if self._factor is None else {"factor": self._factor, "ramp": asdict(self._ramp)}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Continue the warm-up of a checkpoint."""
        self._factor, self._ramp = state_dict["factor"], _Ramp(**state_dict["ramp"])

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:  # noqa: ARG002
        """Scale, after everything has been restored from a checkpoint."""
        optimizers = _optimizers(trainer)
        if not optimizers:  # `configure_optimizers` may return None
            return
        rates.check(optimizers, _schedulers(trainer), loud=trainer.is_global_zero)
        if self._factor is not None:
            rates.note_factor(optimizers, self._factor)
        world_size = _replicas(trainer)
        target = scale_learning_rate(1.0, world_size=world_size, base_world_size=self.base_world_size, rule=self.rule)
        held, saved = rates.factor_in(optimizers[0]), self._ramp
        if saved.target != target:
            self._ramp = _Ramp(trainer.global_step, held, target)
        # Lightning's global step counts the steps of all optimizers.
        self._length = self._warmup(_steps_per_epoch(trainer)) * len(optimizers) if self._ramp.low < target else 0
        if trainer.is_global_zero:
            speak()
            self._report(trainer, held, world_size, saved)
        self._advance(trainer)

    def on_train_batch_end(self, trainer: Trainer, *_: object) -> None:
        """Continue the warm-up, so that the next batch, and monitors, see the right learning rate."""
        if self._warming_up:
            self._advance(trainer)

    def _advance(self, trainer: Trainer) -> None:
        steps = trainer.global_step - self._ramp.start
        self._warming_up = steps < self._length
        self._factor = self._ramp.at(steps / self._length if self._warming_up else 1)
        rates.set_factor(_optimizers(trainer), _schedulers(trainer), self._factor)

    def _warmup(self, steps_per_epoch: float) -> int:
        """Steps of each optimizer until the scaled rate is reached."""
        if self.warmup_steps is not None:
            return self.warmup_steps
        if math.isinf(steps_per_epoch):
            raise ValueError(
                f"LearningRateScaling(warmup_steps=None) warms up for {_EPOCHS} epochs, but their number of optimizer"
                " steps is not known here: the optimization is manual, or the data has no length."
                " HINT: pass the number, such as warmup_steps=500, or 0 for no warm-up."
            )
        return int(_EPOCHS * steps_per_epoch)

    def _report(self, trainer: Trainer, held: float, world_size: int, saved: _Ramp) -> None:
        target, optimizers = self._ramp.target, _optimizers(trainer)
        before, after = rates.listed(optimizers, 1.0), rates.listed(optimizers, target / held)
        line = f"learning rate {before} stays" if held == target else f"learning rate {before} -> {after}"
        line += f" ({self.rule} rule, world size {world_size} over {self.base_world_size})"
        end = self._ramp.start + self._length
        last = min(
            _steps_per_epoch(trainer) * (math.inf if trainer.max_epochs in (None, -1) else trainer.max_epochs),
            math.inf if trainer.max_steps == -1 else trainer.max_steps,
        )
        if held != target:
            left = math.ceil((end - trainer.global_step) / len(optimizers))
            line += f", reached after {left} steps" if left > 0 else ", at once"
        if saved.target not in (1, target):
            line += f"; the checkpoint's training was scaled by {saved.target:.6g}, this one by {target:.6g}"
        if last < end:
            line += f"; but training ends before, at step {last} of {end}. HINT: pass a smaller warmup_steps."
            log.warning(line)
        else:
            log.info(line)


def _replicas(trainer: Trainer) -> int:
    """Number of processes with different data: all of them, except with tensor parallelism."""
    return int((trainer.distributed_sampler_kwargs or {}).get("num_replicas", trainer.world_size))


def _steps_per_epoch(trainer: Trainer) -> float:
    """Optimizer steps in an epoch; infinity if the data does not determine them."""
    if not trainer.lightning_module.automatic_optimization or math.isinf(trainer.num_training_batches):
        return math.inf
    return math.ceil(trainer.num_training_batches / trainer.accumulate_grad_batches)


def _optimizers(trainer: Trainer) -> list[Optimizer]:
    return [optimizer for optimizer in trainer.optimizers if optimizer.param_groups]


def _schedulers(trainer: Trainer) -> list[Any]:
    """All schedulers, including nested ones."""
    found = [config.scheduler for config in trainer.lr_scheduler_configs]
    for scheduler in found:
        found += getattr(scheduler, "_schedulers", [])  # of `SequentialLR` and `ChainedScheduler`
    return found


def _join_distributions() -> None:
    """Make the class a subclass of ``Callback`` of each distribution that is imported: Trainers ask for their own.

    So it does not matter which one a script uses, or whether it imports it before this module.
    """
    for package in ("lightning.pytorch", "pytorch_lightning"):
        base = getattr(sys.modules.get(f"{package}.callbacks"), "Callback", None)
        if base is not None and not issubclass(LearningRateScaling, base):
            LearningRateScaling.__bases__ += (base,)


_join_distributions()  # `LightningCLI` asks before it makes an object
