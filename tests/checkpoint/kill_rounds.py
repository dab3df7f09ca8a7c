"""A training that is killed again and again while it writes a checkpoint, and started again: how it ends.

    kill_rounds.py FOLDER ROUNDS

Each life is a fork of this process, which has imported all that takes time. Prints how it went as JSON.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from pathlib import Path

FOLDER, ROUNDS = Path(sys.argv[1]), int(sys.argv[2])
CHECKPOINTS = FOLDER / "ml" / "checkpoints"
os.environ |= {
    "TRAINING_JOB_NAME": "kill-rounds",
    "SAGEMAKER_BASE_DIR": str(FOLDER / "ml"),
    "LIGHTNING_SAGEMAKER_RESUME": "1",
    "OMP_NUM_THREADS": "1",
}
(FOLDER / "ml" / "input" / "config").mkdir(parents=True)
(FOLDER / "ml" / "input" / "config" / "resourceconfig.json").write_text(
    '{"current_host": "algo-1", "hosts": ["algo-1"]}'
)
CHECKPOINTS.mkdir()

import torch  # noqa: E402 - the plugin looks at the environment when Lightning is imported
from pytorch_lightning import LightningModule, Trainer  # noqa: E402
from pytorch_lightning.callbacks import ModelCheckpoint  # noqa: E402
from torch.utils.data import DataLoader, TensorDataset  # noqa: E402

EPOCHS = 2 * ROUNDS + 4


class Model(LightningModule):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.layer = torch.nn.Linear(1000, 1000)  # 4 MB, and as much again of momentum

    def training_step(self, batch: list[torch.Tensor], _batch_idx: int) -> torch.Tensor:
        loss: torch.Tensor = self.layer(batch[0] * (1 + self.current_epoch % 3)).pow(2).mean()
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.01, momentum=0.9)


def live(result: Path, *, save: bool = True) -> None:
    """One life of the training, to its end."""
    torch.manual_seed(2)
    data = DataLoader(TensorDataset(torch.rand(4, 1000)), batch_size=2)
    trainer = Trainer(
        accelerator="cpu",
        max_epochs=EPOCHS,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=save,
        callbacks=[ModelCheckpoint(save_top_k=-1, every_n_epochs=1)] if save else [],
    )
    model = Model()
    trainer.fit(model, data)
    torch.save(model.state_dict(), result)


def fork(result: Path) -> int:
    pid = os.fork()
    if pid == 0:
        log = os.open(FOLDER / "log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(log, 1)
        os.dup2(log, 2)
        try:
            live(result)
            os._exit(0)
        finally:
            os._exit(1)
    return pid


def newest_by_loading() -> int:
    """Steps of the newest checkpoint that torch can load, told without the code under test."""
    # torch raises where half a file has a whole one's name.
    steps = (int(torch.load(path, weights_only=False)["global_step"]) for path in CHECKPOINTS.rglob("*.ckpt"))
    return max(steps, default=0)


def resumed_from() -> int:
    text = (FOLDER / "log").read_text()
    return int(text.partition("step=")[2].partition(".ckpt")[0]) if "continues from" in text else 0


def temporary_files() -> set[Path]:
    return set(CHECKPOINTS.rglob(".*.part"))


def kill_while_writing(pid: int, left: set[Path], chance: random.Random) -> bool:
    """Kill at a random moment of a random write; whether it left a temporary file, besides earlier ones."""
    for _ in range(chance.randint(1, 2)):
        while not temporary_files() - left:
            if os.waitpid(pid, os.WNOHANG)[0]:
                sys.exit("the training ended by itself:\n" + (FOLDER / "log").read_text())
            time.sleep(0.0005)
        begun = time.monotonic()
        moment = chance.random() * 0.03
        while temporary_files() - left and time.monotonic() - begun < moment:
            time.sleep(0.0005)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return bool(temporary_files() - left)


def main() -> None:
    seed = int(os.environ.get("LIGHTNING_SAGEMAKER_SEED", "7"))
    chance, at_work, wrong, start = random.Random(seed), 0, [], time.monotonic()  # noqa: S311 - moments, no secrets
    expected = 0
    for _ in range(ROUNDS):
        left = temporary_files()
        at_work += kill_while_writing(fork(FOLDER / "never"), left, chance)
        if resumed_from() != expected:
            wrong.append((expected, resumed_from()))
        expected = newest_by_loading()
    _, status = os.waitpid(fork(FOLDER / "disturbed"), 0)
    os.environ["LIGHTNING_SAGEMAKER_RESUME"] = "0"
    live(FOLDER / "undisturbed", save=False)
    first, second = (torch.load(FOLDER / name) for name in ("disturbed", "undisturbed"))
    print(
        json.dumps(
            {
                "killed": ROUNDS,
                "killed_while_writing": at_work,
                "resumed_from_another": wrong,
                "exit_status": status,
                "same_weights": all(torch.equal(first[name], second[name]) for name in second),
                "temporary_files_left": len(temporary_files()),
                "seconds": round(time.monotonic() - start, 1),
            }
        )
    )


if __name__ == "__main__":
    main()
