"""The command ``lightning-sagemaker`` as installed."""

from __future__ import annotations

import subprocess
import sys

import pytest

from lightning_sagemaker.cli import main


def test_help_lists_the_commands(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--help"])
    assert ended.value.code == 0
    assert "simulate" in capsys.readouterr().out


def test_help_of_simulate_names_every_distribution(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["simulate", "--help"])
    assert ended.value.code == 0
    text = capsys.readouterr().out
    for name in ("none", "torch_distributed", "smdistributed", "pytorchddp", "mpi", "--leader", "--env", "--work-dir"):
        assert name in text


def test_no_command_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([])
    assert ended.value.code == 2
    assert "COMMAND" in capsys.readouterr().err


def test_an_unknown_command_is_an_error() -> None:
    with pytest.raises(SystemExit) as ended:
        main(["simulatte"])
    assert ended.value.code == 2


def test_options_of_the_script_without_dashes_before_them_are_an_error_with_a_hint(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["simulate", "train.py", "--epochs", "2"])
    assert ended.value.code == 2
    assert "unrecognized arguments: --epochs 2. HINT: what belongs to a script goes after --" in capsys.readouterr().err


def test_the_command_line_imports_neither_torch_nor_lightning() -> None:
    code = "import sys, lightning_sagemaker.cli\nprint(*sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    imported = {name.partition(".")[0] for name in done.stdout.split()}
    assert not imported & {"torch", "lightning", "pytorch_lightning", "numpy", "sagemaker_training"}
