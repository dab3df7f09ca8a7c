"""Bad input: a clear error before anything starts, with what was found, what was expected, and a hint."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

import pytest

from lightning_sagemaker.cli import main
from lightning_sagemaker.simulate import Simulation, SimulationError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

V2 = "none, torch_distributed, smdistributed, pytorchddp, mpi"


@pytest.mark.parametrize(
    ("options", "found", "expected"),
    [
        (["--hosts", "0"], "hosts is 0", "at least 1"),
        (["--hosts", "-3"], "hosts is -3", "at least 1"),
        (["--processes-per-host", "0"], "processes-per-host is 0", "at least 1"),
        (["--distribution", "horovod"], "distribution is 'horovod'", V2),
        (
            ["--sdk", "v3", "--distribution", "smdistributed"],
            "distribution is 'smdistributed'",
            "none, torch_distributed, mpi.",
        ),
        (["--sdk", "v3", "--distribution", "pytorchddp"], "'pytorchddp'", "HINT: 'pytorchddp' exists with --sdk v2"),
        (["--sdk", "v1"], "sdk is 'v1'", "v2, v3"),
        (["--leader", "1"], "leader is 1", "first host"),
        (["--sdk", "v3", "--distribution", "mpi", "--leader", "1"], "leader is 1", "first host"),
        (["--distribution", "mpi", "--hosts", "2", "--leader", "3"], "leader is 3", "1 to 2"),
        (["--distribution", "mpi", "--leader", "0"], "leader is 0", "1 to 1"),
        (["--mpi-option=-np"], "mpi options are ['-np']", "smdistributed, pytorchddp, mpi"),
        (["--distribution", "mpi", "--mpi-option=-np", "--mpi-option=9"], "-np is '9'", "1 to 1"),
        (["--instance-type", "ml.g5.12xlarg"], "instance-type is 'ml.g5.12xlarg'", "HINT: ml.g5.12xlarge, "),
        (["--instance-type", "bogus"], "instance-type is 'bogus'", "ml.g6.xlarge?"),
        (["--env", "NAME"], "'NAME'", "NAME=VALUE"),
        (["--env", "1A=2"], "'1A'", "NAME=VALUE"),
        (["--channel", "data"], "'data'", "NAME=PATH"),
        (["--channel", "data=/does/not/exist"], "'/does/not/exist'", "NAME=PATH"),
        (["--channel", "data=/does/not/exist:sharded"], "'/does/not/exist'", "NAME=PATH"),
        (["--grace", "-1"], "grace is -1.0", "0 or more"),
        (["--grace", "nan"], "grace is nan", "0 or more"),
        (["--grace", "inf"], "grace is inf", "0 or more"),
        (["--channel", "..=."], "channel is named '..'", "NAME=PLACE"),
        (["--sdk", "v3", "--channel", "code=."], "channel is named 'code', as one of SDK v3's own", "another name"),
        (["--restart"], "restart is asked for", "--interrupt-after SECONDS"),
        (["--interrupt-after", "0"], "interrupt-after is 0.0", "more than 0"),
        (["--interrupt-after", "nan"], "interrupt-after is nan", "more than 0"),
        (["--checkpoints", __file__], "checkpoints is", "not a folder"),
        (["--checkpoints", "/proc/sys"], "checkpoints is '/proc/sys'", "in which no file can be made"),
    ],
)
def test_options(
    *,
    options: list[str],
    found: str,
    expected: str,
    script: Callable[[str], Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = script("open('started', 'w')")
    assert main(["simulate", *options, "--work-dir", str(tmp_path / "job"), str(path)]) == 2
    error = capsys.readouterr().err
    assert found in error
    assert expected in error
    assert "HINT: " in error or "expected" in error
    assert not (tmp_path / "job").exists()
    assert not (path.parent / "started").exists()


def test_each_instance_type_of_the_api_is_taken(script: Callable[[str], Path]) -> None:
    shape = importlib.import_module("botocore.session").get_session().get_service_model("sagemaker")
    types = shape.shape_for("TrainingInstanceType").enum
    assert len(types) > 200
    for instance_type in types:
        Simulation(script(""), instance_type=instance_type)


def test_a_missing_script(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["simulate", str(tmp_path / "no.py")]) == 2
    assert f"script is '{tmp_path}/no.py', which is not a file. HINT:" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["train.sh", "train"])
def test_a_script_of_another_kind(name: str, script: Callable[..., Path], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["simulate", str(script("", name))]) == 2
    assert "expected a .py file. HINT:" in capsys.readouterr().err


def test_a_name_that_the_toolkit_refuses(script: Callable[..., Path]) -> None:
    path = script("", "my train.py")
    with pytest.raises(SimulationError, match="refuses an entry point"):
        Simulation(path)
    Simulation(path, sdk="v3")


def test_a_launcher_s_name_as_a_distribution_is_told_apart(script: Callable[..., Path]) -> None:
    with pytest.raises(SimulationError, match=r"distribution is 'torchrun'.*HINT: --launcher torchrun"):
        Simulation(script(""), distribution="torchrun")


def test_a_folder_that_is_not_empty(script: Callable[..., Path], capsys: pytest.CaptureFixture[str]) -> None:
    path = script("")
    assert main(["simulate", "--work-dir", str(path.parent), str(path)]) == 2
    assert "which is not empty" in capsys.readouterr().err


def test_a_folder_that_is_a_file(script: Callable[..., Path], capsys: pytest.CaptureFixture[str]) -> None:
    path = script("")
    assert main(["simulate", "--work-dir", str(path), str(path)]) == 2
    assert "which is not a folder" in capsys.readouterr().err


def test_a_null_character_is_a_wrong_description(script: Callable[..., Path]) -> None:
    with pytest.raises(SimulationError, match=r"has a null character.*HINT: "):
        Simulation(script(""), ("a\0b",))
