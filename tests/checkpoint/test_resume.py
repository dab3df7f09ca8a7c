"""Which checkpoint a fit continues from: its own, and nobody else's."""

from __future__ import annotations

import multiprocessing
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch

from lightning_sagemaker.checkpoint import resume
from lightning_sagemaker.checkpoint.place import candidate_places, persistent_place
from lightning_sagemaker.checkpoint.reading import MARK

pytorch: Any = pytest.importorskip("lightning.pytorch", reason="the other distribution has the same attributes")


@pytest.fixture(autouse=True)
def _start(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, job: Path) -> None:
    """A process in which no Trainer has fit yet, on a machine that is no container of the job's own."""
    monkeypatch.setattr(resume, "_trainings", Counter())
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LIGHTNING_SAGEMAKER_RESUME", "1")
    assert job.is_dir()


def fitting(**given: object) -> Any:
    """A Trainer that begins to fit."""
    quiet = {"accelerator": "cpu", "logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    trainer = pytorch.Trainer(**{**quiet, **given})
    resume.begin(trainer)
    return trainer


def write(path: Path, step: int, epoch: int = 0, **mark: object) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {"global_step": step, "epoch": epoch, "callbacks": {}}
    torch.save(content | ({MARK: mark} if mark else {}), path)
    return str(path)


def of(training: int, **more: object) -> dict[str, Any]:
    return {"place": "checkpoints", "training": training, "start": "", "process": "", **more}


def test_the_newest_of_its_own_place_is_taken_moved_or_not(job: Path, tmp_path: Path) -> None:
    write(job / "other" / "checkpoints" / "a.ckpt", 99)
    write(tmp_path / "checkpoints" / "a.ckpt", 3)
    newest = write(job / "checkpoints" / "a.ckpt", 7)
    assert resume.checkpoint_to_resume(fitting()) == newest


def test_what_sigterm_left_below_the_job_s_folder_is_taken_where_others_lie_at_a_url(job: Path) -> None:
    made = fitting(callbacks=[pytorch.callbacks.ModelCheckpoint("memory://mine")])
    place = persistent_place(next(candidate_places(made)))  # where `patches.signals` writes
    left = write(Path(place.folder) / "sigterm-epoch=0-step=9.checkpoint", 9)
    assert left.startswith(str(job))
    assert resume.checkpoint_to_resume(made) == left


def test_what_sigterm_left_is_taken_too(job: Path) -> None:
    write(job / "checkpoints" / "last.ckpt", 7)
    newest = write(job / "checkpoints" / "sigterm-epoch=0-step=9.checkpoint", 9)
    assert resume.checkpoint_to_resume(fitting()) == newest


@pytest.mark.parametrize("names", [("last.ckpt", "last-v1.ckpt"), ("last-v9.ckpt", "last-v10.ckpt")])
def test_among_equals_the_newest_version_wins(job: Path, names: tuple[str, str]) -> None:
    paths = [write(job / "checkpoints" / name, 7) for name in names]
    assert resume.checkpoint_to_resume(fitting()) == paths[1]


def test_trainers_of_one_place_take_what_the_same_one_of_an_earlier_start_left(job: Path) -> None:
    """Folds, or pretraining and finetuning, without a logger: all in one folder, as in stock."""
    paths = [write(job / "checkpoints" / f"epoch=0-step=4-v{n}.ckpt", 4, **of(n)) for n in (1, 3)]
    found = [resume.checkpoint_to_resume(fitting()) for _ in range(3)]
    assert found == [paths[0], None, paths[1]]


def test_a_checkpoint_without_a_mark_is_the_first_trainer_s(job: Path) -> None:
    path = write(job / "checkpoints" / "a.ckpt", 4)
    assert [resume.checkpoint_to_resume(fitting()) for _ in range(2)] == [path, None]


def test_a_mark_of_any_content_is_none(job: Path) -> None:
    path = write(job / "checkpoints" / "a.ckpt", 4, place=[], training={}, start=["x"], process={"a": 1})
    assert resume.checkpoint_to_resume(fitting()) == path


def test_a_second_fit_of_a_trainer_is_no_second_trainer_and_does_not_go_back(job: Path) -> None:
    path = write(job / "checkpoints" / "a.ckpt", 4)
    trainer = fitting()
    resume.begin(trainer)
    assert resume.checkpoint_to_resume(trainer) == path
    trainer.fit_loop.epoch_loop.automatic_optimization.optim_progress.optimizer.step.total.completed = 4
    assert trainer.global_step == 4
    assert resume.checkpoint_to_resume(trainer) is None


@pytest.mark.parametrize("limits", [{"max_epochs": 2}, {"max_steps": 6}])
def test_what_lies_beyond_the_limits_of_a_fit_is_skipped_with_a_line(
    job: Path, limits: dict[str, int], caplog: pytest.LogCaptureFixture
) -> None:
    within = write(job / "checkpoints" / "a.ckpt", 4, epoch=1)
    beyond = write(job / "checkpoints" / "b.ckpt", 8, epoch=3)
    assert resume.checkpoint_to_resume(fitting(**limits)) == within
    assert f"Checkpoint {beyond} is skipped: it is of step 8, epoch 3, which is beyond" in caplog.text


@pytest.mark.parametrize(
    ("folder", "said"),
    [
        ("memory://mine", "no checkpoint is looked for in memory://mine. HINT: `fit(ckpt_path=...)`"),
        (
            "mine",
            "a.ckpt is skipped: it is DeepSpeed's, which tells neither its step nor its end. HINT: `fit(ckpt_path",
        ),
    ],
)
def test_what_is_never_continued_is_said_with_the_way_to_continue_it(
    job: Path, caplog: pytest.LogCaptureFixture, folder: str, said: str
) -> None:
    (job / "mine" / "a.ckpt").mkdir(parents=True)
    (job / "mine" / "a.ckpt" / "latest").write_text("checkpoint")
    caplog.set_level("INFO")
    callback = pytorch.callbacks.ModelCheckpoint(folder)
    assert resume.checkpoint_to_resume(fitting(callbacks=[callback])) is None
    assert said in caplog.text


def test_a_logger_with_a_random_version_is_found_again(job: Path) -> None:
    class Random(pytorch.loggers.CSVLogger):  # type: ignore[misc]
        version = "b7ka2"

    path = write(job / "logs" / "run" / "qx31c" / "checkpoints" / "a.ckpt", 4)
    assert resume.checkpoint_to_resume(fitting(logger=Random("logs", name="run"))) == path
    assert resume.checkpoint_to_resume(fitting(logger=Random("logs", name="other"))) is None


def test_a_kept_logger_folder_whose_version_has_moved_on_is_found_again(job: Path) -> None:
    root = job / "logs"
    path = write(root / "run" / "version_0" / "checkpoints" / "a.ckpt", 4)
    trainer = fitting(logger=pytorch.loggers.CSVLogger(root, name="run"))
    assert trainer.logger.version == 1
    assert resume.checkpoint_to_resume(trainer) == path


def test_one_place_is_not_confused_with_one_nested_in_it(job: Path) -> None:
    nested: dict[str, Any] = {**of(1), "place": "logs/run/*/checkpoints"}
    write(job / "logs" / "run" / "version_0" / "checkpoints" / "a.ckpt", 9, **nested)
    own = write(job / "a.ckpt", 4)
    callback = pytorch.callbacks.ModelCheckpoint(job)
    assert resume.checkpoint_to_resume(fitting(callbacks=[callback])) == own


def test_what_another_training_process_of_this_container_writes_is_left_alone(
    job: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(resume, "_process", lambda: ("second", "12:1"))
    write(job / "checkpoints" / "trial.ckpt", 9, **of(1, start="second", process="7:1"))
    assert resume.checkpoint_to_resume(fitting()) is None
    assert "Another training process of this container wrote checkpoints in" in caplog.text


def test_an_attempt_of_the_same_launcher_goes_on(job: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Torchrun's ``--max-restarts``."""
    monkeypatch.setattr(resume, "_process", lambda: ("second", "12:1"))
    path = write(job / "checkpoints" / "a.ckpt", 9, **of(1, start="second", process="12:1"))
    assert resume.checkpoint_to_resume(fitting()) == path


def test_two_processes_of_an_earlier_start_are_told_apart_by_nothing_so_none_is_continued(
    job: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(resume, "_process", lambda: ("second", "12:1"))
    for number in (7, 8):
        write(job / "checkpoints" / f"{number}.ckpt", number, **of(1, start="first", process=f"{number}:1"))
    assert resume.checkpoint_to_resume(fitting()) is None
    assert "nothing tells which of them this one continues" in caplog.text


def test_one_process_of_each_earlier_start_is_one_training(job: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resume, "_process", lambda: ("third", "12:1"))
    paths = [
        write(job / "checkpoints" / f"{number}.ckpt", number, **of(1, start=f"start {number}", process=f"{number}:1"))
        for number in (7, 8)
    ]
    assert resume.checkpoint_to_resume(fitting()) == paths[1]


def test_a_process_that_the_script_starts_is_another_one_and_its_ranks_are_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Folds in processes of their own; and what Lightning spawns for a Trainer counts on."""
    monkeypatch.setattr(resume, "_has_container", lambda: True)
    mine = resume._process()
    context = multiprocessing.get_context("fork")
    answers = context.SimpleQueue()

    def as_fold() -> None:
        answers.put(resume._process())

    def as_rank() -> None:
        resume._trainings.clear()  # as in a spawned one
        resume.load_trainings(str(tmp_path), as_rank=True)
        fitting()
        resume.save_trainings(str(tmp_path))
        answers.put(resume._process())

    fitting()
    resume.save_trainings(str(tmp_path))
    found = []
    for target in (as_fold, as_fold, as_rank):
        process = context.Process(target=target)
        process.start()
        found.append(answers.get())
        process.join(60)
    assert found[2] == mine
    assert len({mine, *found[:2]}) == 3
    resume.load_trainings(str(tmp_path), as_rank=False)
    assert resume._trainings == {"checkpoints": 2}


def test_a_logger_of_the_script_s_own_that_raises_ends_no_fit(job: Path) -> None:
    class Bare(pytorch.loggers.CSVLogger):  # type: ignore[misc]
        @property
        def version(self) -> str:
            raise NotImplementedError

    path = write(job / "a.ckpt", 4)
    callback = pytorch.callbacks.ModelCheckpoint(job)
    assert resume.checkpoint_to_resume(fitting(logger=Bare("logs"), callbacks=[callback])) == path
    assert resume.checkpoint_to_resume(fitting(logger=Bare("logs"), enable_checkpointing=False)) is None


def test_the_setting_can_be_left_out_by_its_row(monkeypatch: pytest.MonkeyPatch) -> None:
    assert resume.is_asked_for()
    monkeypatch.setenv("LIGHTNING_SAGEMAKER_DISABLE", "resume")
    assert not resume.is_asked_for()
    monkeypatch.delenv("LIGHTNING_SAGEMAKER_DISABLE")
    monkeypatch.setenv("LIGHTNING_SAGEMAKER_RESUME", "0")
    assert not resume.is_asked_for()
