"""The folder that stands for the job's place for checkpoints in S3."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

import pytest

from lightning_sagemaker.simulate.checkpoints import CheckpointPlace

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def place(tmp_path: Path) -> CheckpointPlace:
    """A place with two files."""
    place = CheckpointPlace(tmp_path / "kept")
    for name in ("old.ckpt", "last.ckpt"):
        (place.folder / name).write_text(name)
    return place


@pytest.fixture
def hosts(place: CheckpointPlace, tmp_path: Path) -> list[Path]:
    """The copies of two hosts."""
    copies = [tmp_path / host for host in ("algo-1", "algo-2")]
    for copy in copies:
        place.copy_to(copy)
    return copies


def content(folder: Path) -> dict[str, str]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_text() for path in files}


def test_what_each_host_wrote_is_kept(place: CheckpointPlace, hosts: list[Path]) -> None:
    (hosts[0] / "run").mkdir()
    (hosts[0] / "run/a").write_text("a")
    (hosts[1] / "b").write_text("b")
    place.copy_back()
    assert content(place.folder) == {"old.ckpt": "old.ckpt", "last.ckpt": "last.ckpt", "run/a": "a", "b": "b"}


def test_what_one_host_removed_is_removed_though_another_s_copy_has_it(
    place: CheckpointPlace, hosts: list[Path]
) -> None:
    (hosts[0] / "old.ckpt").unlink()
    place.copy_back()
    assert content(place.folder) == {"last.ckpt": "last.ckpt"}


def test_a_copy_that_was_not_touched_does_not_undo_what_another_host_wrote(
    place: CheckpointPlace, hosts: list[Path]
) -> None:
    (hosts[0] / "last.ckpt").write_text("of a later step")
    place.copy_back()
    assert content(place.folder)["last.ckpt"] == "of a later step"


@pytest.mark.parametrize("later", [0, 1])
def test_of_two_hosts_that_write_one_file_the_later_one_counts(
    later: int, place: CheckpointPlace, hosts: list[Path]
) -> None:
    for index, host in enumerate(hosts):
        (host / "last.ckpt").write_text(f"of host {index}")
        os.utime(host / "last.ckpt", (2e9 + (index == later), 2e9 + (index == later)))
    place.copy_back()
    assert content(place.folder)["last.ckpt"] == f"of host {later}"


def test_a_link_is_kept_as_the_file_that_it_leads_to_and_one_to_nothing_is_not(
    place: CheckpointPlace, hosts: list[Path]
) -> None:
    (hosts[0] / "newest.ckpt").symlink_to("old.ckpt")
    (hosts[0] / "broken.ckpt").symlink_to("nothing")
    place.copy_back()
    assert not (place.folder / "newest.ckpt").is_symlink()
    assert content(place.folder)["newest.ckpt"] == "old.ckpt"
    assert not os.path.lexists(place.folder / "broken.ckpt")


def test_copies_have_new_times_as_those_from_s3_have(place: CheckpointPlace, tmp_path: Path) -> None:
    os.utime(place.folder / "old.ckpt", (1e9, 1e9))
    place.copy_to(tmp_path / "algo-3")
    assert (tmp_path / "algo-3/old.ckpt").stat().st_mtime > 1.5e9


def test_a_checkpoint_that_was_a_folder_and_is_a_file_now(tmp_path: Path) -> None:
    place = CheckpointPlace(tmp_path / "kept")
    (place.folder / "run/last.ckpt").mkdir(parents=True)
    (place.folder / "run/last.ckpt/.metadata").touch()
    place.copy_to(tmp_path / "algo-1")
    shutil.rmtree(tmp_path / "algo-1/run/last.ckpt")
    (tmp_path / "algo-1/run/last.ckpt").write_text("all of it")
    place.copy_back()
    assert content(place.folder) == {"run/last.ckpt": "all of it"}


def test_a_file_of_one_host_in_the_place_of_another_one_s_folder_is_named_and_the_rest_is_kept(
    place: CheckpointPlace, hosts: list[Path]
) -> None:
    (hosts[0] / "new").write_text("a file")
    (hosts[1] / "new").mkdir()
    (hosts[1] / "new/0.pt").touch()
    (hosts[1] / "other").write_text("kept")
    (refused,) = place.copy_back()
    assert refused in ("new", "new/0.pt")
    assert content(place.folder)["other"] == "kept"
