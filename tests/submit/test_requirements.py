from __future__ import annotations

import importlib.metadata
import zipfile
from pathlib import Path
from typing import Any

import pytest

from lightning_sagemaker.submit import TrainingJob
from lightning_sagemaker.submit.source import built, local_source, name_of, needed, wheels


@pytest.fixture
def job(script: Path) -> Any:
    def make(own: str = "", *further: str) -> TrainingJob:
        (script.parent / "requirements.txt").write_text(own)
        return TrainingJob(script, instance_type="ml.g5.xlarge", requirements=further)

    return make


def test_lightning_and_this_package_are_named_in_the_versions_installed_here_unless_the_user_names_them(
    job: Any, tmp_path: Path
) -> None:
    versions = [importlib.metadata.version(name) for name in ("lightning", "lightning-sagemaker")]
    assert needed(job(), []) == [f"lightning=={versions[0]}", f"lightning-sagemaker=={versions[1]}"]
    own = "Lightning_SageMaker @ file:///x  # ours\npytorch_lightning==2.5\n"
    assert needed(job(own, "numpy"), []) == ["numpy"]
    wheel = tmp_path / "lightning_sagemaker-0.1.0-py3-none-any.whl"
    assert needed(job("lightning"), [wheel.name]) == [f"./{wheel.name}"]


class Installed:
    """A distribution as pip leaves it."""

    def __init__(self, url: str | None) -> None:
        self._url = url

    def read_text(self, name: str) -> str | None:
        assert name == "direct_url.json"
        return None if self._url is None else f'{{"url": "{self._url}"}}'


@pytest.mark.parametrize(
    ("url", "place"),
    [
        (None, None),  # from an index
        ("file:///home/me/lightning-sagemaker", "/home/me/lightning-sagemaker"),
        ("file:///home/me/my%20folder", "/home/me/my folder"),
        ("file:///tmp/a.whl", "/tmp/a.whl"),  # noqa: S108 - not read
        ("https://example.com/a.whl", None),
    ],
)
def test_an_installation_from_a_folder_or_a_wheel_is_told_from_one_of_an_index(
    monkeypatch: pytest.MonkeyPatch, url: str | None, place: str | None
) -> None:
    monkeypatch.setattr(importlib.metadata, "distribution", lambda _name: Installed(url))
    assert local_source() == (None if place is None else Path(place))


def test_a_package_from_its_source_is_sent_as_a_wheel_that_is_built(job: Any, tmp_path: Path) -> None:
    assert local_source() is not None, "the tests run the package from its source, or a wheel of it"
    (own,) = wheels(job())
    with zipfile.ZipFile(built(own, tmp_path)) as file:
        assert "lightning_sagemaker/__init__.py" in file.namelist()
        assert not [name for name in file.namelist() if name.startswith("tests")]
    assert wheels(job("lightning-sagemaker==0.1.0")) == []


def test_a_wheel_that_is_no_longer_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=r"gone\.whl, which is no longer there to be sent\. HINT"):
        built(tmp_path / "gone.whl", tmp_path)


def test_a_wheel_that_cannot_be_built_is_an_error_with_pip_s_reason(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=r"No wheel of lightning-sagemaker could be built from .*absent.*HINT"):
        built(tmp_path / "absent", tmp_path)


@pytest.mark.parametrize(
    ("line", "name"),
    [
        ("git+https://github.com/Lightning-AI/pytorch-lightning", "pytorch-lightning"),
        ("git+https://github.com/Lightning-AI/pytorch-lightning.git@release/2.5.x", "pytorch-lightning"),
        ("git+ssh://git@example.com/me/fork.git@main#egg=lightning", "lightning"),
        ("-e git+https://example.com/me/fork#subdirectory=x&egg=Lightning_SageMaker", "lightning-sagemaker"),
        ("https://github.com/Lightning-AI/pytorch-lightning/archive/refs/heads/master.zip", "pytorch-lightning"),
        ("https://example.com/lightning-2.5.0-py3-none-any.whl#sha256=0", "lightning"),
        ("./lightning-2.5.0.tar.gz", "lightning"),
        ("-e ../lightning-sagemaker", "lightning-sagemaker"),
        ("/data/archive/me@home/lightning_sagemaker-0.2.0-py3-none-any.whl", "lightning-sagemaker"),
        ("lightning_sagemaker-*.whl", "lightning-sagemaker"),
        ("lightning[extra]>=2.4 ; python_version > '3'  # new", "lightning"),
        ("lightning @ git+https://example.com/fork", "lightning"),
        ("# lightning", ""),
        ("--extra-index-url https://example.com/lightning", ""),
    ],
)
def test_the_name_in_any_form_of_a_line_is_known(line: str, name: str) -> None:
    assert name_of(line) == name


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_names_are_read_in_any_encoding_that_windows_writes(job: Any, script: Path, encoding: str) -> None:
    described = job()
    (script.parent / "requirements.txt").write_text("lightning==2.5.0\nlightning-sagemaker\n", encoding=encoding)
    assert needed(described, []) == []


def test_half_a_character_is_an_error_that_names_the_file(job: Any, script: Path) -> None:
    described, path = job(), script.parent / "requirements.txt"
    path.write_bytes("lightning".encode("utf-16")[:-1])
    with pytest.raises(ValueError, match=rf"^'{path}' begins as utf-16 text and is none \(.*\)\. HINT: save"):
        needed(described, [])


@pytest.mark.parametrize("line", ["https://host/flash_attn-2.7-cp312-linux_x86_64.whl", "x @ https://host/x.whl"])
def test_a_wheel_at_a_url_is_a_line_like_others(job: Any, line: str) -> None:
    assert line in needed(job("lightning\nlightning-sagemaker", line), [])
    assert wheels(job("lightning-sagemaker", line)) == []


def test_files_that_the_requirements_include_are_read_too(job: Any, script: Path) -> None:
    folder = script.parent
    (folder / "more").mkdir()
    (folder / "base.txt").write_text("numpy\n-r more/deep.txt\n--requirement=base.txt\n-r absent.txt\n")
    (folder / "more" / "deep.txt").write_text("--requirement  last.txt # near\nlightning==2.5\n")
    (folder / "more" / "last.txt").write_text("lightning-sagemaker")
    assert needed(job("-r base.txt\n"), []) == []
