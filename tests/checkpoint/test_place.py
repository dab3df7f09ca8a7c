"""Where a Trainer's checkpoints lie; nothing is moved unless somebody asked."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from lightning_sagemaker.checkpoint.place import (
    Place,
    candidate_places,
    is_lost,
    lightning_place,
    persistent_place,
    say_where,
)

if TYPE_CHECKING:
    from pathlib import Path

pytorch: Any = pytest.importorskip("lightning.pytorch", reason="the other distribution has the same attributes")


def trainer(*, dirpaths: tuple[str | None, ...] = (None,), **given: object) -> Any:
    callbacks = [pytorch.callbacks.ModelCheckpoint(dirpath, monitor=f"m{n}") for n, dirpath in enumerate(dirpaths)]
    quiet = {"accelerator": "cpu", "logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    return pytorch.Trainer(**{**quiet, "callbacks": callbacks, **given})


@pytest.fixture
def code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Folder of the job's script, where it runs."""
    folder = tmp_path / "ml" / "code"
    folder.mkdir(parents=True)
    monkeypatch.chdir(folder)
    return folder


def test_lightning_s_own_choice_is_known_for_loggers_root_folders_and_given_ones(code: Path) -> None:
    csv = pytorch.loggers.CSVLogger
    for made in (
        trainer(),
        trainer(default_root_dir="root"),
        trainer(logger=csv("logs", name="run")),
        trainer(logger=csv("logs", name="run", version="v")),
        trainer(logger=csv("logs", name="")),
        trainer(logger=csv("logs"), default_root_dir="root"),
    ):
        callback = made.checkpoint_callback
        stock = callback._ModelCheckpoint__resolve_ckpt_dir(made)
        assert lightning_place(made).folder == str(stock)
    assert code.is_dir()


def test_a_logger_s_version_is_any_in_the_pattern(code: Path) -> None:
    place = lightning_place(trainer(logger=pytorch.loggers.CSVLogger("logs", name="run")))
    assert place == Place("logs/run/version_0/checkpoints", "logs/run/*/checkpoints")
    for version in ("version_0", "version_7", "qkzv2"):
        (code / "logs" / "run" / version / "checkpoints").mkdir(parents=True)
    (code / "logs" / "run" / "version_8").mkdir()
    assert [folder.parent.name for folder in place.folders()] == ["qkzv2", "version_0", "version_7"]


@pytest.mark.parametrize("version", ["", "fold/0"])
def test_a_version_that_is_no_single_folder_is_found_again(code: Path, version: str) -> None:
    place = lightning_place(trainer(logger=pytorch.loggers.CSVLogger("logs", name="run", version=version)))
    (code / place.folder).mkdir(parents=True)
    assert list(map(str, place.folders())) == [place.folder]


def test_below_the_job_s_folder_it_has_the_same_relative_path(job: Path, code: Path) -> None:
    folders = {
        "logs/run/version_0/checkpoints": job / "logs/run/version_0/checkpoints",
        str(code / "mine"): job / "mine",
        "/elsewhere/mine": job / "elsewhere/mine",
        str(job / "mine"): job / "mine",
    }
    for folder, kept in folders.items():
        assert persistent_place(Place(folder, folder)).folder == str(kept)


def test_a_working_folder_that_is_named_by_the_time_of_the_start_is_no_part_of_the_place(
    job: Path, code: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As Hydra's `chdir` makes it, a new one in each start."""
    for run in ("outputs/2026-12-02/20-48-11", "outputs/2026-12-02/20-51-30"):
        (code / run).mkdir(parents=True)
        monkeypatch.chdir(code / run)
        assert persistent_place(Place("mine", "mine")).folder == str(job / "mine")


def test_only_what_the_container_takes_along_is_lost(job: Path, code: Path, base: Path) -> None:
    assert [
        is_lost(folder) for folder in ("checkpoints", str(code), "~/mine", str(base / "input" / "data" / "code"))
    ] == [True] * 4
    kept = ("s3://bucket/prefix", str(job), str(job / "run"), str(base / "model"), str(base / "output" / "data"))
    assert not any(is_lost(folder) for folder in kept)


def test_where_a_job_has_no_checkpoint_folder_nothing_could_be_saved_by_moving(job: Path, code: Path) -> None:
    job.rmdir()
    assert not is_lost(str(code))


def test_own_places_are_those_of_all_checkpoint_callbacks_and_their_twins_below_the_job_s_folder(
    job: Path, code: Path
) -> None:
    made = trainer(dirpaths=("one", str(job / "two"), "one"))
    assert [place.folder for place in candidate_places(made)] == [str(code / "one"), str(job / "one"), str(job / "two")]
    (given,) = {place.folder for place in candidate_places(trainer(dirpaths=("given",)))} - {str(job / "given")}
    assert given == str(code / "given")
    none = trainer(callbacks=[], enable_checkpointing=False, default_root_dir="root")
    assert [place.folder for place in candidate_places(none)] == ["root/checkpoints", str(job / "root/checkpoints")]


def test_a_folder_that_is_lost_is_said_once_where_the_job_has_a_checkpoint_configuration(
    job: Path, base: Path, code: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level("WARNING")
    say_where(str(code / "unconfigured"))
    assert not caplog.records
    config = {"LocalPath": str(job), "S3Uri": "s3://bucket/prefix"}
    (base / "input" / "config" / "checkpointconfig.json").write_text(json.dumps(config))
    for folder in (code / "mine", code / "mine", job / "mine"):
        say_where(str(folder))
    (record,) = caplog.records
    assert f"Checkpoints lie in {code / 'mine'}, which is lost with this container" in record.getMessage()
    assert "`dirpath`" in record.getMessage()
    assert "LIGHTNING_SAGEMAKER_RESUME=1" in record.getMessage()
    monkeypatch.setenv("LIGHTNING_SAGEMAKER_DISABLE", "checkpoint_hint")
    say_where(str(code / "other"))
    assert len(caplog.records) == 1


def test_a_folder_that_no_restart_brings_back_is_said_where_somebody_asked_to_resume(
    job: Path, base: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level("WARNING")
    say_where(str(base / "model" / "a"))
    assert not caplog.records
    monkeypatch.setenv("LIGHTNING_SAGEMAKER_RESUME", "1")
    for folder in (base / "model" / "b", base / "output" / "data", job / "b"):
        say_where(str(folder))
    assert [record.getMessage().partition(", which")[0] for record in caplog.records] == [
        f"LIGHTNING_SAGEMAKER_RESUME=1, but checkpoints lie in {folder}"
        for folder in (base / "model" / "b", base / "output" / "data")
    ]


@pytest.mark.parametrize("can_be_read", [True, False])
def test_a_configuration_that_is_malformed_or_cannot_be_read_is_a_line_and_no_error(
    job: Path, base: Path, code: Path, caplog: pytest.LogCaptureFixture, *, can_be_read: bool
) -> None:
    assert job.is_dir()
    path = base / "input" / "config" / "checkpointconfig.json"
    if can_be_read:
        path.write_text("{")
    else:
        path.mkdir()
    caplog.set_level("WARNING")
    say_where(str(code / f"readable-{can_be_read}"))
    assert "are lost with this container is unknown: " in caplog.text
    assert ("cannot be read" in caplog.text) != can_be_read
