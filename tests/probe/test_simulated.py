"""Real probing jobs on this machine, one under each launcher."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from lightning_sagemaker.probe.assumptions import ASSUMPTIONS
from lightning_sagemaker.probe.trials import TRIALS

from .probing import LOOKS, Probed, probe

if TYPE_CHECKING:
    from pathlib import Path

EVERYWHERE = {"world", "host-order", "own-file", "interface", "marks", "port", "checkpoint-config", "hosts-meet"}
SECRET = "hunter2-of-the-tests"  # noqa: S105 - made up
OF_SMDDP = {f"smddp-{name}" for name in ("collectives", "sum-only", "objects", "other-collectives", "new-group")}


def check(probed: Probed, ranks: list[str], holds: set[str]) -> None:
    """Everything arrived from everybody, and these assumptions hold: no more, no less, none fails."""
    found = probed.report
    assert probed.code == 0, probed.output
    assert found["complete"] is True
    assert found["simulated"] is True
    assert list(probed.seen) == ranks
    for seen in probed.seen.values():
        assert {key for key in seen if "/" not in key or key.startswith("variables/")} == LOOKS
        assert [
            key for key, value in seen.items() if isinstance(value, dict) and {*value} <= {"error", "hang"} and value
        ] == []
    verdicts = probed.verdicts
    assert {key for key, verdict in verdicts.items() if verdict == "holds"} == holds, probed.output
    assert "fails" not in verdicts.values()
    assert [*verdicts] == [assumption.key for assumption in ASSUMPTIONS]


def tried(probed: Probed) -> set[str]:
    """Trials of which every rank told the outcome of every operation."""
    return {
        name
        for name, trial in TRIALS.items()
        if all({f"{name}/{each}" for each in (*trial.operations, "end")} <= {*seen} for seen in probed.seen.values())
    }


def test_without_a_launcher_and_a_secret_is_never_printed(tmp_path: Path) -> None:
    planted = {"DATABASE_PASSWORD": SECRET, "MASTER_KEY": SECRET, "NCCL_NOTE": f"begin {SECRET} end"}
    probed = probe(tmp_path, "--simulate", "--hosts", 2, "--distribution", "none", **planted)
    check(probed, ["0 on algo-1", "1 on algo-2"], EVERYWHERE | {"rendezvous", "rendezvous-again"})
    assert tried(probed) == {"gloo"}
    text = probed.output + json.dumps(probed.report)
    assert SECRET not in text
    assert "begin *** end" in text  # where it stood in an allowed variable
    assert '"MASTER_KEY": null' in text


def test_under_torchrun_the_agent_holds_the_port(tmp_path: Path) -> None:
    probed = probe(
        *(tmp_path, "--simulate", "--hosts", 2, "--processes-per-host", 1),
        *("--distribution", "torch_distributed"),
    )
    check(probed, ["0 on algo-2", "1 on algo-1"], EVERYWHERE | {"rendezvous"})
    assert probed.seen["0 on algo-2"]["port"]["free"] is False
    assert probed.seen["1 on algo-1"]["port"] == {"asked": False}


def test_under_mpirun_ranks_fill_the_hosts_and_the_leaders_variable_is_seen_everywhere(tmp_path: Path) -> None:
    probed = probe(
        *(tmp_path, "--simulate", "--hosts", 2, "--processes-per-host", 2, "--distribution", "mpi"),
    )
    check(
        probed,
        ["0 on algo-2", "1 on algo-2", "2 on algo-1", "3 on algo-1"],
        EVERYWHERE | {"rendezvous", "rendezvous-again", "slots-by-host"},
    )
    assert probed.seen["3 on algo-1"]["sm_resource_config"] == {"is": "different", "in": ["current_host"]}


def test_under_smddprun_the_stand_in_has_the_documented_limits(tmp_path: Path) -> None:
    probed = probe(
        *(tmp_path, "--simulate", "--hosts", 2, "--processes-per-host", 1, "--distribution", "smdistributed"),
    )
    mpirun = {"slots-by-host", "smddprun-ranks", "ranks-agree", "rendezvous", "rendezvous-again"}
    check(
        probed,
        ["0 on algo-2", "1 on algo-1"],
        EVERYWHERE | mpirun | OF_SMDDP | {"smddp-second-init", "smddp-exit"},
    )
    assert tried(probed) == {"gloo", "smddp", "smddp_exit"}
    for seen in probed.seen.values():
        assert seen["smddp/all_reduce_avg"]["outcome"] == "error"
        assert seen["smddp/all_reduce_avg"]["text"].startswith("RuntimeError: SMDDP does not support: ReduceOp (AVG")
        assert seen["smddp/init"]["text"] == "SMDDP 2.6.0+standin"
        assert seen["smddp_exit/end"]["processes"][0]["code"] == 0


HANGING = """\
import time
import torch.distributed as dist
def create(*_):
    time.sleep(600)
dist.Backend.register_backend("smddp", create, devices=["cpu"])
"""


def test_a_library_that_hangs_is_cut_and_the_report_says_so(tmp_path: Path) -> None:
    library = tmp_path / "site" / "smdistributed" / "dataparallel"
    (library / "torch").mkdir(parents=True)
    (library / "__init__.py").write_text("__version__ = '9.9'\n")
    (library / "torch" / "torch_smddp.py").write_text(HANGING)
    path = f"{environment_path()}:{tmp_path / 'site'}"
    probed = probe(
        *(tmp_path, "--simulate", "--hosts", 1, "--processes-per-host", 1, "--limit", 3),
        PYTHONPATH=path,
    )
    assert probed.code == 1
    assert probed.report["complete"] is True
    assert probed.verdicts["smddp-collectives"] == "fails"
    assert probed.verdicts["smddp-sum-only"] == "unknown"
    (seen,) = probed.seen.values()
    assert seen["smddp/init"]["outcome"] == "hang"
    assert seen["smddp/init"]["text"].startswith("no answer within 3 s")
    assert seen["smddp/broadcast"]["outcome"] == "not tried"
    assert "| fails | `smddp-collectives` |" in probed.output


def environment_path() -> str:
    from ..simulate.helpers import REPOSITORY  # noqa: PLC0415, TID252 - importmode=importlib

    return str(REPOSITORY)


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["--simulate", "--hosts", "0"], "hosts is 0"),
        (["--simulate", "--distribution", "horovod"], "distribution is 'horovod'"),
        (["--from-log", "there-is-none.log"], "there-is-none.log"),
        ([], "--instance-type is missing"),
        (["--instance-type", "p4d.24xlarge"], "Instance type 'p4d.24xlarge'"),
    ],
)
def test_bad_input(arguments: list[str], error: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from lightning_sagemaker.cli import main  # noqa: PLC0415 - the command line of this process

    assert main(["probe", "--output", str(tmp_path / "report.json"), *arguments]) == 2
    assert error in capsys.readouterr().err
    assert not (tmp_path / "report.json").exists()
