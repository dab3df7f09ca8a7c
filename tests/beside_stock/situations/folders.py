"""Where checkpoints and logs lie."""

from __future__ import annotations

import glob
import multiprocessing
import os
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger

from tests.beside_stock.model import PLAIN, Model, fitted, loader, weights
from tests.beside_stock.registry import ANY, WITH_RESUME, situation

# With RESUME=1, files go below the job's folder: that was asked for.
MOVED = {"resume": {"files in*": ANY, "content of*": ANY}}


def job_folder() -> Path:
    return Path(os.environ["SAGEMAKER_BASE_DIR"], "checkpoints")


def plain(**arguments: Any) -> Trainer:
    """A Trainer with Lightning's own defaults for logger and checkpoints."""
    return Trainer(**(PLAIN | {"devices": 1} | arguments))


@situation(arms=WITH_RESUME, allowed=MOVED)
def default_folder(_start: int) -> Any:
    """``lightning_logs/version_0/checkpoints`` (pytorch-lightning#2233)."""
    t, m = plain(), Model()
    t.fit(m, loader())
    best = t.checkpoint_callback.best_model_path  # type: ignore[union-attr]
    return fitted(m, t) | {"best": Path(best).name, "loads": weights(Model.load_from_checkpoint(best)) == weights(m)}


@situation()
def default_folder_as_the_script_finds_it(_start: int) -> Any:
    """The path is read from the Trainer, and composed by the script (pytorch-lightning#2233)."""
    t = plain()
    t.fit(Model(), loader())
    folder = Path(t.log_dir or "", "checkpoints")
    callback = t.checkpoint_callback
    assert isinstance(callback, ModelCheckpoint)
    return {"folder": str(folder), "dirpath": callback.dirpath, "files": sorted(path.name for path in folder.iterdir())}


@situation()
def without_logger(_start: int) -> Any:
    t = plain(logger=False)
    t.fit(Model(), loader())
    return {"found": sorted(glob.glob("checkpoints/*.ckpt"))}  # noqa: PTH207 - as scripts do


@situation(arms=WITH_RESUME, allowed={"resume": {**MOVED["resume"], "rank 0: best": ANY}})
def root_folder_of_the_scripts_own(_start: int) -> Any:
    t = plain(default_root_dir="runs/a")
    t.fit(Model(), loader())
    return {"best": t.checkpoint_callback.best_model_path}  # type: ignore[union-attr]


@situation(arms=WITH_RESUME, allowed=MOVED)
def relative_folder(_start: int) -> Any:
    """With RESUME=1 the folder that the script chose is a link to the job's, so its path is as in stock."""
    t = plain(callbacks=[ModelCheckpoint("models", save_last=True)])
    t.fit(Model(), loader())
    return {"best": t.checkpoint_callback.best_model_path}  # type: ignore[union-attr]


@situation()
def absolute_folder(_start: int) -> Any:
    callback = ModelCheckpoint(Path("elsewhere").absolute(), monitor="val", filename="{epoch}-{val:.2f}")
    t = plain(callbacks=[callback])
    t.fit(Model(), loader(), loader(8))
    return {"best": callback.best_model_path, "score": float(callback.best_model_score or 0)}


@situation(arms=WITH_RESUME)
def folder_below_the_jobs(_start: int) -> Any:
    """The script writes to ``/opt/ml/checkpoints/...`` itself, as SageMaker's documentation wants it."""
    callback = ModelCheckpoint(job_folder() / "run", save_last=True, save_top_k=2, monitor="train")
    t = plain(callbacks=[callback], logger=False)
    t.fit(Model(), loader())
    return {"last": callback.last_model_path, "best": callback.best_model_path}


@situation(starts=2, new_disk=True)
def logger_below_the_jobs_folder(start: int) -> Any:
    """A logger below the job's folder, and the script's own search for the newest file (sagemaker-python-sdk#3062)."""
    base = str(job_folder())
    pattern = f"{base}/tb_logs/run/version_*/checkpoints/*.ckpt"
    found = sorted(glob.glob(pattern), key=os.path.getmtime)  # noqa: PTH207 - as scripts do
    t, m = plain(logger=CSVLogger(f"{base}/tb_logs", name="run"), max_epochs=2 * start), Model()
    t.fit(m, loader(), ckpt_path=found[-1] if found else None)
    return fitted(m, t) | {"found": len(found)}


@situation(arms=WITH_RESUME, allowed=MOVED)
def folds(_start: int) -> Any:
    """Each fold has a Trainer and its own best checkpoint (pytorch-lightning#839, #12300)."""
    result = []
    for fold in range(3):
        t, m = plain(logger=False, callbacks=[ModelCheckpoint(monitor="val")]), Model(seed=fold)
        t.fit(m, loader(), loader(8))
        best = torch.load(t.checkpoint_callback.best_model_path, weights_only=False)  # type: ignore[union-attr]
        own = torch.equal(best["state_dict"]["net.weight"], m.net.weight.detach())
        result.append(fitted(m, t) | {"own": own, "tested": t.test(m, loader(8), ckpt_path="best", verbose=False)})
    return result


@situation(arms=WITH_RESUME, allowed=MOVED)
def pretraining_then_finetuning(_start: int) -> Any:
    """Two trainings of different models, the second begins with the first one's weights."""
    first, m = plain(), Model()
    first.fit(m, loader())

    class Finetuned(Model):
        def __init__(self) -> None:
            super().__init__()
            self.head = torch.nn.Linear(1, 1)

        def loss(self, batch: list[torch.Tensor]) -> torch.Tensor:
            return torch.nn.functional.mse_loss(self.head(self.net(batch[0])), batch[1])

    tuned = Finetuned()
    tuned.load_state_dict(
        torch.load(first.checkpoint_callback.best_model_path, weights_only=False)["state_dict"],  # type: ignore[union-attr]
        strict=False,
    )
    second = plain(max_epochs=1)
    second.fit(tuned, loader())
    return [fitted(m, first), fitted(tuned, second)]


def _trial(tag: str, queue: Any) -> None:
    t, m = plain(logger=CSVLogger(".", name=tag)), Model(seed=len(tag))
    t.fit(m, loader())
    best = torch.load(t.checkpoint_callback.best_model_path, weights_only=False)  # type: ignore[union-attr]
    own = torch.equal(best["state_dict"]["net.weight"], m.net.weight.detach())
    queue.put([tag, own, m.seen, weights(m)])


def _trials(*, at_once: bool) -> Any:
    context = multiprocessing.get_context("fork")
    queue = context.SimpleQueue()
    processes = [context.Process(target=_trial, args=(tag, queue)) for tag in ("a", "fold-b", "trial-three")]
    for process in processes:
        process.start()
        if not at_once:
            process.join()
    found = [queue.get() for _ in processes]
    for process in processes:
        process.join()
    return {"trials": sorted(found), "codes": [process.exitcode for process in processes]}


@situation(arms=WITH_RESUME, allowed=MOVED)
def trials_at_once(_start: int) -> Any:
    """Ray Tune, joblib, one trial per device: trainings as processes of one script, at the same time."""
    return _trials(at_once=True)


@situation(arms=WITH_RESUME, allowed=MOVED)
def trials_one_after_the_other(_start: int) -> Any:
    return _trials(at_once=False)


@situation()
def versions_of_the_default_logger(_start: int) -> Any:
    """Each Trainer has a ``version_N`` with hyperparameters, metrics and checkpoints."""
    result = []
    for _ in range(2):
        t = plain(log_every_n_steps=2)
        t.fit(Model(), loader(), loader(8))
        result.append([[type(logger).__name__ for logger in t.loggers], t.log_dir, t.default_root_dir])
    return result


@situation()
def newest_by_name(_start: int) -> Any:
    """``sorted(glob)[-1]`` after a training that every-epoch checkpoints were kept of."""
    callback = ModelCheckpoint(job_folder(), filename="{epoch:02d}-{step}", save_top_k=-1, save_last=True)
    t = plain(logger=False, callbacks=[callback], max_epochs=3)
    t.fit(Model(), loader())
    newest = sorted(glob.glob(f"{job_folder()}/**/*.ckpt", recursive=True))[-1]  # noqa: FURB192, PTH207 - as scripts do
    return {"newest": newest, "step": torch.load(newest, weights_only=False)["global_step"]}
