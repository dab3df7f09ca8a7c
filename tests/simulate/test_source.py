"""The job's source folder: what each host gets of it, and what it says of itself."""

from __future__ import annotations

import importlib.metadata
import os
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from lightning_sagemaker.simulate import Simulation, SimulationError, source
from lightning_sagemaker.submit import TrainingJob

from .helpers import PROBE, environment, read_probes, run_cli

if TYPE_CHECKING:
    from collections.abc import Callable


def test_what_a_script_writes_beside_itself_is_its_host_s_own_and_never_the_user_s(
    script: Callable[[str], Path], tmp_path: Path
) -> None:
    path = script("import os\nopen('seen.txt', 'a').write(os.environ['CURRENT_HOST'])\nprint(open('seen.txt').read())")
    (path.parent / "seen.txt").write_text("by ")
    done = run_cli("--hosts", "2", "--work-dir", str(tmp_path / "job"), str(path))
    assert sorted(done.stdout.splitlines()) == ["[algo-1] by algo-1", "[algo-2] by algo-2"], done.stderr
    assert (path.parent / "seen.txt").read_text() == "by "


@pytest.mark.parametrize("options", [("--launcher", "torchrun"), ("--launcher", "smddprun"), ("--sdk", "v3")])
def test_a_script_in_a_folder_of_the_source_folder_starts_in_the_source_folder(
    options: tuple[str, ...], script: Callable[..., Path], tmp_path: Path
) -> None:
    folder = script("").parent
    (folder / "sub").mkdir()
    path = folder / "sub/train.py"
    path.write_text(PROBE)
    seen = tmp_path / "seen"
    seen.mkdir()
    more = ["--source-dir", str(folder), "--env", f"PROBE_FOLDER={seen}", "--work-dir", str(tmp_path / "job")]
    done = run_cli(*options, *more, str(path))
    assert done.returncode == 0, done.stderr
    (one,) = read_probes(seen)
    assert Path(one.path0) == Path(one.cwd) / "sub"
    assert (Path(one.cwd) / "train.py").is_file()


def test_a_run_inside_its_own_source_folder_does_not_copy_itself(script: Callable[[str], Path]) -> None:
    path = script("import os\nprint(sorted(os.listdir()))")
    done = run_cli("--hosts", "2", "--work-dir", str(path.parent / "runs"), str(path))
    assert set(done.stdout.splitlines()) == {"[algo-1] ['train.py']", "[algo-2] ['train.py']"}, done.stderr


def test_what_submit_leaves_out_is_not_there_and_credentials_large_files_and_links_are_named(
    script: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = script("").parent
    for name in (".netrc", "data.csv", "notes.txt", ".venv/lib.py", "runs/x.bin"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("x" * 20)
    (folder / ".gitignore").write_text("/runs/\n")
    (folder / "outside").symlink_to("/etc")
    monkeypatch.setattr("lightning_sagemaker.source_folder.LARGE", 19)
    (folder / "notes.txt").write_text("x")
    job = Simulation(folder / "train.py")
    found = source.read(job)
    assert list(found.files) == [".gitignore", "notes.txt", "train.py"]
    (note,) = source.notes(job, found)
    assert note.endswith("links that lead out of it: .netrc, data.csv, outside")


def test_without_pathspec_what_no_job_needs_is_left_out_and_a_line_says_what_is_not_read(
    script: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = script("").parent
    for name in (".git/config", "sub/__pycache__/a.pyc", "sub/b.py", "wandb/x", "sub/wandb/y", "z.ckpt", ".env.local"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    (folder / ".gitignore").write_text("sub\n")
    monkeypatch.setitem(sys.modules, "pathspec", None)
    job = Simulation(folder / "train.py")
    found = source.read(job)
    assert sorted(found.files) == [".gitignore", "sub/b.py", "sub/wandb/y", "train.py"]
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    assert list(source.notes(job, found)) == [
        "pathspec is not installed, so .gitignore is not read. HINT: pip install 'lightning-sagemaker[submit]'"
    ]


def test_a_script_that_an_ignore_file_names_is_an_error(script: Callable[[str], Path]) -> None:
    path = script("")
    (path.parent / ".gitignore").write_text("*.py\n")
    with pytest.raises(SimulationError, match=r"script is 'train.py', which is left out .* HINT: `!train.py` in"):
        source.read(Simulation(path))


def test_a_folder_of_data_is_an_error_before_anything_is_copied(script: Callable[[str], Path]) -> None:
    path = script("")
    for index in range(11):
        with (path.parent / f"part-{index}").open("wb") as file:
            os.truncate(file.fileno(), 99_000_000)
    with pytest.raises(SimulationError, match=r"with 1089 MB in 12 files, expected at most 1000 MB.*HINT"):
        source.read(Simulation(path))


def test_a_script_outside_of_its_source_folder_is_an_error(script: Callable[[str], Path], tmp_path: Path) -> None:
    with pytest.raises(SimulationError, match="which is not in the source folder"):
        Simulation(script(""), source_dir=tmp_path / "other")


def test_a_script_in_the_temporary_folder_needs_a_source_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "train.py").touch()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with pytest.raises(SimulationError, match="all of which would be the source folder"):
        Simulation(tmp_path / "train.py")
    assert Simulation(tmp_path / "train.py", source_dir=tmp_path).entry == "train.py"


def test_requirements_that_this_environment_lacks_are_named_in_one_line(script: Callable[[str], Path]) -> None:
    path = script("")
    version = importlib.metadata.version("filelock")
    lines = [
        "# ours",
        "-r more.txt",
        "filelock  # here",
        "filelock<1",
        "no-such-thing>=2",
        'other; python_version < "3"',
    ]
    (path.parent / "requirements.txt").write_text("\n".join(lines))
    job = Simulation(path)
    (note,) = source.notes(job, source.read(job))
    assert f"lacks: filelock<1 ({version} is here), no-such-thing>=2. HINT: pip install -r" in note


def test_a_copied_script_keeps_its_mode(script: Callable[[str], Path]) -> None:
    path = script("import os\nprint(os.access('tool.sh', os.X_OK))")
    (path.parent / "tool.sh").write_text("#!/bin/sh\n")
    (path.parent / "tool.sh").chmod(0o755)
    assert run_cli(str(path), env=environment()).stdout == "[algo-1] True\n"


def test_links_of_a_copy_lead_within_the_copy(script: Callable[[str], Path], tmp_path: Path) -> None:
    folder = script("").parent
    (folder / "data").mkdir()
    (folder / "data" / "a.txt").write_text("x")
    (folder / "absolute").symlink_to(folder / "data" / "a.txt")
    (folder / "relative").symlink_to("data")
    job = Simulation(folder / "train.py")
    source.copy(job, source.read(job), tmp_path / "copy")
    for name, place in (("absolute", "data/a.txt"), ("relative", "data")):
        assert (tmp_path / "copy" / name).resolve() == (tmp_path / "copy" / place).resolve()


@pytest.mark.parametrize("linked", ["away", "within"])
def test_of_a_script_that_is_a_link_simulate_says_what_submit_says(
    linked: str, script: Callable[..., Path], tmp_path: Path
) -> None:
    path = script("")
    (path.parent / "real").mkdir()
    target = tmp_path / "real.py" if linked == "away" else path.parent / "real/train_it.py"
    target.touch()
    path.unlink()
    path.symlink_to(target)
    if linked == "away":
        with pytest.raises(ValueError, match="is not in the source folder"):
            TrainingJob(path, instance_type="ml.p4d.24xlarge")
        with pytest.raises(
            SimulationError, match=r"train\.py', a link to '.*/real.py', which is not in the source fol"
        ):
            Simulation(path)
    else:
        job, sent = Simulation(path), TrainingJob(path, instance_type="ml.p4d.24xlarge")
        assert (job.entry, job.folder) == (sent.entry, sent.folder.resolve()) == ("real/train_it.py", path.parent)


def test_what_a_link_leads_to_is_the_script(script: Callable[..., Path]) -> None:
    path = script("", "real.sh")
    (path.parent / "train.py").symlink_to(path)
    with pytest.raises(SimulationError, match=r"expected a \.py file"):
        Simulation(path.parent / "train.py")


def test_a_user_without_a_home_simulates_too(script: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HOME")
    monkeypatch.setattr("pwd.getpwuid", dict[int, str]().__getitem__)  # as in a container with any user's number
    assert Simulation(script("")).entry == "train.py"


def test_a_file_that_goes_while_the_folder_is_copied_is_not_missed(
    script: Callable[[str], Path], tmp_path: Path
) -> None:
    path = script("")
    (path.parent / ".train.py.swp").touch()
    job = Simulation(path)
    found = source.read(job)
    (path.parent / ".train.py.swp").unlink()
    source.copy(job, found, tmp_path / "copy")
    assert [one.name for one in (tmp_path / "copy").iterdir()] == ["train.py"]


def test_names_of_any_bytes_are_told_on_one_line(script: Callable[[str], Path]) -> None:
    path = script("")
    for name in (b"a\nb", b"\xe9\x1b[2J"):
        (path.parent / os.fsdecode(name)).symlink_to("/etc")
    job = Simulation(path)
    (note,) = source.notes(job, source.read(job))
    assert note.endswith(r"links that lead out of it: a\nb, \xe9\x1b[2J")


def test_requirements_of_included_files_are_compared_too(script: Callable[[str], Path]) -> None:
    path = script("")
    (path.parent / "requirements.txt").write_text("-r base.txt\n")
    (path.parent / "base.txt").write_text("no-such-thing>=2\n")
    job = Simulation(path)
    (note,) = source.notes(job, source.read(job))
    assert "lacks: no-such-thing>=2. HINT" in note


def test_files_of_other_encodings_end_nothing(script: Callable[[str], Path]) -> None:
    path = script("")
    (path.parent / "requirements.txt").write_bytes(b"caf\xe9\n")
    (path.parent / ".gitignore").write_bytes(b"# caf\xe9\n*.b\xe9\n")
    for name in ("a.py", "a.b\udce9"):
        (path.parent / name).touch()
    job = Simulation(path)
    found = source.read(job)
    assert sorted(found.files) == [".gitignore", "a.py", "requirements.txt", "train.py"]
    assert not list(source.notes(job, found))


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_files_that_windows_writes_are_read(script: Callable[[str], Path], encoding: str) -> None:
    path = script("")
    (path.parent / "requirements.txt").write_text("no-such-thing>=2\n", encoding=encoding)
    (path.parent / ".gitignore").write_text("data.bin\n", encoding=encoding)
    (path.parent / "data.bin").touch()
    job = Simulation(path)
    found = source.read(job)
    assert "data.bin" not in found.files
    (note,) = source.notes(job, found)
    assert "lacks: no-such-thing>=2. HINT" in note
