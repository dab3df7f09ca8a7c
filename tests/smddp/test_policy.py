from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING

import pytest

from lightning_sagemaker.settings import ON_MISSING
from lightning_sagemaker.smddp.availability import choose_backend

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.fixture
def said(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> pytest.LogCaptureFixture:
    monkeypatch.setattr(logging.getLogger("lightning_sagemaker"), "propagate", True)
    caplog.set_level(logging.WARNING, "lightning_sagemaker")
    return caplog


def test_a_missing_library_means_the_native_backend_and_one_loud_line(
    library: Callable[[str], None], job: Callable[..., None], said: pytest.LogCaptureFixture
) -> None:
    assert library is not None
    job("mpirun")
    assert choose_backend("replicated") is None
    assert choose_backend("replicated") is None
    assert [line.split(":")[0] for line in said.messages] == ["SMDDP IS NOT USED"]


def test_other_ranks_are_silent(
    library: Callable[[str], None], job: Callable[..., None], said: pytest.LogCaptureFixture
) -> None:
    assert library is not None
    job("mpirun", rank=1)
    assert choose_backend("replicated") is None
    assert not said.messages


@pytest.mark.parametrize("by_variable", [True, False])
def test_error_raises_with_the_reason_and_the_cause(
    library: Callable[[str], None], job: Callable[..., None], monkeypatch: pytest.MonkeyPatch, *, by_variable: bool
) -> None:
    library("raise RuntimeError('ml.g5.12xlarge is not supported')")
    job("mpirun")
    if by_variable:
        monkeypatch.setenv(ON_MISSING, "error")
    with pytest.raises(RuntimeError, match=r"ml\.g5\.12xlarge is not supported.*HINT: ") as raised:
        choose_backend("replicated", None if by_variable else "error")
    assert "ml.g5.12xlarge" in str(raised.value.__cause__)


def test_an_argument_beats_the_variable(
    library: Callable[[str], None], job: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert library is not None
    job("mpirun")
    monkeypatch.setenv(ON_MISSING, "error")
    assert choose_backend("replicated", "native") is None


@pytest.mark.parametrize("by_variable", [True, False])
def test_an_unknown_policy_is_named(monkeypatch: pytest.MonkeyPatch, *, by_variable: bool) -> None:
    if by_variable:
        monkeypatch.setenv(ON_MISSING, "nccl")
    with pytest.raises(ValueError, match=f"{ON_MISSING if by_variable else 'on_missing'}`?='nccl'.*HINT: "):
        choose_backend("replicated", None if by_variable else "nccl")  # type: ignore[arg-type]


@pytest.mark.parametrize("launcher", ["mpirun", "torchrun"])
def test_a_library_that_imports_is_used_under_sagemakers_launchers(
    library: Callable[[str], None], job: Callable[..., None], launcher: str
) -> None:
    library("")
    job(launcher)
    assert choose_backend("replicated", "error") == "smddp"


def test_without_a_launcher_smddp_is_not_used(library: Callable[[str], None], job: Callable[..., None]) -> None:
    library("")
    job("none")
    with pytest.raises(RuntimeError, match="under mpirun and torchrun only"):
        choose_backend("replicated", "error")


def test_outside_a_job_smddp_is_not_used(library: Callable[[str], None]) -> None:
    library("")
    with pytest.raises(RuntimeError, match="in no SageMaker training job"):
        choose_backend("replicated", "error")


def test_torchrun_makes_replicated_training_fall_back_to_nccl_and_a_line_says_so(
    library: Callable[[str], None], job: Callable[..., None], said: pytest.LogCaptureFixture
) -> None:
    library("")
    job("torchrun")
    choose_backend("replicated")
    assert ["falls back to NCCL" in line for line in said.messages] == [True]


def test_sharded_training_under_torchrun_needs_no_advice(
    library: Callable[[str], None], job: Callable[..., None], said: pytest.LogCaptureFixture
) -> None:
    library("")
    job("torchrun")
    choose_backend("sharded")
    assert not said.messages
    assert "SMDATAPARALLEL_OPTIMIZE_SDP" not in os.environ


def test_sharded_training_under_mpirun_asks_for_all_gather_before_the_import(
    library: Callable[[str], None], job: Callable[..., None]
) -> None:
    library("import os\nassert os.environ['SMDATAPARALLEL_OPTIMIZE_SDP'] == 'true'")
    job("mpirun")
    assert choose_backend("sharded", "error") == "smddp"


def test_all_gather_that_the_user_switched_off_stays_off_and_a_line_says_so(
    library: Callable[[str], None],
    job: Callable[..., None],
    said: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    library("")
    job("mpirun")
    monkeypatch.setenv("SMDATAPARALLEL_OPTIMIZE_SDP", "false")
    choose_backend("sharded")
    assert os.environ["SMDATAPARALLEL_OPTIMIZE_SDP"] == "false"
    assert ["AllGather is off" in line for line in said.messages] == [True]


def test_an_instance_type_that_smddp_does_not_support_is_named(
    library: Callable[[str], None], job: Callable[..., None], said: pytest.LogCaptureFixture
) -> None:
    library("")
    job("mpirun", instance_type="ml.g5.12xlarge")
    choose_backend("replicated")
    assert ["ml.g5.12xlarge" in line for line in said.messages] == [True]
