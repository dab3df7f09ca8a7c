"""From the command to the running job: what is sent is started on hosts as SageMaker would."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from ..submit.aws import BUCKET, ROLE, Aws, sdk_python  # noqa: TID252 - importmode=importlib
from .launch import REPOSITORY, Job

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from .hosts import Cluster

DIGITS = REPOSITORY / "examples" / "digits" / "train.py"
PROGRAMS = REPOSITORY / "tests" / "programs"


class SubmittedJob(Job):
    """A job as a `CreateTrainingJob` request describes it."""

    def __init__(  # noqa: PLR0917 - what a job is made of
        self, cluster: Cluster, mode: str, request: dict[str, Any], sources: Path, processes: int, script: Path = DIGITS
    ) -> None:
        self._request = request
        self._sources = sources
        super().__init__(cluster, mode, script, {}, processes=processes, environ=request["Environment"])

    def _command(self) -> Sequence[str]:
        algorithm = self._request["AlgorithmSpecification"]
        if "ContainerEntrypoint" in algorithm:
            return [*algorithm["ContainerEntrypoint"], *algorithm.get("ContainerArguments", ())]
        return super()._command()

    def _lay_out_v2(self, ml: Path) -> dict[str, object]:
        shutil.unpack_archive(self._sources / "sourcedir.tar.gz", ml / "code")
        # The toolkit would fetch it from S3, which no test host reaches.
        given = {**self._request["HyperParameters"], "sagemaker_submit_directory": json.dumps("/opt/ml/code")}
        return {"input/config/hyperparameters.json": given, "input/config/inputdataconfig.json": {}}

    def _lay_out_v3(self, ml: Path) -> dict[str, object]:
        mode = {"TrainingInputMode": "File", "S3DistributionType": "FullyReplicated", "RecordWrapperType": "None"}
        for name in ("code", "sm_drivers"):
            shutil.copytree(self._sources / name, ml / "input" / "data" / name)
        return {
            "input/config/hyperparameters.json": self._request["HyperParameters"],
            "input/config/inputdataconfig.json": {"code": mode, "sm_drivers": mode},
        }


class Case(NamedTuple):
    """How a job is described, how it is started there, its script, and what each rank prints at its end."""

    mode: str
    options: tuple[str, ...]
    script: Path
    arguments: tuple[str, ...]
    printed: str


CLI = ("fit", "--trainer.max_steps=3", "--trainer.logger", "false", "--model.learning_rate=1e-3")
CASES = [
    Case(
        "none",
        ("--launcher", "none"),
        PROGRAMS / "flags.py",
        ("data", "--fast", "--sizes", "1", "2", "--tag", "a b", "--tag", ""),
        "rank 3 of 4: {'data': 'data', 'fast': True, 'sizes': [1, 2], 'tag': ['a b', '']}",
    ),
    Case("torch_distributed", ("--strategy", "ddp"), PROGRAMS / "lightning_cli.py", CLI, "rank 3 of 4: fit 3 0.001"),
    Case(
        "smdistributed",
        ("--strategy", "smddp"),
        DIGITS,
        ("--epochs", "1", "--strategy", "smddp"),  # the script gives its Trainer a strategy, so it has to know too
        "world size: 4",
    ),
]
if os.environ.get("LIGHTNING_SAGEMAKER_FULL") == "1":
    CASES += [
        Case(
            "mpi",
            ("--launcher", "mpirun"),
            PROGRAMS / "hydra_app.py",
            ("+trainer.max_steps=3", "+name='a \"b\" c, d'"),
            'rank 3 of 4: 3 a "b" c, d',
        ),
        Case("torch_distributed", ("--launcher", "torchrun"), DIGITS, ("--epochs", "1"), "world size: 4"),
    ]


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.script.stem} as {case.mode}")
def test_a_submitted_job_trains_on_the_hosts_that_it_asked_for(
    make_cluster: Callable[..., Cluster], aws: Aws, tmp_path: Path, case: Case
) -> None:
    (tmp_path / "code").mkdir()
    script = shutil.copy(case.script, tmp_path / "code")
    before = len(aws.requests())
    processes = () if case.mode == "none" else ("--processes-per-host", "2")
    (run,) = aws.run(
        (
            *(script, "--role", ROLE, "--output-uri", f"s3://{BUCKET}/out", "--image", "mine", *processes),
            *("--requirement", "lightning-sagemaker", "--metric", "val_accuracy"),
            *("--instance-type", "ml.p4d.24xlarge", "--instance-count", "2", *case.options, "--", *case.arguments),
        ),
    )
    assert run.code == 0, run.out + run.err
    (request,) = aws.requests()[before:]
    sources = aws.download_sources(request, tmp_path / "sources")
    job = SubmittedJob(make_cluster("algo-2", "algo-1"), case.mode, request, sources, 2, case.script).start()
    assert set(job.wait(200).values()) == {0}, job.text
    assert case.printed in job.text
    assert ("distributed_backend=smddp" in job.text) == ("smddp" in case.options), job.text
    if case.script == DIGITS:
        metrics = {one["Name"]: one["Regex"] for one in request["AlgorithmSpecification"]["MetricDefinitions"]}
        values = re.findall(metrics["val_accuracy"], job.text)
        assert values, job.text
        assert float(values[-1]) > 0.3


def test_a_notebook_of_sdk_v3_trains_on_the_hosts_that_it_asked_for(
    make_cluster: Callable[..., Cluster], aws: Aws, tmp_path: Path
) -> None:
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "requirements.txt").touch()
    script = shutil.copy(DIGITS, tmp_path / "code")
    before = len(aws.requests())
    (shown,) = aws.run(
        (
            *(script, "--role", ROLE, "--output-uri", f"s3://{BUCKET}/out", "--image", "mine", "--launcher", "mpirun"),
            *("--instance-type", "ml.p4d.24xlarge", "--instance-count", "2", "--processes-per-host", "2"),
            *("--as-notebook", "v3", "--", "--epochs", "1"),
        )
    )
    subprocess.run([sdk_python("v3"), "-c", shown.out], env=aws.environ, check=True, capture_output=True, timeout=120)
    (request,) = aws.requests()[before:]
    sources = aws.download_sources(request, tmp_path / "sources")
    job = SubmittedJob(make_cluster("algo-1", "algo-2"), "v3-mpi-repaired", request, sources, 2).start()
    assert set(job.wait(200).values()) == {0}, job.text
    assert "world size: 4" in job.text
