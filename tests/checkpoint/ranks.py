"""Two ranks of a host that load checkpoints, in one launch; each writes what it saw, by situation: seen-RANK.json."""

from __future__ import annotations

import json
import os
import shutil
import sys
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

package, kept = sys.argv[1], Path(sys.argv[2])
pl: Any = import_module(package)
fabric = "lightning.fabric" if package.startswith("lightning.") else "lightning_fabric"
environments: Any = import_module(f"{fabric}.plugins.environments")
BoringModel: Any = import_module(f"{package}.demos.boring_classes").BoringModel
RANK = int(os.environ["RANK"])
QUIET = {"accelerator": "cpu", "enable_progress_bar": False, "enable_model_summary": False, "logger": False}
SHORT = {"limit_train_batches": 2, "limit_val_batches": 1, "strategy": "ddp", "devices": 2}


def trainer(epochs: int = 1, **given: object) -> Any:
    return pl.Trainer(max_epochs=epochs, **{**QUIET, **SHORT, **given})


def undirected() -> object:
    """The setting lets all of them continue, from what rank 0 has found."""
    made = trainer(3, default_root_dir="run")
    made.fit(BoringModel())
    return made.global_step


def own_copies() -> object:
    """Each rank fetched one of its own, as MLflow's and W&B's clients do (ray#58936)."""
    (copied,) = (kept / "run" / "checkpoints").glob("*step=6.ckpt")
    mine = Path(f"copy-{RANK}.ckpt")
    shutil.copy(copied, mine)
    made = trainer(4, enable_checkpointing=False)
    made.fit(BoringModel(), ckpt_path=mine)
    return made.global_step


def different() -> object:
    (one,) = (kept / "run" / "checkpoints").glob("*step=6.ckpt")
    made = trainer(4, enable_checkpointing=False, default_root_dir="elsewhere")
    made.fit(BoringModel(), ckpt_path=None if RANK else one)
    return made.global_step


def foreign() -> object:
    """An environment of the script's own is left alone."""
    paths = [f"copy-{RANK}.ckpt", "first.ckpt"]
    made = trainer(plugins=[environments.TorchElasticEnvironment()])
    made.validate(BoringModel(), ckpt_path=paths[RANK], verbose=False)
    return made.world_size


if __name__ == "__main__":
    first = trainer(1, default_root_dir="run")
    first.fit(BoringModel())
    first.save_checkpoint("first.ckpt")
    seen: dict[str, object] = {"first": first.global_step}
    situations: tuple[Callable[[], object], ...] = (own_copies, different, foreign)
    for situation in situations if sys.argv[3:] else (undirected,):
        try:
            seen[situation.__name__] = situation()
        except ValueError as error:  # noqa: PERF203 - a situation may end so
            seen[situation.__name__] = str(error)
    Path(f"seen-{RANK}.json").write_text(json.dumps(seen), encoding="utf-8")
