from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

from lightning_sagemaker import messages
from lightning_sagemaker.settings import ON_MISSING
from lightning_sagemaker.smddp.availability import availability

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture
def library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """Installs an SMDDP library whose torch_smddp is the given code; none is installed before the call."""

    def forget() -> None:
        availability.cache_clear()
        messages._said.clear()
        for name in [name for name in sys.modules if name.split(".")[0] == "smdistributed"]:
            del sys.modules[name]

    def install(code: str) -> None:
        folder = tmp_path / "site" / "smdistributed" / "dataparallel"
        (folder / "torch").mkdir(parents=True)
        (folder / "__init__.py").write_text("__version__ = '2.3.0'\n")
        (folder / "torch" / "torch_smddp.py").write_text(code)
        monkeypatch.syspath_prepend(str(tmp_path / "site"))

    forget()
    yield install
    forget()


@pytest.fixture
def job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Puts this process into a job of two hosts with one process each, on its first host."""

    def start(launcher: str, instance_type: str = "ml.p4d.24xlarge", rank: int = 0) -> None:
        config = tmp_path / "ml" / "input" / "config"
        config.mkdir(parents=True)
        (config / "resourceconfig.json").write_text(
            f'{{"current_host": "algo-{rank + 1}", "hosts": ["algo-1", "algo-2"],'
            f' "current_instance_type": "{instance_type}"}}'
        )
        variables = {"SAGEMAKER_BASE_DIR": str(tmp_path / "ml"), "TRAINING_JOB_NAME": "job", "MASTER_ADDR": "algo-1"}
        if launcher == "torchrun":
            variables |= {"TORCHELASTIC_RUN_ID": "none", "RANK": str(rank), "WORLD_SIZE": "2"}
            variables |= {"LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "1"}
        if launcher == "mpirun":
            ranks = {"RANK": rank, "SIZE": 2, "LOCAL_RANK": 0, "LOCAL_SIZE": 1}
            variables |= {f"OMPI_COMM_WORLD_{name}": str(value) for name, value in ranks.items()}
        for name, value in variables.items():
            monkeypatch.setenv(name, value)

    for name in ("SMDATAPARALLEL_OPTIMIZE_SDP", ON_MISSING):
        monkeypatch.setenv(name, "")  # so that what the code under test sets is undone
        monkeypatch.delenv(name)
    return start
