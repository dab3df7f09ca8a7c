"""tests/on_sagemaker in simulated jobs: what holds passes, what cannot be asked says why, what is broken fails."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import xml.etree.ElementTree as ET
from typing import TYPE_CHECKING, NamedTuple

import pytest

from .simulate.helpers import REPOSITORY, run_cli
from .submit.aws import ROLE, Aws
from .submit.aws import aws as aws  # noqa: PLC0414 - a fixture

if TYPE_CHECKING:
    from pathlib import Path

FOLDER = REPOSITORY / "tests" / "on_sagemaker"
PAGE = REPOSITORY / "docs" / "aws-assumptions.md"
SECRET = "hunter2-of-the-tests"  # noqa: S105 - made up
TWO_BY_TWO = ("--hosts", "2", "--processes-per-host", "2", "--distribution")


class Ran(NamedTuple):
    """How a job ended, and what rank 0 reports: outcome by test, and the words beside it."""

    code: int
    log: str
    outcomes: dict[str, str]
    words: dict[str, str]

    def named(self, outcome: str) -> set[str]:
        """Tests with this outcome."""
        return {name for name, found in self.outcomes.items() if found == outcome}


def run(folder: Path, *options: str, script: Path = FOLDER / "run.py", arguments: tuple[str, ...] = ()) -> Ran:
    job = folder / "job"
    done = run_cli(*options, "--work-dir", str(job), str(script), "--", *arguments, timeout=280)
    log = done.stdout + done.stderr
    reports = {path.stem: ET.parse(path) for path in job.glob("*/ml/output/data/*.xml")}  # noqa: S314 - pytest wrote it
    assert "assumptions-0" in reports, log
    outcomes, words = {}, {}
    for case in reports["assumptions-0"].iter("testcase"):
        told = next((part for part in case if part.tag in ("failure", "error", "skipped")), None)
        name = str(case.get("name")).removeprefix("test_")
        outcomes[name] = "passed" if told is None else told.tag
        words[name] = "" if told is None else f"{told.get('message')}\n{told.text}"
    for name, report in reports.items():
        assert SECRET not in ET.tostring(report.getroot(), "unicode"), name
    assert SECRET not in log
    return Ran(done.returncode, log, outcomes, words)


def smddp(name: str, *operations: str) -> set[str]:
    return {f"smddp_{name}[{operation}]" for operation in operations}


DOCUMENTED = ("init", "all_reduce_sum", "all_reduce_sum_int64", "broadcast", "all_gather", "barrier", "reduce")
NEVER_HERE = {
    "needs real hosts": {
        "sigterm_stops_at_process_1_a_shell",
        "the_instance_has_the_gpus_and_the_efa_of_this_packages_table",
        "all_hosts_find_all_hosts_by_name",
        "the_host_of_rank_0_calls_itself_as_sagemaker_does",
    },
    "needs a GPU": {"smddp_refuses_cpu_tensors"}
    | smddp("works_or_raises_with_device_id", "init", "all_reduce_sum", "barrier")
    | {
        f"nccl_does_what_lightning_asks_of_it[{operation}]"
        for operation in ("init", "all_reduce_sum", "all_reduce_avg", "broadcast", "all_gather", "barrier")
    }
    | {"nccl_does_what_lightning_asks_of_it[gloo_group_beside]"},
}


def reasons(ran: Ran) -> dict[str, set[str]]:
    """Skipped tests by the reason in their report."""
    found: dict[str, set[str]] = {}
    for name in ran.named("skipped"):
        found.setdefault(ran.words[name].partition("\n")[0], set()).add(name)
    return found


def test_under_mpirun_what_can_hold_passes_and_the_rest_says_what_it_needs(tmp_path: Path) -> None:
    ran = run(tmp_path, *TWO_BY_TWO, "smdistributed")
    assert (ran.code, ran.named("failure") | ran.named("error")) == (0, set()), ran.log
    assert reasons(ran) == NEVER_HERE
    assert ran.log.count(" PASSED ") == len(ran.named("passed")) > 30
    assert "simulated: yes: this says nothing of AWS" in ran.log
    assert "launcher mpirun" in ran.log


# A job in which two files are not as SageMaker writes them, and a library that hangs, crashes, and does what SMDDP does
# not.
BROKEN_JOB = """\
import json, os, runpy, sys
from pathlib import Path
config = Path(os.environ["SAGEMAKER_BASE_DIR"], "input", "config")
resources = json.loads((config / "resourceconfig.json").read_text())
resources |= {"network_interface_name": "ethwe"}
resources["hosts"].sort(reverse=resources["current_host"] == "algo-2")
for name, content in {"resourceconfig": resources, "checkpointconfig": {"LocalPath": "/nowhere"}}.items():
    part = config / f"{name}.{os.getpid()}"
    part.write_text(json.dumps(content))
    part.replace(config / f"{name}.json")
sys.path.insert(0, FOLDER)
runpy.run_path(f"{FOLDER}/run.py", run_name="__main__")
"""
BROKEN_LIBRARY = """\
import os, sys, time
import torch.distributed as dist
def hang(*_, **__):
    time.sleep(600)
def crash(*_, **__):
    print("terminate called with", os.environ["DATABASE_PASSWORD"], file=sys.stderr, flush=True)
    os._exit(7)
def create(store, rank, size, timeout):
    return dist.ProcessGroupGloo(store, rank, size, timeout=timeout)
dist.broadcast, dist.scatter = hang, crash
dist.Backend.register_backend("smddp", create, devices=["cpu"])
"""


def test_under_torchrun_what_is_broken_fails_by_its_name_and_so_does_the_job(tmp_path: Path) -> None:
    library = tmp_path / "site" / "smdistributed" / "dataparallel" / "torch"
    library.mkdir(parents=True)
    (library.parent / "__init__.py").write_text("__version__ = '9.9'\n")
    (library / "torch_smddp.py").write_text(BROKEN_LIBRARY)
    script = tmp_path / "broken.py"
    script.write_text(BROKEN_JOB.replace("FOLDER", repr(str(FOLDER))))
    path = f"PYTHONPATH={REPOSITORY}:{tmp_path / 'site'}"
    options = (
        "--hosts",
        "2",
        "--distribution",
        "torch_distributed",
        "--env",
        path,
        "--env",
        f"DATABASE_PASSWORD={SECRET}",
    )
    ran = run(tmp_path, *options, script=script, arguments=("--limit", "5"))
    assert ran.code == 1, ran.log
    broken = {
        "every_hosts_resourceconfig_json_has_the_same_order_of_hosts": "'algo-2', 'algo-1'",
        "checkpointconfig_json_names_the_folder_of_checkpoints_or_is_absent": "/nowhere",
        "the_interface_exists_that_resourceconfig_json_names": "ethwe",
        "smddps_documented_collectives_work[broadcast]": "hangs",
        "smddp_refuses_what_its_documentation_does_not_list[scatter]": "process with 7: terminate called with ***",
        "smddp_refuses_reductions_other_than_sum[all_reduce_max]": "works",
        "smddp_refuses_further_groups_also_on_gloo[new_group]": "works",
    }
    assert {name: words in ran.words[name] for name, words in broken.items()} == dict.fromkeys(broken, True), ran.log
    assert {name for name in broken if f"test_{name} FAILED" not in ran.log} == set()
    assert ran.outcomes["smddps_documented_collectives_work[reduce]"] == "passed"  # behind the one that hangs
    assert ran.outcomes["a_group_is_made_by_the_jobs_address_and_port[exit]"] == "passed"
    assert reasons(ran)["needs another launcher than torchrun"] == {"a_second_group_is_made_by_them_at_once"}


def test_a_host_that_never_comes_is_named_and_what_one_process_sees_is_told(tmp_path: Path) -> None:
    script = tmp_path / "absent.py"
    script.write_text(
        "import runpy, sys\nfrom lightning_sagemaker import SageMakerJob\n"
        "if SageMakerJob.detect().node_rank == 1:\n    sys.exit()\n"
        f"sys.path.insert(0, {str(FOLDER)!r})\nrunpy.run_path({str(FOLDER / 'run.py')!r}, run_name='__main__')\n"
    )
    ran = run(tmp_path, "--hosts", "2", script=script, arguments=("--limit", "0.5"))
    assert ran.code == 1, ran.log
    assert ran.named("failure") == {"all_ranks_reach_a_further_port_on_the_host_of_rank_0"}, ran.log
    assert "tell nothing within 0:00:02: [1]" in ran.log
    assert ran.outcomes["the_interface_exists_that_resourceconfig_json_names"] == "passed"
    assert reasons(ran)["needs ranks that reach each other"] >= {
        f"a_group_is_made_by_the_jobs_address_and_port[{operation}]" for operation in ("init", "exit")
    }


@pytest.mark.nightly
@pytest.mark.parametrize("distribution", ["none", "torch_distributed", "mpi"])
def test_under_every_launcher_nothing_fails(tmp_path: Path, distribution: str) -> None:
    processes = ("--hosts", "2") if distribution == "none" else TWO_BY_TWO[:-1]
    ran = run(tmp_path, *processes, "--distribution", distribution)
    assert (ran.code, ran.named("failure") | ran.named("error")) == (0, set()), ran.log
    assert "every_process_reads_one_world_and_another_place_in_it" in ran.named("passed")


def name_of(assumption: str) -> str:
    """The name of the test of an assumption."""
    return "test_" + re.sub(r"\W+", "_", assumption.lower().replace("'", "")).strip("_")


def test_the_pages_assumptions_and_what_they_need_are_the_tests() -> None:
    tests = {}
    for path in FOLDER.glob("test_*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        calls = [node.value for node in tree.body if isinstance(node, ast.Assign) and "pytestmark" in ast.unparse(node)]
        for node in tree.body:
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                marks = [ast.unparse(mark) for mark in (*calls, *node.decorator_list)]
                needs = [mark.removeprefix("needs") for mark in marks if mark.startswith("needs(")]
                tests[node.name] = [str(what) for need in needs for what in _words(need)]
    table = PAGE.read_text(encoding="utf-8").partition("| name | assumed |")[2].partition("\n\n")[0].splitlines()[2:]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table]
    page = {name_of(row[1]): [what for what in row[2].split(", ") if what] for row in rows}
    assert page == tests
    assert len({row[0] for row in rows}) == len(rows) > 20
    assert all(all(row[column] for column in (0, 1, 3, 4)) for row in rows)


def _words(call: str) -> tuple[str, ...]:
    found = ast.literal_eval(call)
    return found if isinstance(found, tuple) else (found,)


@pytest.mark.xdist_group("aws")
@pytest.mark.skipif("LIGHTNING_SAGEMAKER_DIST" in os.environ, reason="there are no sources to build the wheel from")
def test_make_describes_the_job_with_this_trees_wheel(aws: Aws) -> None:
    ready = [f"--old-file=.venv/{name}" for name in (".dev", ".sdk")]
    make = shutil.which("make")
    assert make
    before = len(aws.requests())
    done = subprocess.run(
        [
            make,
            *ready,
            "on-sagemaker",
            "STRATEGY=ddp",
            "PYTEST_ARGUMENTS=--limit 20",
            f"SUBMIT=--dry-run --role {ROLE}",
        ],
        cwd=REPOSITORY,
        env=aws.environ,
        capture_output=True,
        text=True,
        check=False,
        timeout=250,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    for told in ("run.py", "pytest", "build/on-sagemaker/lightning_sagemaker-", "ml.g5.xlarge", "limit"):
        assert told in done.stdout, told
    assert aws.requests()[before:] == []
