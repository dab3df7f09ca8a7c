"""The checkpoint that a fit continues from, in Lightning's connector."""

from __future__ import annotations

from types import ModuleType, SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

from lightning_sagemaker.patches.checkpoints import patch_checkpoint_connector

if TYPE_CHECKING:
    import pytest


class Connector:
    """Lightning's connector, as far as the patch sees it."""

    def __init__(self) -> None:
        self.trainer = SimpleNamespace(is_global_zero=True, callbacks=[], fast_dev_run=False)
        self._ckpt_path: str | None = None
        self._loaded_checkpoint: dict[str, Any] = {}

    def _select_ckpt_path(self, _fn: object, path: str | None) -> str | None:
        return path

    def dump_checkpoint(self) -> dict[str, Any]:
        return {}

    def resume_start(self, path: str | None = None) -> None:
        self._ckpt_path = path

    def restore(self, path: str) -> None:
        self._ckpt_path = path

    def resume_end(self) -> None:
        pass


def test_a_fit_that_failed_before_it_was_resumed_leaves_nothing_to_the_next_one(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("TRAINING_JOB_NAME", "digits")
    monkeypatch.setenv("SM_RESOURCE_CONFIG", "{}")
    monkeypatch.setenv("LIGHTNING_SAGEMAKER_RESUME", "1")
    monkeypatch.setattr("lightning_sagemaker.checkpoint.resume.begin", lambda _: None)
    monkeypatch.setattr("lightning_sagemaker.checkpoint.resume.checkpoint_to_resume", lambda _: "earlier.ckpt")
    patched = type("Patched", (Connector,), dict(vars(Connector)))
    patch_checkpoint_connector(cast("ModuleType", SimpleNamespace(_CheckpointConnector=patched)))
    connector: Any = patched()
    connector._user_managed = False
    assert connector._select_ckpt_path("fit", None) == "earlier.ckpt"  # whose `setup`, say, fails
    assert connector._select_ckpt_path("fit", "mine.ckpt") == "mine.ckpt"
    connector.restore("search.ckpt")
    assert connector._ckpt_path == "search.ckpt"
    connector.resume_end()
    assert not caplog.records
