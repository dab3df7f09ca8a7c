"""Where locks lie: on this host, private, and refused elsewhere."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import pytest

from lightning_sagemaker import folders
from lightning_sagemaker.folders import file_system_of
from lightning_sagemaker.locking import directory, node_lock, once_per_node
from lightning_sagemaker.locking.directory import lock_directory

if TYPE_CHECKING:
    from collections.abc import Callable

    from .conftest import Crew


def own(base: Path) -> Path:
    """The folder of this user in a folder for locks."""
    return base / f"lightning-sagemaker-{os.geteuid()}"


def test_the_folder_is_private_to_the_user(run_of_its_own: Path) -> None:
    before = os.umask(0)
    try:
        folder = lock_directory()
    finally:
        os.umask(before)
    assert folder.parent == own(run_of_its_own)
    assert [each.stat().st_mode & 0o7777 for each in (folder, folder.parent)] == [0o700, 0o700]
    assert lock_directory() == folder


def test_without_the_variable_it_lies_in_the_machine_s_memory(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, mounted: Callable[[str], Path]
) -> None:
    monkeypatch.delenv("LIGHTNING_SAGEMAKER_LOCK_DIR")
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(directory, "_MEMORY", mounted("size=1m"))
    assert lock_directory().parent == own(directory._MEMORY)


def test_without_such_memory_it_lies_in_tmpdir(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("LIGHTNING_SAGEMAKER_LOCK_DIR")
    monkeypatch.setattr(directory, "_MEMORY", tmp_path / "none")
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    assert lock_directory().parent == own(tmp_path)


def test_without_any_of_them_it_lies_in_tmp(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("LIGHTNING_SAGEMAKER_LOCK_DIR")
    monkeypatch.setattr(directory, "_MEMORY", tmp_path / "none")
    monkeypatch.delenv("TMPDIR", raising=False)
    folder = lock_directory()
    folder.rmdir()
    assert folder.parent == own(Path(os.path.realpath("/tmp")))  # noqa: S108


def test_a_missing_folder_is_named_with_its_variable(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("LIGHTNING_SAGEMAKER_LOCK_DIR", str(tmp_path / "none"))
    with pytest.raises(FileNotFoundError, match=r"none \(LIGHTNING_SAGEMAKER_LOCK_DIR\), does not exist. HINT: "):
        lock_directory()


def test_a_file_in_place_of_the_folder_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setattr(directory, "_MEMORY", tmp_path / "none")
    monkeypatch.setenv("TMPDIR", str(tmp_path / "file"))
    monkeypatch.delenv("LIGHTNING_SAGEMAKER_LOCK_DIR")
    with pytest.raises(NotADirectoryError, match=r"\(TMPDIR\), is not a folder. HINT: "):
        lock_directory()


@pytest.mark.parametrize("level", [0, 1])
def test_a_link_in_place_of_our_folder_is_refused(run_of_its_own: Path, tmp_path: Path, level: int) -> None:
    path = (lock_directory(), own(run_of_its_own))[1 - level] if level else lock_directory()
    path.rmdir()
    if level:
        path = path.parent
        path.rmdir()
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(PermissionError, match=r"is a symbolic link; expected a folder.*HINT: "):
        lock_directory()
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_a_folder_that_others_may_enter_is_refused(run_of_its_own: Path) -> None:
    own(run_of_its_own).mkdir()
    own(run_of_its_own).chmod(0o750)
    with pytest.raises(PermissionError, match=r"of user \d+ and mode 0750; expected .* and mode 0700, .*HINT: "):
        lock_directory()


def test_a_folder_that_hands_its_group_down_serves(run_of_its_own: Path) -> None:
    run_of_its_own.chmod(0o2700)
    assert lock_directory().stat().st_mode & 0o7777 == 0o2700


def test_a_folder_of_another_user_is_refused(run_of_its_own: Path, require: Callable[[str], NoReturn]) -> None:
    own(run_of_its_own).mkdir(mode=0o700)
    try:
        os.chown(own(run_of_its_own), 12345, -1)
    except PermissionError:
        require("only root can give a folder away")
    with pytest.raises(PermissionError, match=r"is of user 12345 and mode 0700; expected .* HINT: "):
        lock_directory()


def test_a_read_only_folder_is_named(mounted: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch) -> None:
    folder = mounted("size=1m,ro")
    monkeypatch.setenv("LIGHTNING_SAGEMAKER_LOCK_DIR", str(folder))
    with pytest.raises(OSError, match=rf"{folder}/.* cannot be made: Read-only file system. HINT: ") as caught:
        once_per_node(lambda: 1, key="x")
    assert caught.value.errno == errno.EROFS


def test_a_folder_without_permission_to_write_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(*_: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "mkdir", denied)
    with pytest.raises(PermissionError, match=r"cannot be made: Permission denied. HINT: "), node_lock("x"):
        pass


def test_where_the_outcome_has_no_room_all_are_told(mounted: Callable[[str], Path], crew: Callable[..., Crew]) -> None:
    folder = mounted("size=64k")
    with pytest.raises(OSError, match=r"No space left"):
        (folder / "data").write_bytes(bytes(1 << 20))
    seen = crew(
        4,
        """
        def act(index):
            return once_per_node(lambda: "made", key="x", timeout=60)
        """,
        env={"LIGHTNING_SAGEMAKER_LOCK_DIR": str(folder)},
    )
    for record in seen:
        assert record["error"] == "OSError", record
        assert "[Errno 28]" in record["message"]
        assert "No space left on device. HINT: make room" in record["message"]


def test_a_node_lock_works_on_a_full_disk(mounted: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch) -> None:
    folder = mounted("size=64k")
    with pytest.raises(OSError, match=r"No space left"):
        (folder / "data").write_bytes(bytes(1 << 20))
    monkeypatch.setenv("LIGHTNING_SAGEMAKER_LOCK_DIR", str(folder))
    with node_lock("x"):
        pass


@pytest.mark.parametrize(
    "kind",
    ["nfs4", "nfs", "lustre", "cifs", "smb3", "fuse.s3fs", "fuse.mountpoint-s3", "fuse.goofys", "fuse", "9p", "beegfs"],
)
def test_a_network_file_system_is_refused_by_name(
    kind: str, tmp_path: Path, run_of_its_own: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend(kind, tmp_path, monkeypatch)
    with pytest.raises(OSError, match=rf"lies on a network file system \({kind}\).*HINT: set LIGHTNING_SAGEMAKER_LOCK"):
        lock_directory()
    assert list(run_of_its_own.iterdir()) == []


@pytest.mark.parametrize("kind", ["ext4", "xfs", "overlay", "tmpfs", "btrfs", "zfs", "fuse.fuse-overlayfs", "fuseblk"])
def test_a_local_file_system_is_accepted(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(kind, tmp_path, monkeypatch)
    assert file_system_of(tmp_path) == kind
    assert lock_directory().is_dir()


def test_the_kind_of_a_real_mount_is_seen(mounted: Callable[[str], Path], tmp_path: Path) -> None:
    assert file_system_of(mounted("size=64k")) == "tmpfs"
    assert file_system_of(tmp_path) not in (None, "tmpfs") or tmp_path.is_relative_to("/dev/shm")  # noqa: S108


def test_a_system_that_tells_no_mounts_is_accepted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folders, "PROC", tmp_path / "no-proc")
    assert file_system_of(tmp_path) is None
    assert lock_directory().is_dir()
    assert file_system_of(tmp_path / "no-folder") is None


def test_another_system_than_posix_is_refused_when_used_not_when_imported() -> None:
    program = """
        import os
        import lightning_sagemaker.locking as locking
        os.name = "nt"
        try:
            locking.once_per_node(lambda: 1, key="x")
        except NotImplementedError as error:
            assert "need a POSIX system" in str(error) and "HINT: " in str(error)
        else:
            raise SystemExit(1)
        """
    subprocess.run([sys.executable, "-c", textwrap.dedent(program)], check=True)


def pretend(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every folder look as if it lay on such a file system, by a made-up ``/proc``."""

    class Proc:
        def __truediv__(self, name: str) -> Path:
            path = tmp_path / "proc" / name.replace("/", "-")
            path.parent.mkdir(exist_ok=True)
            if name.startswith("self/fdinfo"):
                path.write_text("pos:\t0\nflags:\t0100000\nmnt_id:\t77\nino:\t1\n", encoding="ascii")
            else:
                path.write_text(
                    "7 1 8:1 / / rw,relatime - ext4 /dev/root rw\n"
                    f"77 7 0:50 / /a\\040b rw,relatime shared:3 master:2 - {kind} fs-1:/ rw,vers=4.1\n",
                    encoding="ascii",
                )
            return path

    monkeypatch.setattr(folders, "PROC", Proc())
