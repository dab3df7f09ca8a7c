"""What checkpoints hold, told without reading them."""

from __future__ import annotations

import pickle
import shutil
from pathlib import Path

import pytest
import torch

from lightning_sagemaker.checkpoint import reading
from lightning_sagemaker.checkpoint.contents import Content, digest, local, progress_in_words


def save(path: Path, step: int = 4, weight: float = 1.0, **options: bool) -> Path:
    content = {"global_step": step, "epoch": 1, "callbacks": {}, "weights": torch.full((1000,), weight)}
    torch.save(content, path, **options)
    return path


@pytest.mark.parametrize("zip_file", [True, False])
def test_copies_are_equal_and_others_are_not(tmp_path: Path, zip_file: bool) -> None:
    options = {"_use_new_zipfile_serialization": zip_file}
    first = save(tmp_path / "first.ckpt", **options)
    copy = Path(shutil.copy(first, tmp_path / "copy.ckpt"))
    assert digest(first) == digest(copy)
    assert not Content.of(first).differs_from(Content.of(copy))
    assert Content.of(first).differs_from(Content.of(save(tmp_path / "step.ckpt", step=5, **options)))
    assert Content.of(first).differs_from(Content.of(save(tmp_path / "weight.ckpt", weight=2.0, **options)))


def test_the_folder_within_the_archive_is_named_after_the_file_and_says_nothing(tmp_path: Path) -> None:
    assert digest(save(tmp_path / "here.ckpt")) == digest(save(tmp_path / "there.ckpt"))


def test_archives_without_checksums_are_told_apart(tmp_path: Path) -> None:
    if not hasattr(torch.serialization, "set_crc32_options"):
        pytest.skip("this torch always writes checksums")
    torch.serialization.set_crc32_options(compute_crc32=False)
    try:
        first = save(tmp_path / "first.ckpt")
        assert digest(first) != digest(save(tmp_path / "weight.ckpt", weight=2.0))
    finally:
        torch.serialization.set_crc32_options(compute_crc32=True)
    assert digest(first) == digest(Path(shutil.copy(first, tmp_path / "copy.ckpt")))


def test_no_gigabytes_are_read(tmp_path: Path) -> None:
    path = tmp_path / "large.ckpt"
    save(path)
    with Path("/proc/self/io").open() as file:
        before = int(file.readline().split()[1])
    Content.of(path)
    with Path("/proc/self/io").open() as file:
        assert int(file.readline().split()[1]) - before < 100_000


def test_nothing_is_unpickled_to_compare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Millions of numbers in a checkpoint would take seconds, before each load on each rank."""
    unpickled = []
    monkeypatch.setattr(reading._Skeleton, "load", lambda _: unpickled.append(1))
    Content.of(save(tmp_path / "a.ckpt"))
    Content.of(shards(tmp_path / "folder", "__0_0.distcp"))
    assert not unpickled


def test_it_tells_step_and_epoch_in_words(tmp_path: Path) -> None:
    assert progress_in_words(save(tmp_path / "a.ckpt")) == "step 4, epoch 1"
    (tmp_path / "b.ckpt").write_bytes(b"text")
    assert progress_in_words(tmp_path / "b.ckpt") == ""


def test_what_is_missing_remote_or_no_path_is_told_apart(tmp_path: Path) -> None:
    assert Content.of(tmp_path / "nowhere").kind == "missing"
    assert local("s3://bucket/a.ckpt") is None
    assert local(None) is None
    assert local(f"file://{tmp_path}/a.ckpt") == tmp_path / "a.ckpt"
    assert not Content.of(local("s3://bucket/a.ckpt")).differs_from(Content.of(tmp_path / "nowhere"))


def shards(folder: Path, *names: str, step: int = 4) -> Path:
    folder.mkdir()
    for name in names:
        (folder / name).write_bytes(b"shard of " + str(step).encode())
    (folder / ".metadata").write_bytes(pickle.dumps({"step": step}))
    save(folder / "meta.pt", step)
    return folder


def test_folders_are_compared_by_what_all_hosts_share(tmp_path: Path) -> None:
    first = Content.of(shards(tmp_path / "first", "__0_0.distcp", "__1_0.distcp"))
    assert not first.differs_from(Content.of(shards(tmp_path / "part", "__1_0.distcp")))
    assert first.differs_from(Content.of(shards(tmp_path / "step", "__0_0.distcp", step=5)))
    own = tmp_path / "own"
    own.mkdir()
    (own / "__1_0.distcp").write_bytes(b"shard")
    assert Content.of(own).lacks == (".metadata", "meta.pt")
