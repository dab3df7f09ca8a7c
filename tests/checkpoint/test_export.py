"""The copy of a checkpoint in the folder of the job's model: the right one, complete or not there."""

from __future__ import annotations

import importlib.util
import json
import logging
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch

from lightning_sagemaker.checkpoint.export import export
from lightning_sagemaker.settings import EXPORT, word

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.xdist_group("torch's compiler")  # which its sharded checkpoints load: once


@pytest.fixture
def model(base: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Folder of the job's model, which is not there yet."""
    monkeypatch.setenv("SAGEMAKER_BASE_DIR", str(base))
    return base / "model"


@pytest.fixture
def said(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> pytest.LogCaptureFixture:
    monkeypatch.setattr(logging.getLogger("lightning_sagemaker"), "propagate", True)
    caplog.set_level(logging.INFO, "lightning_sagemaker")
    return caplog


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def checkpoint(folder: Path, step: int = 3) -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / f"step={step}.ckpt"
    torch.save({"global_step": step, "epoch": 0, "state_dict": {"w": torch.arange(1000)}}, path)
    return path


def sharded(folder: Path) -> Path:
    """A checkpoint of torch.distributed.checkpoint, with what Lightning adds."""
    from torch.distributed.checkpoint.state_dict_saver import save  # noqa: PLC0415 - brings torch's compiler

    save({"w": torch.arange(1000.0)}, checkpoint_id=folder, no_dist=True)
    torch.save({"global_step": 3, "epoch": 0}, folder / "meta.pt")
    return folder


def test_a_checkpoint_and_the_hyperparameters_are_copied_and_nothing_else_is_left(
    model: Path, tmp_path: Path, said: pytest.LogCaptureFixture
) -> None:
    source = checkpoint(tmp_path / "here")
    export("best", str(source), lambda path: print("lr: 0.1", file=Path(path).open("w")))  # noqa: SIM115
    assert (model / "best.ckpt").read_bytes() == source.read_bytes()
    assert (model / "hparams.yaml").read_text() == "lr: 0.1\n"
    assert names(model) == ["best.ckpt", "hparams.yaml"]
    assert said.messages == [f"The best checkpoint {source} is in the job's model: {model}/best.ckpt"]


def test_a_later_one_takes_the_place_of_an_earlier_one_of_either_kind(model: Path, tmp_path: Path) -> None:
    files = [checkpoint(tmp_path / "here", step) for step in (3, 9)]
    folder = sharded(tmp_path / "shards.ckpt")
    for source in (files[0], files[1], folder, folder, files[0]):
        export("last", str(source), None)
        copied = model / "last.ckpt"
        assert names(model) == ["last.ckpt"]
        if source.is_dir():
            assert names(copied) == names(source)
        else:
            assert copied.read_bytes() == source.read_bytes()


def test_a_checkpoint_that_the_script_has_put_there_itself_stays(model: Path, said: pytest.LogCaptureFixture) -> None:
    model.mkdir()
    source = checkpoint(model)
    export("best", str(source), None)
    assert names(model) == [source.name]
    assert said.messages == [f"The best checkpoint {source} is in the job's model: {source}"]


def test_a_link_is_followed(model: Path, tmp_path: Path) -> None:
    source = checkpoint(tmp_path / "here")
    link = tmp_path / "last.ckpt"
    link.symlink_to(source)  # `save_last="link"`
    export("last", str(link), None)
    assert not (model / "last.ckpt").is_symlink()
    assert (model / "last.ckpt").read_bytes() == source.read_bytes()


def nothing(_: Path) -> str:
    return ""


def gone(folder: Path) -> str:
    return str(folder / "gone.ckpt")


def remote(_: Path) -> str:
    return "s3://bucket/a.ckpt"


def on_two_hosts(folder: Path) -> str:
    path = sharded(folder / "shards")
    next(path.glob("*.distcp")).unlink()
    return str(path)


def of_another_kind(folder: Path) -> str:
    (folder / "deepspeed").mkdir()
    return str(folder / "deepspeed")


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (nothing, "this training has written none"),
        (gone, "No such file"),
        (remote, "it lies in a remote store"),
        (on_two_hosts, "its shard __0_0.distcp is missing"),
        (of_another_kind, "or none of torch.distributed.checkpoint"),
    ],
)
def test_what_cannot_be_copied_is_a_loud_line_and_no_error(
    model: Path, tmp_path: Path, said: pytest.LogCaptureFixture, make: Callable[[Path], str], why: str
) -> None:
    export("best", make(tmp_path), None)
    assert names(model) == []
    (record,) = said.records
    assert record.levelname == "ERROR"
    assert "is not in the job's model" in record.getMessage()
    assert why in record.getMessage()
    assert "HINT" in record.getMessage()


def test_hyperparameters_that_cannot_be_written_keep_no_checkpoint_back(
    model: Path, tmp_path: Path, said: pytest.LogCaptureFixture
) -> None:
    def fails(_path: str) -> None:
        raise TypeError("cannot represent an object")

    export("best", str(checkpoint(tmp_path / "here")), fails)
    assert names(model) == ["best.ckpt"]
    assert [record.levelname for record in said.records] == ["INFO", "ERROR"]
    assert said.messages[1].startswith(f"hparams.yaml is not in the job's model, {model}: cannot represent an object.")


@pytest.mark.parametrize("make", [checkpoint, sharded])
@pytest.mark.parametrize("before", [False, True])
def test_a_process_killed_in_the_middle_leaves_nothing_of_that_name_or_what_was_there(
    model: Path, tmp_path: Path, make: Callable[[Path], Path], before: bool
) -> None:
    source = make(tmp_path / "here")
    if before:
        export("best", str(source), None)
    child = os.fork()
    if child == 0:

        def half(content: object, file: object, *_: object) -> None:
            file.write(content.read(100))  # type: ignore[attr-defined]
            file.flush()  # type: ignore[attr-defined]
            os.kill(os.getpid(), signal.SIGKILL)

        def one(content: str, target: str, **_: object) -> None:
            shutil.copyfile(f"{content}/meta.pt", f"{target}/meta.pt")
            os.kill(os.getpid(), signal.SIGKILL)

        shutil.copyfileobj, shutil.copytree = half, one  # type: ignore[assignment]
        export("best", str(source), None)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    left = [name for name in names(model) if not name.startswith(".")]
    assert left == (["best.ckpt"] if before else [])
    assert len(names(model)) == len(left) + 1, "nothing was begun"
    if before and source.is_dir():
        assert names(model / "best.ckpt") == names(source)
    export("best", str(source), None)
    assert names(model) == ["best.ckpt"]


@pytest.mark.parametrize(("text", "expected"), [("", None), (" ", None), ("best", "best"), (" last ", "last")])
def test_the_variable_names_a_checkpoint(text: str, expected: str | None) -> None:
    assert word(EXPORT, {EXPORT: text}) == expected
    assert word(EXPORT, {}) is None


@pytest.mark.parametrize("text", ["1", "Best", "best,last"])
def test_anything_else_is_an_error_that_names_it(text: str) -> None:
    with pytest.raises(ValueError, match=rf"^Environment variable `{EXPORT}`='{text}'; expected best or last\. HINT"):
        word(EXPORT, {EXPORT: text})


PACKAGE = "lightning.pytorch" if importlib.util.find_spec("lightning") else "pytorch_lightning"
JOB = """
import json
import os
import sys
from pathlib import Path
import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from lightning.pytorch.demos.boring_classes import BoringModel

model, here = Path(os.environ["SM_MODEL_DIR"]), os.getcwd()
found = {}

class Last(Callback):
    def teardown(self, trainer, pl_module, stage):
        self.seen = sorted(path.name for path in model.iterdir())

class Model(BoringModel):
    def __init__(self, lr=0.1):
        super().__init__()
        self.save_hyperparameters()
    def validation_step(self, batch, batch_idx):
        self.log("val", float(self.current_epoch != 1), sync_dist=True)

def fit(name, which, *savings, **arguments):
    os.environ["LIGHTNING_SAGEMAKER_EXPORT"] = which
    last = Last()
    trainer = pl.Trainer(accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False,
                         limit_train_batches=2, limit_val_batches=1, max_epochs=3, callbacks=[*savings, last],
                         enable_checkpointing=bool(savings), **arguments)
    trainer.fit(Model())
    if trainer.is_global_zero:
        steps = {path.name: torch.load(path)["global_step"] for path in model.glob("*.ckpt")}
        files = sorted(path.name for path in model.iterdir())
        print("found", json.dumps([name, last.seen, files, steps]), flush=True)
        for path in model.iterdir():
            path.unlink()
    trainer.strategy.barrier()

best = lambda name="best": ModelCheckpoint(f"{here}/{name}", monitor="val")
fit("best", "best", ModelCheckpoint(f"{here}/newest"), best())
fit("last", "last", best("unused"), ModelCheckpoint(f"{here}/steps", every_n_train_steps=5))
fit("save_last", "last", ModelCheckpoint(f"{here}/keeps", save_top_k=-1, monitor="val", save_last=True))
fit("none", "best")
fit("trial", "best", best("trial"), fast_dev_run=True)
fit("not asked", "", best("other"))
os.environ["LIGHTNING_SAGEMAKER_EXPORT"] = "newest"
try:
    pl.Trainer()
except ValueError as error:
    print("refused", error, flush=True)
"""


def test_rank_zero_copies_once_all_callbacks_have_ended_what_the_script_s_own_callbacks_tell(tmp_path: Path) -> None:
    script = tmp_path / "train.py"
    script.write_text(JOB.replace("lightning.pytorch", PACKAGE))
    command = [str(Path(sys.executable).with_name("lightning-sagemaker")), "simulate", "--processes-per-host", "2"]
    done = subprocess.run(
        [*command, "--distribution", "torch_distributed", str(script)],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    output = done.stdout + done.stderr
    assert done.returncode == 0, output
    found = [json.loads(line.partition("found ")[2]) for line in output.splitlines() if "found " in line]
    assert {name: (seen, files, steps) for name, seen, files, steps in found} == {
        "best": ([], ["best.ckpt", "hparams.yaml"], {"best.ckpt": 4}),
        "last": ([], ["hparams.yaml", "last.ckpt"], {"last.ckpt": 5}),
        "save_last": ([], ["hparams.yaml", "last.ckpt"], {"last.ckpt": 6}),
        "none": ([], ["hparams.yaml"], {}),
        "trial": ([], [], {}),
        "not asked": ([], [], {}),
    }
    assert output.count("is in the job's model: ") == 3
    assert output.count("The best checkpoint is not in the job's model") == 1
    assert output.count("refused Environment variable `LIGHTNING_SAGEMAKER_EXPORT`='newest'") == 2
