"""Looking at a machine, also at one on which imports end the process or hang."""

from __future__ import annotations

import importlib.metadata
import json
import signal
import sys
from typing import TYPE_CHECKING

import pytest

from lightning_sagemaker.doctor import situation as module
from lightning_sagemaker.doctor.report import examine
from lightning_sagemaker.doctor.situation import efa_devices, probe_machine

from .conftest import of_kind

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Fake = Callable[..., None]

GOOD_TORCH = """
class cuda:
    is_available = staticmethod(lambda: False)
    device_count = staticmethod(lambda: 0)
class version:
    cuda = None
__version__ = "2.4.1"
"""


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Fake:
    """Put modules with these texts before the installed ones, in processes that are started."""

    def fake(**texts: str) -> None:
        harmless = {"torch": GOOD_TORCH, "lightning": "raise ModuleNotFoundError(name='lightning')"}
        harmless |= {"pytorch_lightning": "__version__ = '2.6.6'", "smdistributed": ""}
        for name, text in {**harmless, **texts}.items():
            (tmp_path / f"{name}.py").write_text(text)

    monkeypatch.chdir(tmp_path)
    return fake


def test_versions_come_from_the_modules_that_import(fake: Fake) -> None:
    fake()
    found = probe_machine({}).imports
    assert found["torch"] == {
        "version": "2.4.1",
        "cuda": None,
        "nccl": None,
        "gpus": 0,
        "autoloads": False,
        "hooked": False,
    }
    assert found["lightning.pytorch"] == {"absent": True}
    assert found["pytorch_lightning"] == {"version": "2.6.6"}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("import os; os.abort()", "the process ended (SIGABRT)"),
        (
            "import os, sys; sys.stderr.write('no libcuda'); sys.stderr.flush(); os._exit(7)",
            "(exit code 7): no libcuda",
        ),
        ("raise SystemExit('not here')", "SystemExit: not here"),
        ("raise ImportError('libcudart.so')", "ImportError: libcudart.so"),
        ("import nothing_of_the_kind", "ModuleNotFoundError: No module named 'nothing_of_the_kind'"),
        ("raise KeyboardInterrupt", "KeyboardInterrupt"),
    ],
)
def test_however_an_import_ends_it_is_a_finding(fake: Fake, tmp_path: Path, text: str, words: str) -> None:
    fake(torch=text)
    machine = probe_machine({})
    assert machine.gpus is None
    (finding,) = of_kind(examine({}, tmp_path, machine), "import-torch")
    assert words in finding.what


def test_a_crash_of_one_module_does_not_lose_those_before(fake: Fake) -> None:
    fake(pytorch_lightning="import os; os.abort()")
    found = probe_machine({}).imports
    assert found["torch"]["version"] == "2.4.1"
    assert "SIGABRT" in found["pytorch_lightning"]["problem"]


def test_an_import_that_hangs_is_given_up(fake: Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    fake(torch="import time; time.sleep(60)")
    monkeypatch.setattr(module, "_PATIENCE", 2.0)
    assert "did not end within 2 s" in probe_machine({}).imports["torch"]["problem"]


def test_what_modules_print_does_not_disturb(fake: Fake) -> None:
    fake(torch=f"import os; print('hello', flush=True); os.write(1, b'no end of line')\n{GOOD_TORCH}")
    assert probe_machine({}).imports["torch"]["version"] == "2.4.1"


def test_an_interpreter_that_cannot_be_started_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/no/such/python")
    assert "/no/such/python" in probe_machine({}).imports["torch"]["problem"]


def test_damaged_metadata_is_unknown_and_no_error(fake: Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    def damaged(*_: object, **__: object) -> None:
        raise TypeError("no metadata")

    fake()
    monkeypatch.setattr(importlib.metadata, "version", damaged)
    monkeypatch.setattr(importlib.metadata, "entry_points", damaged)
    machine = probe_machine({})
    assert machine.versions["torch"] is None
    assert machine.entry_point is False


def test_a_malformed_checkpoint_configuration_is_a_finding(fake: Fake, tmp_path: Path) -> None:
    fake()
    config = tmp_path / "input" / "config"
    config.mkdir(parents=True)
    (config / "checkpointconfig.json").write_text("{}")
    (config / "resourceconfig.json").write_text("{}")
    machine = probe_machine({"SAGEMAKER_BASE_DIR": str(tmp_path), "TRAINING_JOB_NAME": "digits"})
    (finding,) = of_kind(examine({}, tmp_path, machine), "checkpoints-unreadable")
    assert "checkpointconfig.json has no `LocalPath`" in finding.what


def test_the_checkpoint_folder_of_the_job_is_found(fake: Fake, tmp_path: Path) -> None:
    fake()
    config = tmp_path / "input" / "config"
    config.mkdir(parents=True)
    (config / "checkpointconfig.json").write_text(json.dumps({"LocalPath": str(tmp_path)}))
    (config / "resourceconfig.json").write_text("{}")
    environ = {"SAGEMAKER_BASE_DIR": str(tmp_path), "TRAINING_JOB_NAME": "digits"}
    assert probe_machine(environ).checkpoint_folder == str(tmp_path)


def test_efa_devices_are_told_from_others_by_their_driver(tmp_path: Path) -> None:
    devices = tmp_path / "infiniband"
    for name, driver in (("rdmap16s27", "efa"), ("mlx5_0", "mlx5_core"), ("unknown0", None)):
        (devices / name / "device").mkdir(parents=True)
        if driver:
            (tmp_path / driver).mkdir()
            (devices / name / "device" / "driver").symlink_to(tmp_path / driver)
    assert efa_devices(devices) == ("rdmap16s27", "unknown0")
    assert efa_devices(tmp_path / "no-such-folder") == ()


def test_a_process_that_a_real_time_signal_ended_is_told(fake: Fake) -> None:
    fake(torch="import os, signal\nos.kill(os.getpid(), signal.SIGRTMIN + 1)")
    assert probe_machine({}).imports["torch"]["problem"].startswith(f"the process ended (signal {signal.SIGRTMIN + 1})")


def test_a_folder_of_the_path_that_cannot_be_looked_at_ends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_imports", dict)
    monkeypatch.setattr(sys, "path", ["x" * 300])  # an error for whoever asks, as a folder without rights is
    assert not probe_machine({}).pth
