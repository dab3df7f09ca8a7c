from __future__ import annotations

import json
import os
import pickle
import zipfile
from typing import TYPE_CHECKING

import pytest
import torch

from lightning_sagemaker import latest_checkpoint
from lightning_sagemaker.checkpoint import checkpoint_folder
from lightning_sagemaker.checkpoint.reading import read

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.xdist_group("torch's compiler")  # which its sharded checkpoints load: once


def save(path: Path, step: int | None, epoch: int = 0, age: float = 0.0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    content: dict[str, object] = {"state_dict": {"layer.weight": torch.ones(100, 100)}, "device": torch.device("cpu")}
    torch.save(content | ({} if step is None else {"global_step": step, "epoch": epoch}), path)
    os.utime(path, (2e9 - age, 2e9 - age))
    return path


def test_without_a_checkpoint_there_is_none(job: Path) -> None:
    assert latest_checkpoint() is None
    assert latest_checkpoint(job / "absent") is None


def test_outside_a_job_there_is_none(job: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(job / "a.ckpt", 1)
    monkeypatch.delenv("TRAINING_JOB_NAME")
    assert latest_checkpoint() is None


def test_the_one_with_the_most_steps_is_the_newest_whatever_the_files_times_say(job: Path) -> None:
    save(job / "a.ckpt", 20)
    newest = save(job / "epoch=3-step=100.ckpt", 100, age=1e6)
    save(job / "c.ckpt", 3)
    assert latest_checkpoint() == newest


def test_between_equal_steps_the_epoch_decides_then_the_name_with_its_numbers_as_numbers(job: Path) -> None:
    save(job / "z.ckpt", 20, epoch=1)
    save(job / "last-v9.ckpt", 20, epoch=2)
    newest = save(job / "last-v10.ckpt", 20, epoch=2, age=9)
    save(job / "epoch=2-step=20.ckpt", 20, epoch=2)
    assert latest_checkpoint() == newest


def test_one_that_does_not_tell_its_steps_comes_after_those_that_do(job: Path) -> None:
    newest = save(job / "a.ckpt", 0, age=99)
    save(job / "fabric.ckpt", None)
    assert latest_checkpoint() == newest
    newest.unlink()
    assert latest_checkpoint() == job / "fabric.ckpt"


def test_subfolders_are_searched(job: Path) -> None:
    newest = save(job / "run" / "version_0" / "last.ckpt", 7)
    assert latest_checkpoint() == newest


def test_a_folder_of_the_user_s_is_searched_instead(tmp_path: Path) -> None:
    newest = save(tmp_path / "mine" / "last.ckpt", 7)
    assert latest_checkpoint(str(tmp_path / "mine")) == newest


@pytest.mark.parametrize("share", [0.0, 0.0001, 0.01, 0.3, 0.5, 0.9, 0.99, 0.999, 0.9999])
def test_one_that_was_cut_at_any_length_is_skipped_with_a_line_that_names_it(
    job: Path, share: float, caplog: pytest.LogCaptureFixture
) -> None:
    whole, cut = save(job / "whole.ckpt", 1), save(job / "cut.ckpt", 2)
    content = cut.read_bytes()
    cut.write_bytes(content[: int(len(content) * share)])
    assert latest_checkpoint() == whole
    assert f"Checkpoint {cut} is skipped: it is not complete" in caplog.text


def test_one_that_was_cut_where_an_archive_in_it_ends_is_skipped(job: Path, caplog: pytest.LogCaptureFixture) -> None:
    inner = save(job / "inner.pt", 99).read_bytes()
    outer = {"global_step": 100, "epoch": 0, "replay": torch.frombuffer(bytearray(inner), dtype=torch.uint8)}
    torch.save(outer, job / "outer.ckpt")
    content = (job / "outer.ckpt").read_bytes()
    assert read(job / "outer.ckpt")[:2] == (100, 0)
    (job / "outer.ckpt").write_bytes(content[: content.index(inner) + len(inner)])
    assert latest_checkpoint() is None
    assert "it is not complete" in caplog.text


def test_one_of_weights_only_is_skipped_since_no_training_continues_from_it(
    job: Path, caplog: pytest.LogCaptureFixture
) -> None:
    full = {"global_step": 5, "epoch": 0, "pytorch-lightning_version": "2.6.6", "state_dict": {}, "callbacks": {}}
    torch.save(full, job / "full.ckpt")
    torch.save({key: value for key, value in full.items() if key != "callbacks"} | {"global_step": 9}, job / "w.ckpt")
    assert latest_checkpoint() == job / "full.ckpt"
    assert "w.ckpt is skipped: it holds weights only" in caplog.text


def test_no_length_but_the_whole_is_taken(job: Path) -> None:
    path = job / "small.ckpt"
    torch.save({"global_step": 3, "epoch": 1}, path)
    content = path.read_bytes()
    for length in range(len(content)):
        path.write_bytes(content[:length])
        with pytest.raises(ValueError, match="it is"):
            read(path)
    path.write_bytes(content)
    assert read(path)[:2] == (3, 1)


@pytest.mark.parametrize("content", [b"text", pickle.dumps({"global_step": 9})], ids=["text", "pickle"])
def test_what_is_no_file_of_torch_save_is_skipped(job: Path, content: bytes, caplog: pytest.LogCaptureFixture) -> None:
    (job / "odd.ckpt").write_bytes(content)
    assert latest_checkpoint() is None
    assert "odd.ckpt is skipped" in caplog.text


def test_another_zip_file_is_skipped(job: Path, caplog: pytest.LogCaptureFixture) -> None:
    with zipfile.ZipFile(job / "odd.ckpt", "w") as archive:
        archive.writestr("readme", "no checkpoint")
    assert latest_checkpoint() is None
    assert "it is not a checkpoint of torch.save" in caplog.text


class Dangerous:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, ("executed",)


def test_nothing_in_a_checkpoint_is_executed(job: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"callbacks": Dangerous(), "global_step": 4, "epoch": 0}, job / "a.ckpt")
    assert read(job / "a.ckpt")[:2] == (4, 0)
    assert not (tmp_path / "executed").exists()


@pytest.fixture
def sharded(job: Path) -> Path:
    """A folder as Lightning's sharded strategies write it, by torch.distributed.checkpoint itself."""
    from torch.distributed.checkpoint.filesystem import FileSystemWriter  # noqa: PLC0415 - brings torch's compiler
    from torch.distributed.checkpoint.state_dict_saver import save as save_sharded  # noqa: PLC0415

    folder = job / "epoch=1-step=8.ckpt"
    state = {"model": {"weight": torch.ones(100, 10), "bias": torch.zeros(10)}, "optimizer_0": {"state": {"lr": 0.1}}}
    save_sharded(state, storage_writer=FileSystemWriter(folder, single_file_per_rank=True), no_dist=True)
    save(folder / "meta.pt", 8)
    return folder


def test_a_sharded_checkpoint_counts_as_one(job: Path, sharded: Path) -> None:
    save(sharded / "inner.ckpt", 99)
    save(job / "other.ckpt", 7)
    assert latest_checkpoint() == sharded


@pytest.mark.parametrize("name", [".metadata", "meta.pt"])
def test_a_sharded_checkpoint_is_not_whole_before_both_of_its_ends_are_written(
    sharded: Path, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    (sharded / name).unlink()
    assert latest_checkpoint() is None
    assert f"it is a folder without {name}" in caplog.text


@pytest.mark.parametrize("share", [0.0, 0.5, 0.99])
def test_a_sharded_checkpoint_with_a_cut_shard_or_cut_metadata_is_skipped(
    sharded: Path, share: float, caplog: pytest.LogCaptureFixture
) -> None:
    for name, text in (("__0_0.distcp", "its shard __0_0.distcp has"), (".metadata", "its .metadata is not complete")):
        content = (sharded / name).read_bytes()
        (sharded / name).write_bytes(content[: int(len(content) * share)])
        assert latest_checkpoint() is None
        assert text in caplog.text
        (sharded / name).write_bytes(content)
    assert latest_checkpoint() == sharded


def test_a_sharded_checkpoint_without_one_of_its_shards_is_skipped(
    sharded: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (sharded / "__0_0.distcp").unlink()
    assert latest_checkpoint() is None
    assert "its shard __0_0.distcp is missing, and .metadata lists" in caplog.text


def test_hidden_files_are_never_taken(job: Path) -> None:
    save(job / ".hidden.ckpt", 8)
    assert latest_checkpoint() is None


def test_the_folder_is_the_one_of_the_checkpoint_configuration(job: Path, base: Path, tmp_path: Path) -> None:
    assert checkpoint_folder() == job
    config = base / "input" / "config" / "checkpointconfig.json"
    config.write_text(json.dumps({"LocalPath": str(tmp_path / "elsewhere"), "S3Uri": "s3://bucket/prefix"}))
    assert checkpoint_folder() == tmp_path / "elsewhere"


def test_the_environment_may_be_given(job: Path, base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TRAINING_JOB_NAME")
    assert checkpoint_folder() is None
    assert checkpoint_folder({"TRAINING_JOB_NAME": "digits", "SAGEMAKER_BASE_DIR": str(base)}) == job


def test_a_job_without_the_folder_has_none(job: Path) -> None:
    job.rmdir()
    assert checkpoint_folder() is None


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"LocalPath": 5}'])
def test_a_damaged_checkpoint_configuration_is_an_error_that_names_the_file(job: Path, base: Path, text: str) -> None:
    assert job.exists()
    (base / "input" / "config" / "checkpointconfig.json").write_text(text)
    with pytest.raises(ValueError, match=r"checkpointconfig.json has no `LocalPath`.*HINT"):
        checkpoint_folder()
