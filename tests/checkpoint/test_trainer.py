"""Checkpoints of real Trainers in a job that starts again, of both distributions."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    Run = Callable[..., subprocess.CompletedProcess[str]]

PROGRAM = Path(__file__).with_name("restarts.py").read_text(encoding="utf-8")


@dataclass
class Start:
    """What one start of the job did, by training and fit, and said."""

    fits: dict[str, list[Any]]
    said: str

    def batches(self, training: str) -> list[int]:
        return [fit["batches"] for fit in self.fits[training] if isinstance(fit, dict)]


@dataclass
class Job:
    """A job with a checkpoint folder, its starts, and one without the setting; each in a fresh working folder."""

    folder: Path
    kept: Path
    starts: list[Start]
    without: Start


@pytest.fixture(
    scope="session",
    params=[
        pytest.param(name, marks=pytest.mark.xdist_group(name)) for name in ("lightning.pytorch", "pytorch_lightning")
    ],
)
def job(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, start_job: Callable[..., Run]) -> Job:
    """A job of each distribution that is installed."""
    if importlib.util.find_spec(request.param.partition(".")[0]) is None:
        pytest.skip(f"`{request.param}` is not installed")
    folder = tmp_path_factory.mktemp("job")
    kept = folder / "ml" / "checkpoints"

    def start(number: int, **environ: str) -> Start:
        here = folder / f"container-{number}"
        here.mkdir()
        done = start_job(folder / "ml", here)(PROGRAM, request.param, str(number), **environ)
        assert done.returncode == 0, done.stderr
        result = next(line for line in done.stdout.splitlines() if line.startswith("RESULT "))
        return Start(json.loads(result.partition(" ")[2]), done.stderr)

    without = start(3)
    moved = [path for path in kept.rglob("*") if path.is_file()]
    assert not moved, "nothing is moved unless somebody asked"
    return Job(folder, kept, [start(number, LIGHTNING_SAGEMAKER_RESUME="1") for number in (1, 2)], without)


def test_without_the_setting_checkpoints_lie_where_stock_puts_them_and_one_line_names_the_ways_out(job: Job) -> None:
    here = job.folder / "container-3"
    assert (here / "logs" / "plain" / "version_0" / "checkpoints" / "epoch=3-step=8.ckpt").is_file()
    assert (here / "mine").is_dir()
    assert job.without.batches("plain") == [8]
    assert "Checkpoints lie in" in job.without.said
    assert f"SageMaker keeps {job.kept} (checkpointconfig.json). HINT: give ModelCheckpoint" in job.without.said
    assert "training continues from" not in job.without.said


def test_with_it_they_lie_below_the_job_s_folder_with_the_same_relative_path_and_a_line_says_so(job: Job) -> None:
    folder = Path("logs", "plain", "version_0", "checkpoints")
    assert (job.kept / folder / "epoch=3-step=8.ckpt").is_file()
    assert not (job.folder / "container-1" / folder).exists()
    assert f"checkpoints lie in {job.kept / folder}, which SageMaker keeps, instead of" in job.starts[0].said
    assert job.starts[0].fits["longer"][0]["best"].startswith(str(job.kept))


def test_a_training_goes_on_where_it_was_with_the_weights_of_an_undisturbed_one(job: Job) -> None:
    first, second = job.starts
    assert first.batches("plain") + second.batches("plain") == [4, 4]
    assert second.fits["plain"][0]["steps"] == 8
    assert second.fits["plain"][0]["weight"] == first.fits["undisturbed"][0]["weight"]
    path = job.kept / "logs" / "plain" / "version_0" / "checkpoints" / "epoch=1-step=4.ckpt"
    assert f"training continues from {path} (step 4, epoch 1)" in second.said
    assert "training continues from" not in first.said
    assert "training starts from the beginning: there is no complete checkpoint of it in" in first.said


def test_folds_go_on_each_from_its_own(job: Job) -> None:
    first, second = job.starts
    assert first.batches("folds") == [4, 2]
    assert second.batches("folds") == [0, 2, 4]
    assert len({fit["weight"] for fit in second.fits["folds"]}) == 1, "all folds have the same data here"


def test_pretraining_and_finetuning_do_not_take_each_other_s(job: Job) -> None:
    first, second = job.starts
    assert first.batches("finetune") == [4, 2]
    assert second.batches("finetune") == [0, 2]


def test_a_smoke_test_and_a_tuner_use_nothing_up(job: Job) -> None:
    first, second = job.starts
    assert first.batches("searched") == [1, 2]
    assert second.batches("searched") == [1, 2]


def test_a_folder_that_the_script_names_is_a_link_so_that_both_words_hold(job: Job) -> None:
    for number, start in enumerate(job.starts, 1):
        mine = job.folder / f"container-{number}" / "mine"
        assert start.fits["given_folder"][1] == str(mine)
        assert mine.readlink() == job.kept / "mine"
        assert f"{mine} is a link to {job.kept / 'mine'}, which SageMaker keeps" in start.said
    assert [start.batches("given_folder") for start in job.starts] == [[2], [2]]


def test_a_folder_that_has_something_in_it_stays_and_is_named_as_lost(job: Job) -> None:
    for number, start in enumerate(job.starts, 1):
        taken = job.folder / f"container-{number}" / "taken"
        assert not taken.is_symlink()
        assert min(path.name for path in taken.iterdir()) == "epoch=0.ckpt"
        assert f"Checkpoints lie in {taken}, which is lost with this container" in start.said


def test_last_is_found_below_the_job_s_folder(job: Job) -> None:
    assert [start.batches("last") for start in job.starts] == [[2], [2]]


def test_a_second_fit_of_one_trainer_goes_on_from_where_it_is(job: Job) -> None:
    assert job.starts[0].batches("longer") == [2, 2]
    assert job.without.batches("longer") == [2, 2]


def test_a_later_fit_of_one_trainer_does_not_start_from_the_beginning(job: Job) -> None:
    said = [line for line in job.starts[0].said.splitlines() if "starts from the beginning" in line]
    assert len([line for line in said if "/longer/" in line]) == 1


def test_a_sharded_checkpoint_that_is_written_anew_is_not_complete_meanwhile(job: Job) -> None:
    assert [start.fits["written_anew"] for start in (*job.starts, job.without)] == [[False], [False], [True]]


def test_a_path_that_the_script_names_comes_first(job: Job) -> None:
    for start in (*job.starts, job.without):
        assert start.batches("chosen") == [2, 2]


def test_weights_only_are_skipped_with_a_line(job: Job) -> None:
    assert [start.batches("weights") for start in job.starts] == [[6], [4]]
    assert "weights.ckpt is skipped: it holds weights only" in job.starts[1].said


def test_a_path_in_the_home_folder_is_written_there_and_a_line_in_the_script_finds_the_newest(
    run: Run, base: Path, tmp_path: Path
) -> None:
    code = """
from lightning_sagemaker import latest_checkpoint
from {package} import Trainer
from {package}.demos.boring_classes import BoringModel
for epochs in (1, 3):
    trainer = Trainer(accelerator="cpu", logger=False, max_epochs=epochs, limit_train_batches=2,
                      limit_val_batches=0, enable_progress_bar=False, default_root_dir={root!r})
    trainer.fit(BoringModel(), ckpt_path=latest_checkpoint())
    print(trainer.global_step)
trainer.save_checkpoint("~/here/a.ckpt")
"""
    package = "lightning.pytorch" if importlib.util.find_spec("lightning") else "pytorch_lightning"
    done = run(code.format(package=package, root=str(base / "checkpoints")), HOME=str(tmp_path))
    assert done.stdout.split() == ["2", "6"], done.stderr
    assert (tmp_path / "here" / "a.ckpt").is_file()
    assert not (tmp_path / "~").exists()


def test_a_malformed_setting_is_an_error_that_names_it(run: Run) -> None:
    package = "lightning.pytorch" if importlib.util.find_spec("lightning") else "pytorch_lightning"
    done = run(PROGRAM, package, "1", LIGHTNING_SAGEMAKER_RESUME="perhaps")
    assert done.returncode == 1
    assert "ValueError: Environment variable `LIGHTNING_SAGEMAKER_RESUME`='perhaps'; expected 1" in done.stderr


def test_a_job_of_two_hosts_has_one_writer(tmp_path: Path) -> None:
    script = tmp_path / "train.py"
    script.write_text(
        "from lightning.pytorch import Trainer\nfrom lightning.pytorch.demos.boring_classes import BoringModel\n"
        "Trainer(accelerator='cpu', max_epochs=1, limit_train_batches=2, limit_val_batches=0).fit(BoringModel())\n"
    )
    done = subprocess.run(
        [
            *(sys.executable, "-m", "lightning_sagemaker.cli", "simulate", "--hosts", "2"),
            *("--distribution", "none", "--work-dir", str(tmp_path / "job"), "--env", "LIGHTNING_SAGEMAKER_RESUME=1"),
            *("--checkpoints", str(tmp_path / "kept")),
            str(script),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    written = [str(path.relative_to(tmp_path / "job")) for path in (tmp_path / "job").glob("*/ml/**/*.ckpt")]
    resources = json.loads(next((tmp_path / "job").rglob("resourceconfig.json")).read_text())
    folder = f"{resources['hosts'][0]}/ml/checkpoints"
    assert [path.startswith(folder) for path in written] == [True]
