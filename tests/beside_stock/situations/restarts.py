"""Scripts that are started once more: in the same container, or in a new one that has the job's checkpoints only."""

from __future__ import annotations

import glob
from pathlib import Path
from typing import Any

from lightning.pytorch.callbacks import LearningRateFinder, ModelCheckpoint

from tests.beside_stock.model import Model, fitted, loader, trainer, weights
from tests.beside_stock.registry import ANY, ONCE, WITH_RESUME, situation

from .folders import job_folder, plain

PLACES = {"files in*": ANY, "content of*": ANY}
# A second start trains the second half of 32 batches only, and ends with the weights of a training without a break.
CONTINUES = {"start 2: rank 0: batches": 16}


def _halves(start: int, **arguments: Any) -> Any:
    t, m = plain(max_epochs=2 * start, **arguments), Model()
    return t, m


@situation(starts=2, arms=WITH_RESUME, allowed={"resume": PLACES})
def last_in_the_same_container(start: int) -> Any:
    """``fit(ckpt_path="last")`` after a restart (pytorch-lightning#4366, #14466, #20192)."""
    t, m = _halves(start, logger=False, callbacks=[ModelCheckpoint(save_last=True)])
    t.fit(m, loader(), ckpt_path="last")
    return fitted(m, t)


@situation(starts=2, new_disk=True, arms=WITH_RESUME, allowed={"resume": PLACES | CONTINUES})
def last_in_a_new_container(start: int) -> Any:
    """Stock begins from the beginning; whoever asked to resume goes on."""
    t, m = _halves(start, logger=False, callbacks=[ModelCheckpoint(save_last=True)])
    t.fit(m, loader(), ckpt_path="last")
    return fitted(m, t)


@situation(starts=2, new_disk=True, arms=WITH_RESUME, allowed={"resume": PLACES | CONTINUES})
def nothing_said_in_a_new_container(start: int) -> Any:
    t, m = _halves(start)
    t.fit(m, loader())
    return fitted(m, t)


@situation(starts=2)
def nothing_said_in_the_same_container(start: int) -> Any:
    """Stock trains once more, in a new version of the logger's folder."""
    t, m = _halves(start)
    t.fit(m, loader())
    return fitted(m, t)


@situation(starts=2, new_disk=True, arms=WITH_RESUME)
def own_search_in_the_jobs_folder(start: int) -> Any:
    """The glue of many scripts: a folder in ``/opt/ml/checkpoints``, and its newest file."""
    found = sorted(glob.glob(f"{job_folder()}/*.ckpt"))  # noqa: PTH207 - as scripts do
    callback = ModelCheckpoint(job_folder(), filename="{epoch:03d}", save_top_k=-1)
    t, m = _halves(start, logger=False, callbacks=[callback])
    t.fit(m, loader(), ckpt_path=found[-1] if found else None)
    return fitted(m, t) | {"found": len(found)}


@situation(starts=2, new_disk=True, arms=WITH_RESUME)
def last_in_the_jobs_folder(start: int) -> Any:
    """``dirpath`` is the job's folder, and ``"last"`` finds it there (pytorch-lightning#4366)."""
    t, m = _halves(start, logger=False, callbacks=[ModelCheckpoint(job_folder(), save_last=True)])
    t.fit(m, loader(), ckpt_path="last")
    return fitted(m, t)


# The search trains three batches more.
@situation(
    starts=2, new_disk=True, arms=(*ONCE, "resume"), allowed={"resume": PLACES | {"start 2: rank 0: batches": 19}}
)
def rate_search_before_each_start(start: int) -> Any:
    """``LearningRateFinder`` as a callback, in a training that is started again (pytorch-lightning#18812)."""
    t, m = _halves(start, logger=False, callbacks=[LearningRateFinder(num_training_steps=3, update_attr=False)])
    t.fit(m, loader())
    return fitted(m, t)


@situation(starts=2, new_disk=True, arms=(*ONCE, "resume"), allowed={"resume": PLACES | CONTINUES})
def smoke_test_before_each_start(start: int) -> Any:
    plain(fast_dev_run=True).fit(Model(), loader())
    t, m = _halves(start)
    t.fit(m, loader())
    return fitted(m, t)


@situation(starts=2, new_disk=True, arms=(*ONCE, "resume"), allowed={"resume": PLACES})
def trainers_whose_ranks_are_forked(start: int) -> Any:
    """Each Trainer has processes of its own: the second one takes nothing of the first one's."""
    found = []
    for seed in (1, 2):
        t = plain(max_epochs=start, logger=False, devices=2, strategy="ddp_fork")
        m = Model(seed=seed)
        t.fit(m, loader())
        found.append([weights(m), Path(t.checkpoint_callback.best_model_path).name])  # type: ignore[union-attr]
    return found


@situation("two", starts=2, new_disk=True, arms=WITH_RESUME)
def last_on_two_processes(start: int) -> Any:
    callback = ModelCheckpoint(job_folder(), save_last=True)
    t, m = trainer(enable_checkpointing=True, callbacks=[callback], max_epochs=2 * start), Model()
    t.fit(m, loader(), ckpt_path="last")
    return fitted(m, t)
