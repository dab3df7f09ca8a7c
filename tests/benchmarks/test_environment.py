from __future__ import annotations

import importlib.util
import platform
import sys
from types import SimpleNamespace
from typing import TYPE_CHECKING

from benchmarks.environment import gather

if TYPE_CHECKING:
    import pytest


def test_machine_and_versions_are_written_down() -> None:
    found = gather("gloo", launcher="torchrun", hosts=2, instance_type="ml.m5.large", environ={})
    assert (found.backend, found.fake_smddp, found.launcher, found.hosts) == ("gloo", False, "torchrun", 2)
    assert found.python == platform.python_version()
    if importlib.util.find_spec("torch"):  # the environment of the benchmarks need not have it
        assert "torch" in found.versions
    assert found.cores > 0
    assert found.cpu


def test_only_allowed_variables_are_written_down() -> None:
    environ = {
        "NCCL_DEBUG": "INFO",
        "FI_PROVIDER": "efa",
        "SMDATAPARALLEL_OPTIMIZE_SDP": "true",
        "OMP_NUM_THREADS": "1",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "HOME": "/root",
    }
    found = gather("gloo", environ=environ).variables
    assert set(found) == {"NCCL_DEBUG", "FI_PROVIDER", "SMDATAPARALLEL_OPTIMIZE_SDP", "OMP_NUM_THREADS"}


def test_package_that_is_a_fake_smddp_says_so_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    fake_smddp = SimpleNamespace(__version__="2.6.0+fake")
    monkeypatch.setitem(sys.modules, "smdistributed.dataparallel", fake_smddp)
    assert gather("smddp").fake_smddp
    assert not gather("gloo").fake_smddp
