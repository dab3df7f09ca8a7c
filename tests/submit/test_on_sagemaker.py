"""The benchmark's jobs: what the real SDKs send of them, and the report of what they leave in S3."""

from __future__ import annotations

import argparse
import ast
import contextlib
import json
import random
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from .aws import BUCKET, ROLE, Aws, JsonAnswers, Run, serving
from .on_sagemaker import P4D, gather, submit, upload

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

from benchmarks import gathering, on_sagemaker
from benchmarks.environment import Environment
from benchmarks.gathering import State
from benchmarks.on_sagemaker import Jobs, Sent
from benchmarks.plan import World, plan
from benchmarks.samples import SCHEMA, Launch

pytestmark = pytest.mark.xdist_group("aws")

Submitted = tuple[Path, list[Run], list[dict[str, Any]]]
SMALL = ("--launches", "2", "--scale", "quick", "--device", "cpu", "--max-run", "1800")


@pytest.fixture(scope="module")
def submitted(aws: Aws, tmp_path_factory: pytest.TempPathFactory) -> Submitted:
    """Folder, runs of `submit` (the refused ones first), and what was sent: in one process, as imports are slow."""
    folder = tmp_path_factory.mktemp("jobs")
    (folder / "existing.json").write_text("{}")
    before = len(aws.requests())
    one = ("--instance-counts", 2, "--launchers", "smddprun", "--jobs")
    refused = ((*one, folder / "none.json", *arguments) for arguments, _, _ in REFUSED)
    existing = (*P4D, *one, folder / "existing.json", "--yes")
    sent = (*P4D, *SMALL, "--instance-counts", "2", "1", "--jobs", folder / "jobs.json", "--yes")
    runs = submit(aws, *refused, existing, sent)
    return folder, runs, aws.requests()[before:]


REFUSED: list[tuple[tuple[object, ...], int, str]] = [
    (("--instance-type", "ml.g5.12xlarge", "--yes"), 1, "is not supported by SMDDP, which the arm `smddp` measures"),
    ((*P4D, "--subnet", "subnet-1", "--yes"), 1, "a VPC without security groups"),
    (P4D, 1, "Not sent: nobody to ask. HINT: --yes."),
    ((*P4D, "--suites", "trainings", "--yes"), 2, "suite 'trainings': expected one of"),
    ((*P4D, "--dry-run"), 0, "1 job(s), at most 8 instance-hours of ml.p4d.24xlarge"),
]


def test_nothing_is_sent_where_a_check_fails_or_nobody_agrees(submitted: Submitted) -> None:
    folder, runs, _ = submitted
    for run, (arguments, code, told) in zip(runs, REFUSED, strict=False):
        assert (run.code, told in run.out + run.err) == (code, True), (arguments, run)
        assert "AWS_" not in run.out + run.err
    existing = runs[len(REFUSED)]
    assert existing.code == 2
    assert "existing.json exists, and holds the names of jobs that were sent. HINT:" in existing.err
    assert ((folder / "none.json").exists(), (folder / "existing.json").read_text()) == (False, "{}")


def test_a_job_is_sent_for_each_number_of_instances_and_launcher_small_ones_first(
    aws: Aws, submitted: Submitted
) -> None:
    folder, (*_, run), made = submitted  # all that was sent, so nothing by the others
    assert run.code == 0, run.out + run.err
    assert "4 job(s), at most 3 instance-hours of ml.p4d.24xlarge" in run.out
    sent = Jobs.read(folder / "jobs.json")
    assert [job.name for job in sent.jobs] == [request["TrainingJobName"] for request in made]
    flags: dict[str, str] = {
        "torchrun": "sagemaker_torch_distributed_enabled",
        "smddprun": "sagemaker_distributed_dataparallel_enabled",
    }
    expected = [(count, launcher) for count in (1, 2) for launcher in ("torchrun", "smddprun")]
    for request, job, (count, launcher) in zip(made, sent.jobs, expected, strict=True):
        assert (job.instance_count, job.launcher) == (count, launcher)
        assert request["ResourceConfig"]["InstanceCount"] == count
        assert request["ResourceConfig"]["InstanceType"] == "ml.p4d.24xlarge"
        assert request["RoleArn"] == ROLE
        assert request["OutputDataConfig"]["S3OutputPath"] == f"s3://{BUCKET}/benchmarks"
        assert request["StoppingCondition"]["MaxRuntimeInSeconds"] == 1800
        assert request["Environment"]["LIGHTNING_SAGEMAKER_METRICS"] == "0"
        assert request["Environment"]["LIGHTNING_SAGEMAKER_ON_MISSING"] == "error"
        assert "PL_TRAINER_STRATEGY" not in request["Environment"]  # the arms set it
        given = {name: json.loads(value) for name, value in request["HyperParameters"].items()}
        assert {name for name, value in given.items() if name.endswith("_enabled") and value} == {flags[launcher]}
        assert {name: value for name, value in given.items() if not name.startswith("sagemaker_")} == {
            "suites": "training,collectives",
            "launches": 2,
            "scale": "quick",
            "device": "cpu",
            "limit": 1800,
        }
    images = {request["AlgorithmSpecification"]["TrainingImage"] for request in made}
    assert len(images) == 1, "what is compared should differ in its launcher only"
    assert ":2.5.1-gpu-py311" in images.pop()
    assert_complete(aws, json.loads(made[-1]["HyperParameters"]["sagemaker_submit_directory"]), folder)


def assert_complete(aws: Aws, uri: str, folder: Path) -> None:
    """Whether the source folder that was sent has all that its programs import."""
    (archive,) = aws.download(uri, folder)
    source = folder / "source"
    shutil.unpack_archive(archive, source)
    (wheel,) = source.glob("lightning_sagemaker-*.whl")
    assert {path.name for path in source.iterdir()} == {"benchmark.py", "benchmarks", "requirements.txt", wheel.name}
    lines = (source / "requirements.txt").read_text().splitlines()
    assert lines.pop(0) == f"./{wheel.name}"
    assert lines[0].startswith("lightning>=2.2,"), "this SDK's environment has none"
    assert not (source / "benchmarks" / "report.py").exists()
    sent = {".".join(path.relative_to(source).with_suffix("").parts) for path in source.rglob("*.py")}
    assert {"benchmarks.job", "benchmarks.workers.training", "benchmarks.workers.collectives"} <= sent
    packages = {name.removesuffix(".__init__") for name in sent}
    for path in source.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("benchmarks"):
                assert node.module in packages, f"{path.name} imports it"
                if node.module in ("benchmarks", "benchmarks.workers"):
                    assert {f"{node.module}.{name.name}" for name in node.names} <= packages, path.name


def three_jobs(file: Path, *, one_at_a_time: bool) -> tuple[argparse.Namespace, Any, Any]:
    """What `send` is given: arguments, jobs, session."""
    given = argparse.Namespace(
        instance_type="ml.p4d.24xlarge",
        suites="collectives",
        launches=2,
        scale="quick",
        device="gpu",
        jobs=file,
        one_at_a_time=one_at_a_time,
        every=0.1,
    )
    jobs = [argparse.Namespace(name=f"job-{count}", instance_count=count, launcher="torchrun") for count in (1, 2, 4)]
    return given, jobs, argparse.Namespace(region_name="us-east-1")


def test_jobs_that_were_sent_are_named_where_the_next_one_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def start(job: Any, _session: object) -> str:
        if job.instance_count > 1:
            raise RuntimeError("ResourceLimitExceeded: 1 instance")
        return f"{job.name}-sent"

    monkeypatch.setattr(on_sagemaker, "start", start)
    file = tmp_path / "jobs.json"
    assert on_sagemaker.send(*three_jobs(file, one_at_a_time=False)) == 1
    assert [job.name for job in Jobs.read(file).jobs] == ["job-1-sent", None, None]
    assert "2 of 3 jobs are not sent: job-2: RuntimeError: ResourceLimitExceeded" in capsys.readouterr().err


def test_one_at_a_time_ends_with_the_first_job_that_is_not_completed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Service:
        def __init__(self, _session: object) -> None:
            pass

        def states(self, names: list[str], *, wait: bool, every: float) -> list[State]:
            assert wait
            assert every == 0.1
            return [State("Completed") if name == "job-1" else State("Failed", "no SMDDP") for name in names]

    monkeypatch.setattr(on_sagemaker, "start", lambda job, _session: job.name)
    monkeypatch.setattr(gathering, "Service", Service)
    file = tmp_path / "jobs.json"
    assert on_sagemaker.send(*three_jobs(file, one_at_a_time=True)) == 1
    assert [job.name for job in Jobs.read(file).jobs] == ["job-1", "job-2", None]
    told = capsys.readouterr()
    assert told.out == "job-1\njob-1: Completed\njob-2\njob-2: Failed: no SMDDP\n"
    assert "1 of 3 jobs are not sent, as this one was not completed." in told.err


class Answers(JsonAnswers):
    """SageMaker as far as `gather` asks it."""

    jobs: dict[str, list[dict[str, Any]]]  # states of each, one after the other

    def answer(self, operation: str, body: dict[str, Any]) -> tuple[int, Any]:
        assert operation == "DescribeTrainingJob"
        states = self.jobs.get(body["TrainingJobName"])
        if not states:
            return 400, {"__type": "ValidationException", "message": "Requested resource not found."}
        state = states.pop(0) if len(states) > 1 else states[0]
        return 200, {"OutputDataConfig": {"S3OutputPath": f"s3://{BUCKET}/gathered"}, **state}


@pytest.fixture
def sagemaker() -> Iterator[Callable[[dict[str, list[dict[str, Any]]]], str]]:
    """Let a server answer with these states; its address."""
    with contextlib.ExitStack() as servers:
        yield lambda jobs: servers.enter_context(serving(Answers, jobs=jobs))


def measured(hosts: int, launcher: str, count: int = 8, smddp: str = "smddp") -> bytes:
    """A samples file of one job: `smddp` takes half the time of the others."""
    chance, lines = random.Random(hosts), []  # noqa: S311 - noise
    for each in plan("collectives", World(hosts, 8, launcher, gpu=True), full=False, launches=count):
        faster = 0.5 if each.arm == "smddp" else 1.0
        backend = smddp if each.arm == "smddp" else each.settings["backend"]
        around = Environment(backend, stand_in=False, launcher=launcher, hosts=hosts, instance_type="ml.p4d.24xlarge")
        middle = faster * chance.lognormvariate(-4, 0.01)
        steps = (tuple(middle * chance.lognormvariate(0, 0.02) for _ in range(30)),)
        launch = Launch(each.suite, "all_reduce, 1 MiB", each.arm, each.role, each.index, each.settings, around, steps)
        lines.append(json.dumps({"schema": SCHEMA, **asdict(launch)}))
    return "\n".join(lines).encode() + b"\n"


def test_gathered_jobs_make_one_report_which_says_what_failed_and_what_is_missing(
    aws: Aws, tmp_path: Path, sagemaker: Callable[..., str]
) -> None:
    reason = "AlgorithmError: RuntimeError: no SMDDP here | exit code 1"
    completed = {"TrainingJobStatus": "Completed", "BillableTimeInSeconds": 95}
    url = sagemaker(
        {
            "job-a": [{"TrainingJobStatus": "InProgress"}, {"TrainingJobStatus": "InProgress"}, completed],
            "job-b": [completed],
            "job-c": [{"TrainingJobStatus": "Failed", "FailureReason": reason}],
            "job-d": [completed],
            "job-f": [completed],
        }
    )
    for name, files in {
        # Two files hold the same launches, as those of a restarted job may.
        "job-a": {"samples.jsonl": measured(2, "torchrun"), "algo-2/samples.jsonl": measured(2, "torchrun")},
        "job-b": {"samples.jsonl": measured(2, "mpirun"), "other.txt": b"?"},
        "job-c": {"samples.jsonl": measured(4, "torchrun", count=1) + b'{"torn'},
        "job-d": {"samples.jsonl": measured(1, "mpirun")},  # of a world that nobody asked for
        "job-f": {"samples.jsonl": measured(8, "mpirun", smddp="nccl")},
    }.items():
        upload(aws, f"s3://{BUCKET}/gathered/{name}", files, tmp_path)
    jobs = tmp_path / "jobs.json"
    Jobs(
        region="us-east-1",
        instance_type="ml.p4d.24xlarge",
        suites=["collectives"],
        launches=8,
        scale="quick",
        device="gpu",
        git_hash="0123abc",
        time="2026-11-01T00:00:00+00:00",
        jobs=[
            Sent(2, "torchrun", "job-a"),
            Sent(2, "smddprun", "job-b"),
            Sent(4, "torchrun", "job-c"),
            Sent(4, "smddprun", "job-d"),
            Sent(8, "torchrun", "job-e"),
            Sent(8, "smddprun", "job-f"),
            Sent(16, "smddprun"),
        ],
    ).write(jobs)
    folder = tmp_path / "report"
    run = gather(aws, jobs, "--output", folder, AWS_ENDPOINT_URL_SAGEMAKER=url)
    assert run.code == 1, run.err
    assert run.out == "These jobs have not ended. HINT: --wait.\njob-a: InProgress\n"
    assert not folder.exists()

    run = gather(aws, jobs, "--output", folder, "--wait", "--every", "0.2", AWS_ENDPOINT_URL_SAGEMAKER=url)
    assert run.code == 1, run.err
    assert "1 of 6 jobs have not ended: job-a" in run.out
    text = (folder / "report.md").read_text()
    assert "Incomplete: 5 of 7 jobs, see below under Jobs.\n" in text
    left_out = "Left out: it ran 1 host(s) by mpirun, not 4 by mpirun."
    for line in (
        "| job-a | 2 | torchrun | Completed | 24 of 24 | 95 s x 2 | - |",
        "| job-b | 2 | smddprun | Completed | 24 of 24 | 95 s x 2 | - |",
        f"| job-c | 4 | torchrun | Failed | 3 of 24 | - | {reason.replace('|', chr(92) + '|')} |",
        f"| job-d | 4 | smddprun | Completed | 0 of 24 | 95 s x 4 | {left_out} |",
        "| job-f | 8 | smddprun | Completed | 0 of 24 | 95 s x 8 | Left out: the arm smddp ran over nccl. |",
        "| - | 16 | smddprun | not sent | 0 of 24 | - | - |",
    ):
        assert line in text.splitlines(), text
    assert "| job-e | 8 | torchrun | unknown | 0 of 24 | - | An error occurred (ValidationException)" in text
    rows = {
        (suite["name"], row["case"], row["ours"]): row
        for suite in json.loads((folder / "report.json").read_text())["suites"]
        for row in suite["rows"]
    }
    for launcher in ("torchrun", "mpirun"):
        row = rows[f"collectives, {launcher}", "all_reduce, 1 MiB, 2 x 8", "smddp"]
        assert row["comparison"]["launches"] == 8
        assert 0.45 < row["comparison"]["ratio"] < 0.55
    assert "| collectives | all_reduce, 1 MiB, 2 x 8 | nccl | 0.018" in text
    assert "git_hash: 0123abc" in text


def test_what_is_no_jobs_file_is_refused(aws: Aws, tmp_path: Path) -> None:
    path = tmp_path / "jobs.json"
    path.write_text('{"jobs": []}')
    run = gather(aws, path, "--output", tmp_path / "report")
    assert run.code == 2
    assert f"{path} is no jobs file (" in run.err
