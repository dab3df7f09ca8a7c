"""Fixtures that put a process into a made-up SageMaker job."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from lightning_sagemaker.job import SageMakerJob

from .launch_modes import MODES, Mode

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path


@pytest.fixture(params=MODES.values(), ids=list(MODES))
def mode(request: pytest.FixtureRequest) -> Mode:
    """Each launch mode in turn."""
    row: Mode = request.param
    return row


@pytest.fixture
def detect(tmp_path: Path) -> Callable[[Mapping[str, str], Any], SageMakerJob | None]:
    """Detection in an environment, with a ``resourceconfig.json``: bytes or text as they are, ``None`` for no file."""

    def in_job(environ: Mapping[str, str], config: Any) -> SageMakerJob | None:
        file = tmp_path / "resourceconfig.json"
        if config is None:
            file.unlink(missing_ok=True)
        elif isinstance(config, bytes):
            file.write_bytes(config)
        else:
            file.write_text(config if isinstance(config, str) else json.dumps(config), encoding="utf-8")
        return SageMakerJob.detect(environ, tmp_path)

    return in_job


@pytest.fixture
def refusal(detect: Callable[[Mapping[str, str], Any], SageMakerJob | None]) -> Callable[..., str]:
    """The message by which detection refuses an environment and a file."""

    def message(environ: Mapping[str, str], config: Any, error: type[Exception] = ValueError) -> str:
        with pytest.raises(error) as caught:
            detect(environ, config)
        assert type(caught.value) is error, "a subclass would say it in other words"
        text = str(caught.value)
        assert "HINT: " in text
        assert len(text) <= 1024, "SageMaker's job page shows the first 1024 characters, and the fix stands last"
        return text

    return message
