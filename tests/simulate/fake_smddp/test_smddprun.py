"""The simulation's `smddprun`: ranks from mpirun's variables, and nothing else changed."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

OMPI = {"OMPI_COMM_WORLD_RANK": "5", "OMPI_COMM_WORLD_SIZE": "8", "OMPI_COMM_WORLD_LOCAL_RANK": "1"}


Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def smddprun(fake_smddp: Path, clean_environment: Callable[..., dict[str, str]]) -> Run:
    def run(*command: str, **variables: str) -> subprocess.CompletedProcess[str]:
        program = [str(fake_smddp / "bin" / "smddprun"), *command]
        return subprocess.run(program, env=clean_environment(**variables), check=False, capture_output=True, text=True)

    return run


def test_smddprun_tells_its_command_the_ranks(smddprun: Run) -> None:
    done = smddprun("env", **OMPI, RANK="0", WORLD_SIZE="1")
    seen = dict(line.split("=", 1) for line in done.stdout.splitlines() if "=" in line)
    assert (seen["RANK"], seen["WORLD_SIZE"], seen["LOCAL_RANK"]) == ("5", "8", "1")
    names = ("SMDATAPARALLEL_WORLD_RANK", "SMDATAPARALLEL_WORLD_SIZE", "SMDATAPARALLEL_LOCAL_RANK")
    assert tuple(seen[name] for name in names) == ("5", "8", "1")
    assert "LOCAL_WORLD_SIZE" not in seen
    assert done.stderr == ""


def test_smddprun_passes_arguments_and_exit_code_on(smddprun: Run) -> None:
    done = smddprun("sh", "-c", 'printf "%s|" "$@"; exit 7', "x", "a b", "", "*", **OMPI)
    assert (done.stdout, done.returncode) == ("a b||*|", 7)


def test_smddprun_says_on_rank_zero_that_it_is_a_fake(smddprun: Run) -> None:
    done = smddprun("true", **{**OMPI, "OMPI_COMM_WORLD_RANK": "0"})
    assert "fake of lightning-sagemaker, not AWS's" in done.stderr


@pytest.mark.parametrize("missing", sorted(OMPI))
def test_smddprun_refuses_to_run_outside_mpirun(smddprun: Run, missing: str) -> None:
    done = smddprun("echo", "ran", **{name: value for name, value in OMPI.items() if name != missing})
    assert (done.returncode, done.stdout) == (2, "")
    assert f"{missing} is not set" in done.stderr


def test_smddprun_refuses_damaged_numbers(smddprun: Run) -> None:
    done = smddprun("echo", "ran", **{**OMPI, "OMPI_COMM_WORLD_SIZE": "8; echo no"})
    assert (done.returncode, done.stdout) == (2, "")
    assert "OMPI_COMM_WORLD_SIZE is '8; echo no', expected a number" in done.stderr


def test_smddprun_refuses_to_run_nothing(smddprun: Run) -> None:
    done = smddprun(**OMPI)
    assert done.returncode == 2
    assert "no command given" in done.stderr
