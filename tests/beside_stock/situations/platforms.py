"""Programs as platforms and templates have them, in miniature: AWS's samples, a hydra template, NeMo's experiments."""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hydra
import torch
from hydra.core.config_store import ConfigStore
from hydra.utils import instantiate
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.pytorch import seed_everything
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.strategies import DDPStrategy, StrategyRegistry
from lightning.pytorch.utilities import rank_zero_only

from tests.beside_stock.model import PLAIN, Model, fitted, loader, logged, raised, trainer, weights, world
from tests.beside_stock.registry import program, situation

if TYPE_CHECKING:
    from lightning.pytorch import LightningModule, Trainer


def _arguments(given: list[str]) -> argparse.Namespace:
    """Hyperparameters, and the container's folders."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--learning-rate", type=float, default=0.01)
    parser.add_argument("--hosts", type=json.loads, default=os.environ["SM_HOSTS"])
    parser.add_argument("--current-host", default=os.environ["SM_CURRENT_HOST"])
    parser.add_argument("--model-dir", type=Path, default=os.environ["SM_MODEL_DIR"])
    parser.add_argument("--output-data-dir", default=os.environ["SM_OUTPUT_DATA_DIR"])
    parser.add_argument("--train", default=os.environ.get("SM_CHANNEL_TRAINING"))
    parser.add_argument("--num-gpus", type=int, default=os.environ.get("SM_NUM_GPUS", "0"))
    return parser.parse_known_args(given)[0]


@program("one", "two", "hosts", "disks")
def digits_with_glue(_start: int) -> Any:
    """``num_nodes`` from SM_HOSTS, a host's rank from its place among them; rank zero saves.

    Samples set MASTER_ADDR to the first of them too, which no resolver knows in a simulated job.
    """
    given = _arguments(["--epochs", "2", "--batch-size", "4", "--unknown", "1"])
    if len(given.hosts) > 1:
        os.environ["NODE_RANK"] = str(given.hosts.index(given.current_host))
    arguments = world() | {"num_nodes": len(given.hosts)}
    logger = CSVLogger(given.output_data_dir)
    t, m = trainer(max_epochs=given.epochs, logger=logger, **arguments), Model(given.learning_rate)
    t.fit(m, loader(batch_size=given.batch_size), loader(8))
    if t.global_rank == 0:
        torch.save(m.state_dict(), given.model_dir / "model.pth")
    t.save_checkpoint(given.model_dir / "last.ckpt")
    return fitted(m, t) | {"nodes": t.num_nodes, "channel": given.train is None or Path(given.train).name}


@program("two")
def digits_saved_by_the_first_of_each_host(_start: int) -> Any:
    """``LOCAL_RANK`` decides who saves, as in Hugging Face's and RAPIDS' samples."""
    given = _arguments([])
    t, m = trainer(max_epochs=given.epochs), Model()
    t.fit(m, loader())
    if int(os.environ.get("LOCAL_RANK", "0")) == 0:
        torch.save(m.net.cpu().state_dict(), given.model_dir / "pytorch_model.bin")
    return fitted(m, t) | {"gpus": given.num_gpus}


@program("two")
def wrong_number_of_hosts(_start: int) -> Any:
    """The length of a text for the number of hosts: no world of that size can form."""

    def train() -> None:
        t = trainer(num_nodes=len(os.environ["SM_HOSTS"]))
        t.fit(Model(), loader())

    return raised(train)


@situation("two", arms=("plugin", "off"), allowed={"world_check": {"result": "ValueError"}})
def wrong_number_of_hosts_beside_an_environment(_start: int) -> Any:
    """The same in AWS's workshop, which trains on a part of the data without a word."""
    environment = LightningEnvironment()
    environment.world_size = lambda: int(os.environ["WORLD_SIZE"])  # type: ignore[method-assign]
    environment.global_rank = lambda: int(os.environ["RANK"])  # type: ignore[method-assign]

    def train() -> None:
        strategy = DDPStrategy(cluster_environment=environment, process_group_backend="gloo")
        t = trainer(strategy=strategy, num_nodes=len(os.environ["SM_HOSTS"]))
        t.fit(Model(), loader())

    return raised(train)


@program("one", "two", "disks", reloads=True)
def hydra_template(_start: int) -> Any:
    """All parts are made from a configuration; the best is tested in hydra's own working directory."""
    found: dict[str, Any] = {}
    parts = {
        "seed": 12,
        "optimized_metric": "val",
        "data": {"_target_": "tests.beside_stock.situations.programs.Rows", "batch_size": 4},
        "model": {"_target_": "tests.beside_stock.model.Model", "lr": 0.02},
        "callbacks": {
            "model_checkpoint": {
                "_target_": "lightning.pytorch.callbacks.ModelCheckpoint",
                "dirpath": "${hydra:runtime.output_dir}/checkpoints",
                "filename": "epoch_{epoch:03d}",
                "monitor": "val",
                "save_last": True,
                "auto_insert_metric_name": False,
            },
            "early_stopping": {"_target_": "lightning.pytorch.callbacks.EarlyStopping", "monitor": "val"},
        },
        "logger": {"csv": {"_target_": "lightning.pytorch.loggers.CSVLogger", "save_dir": ".", "name": "csv/"}},
        "trainer": {"_target_": "lightning.pytorch.Trainer", "default_root_dir": ".", **PLAIN, **world()},
    }
    ConfigStore.instance().store("train", parts)
    overrides = ["hydra.run.dir=logs/run", "hydra.job.chdir=true", "hydra.job_logging.root.handlers=[file]"]
    sys.argv = ["train.py", *overrides, "model.lr=0.05"]

    def main(config: Any) -> None:
        seed_everything(config.seed, workers=True, verbose=False)
        data, model = instantiate(config.data), instantiate(config.model)
        callbacks = [instantiate(part) for part in config.callbacks.values()]
        loggers = [instantiate(part) for part in config.logger.values()]
        t: Trainer = instantiate(config.trainer, callbacks=callbacks, logger=loggers)
        rank_zero_only(lambda: [logger.log_hyperparams({"lr": config.model.lr}) for logger in t.loggers])()
        t.fit(model=model, datamodule=data, ckpt_path=config.get("ckpt_path"))
        trained = logged(t.callback_metrics)
        best = t.checkpoint_callback.best_model_path  # type: ignore[union-attr]
        t.test(model=model, datamodule=data, ckpt_path=best or None, verbose=False)
        found.update(trained | logged(t.callback_metrics), value=trained[config.optimized_metric])
        found.update(best=Path(best).name, folder=Path.cwd().name, weights=weights(model), lr=model.lr)

    main.__module__ = "__main__"  # folders of tests are no packages, and hydra looks for one
    hydra.main(version_base="1.3", config_path=None, config_name="train")(main)()
    return found


class _Experiments(ModelCheckpoint):
    """Keeps a checkpoint under a name that ends in ``-last``, which a later start looks for."""

    def __init__(self, **arguments: Any) -> None:
        self.prefix = arguments.pop("prefix")
        super().__init__(save_last=True, **arguments)
        self.CHECKPOINT_NAME_LAST = f"{self.prefix}-last"
        self.saved = 0

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        super().on_save_checkpoint(trainer, pl_module, checkpoint)
        checkpoint["saved"] = self.saved

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """The last one is written again, complete, and the best model beside it by rank zero."""
        if trainer.fast_dev_run:  # type: ignore[attr-defined]
            return
        monitored: Any = self._monitor_candidates(trainer)
        super()._save_last_checkpoint(trainer, monitored)
        if trainer.is_global_zero:
            torch.save(pl_module.state_dict(), Path(str(self.dirpath), f"{self.prefix}.nemo"))
        trainer.strategy.barrier()

    def _save_checkpoint(self, trainer: Trainer, filepath: str) -> None:
        self.saved += 1
        super()._save_checkpoint(trainer, filepath)


def _managed(t: Trainer, folder: Path, start: int) -> _Experiments:
    """What an experiment manager does to a Trainer: logger, callback, and where to go on, from its own folder."""
    checkpoints = folder / "checkpoints"
    newest = sorted(checkpoints.glob("*last.ckpt")) if checkpoints.is_dir() else []
    assert len(newest) == start - 1, newest
    if newest:
        t._checkpoint_connector.resume_from_checkpoint_fit_path = str(newest[0])  # type: ignore[attr-defined]
        t.ckpt_path = str(newest[0])
        if t.is_global_zero:
            (folder / f"run_{start}").mkdir()
            for file in folder.glob("*.txt"):
                file.rename(folder / f"run_{start}" / file.name)
    if t.is_global_zero:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "cmd-args.txt").write_text("train.py")
    callback = _Experiments(
        dirpath=checkpoints, monitor="val", prefix="exp", filename="exp--{val:.4f}-{epoch}", save_top_k=2
    )
    t.callbacks.append(callback)  # type: ignore[attr-defined]
    t.loggers = [CSVLogger(folder, name="", version="")]
    return callback


def _experiment(start: int) -> Any:
    """``exp_manager`` with ``resume_if_exists``, and a strategy of its own under the name ``smddp``."""
    StrategyRegistry.register("smddp", DDPStrategy, process_group_backend="gloo", find_unused_parameters=False)
    t, m = trainer(max_epochs=2 * start, enable_checkpointing=False, strategy="smddp"), Model(seed=start)
    callback = _managed(t, Path("nemo/experiment"), start)
    t.fit(m, loader(), loader(8), ckpt_path=t.ckpt_path)
    best = Path(callback.best_model_path).name
    return fitted(m, t) | {"best": best, "strategy": type(t.strategy).__name__, "saved": callback.saved}


@situation("two", arms=("plugin", "off"), starts=2)
def experiment_manager_on_two_processes(start: int) -> Any:
    return _experiment(start)


@situation("disks", arms=("plugin",))
def experiment_manager_on_own_disks(start: int) -> Any:
    return _experiment(start)
