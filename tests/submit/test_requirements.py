from __future__ import annotations

import importlib.metadata
import zipfile
from pathlib import Path
from typing import Any

import pytest

from lightning_sagemaker.submit import TrainingJob, requirements
from lightning_sagemaker.submit.requirements import local_source, needed, wheels


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
    assert needed(job("lightning"), [wheel]) == [f"./{wheel.name}"]


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
    (built,) = wheels(job(), tmp_path)
    with zipfile.ZipFile(built) as file:
        assert "lightning_sagemaker/__init__.py" in file.namelist()
        assert not [name for name in file.namelist() if name.startswith("tests")]
    assert wheels(job("lightning-sagemaker==0.1.0"), tmp_path) == []


def test_a_wheel_that_is_no_longer_there_is_named(job: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(requirements, "local_source", lambda: tmp_path / "gone.whl")
    with pytest.raises(OSError, match=r"gone\.whl, which is no longer there to be sent\. HINT"):
        wheels(job(), tmp_path)


def test_a_wheel_that_cannot_be_built_is_an_error_with_pip_s_reason(
    job: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(requirements, "local_source", lambda: tmp_path / "absent")
    with pytest.raises(OSError, match=r"No wheel of lightning-sagemaker could be built from .*absent.*HINT"):
        wheels(job(), tmp_path)
