from __future__ import annotations

import os
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightning_sagemaker import source_folder
from lightning_sagemaker.arguments import ENTRY, ENTRY_ARGUMENTS
from lightning_sagemaker.source_folder import read
from lightning_sagemaker.submit import TrainingJob
from lightning_sagemaker.submit.source import archive, wheels

if TYPE_CHECKING:
    import pytest

SAFELY: dict[str, Any] = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}


def files(folder: Path, **contents: str) -> None:
    for name, text in contents.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def job(script: Path, **changes: object) -> TrainingJob:
    return TrainingJob(script, instance_type="ml.g5.xlarge", **changes)  # type: ignore[arg-type]


def test_what_no_job_needs_is_left_out(script: Path) -> None:
    folder = script.parent
    needless = [
        *(".git/config", "__pycache__/a.pyc", ".venv2/lib/x.py", "venv/x.py", "wandb/run.log", "mlruns/x", "outputs/x"),
        *("env/pyvenv.cfg", "env/lib/x.py", "tools/conda/conda-meta/history", "tools/conda/lib/x.py"),
        *("lightning_logs/version_0/metrics.csv", "last.ckpt", "checkpoints/a.bin", ".DS_Store", ENTRY),
    ]
    kept = ["conf/config.yaml", "models/outputs/__init__.py", "models/checkpoints/__init__.py", "wandbutils.py"]
    files(folder, **dict.fromkeys([*needless, *kept], "x"))
    assert sorted(read(folder).files) == sorted(["train.py", *kept])


def test_the_ignore_files_are_obeyed_and_the_later_one_wins(script: Path) -> None:
    folder = script.parent
    files(
        folder,
        **{
            ".gitignore": "*.csv\nbuild/\n!keep.csv\n",
            ".sagemakerignore": "notes/\n!table.csv\n!.env.public\n",
            **dict.fromkeys(["a.csv", "keep.csv", "table.csv", "build/x.py", "notes/y", ".env.public", ".env"], "x"),
        },
    )
    found = read(folder)
    assert sorted(found.files) == sorted(
        [".gitignore", ".sagemakerignore", "keep.csv", "table.csv", "train.py", ".env.public"]
    )
    assert ".env" not in found.files


def test_credentials_are_never_sent_and_named(script: Path) -> None:
    folder = script.parent
    names = [".aws/credentials", ".ssh/id_rsa", ".netrc", ".git-credentials", "keys/id_rsa", ".pypirc"]
    files(folder, **dict.fromkeys(names, "secret"))
    found = read(folder)
    assert list(found.files) == ["train.py"]
    assert sorted(found.credentials) == sorted(
        [".aws/", ".ssh/", ".netrc", ".git-credentials", "keys/id_rsa", ".pypirc"]
    )


def test_large_files_are_left_out_unless_an_ignore_file_keeps_them(
    script: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(source_folder, "LARGE", 100)
    folder = script.parent
    large = dict.fromkeys(["data.bin", "needed.bin", "weights[1].pt", "#big.bin"], "x" * 200)
    files(folder, **large, **{".sagemakerignore": "!needed.bin\n"})
    found = read(folder)
    assert sorted(found.large) == ["#big.bin", "data.bin", "weights[1].pt"]
    assert found.files["needed.bin"] == 200


def test_links_within_the_folder_are_kept_and_others_named_and_never_followed(script: Path, tmp_path: Path) -> None:
    folder = script.parent
    files(tmp_path, **{"outside/secret": "x"})
    files(folder, **{"part/data.txt": "x"})
    links = {
        "again": "part",  # to a folder
        "part/same": "data.txt",
        "absolute": str(folder / "part" / "data.txt"),  # of this machine
        "up": "..",
        "circle": "circle",
        "gone": "nowhere",
        "out": str(tmp_path / "outside" / "secret"),
    }
    for name, target in links.items():
        (folder / name).symlink_to(target)
    found = read(folder)
    assert sorted(found.files) == ["absolute", "again", "part/data.txt", "part/same", "train.py"]
    assert sorted(found.links) == ["circle", "gone", "out", "up"]
    archive(job(script), found, tmp_path / "sent.tar.gz", [])
    with tarfile.open(tmp_path / "sent.tar.gz") as tar:
        tar.extractall(tmp_path / "sent", **SAFELY)  # noqa: S202 - our own
    assert (tmp_path / "sent" / "again" / "data.txt").read_text() == "x"
    assert (tmp_path / "sent" / "absolute").readlink() == Path("part/data.txt")
    assert (tmp_path / "sent" / "part" / "same").readlink() == Path("data.txt")


def test_pipes_and_unreadable_names_do_no_harm(script: Path) -> None:
    folder = script.parent
    os.mkfifo(folder / "pipe")
    (folder / os.fsdecode(b"caf\xe9.txt")).write_text("x")
    assert len(read(folder).files) == 2


def test_the_archive_has_requirements_wheels_and_the_entry_script_and_the_user_s_folder_stays(
    script: Path, tmp_path: Path
) -> None:
    own = script.parent / "requirements.txt"
    own.write_text("scikit-learn")
    wheel = tmp_path / "extra-1.0-py3-none-any.whl"
    wheel.write_bytes(b"wheel")
    described = job(script, requirements=(str(wheel), "rich"), arguments=("fit",))
    archive(described, read(script.parent), tmp_path / "sent.tar.gz", wheels(described)[:1])
    with tarfile.open(tmp_path / "sent.tar.gz") as tar:
        tar.extractall(tmp_path / "sent", **SAFELY)  # noqa: S202 - our own
    sent = tmp_path / "sent"
    lines = (sent / "requirements.txt").read_text().splitlines()
    assert lines[:3] == ["scikit-learn", f"./{wheel.name}", "rich"]
    assert [line.partition("=")[0] for line in lines[3:]] == ["lightning", "lightning-sagemaker"]
    names = {"train.py", "requirements.txt", wheel.name, ENTRY, ENTRY_ARGUMENTS}
    assert {path.name for path in sent.iterdir()} == names
    assert (own.read_text(), {path.name for path in script.parent.iterdir()}) == (
        "scikit-learn",
        {"train.py", "requirements.txt"},
    )
