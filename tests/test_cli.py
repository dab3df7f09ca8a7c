"""The command ``lightning-sagemaker`` as installed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from botocore.exceptions import ReadTimeoutError

import lightning_sagemaker
from lightning_sagemaker.cli import main

if TYPE_CHECKING:
    from collections.abc import Callable


def test_help_lists_the_commands(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--help"])
    assert ended.value.code == 0
    told = capsys.readouterr().out
    assert all(name in told for name in ("simulate", "doctor", "submit", "jobs"))


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
    told = capsys.readouterr().err
    assert "unrecognized arguments: --epochs 2. HINT: the script's own arguments go after --" in told
    assert told.startswith("usage: lightning-sagemaker simulate ")


IMPORTED = """
import contextlib, sys
from lightning_sagemaker.cli import main
with contextlib.suppress(SystemExit):
    main(sys.argv[1:])
print(*sys.modules, file=sys.stderr)
"""


def imported(*arguments: str) -> set[str]:
    done = subprocess.run([sys.executable, "-c", IMPORTED, *arguments], capture_output=True, text=True, check=True)
    return set(done.stderr.split())


def test_the_command_line_imports_neither_torch_nor_lightning() -> None:
    packages = {name.partition(".")[0] for name in imported("--help")}
    assert not packages & {"torch", "lightning", "pytorch_lightning", "numpy", "sagemaker_training"}


def test_a_command_imports_no_other_one_and_asks_for_no_version() -> None:
    simulate, *others = (f"lightning_sagemaker.{name}.command" for name in ("simulate", "doctor", "submit", "jobs"))
    assert imported("--help").issuperset([simulate, *others])
    assert imported("simulate", "--help") & {simulate, *others, "importlib.metadata"} == {simulate}


def test_the_version_is_told() -> None:
    console = Path(sys.executable).with_name("lightning-sagemaker")
    for command, option in ((["-m", "lightning_sagemaker"], "--version"), ([console], "--vers")):
        python = [sys.executable] if command[0] == "-m" else []
        done = subprocess.run([*python, *command, option], capture_output=True, text=True, check=True)
        assert done.stdout == f"lightning-sagemaker {lightning_sagemaker.__version__}\n"


def raising(error: BaseException) -> Callable[[object], int]:
    def run(_: object) -> int:
        raise error

    return run


SIMULATE = ["simulate", "train.py"]
MISTAKES: list[tuple[BaseException, int, str]] = [
    (ValueError("`hosts` is 0. HINT: --hosts 1."), 2, "error: `hosts` is 0. HINT: --hosts 1."),
    (FileNotFoundError(2, "No such file or directory", "saved.log"), 2, "error: No such file or directory: saved.log."),
    (PermissionError(13, "Permission denied", "/proc/x"), 2, "error: Permission denied: /proc/x."),
    (ImportError("No SDK is installed. HINT: pip install 'sagemaker<3'."), 2, "error: No SDK is installed. HINT:"),
    (KeyError("Arn"), 2, "error: KeyError: 'Arn'. HINT: --debug shows where it comes from."),
    (RuntimeError("line 1\nline 2 \x1b[2J token=abcdefgh12345678"), 2, "error: RuntimeError: line 1 line 2 \\x1b[2J"),
    (
        ReadTimeoutError(endpoint_url="https://x"),
        2,
        'error: Read timeout on endpoint URL: "https://x"',
    ),
    (KeyboardInterrupt(), 130, "interrupted."),
]


@pytest.mark.parametrize(("error", "code", "told"), MISTAKES, ids=lambda value: type(value).__name__)
def test_an_error_is_one_line(
    error: BaseException,
    code: int,
    told: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("lightning_sagemaker.simulate.command.run", raising(error))
    assert main(SIMULATE) == code
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"lightning-sagemaker simulate: {told}")
    assert "abcdefgh12345678" not in line


def test_the_traceback_is_there_for_who_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lightning_sagemaker.simulate.command.run", raising(KeyError("Arn")))
    with pytest.raises(KeyError):
        main([*SIMULATE, "--debug"])


def test_a_reader_that_has_gone_is_no_error() -> None:
    command = f"{Path(sys.executable).with_name('lightning-sagemaker')} submit --help | head -1"
    done = subprocess.run(["/bin/sh", "-c", command], capture_output=True, text=True, check=True)
    assert done.stderr == ""
