from __future__ import annotations

import errno
import os
import resource
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest
import torch

from lightning_sagemaker import latest_checkpoint, temporary_files
from lightning_sagemaker.checkpoint.reading import read
from lightning_sagemaker.patches.checkpoints import save_whole

if TYPE_CHECKING:
    from pathlib import Path

SLOW = """
import sys, torch
from pathlib import Path
from lightning_sagemaker.patches.checkpoints import save_whole
class Slow:
    def __reduce__(self):
        Path(sys.argv[1] + ".begun").touch()
        import time
        time.sleep(60)
        return (dict, ())
save_whole({"global_step": 9, "epoch": 9, "weights": torch.ones(1000), "slow": Slow()}, Path(sys.argv[1]))
"""


def test_what_is_written_is_what_is_loaded_and_nothing_else_is_left(tmp_path: Path) -> None:
    save_whole({"global_step": 3, "weights": torch.arange(5)}, tmp_path / "a.ckpt")
    loaded = torch.load(tmp_path / "a.ckpt")
    assert loaded["global_step"] == 3
    assert loaded["weights"].tolist() == [0, 1, 2, 3, 4]
    assert [path.name for path in tmp_path.iterdir()] == ["a.ckpt"]


def test_a_name_may_be_as_long_as_the_file_system_allows(tmp_path: Path) -> None:
    path = tmp_path / ("é" * 125 + ".ckpt")
    save_whole({"global_step": 3}, path)
    assert read(path)[0] == 3


def test_a_failed_write_leaves_the_file_of_before_and_no_temporary_file(tmp_path: Path) -> None:
    save_whole({"global_step": 3}, tmp_path / "a.ckpt")
    with pytest.raises(Exception, match="pickle"):
        save_whole({"global_step": 4, "model": lambda: 0}, tmp_path / "a.ckpt")
    assert read(tmp_path / "a.ckpt")[0] == 3
    assert len(list(tmp_path.iterdir())) == 1


def test_a_writer_killed_at_work_leaves_the_file_of_before_and_the_next_one_clears_up(tmp_path: Path) -> None:
    folder = tmp_path / "checkpoints"
    folder.mkdir()
    path = folder / "a.ckpt"
    save_whole({"global_step": 3, "epoch": 0}, path)
    with subprocess.Popen([sys.executable, "-c", SLOW, str(path)]) as writer:
        while not (folder / "a.ckpt.begun").exists():
            assert writer.poll() is None
            time.sleep(0.05)
        writer.send_signal(signal.SIGKILL)
    assert list(folder.glob(".*.part"))
    assert latest_checkpoint(folder) == path
    assert read(path)[0] == 3
    save_whole({"global_step": 5}, folder / "b.ckpt")
    assert not list(folder.glob(".*.part"))


def test_the_temporary_file_of_a_living_writer_stays(tmp_path: Path) -> None:
    unfinished = temporary_files.name(tmp_path / "a.ckpt")
    unfinished.touch()
    temporary_files.remove_left(tmp_path)
    assert unfinished.exists()


def test_temporary_files_of_another_container_or_user_stay(tmp_path: Path) -> None:
    of_another_container = tmp_path / f".a.ckpt.0123456789ab.{os.getpid()}.1.part"
    of_another_container.touch()
    ended = temporary_files.name(tmp_path / "b.ckpt")
    ended = ended.with_name(ended.name.rsplit(".", 2)[0] + ".1.part")  # this process id, but of an earlier process
    other = temporary_files.name(tmp_path / "c.ckpt").name.split(".")[1]
    for path in (ended, ended.with_name(f".{other}.{ended.name.split('.', 2)[2]}")):
        path.touch()
    if os.geteuid() == 0:
        os.chown(ended, 1234, 1234)
        temporary_files.remove_left(tmp_path)
        assert sorted(tmp_path.iterdir()) == sorted([of_another_container, ended])
        os.chown(ended, 0, 0)
    temporary_files.remove_left(tmp_path)
    assert list(tmp_path.iterdir()) == [of_another_container]


def test_a_file_of_the_user_s_that_ends_alike_stays(tmp_path: Path) -> None:
    container = temporary_files.name(tmp_path / "a.ckpt").name.split(".")[2]
    names = [".download.part", "a.b.c.1.d.part", ".a.b.c.part", ".a.b.1.c.part", f".a.{container}.1.1.part"]
    names += [f".a.0123456789ab.{container}.1.1.part", f".0123456789ab.{container}.x.1.part"]
    for name in names:
        (tmp_path / name).touch()
    (tmp_path / f".0123456789ab.{container}.1.1.part").mkdir()  # no file of ours
    (tmp_path / f".0123456789ab.{container}.1.2.part").symlink_to(names[0])
    (tmp_path / f".0123456789ab.{container}.1.1.parts").touch()  # no folder of ours
    (tmp_path / f".0123456789ab.{container}.1.2.parts").symlink_to(tmp_path)
    temporary_files.remove_left(tmp_path)
    assert len(list(tmp_path.iterdir())) == len(names) + 4


def test_where_there_is_no_room_the_error_says_so_and_the_earlier_file_stays(tmp_path: Path) -> None:
    path = tmp_path / "a.ckpt"
    save_whole({"global_step": 3}, path)
    before = path.read_bytes()
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limit[1]))  # as a full disk, but for the number of the error
    try:
        with pytest.raises(OSError, match="File too large") as raised:
            save_whole({"weights": torch.ones(1_000_000)}, path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    assert raised.value.errno == errno.EFBIG
    assert raised.value.filename == str(path)
    assert path.read_bytes() == before
