"""The twin as a function: a description's own parameters, and a result that prints as lines."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Literal

import pytest

from lightning_sagemaker.simulate import Simulation, SimulationError, simulate

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def test_it_takes_what_a_description_takes() -> None:
    assert inspect.signature(simulate).parameters == inspect.signature(Simulation).parameters
    assert "as SageMaker would run it" in str(simulate.__doc__)


def test_texts_and_lists_of_a_notebook_do_and_the_result_prints_as_lines(
    script: Callable[[str], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "data").mkdir()
    path = script(
        "import os, sys, time\n"
        "kept = os.environ['SAGEMAKER_BASE_DIR'] + '/checkpoints'\n"
        "print(sys.argv[1:], os.environ['SM_CHANNEL_TRAIN'][-5:], os.listdir(kept), flush=True)\n"
        "again = os.listdir(kept)\n"
        "open(kept + '/a.ckpt', 'w')\n"
        "again or time.sleep(300)\n"
        "raise ValueError('no data')\n"
    )
    ended = simulate(
        str(path),
        ["--epochs", "2"],
        hosts=1,
        channels={"train": str(tmp_path / "data")},
        checkpoints=str(tmp_path / "kept"),
        work_dir=str(tmp_path / "job"),
        interrupt_after=10,
        restart=True,
    )
    printed = capsys.readouterr()
    assert "[algo-1] ['--epochs', '2'] train ['a.ckpt']" in printed.out
    assert (ended.exit_code, ended.starts, ended.folder) == (1, 2, tmp_path / "job")
    first, second, *error = str(ended).splitlines()
    assert first.endswith(f"s with exit code 1, after 2 starts, files kept in {tmp_path / 'job'}")
    assert second == "the job failed on algo-1, exit code 1:"
    assert error[-1] == "  ValueError: no data"
    assert repr(ended) == str(ended)
    assert repr(ended.failure) == "\n".join([second, *error])
    assert str(ended) in printed.err.replace("simulate: ", "")


def test_launchers_have_the_words_of_submit(script: Callable[[str], Path]) -> None:
    path = script("")
    names: dict[Literal["torchrun", "smddprun", "mpirun", "none"], str] = {
        "torchrun": "torch_distributed",
        "smddprun": "smdistributed",
        "mpirun": "mpi",
        "none": "none",
    }
    for launcher, distribution in names.items():
        job = Simulation(path, launcher=launcher, hosts=2, interrupt_after=1, restart=True)
        assert (job.distribution, job.started_again().distribution) == (distribution, distribution)


def test_two_launchers_are_an_error(script: Callable[[str], Path]) -> None:
    with pytest.raises(SimulationError, match=r"launcher is 'torchrun' and distribution 'mpi', .*HINT: "):
        Simulation(script(""), launcher="torchrun", distribution="mpi")
    with pytest.raises(SimulationError, match=r"launcher is 'torch'.*torchrun, smddprun, mpirun, none"):
        Simulation(script(""), launcher="torch")  # type: ignore[arg-type]
