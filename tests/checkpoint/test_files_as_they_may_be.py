"""``latest_checkpoint`` in folders that hold anything: it answers, in time in proportion, and says what it left."""

from __future__ import annotations

import io
import os
import pickle
import random
import socket
import struct
import time
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch

from lightning_sagemaker import latest_checkpoint
from lightning_sagemaker.checkpoint import reading

if TYPE_CHECKING:
    from collections.abc import Callable

GOOD = {"global_step": 5, "epoch": 1, "callbacks": {}, "state_dict": {"weight": torch.ones(3)}}


def content(step: int = 5) -> bytes:
    file = io.BytesIO()
    torch.save(GOOD | {"global_step": step}, file)
    return file.getvalue()


def archive(path: Path, data: bytes, compression: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", compression) as file:
        file.writestr("archive/data.pkl", data)
        file.writestr("archive/version", "3\n")
    return path


def peak_of_memory() -> int:
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024


def test_links_in_circles_are_followed_once(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        (tmp_path / name).symlink_to(".")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "up").symlink_to("..")
    (tmp_path / "itself").symlink_to("itself")
    (tmp_path / "itself.ckpt").symlink_to("itself.ckpt")
    (tmp_path / "latest").symlink_to("run")
    (tmp_path / "run" / "last.ckpt").write_bytes(content())
    assert latest_checkpoint(tmp_path) == tmp_path / "run" / "last.ckpt"  # not by way of a link


def test_a_folder_behind_a_link_is_searched(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "last.ckpt").write_bytes(content())
    (tmp_path / "job").mkdir()
    (tmp_path / "job" / "run").symlink_to(tmp_path / "elsewhere")
    assert latest_checkpoint(tmp_path / "job") == tmp_path / "job" / "run" / "last.ckpt"


def test_folders_may_be_as_deep_as_the_system_allows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    depth = 1500  # more than Python's stack
    for _ in range(depth):
        Path("x").mkdir()
        os.chdir("x")
    Path("last.ckpt").write_bytes(content())
    os.chdir(tmp_path)
    assert latest_checkpoint(".") == Path(depth * "x/", "last.ckpt")
    os.chdir(depth * "x/")
    Path("last.ckpt").unlink()
    for _ in range(depth):  # pytest cannot remove it
        os.chdir("..")
        Path("x").rmdir()


def test_what_is_no_regular_file_is_neither_opened_nor_taken(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "good.ckpt").write_bytes(content())
    os.mkfifo(tmp_path / "pipe.ckpt")
    (tmp_path / "zero.ckpt").symlink_to("/dev/zero")
    (tmp_path / "null.ckpt").symlink_to("/dev/null")
    (tmp_path / "terminal.ckpt").symlink_to("/dev/tty")
    (tmp_path / "sharded.ckpt").mkdir()
    os.mkfifo(tmp_path / "sharded.ckpt" / ".metadata")
    os.mkfifo(tmp_path / "sharded.ckpt" / "meta.pt")
    os.mkfifo(tmp_path / "elsewhere")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(os.path.relpath(tmp_path / "socket.ckpt"))
        assert latest_checkpoint(tmp_path) == tmp_path / "good.ckpt"
    (record,) = caplog.records
    assert record.getMessage().count("it is not a regular file") == 4
    assert record.getMessage().endswith("; and 1 more")


BOMBS = {
    "an object's number": b"\x80\x02K\x01r\xff\xff\xff\x03.",
    "an object's number, in text": b"\x80\x02K\x01p67108863\n.",
    "a bytearray": b"\x80\x05\x96" + struct.pack("<Q", 1 << 30) + b"x.",
    "bytes": b"\x80\x04\x8e" + struct.pack("<Q", 1 << 40) + b"x.",
    "text": b"\x80\x04\x8d" + struct.pack("<Q", 1 << 40) + b"x.",
    "an integer": b"\x80\x02\x8b\xff\xff\xff\x7f" + b"x.",
    "nothing": b"",
}


def test_no_more_memory_is_taken_than_the_file_has_bytes(tmp_path: Path) -> None:
    for name, pickled in BOMBS.items():
        archive(tmp_path / f"{name}.ckpt", pickled)
    many = pickle.dumps({"global_step": 99, "epoch": 0, "state": b"\0" * (1 << 27)}, 2)
    archive(tmp_path / "compressed.ckpt", many, zipfile.ZIP_DEFLATED)
    del many
    with (tmp_path / "sparse.ckpt").open("wb") as file:
        file.truncate(1 << 38)
    (tmp_path / "sharded.ckpt").mkdir()
    (tmp_path / "sharded.ckpt" / "meta.pt").write_bytes(content())
    (tmp_path / "sharded.ckpt" / ".metadata").write_bytes(BOMBS["an object's number"])
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    before = peak_of_memory()
    found = latest_checkpoint(tmp_path)
    assert peak_of_memory() - before < 64 << 20
    assert found is None
    with pytest.raises(ValueError, match="records are compressed"):
        reading.read(tmp_path / "compressed.ckpt")


def test_what_is_larger_than_any_checkpoint_is_skipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.ckpt"
    path.write_bytes(content())
    assert reading.read(path)[:2] == (5, 1)
    for name, text in (("_LONGEST_PICKLE", "data.pkl has"), ("_LONGEST_DIRECTORY", "its directory has")):
        with monkeypatch.context() as patch:
            patch.setattr(reading, name, 100)
            with pytest.raises(ValueError, match=rf"{text} \d+ bytes, and at most 100"):
                reading.read(path)


def test_archives_without_checksums_are_read(tmp_path: Path) -> None:
    if not hasattr(torch.serialization, "set_crc32_options"):
        pytest.skip("this torch always writes checksums")
    torch.serialization.set_crc32_options(compute_crc32=False)
    try:
        (tmp_path / "a.ckpt").write_bytes(content(7))
    finally:
        torch.serialization.set_crc32_options(compute_crc32=True)
    assert reading.read(tmp_path / "a.ckpt")[:2] == (7, 1)


def test_names_may_be_any_bytes_and_a_line_shows_them(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    newest, cut = (Path(os.fsdecode(os.fsencode(tmp_path) + name)) for name in (b"/\xff.ckpt", b"/\xfe\n\x1b.ckpt"))
    newest.write_bytes(content())
    cut.write_bytes(content()[:-9])
    assert latest_checkpoint(tmp_path) == newest
    (record,) = caplog.records
    assert record.getMessage().isprintable()
    assert r"/\xfe\n\x1b.ckpt is skipped: it is not complete" in record.getMessage()


def test_a_file_that_cannot_be_read_is_skipped_with_its_reason(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "good.ckpt").write_bytes(content())
    (tmp_path / "memory.ckpt").symlink_to("/proc/self/mem")  # a regular file, and an error to read: to root too
    (tmp_path / "secret.ckpt").write_bytes(content(9))
    (tmp_path / "secret.ckpt").chmod(0)
    (tmp_path / "closed").mkdir(mode=0)
    if os.geteuid() == 0:
        (tmp_path / "secret.ckpt").unlink()
    assert latest_checkpoint(tmp_path) == tmp_path / "good.ckpt"
    assert "memory.ckpt" in caplog.text


def test_a_checkpoint_of_which_any_bytes_were_changed_is_taken_or_refused_and_raises_nothing_else(
    tmp_path: Path,
) -> None:
    chance, whole, path = random.Random(19), content(), tmp_path / "a.ckpt"  # noqa: S311 - no secrets
    outcomes: set[type] = set()
    for _ in range(1_000):
        bytes_ = bytearray(whole)
        for _ in range(chance.choice((1, 1, 2, 8, 64))):
            at = chance.randrange(len(bytes_))
            bytes_[at : at + chance.choice((0, 1, 1, 4))] = chance.randbytes(chance.choice((0, 1, 1, 4)))
        path.write_bytes(bytes_)
        try:
            outcomes.add(type(reading.read(path)))
        except (ValueError, OSError) as error:
            outcomes.add(type(error))
    assert {reading.Facts, ValueError} <= outcomes


def fuzzed(folder: Path, count: int) -> None:
    """Every kind of file that is no newest checkpoint, in a folder, as often as it takes."""
    whole = content()
    makers: tuple[Callable[[Path], object], ...] = (
        lambda path: path.write_bytes(whole),
        lambda path: path.write_bytes(whole[: len(whole) // 2]),
        lambda path: path.write_bytes(b""),
        os.mkfifo,
        lambda path: path.symlink_to("/dev/zero"),
        lambda path: path.symlink_to("nowhere"),
        lambda path: path.symlink_to("."),
        lambda path: path.mkdir(),
    )
    folder.mkdir()
    for number in range(count):
        below = folder / str(number % 7)
        below.mkdir(exist_ok=True)
        if not (below / "up").is_symlink():
            (below / "up").symlink_to("..")
        makers[number % len(makers)](below / f"{number}.ckpt")
    (folder / "newest.ckpt").write_bytes(content(6))


def test_ten_times_the_files_take_about_ten_times_as_long_and_one_line(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    seconds = {}
    for count in (200, 2_000):
        fuzzed(tmp_path / str(count), count)
        times = []
        for _ in range(3):
            caplog.clear()
            start = time.process_time()
            assert latest_checkpoint(tmp_path / str(count)) == tmp_path / str(count) / "newest.ckpt"
            times.append(time.process_time() - start)
            assert len(caplog.records) == 1
            assert caplog.text.count(".ckpt: ") + caplog.text.count(".ckpt is skipped: ") == 5
            assert f"; and {count * 7 // 8 - 5} more" in caplog.text
        seconds[count] = min(times)
    assert seconds[2_000] < 30 * seconds[200], seconds  # quadratic time would be 100 times as long
