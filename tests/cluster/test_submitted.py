"""From the notebook to the running job: what the real SDKs send is started on hosts as SageMaker would."""

from __future__ import annotations

import json
import os
import re
import shutil
from typing import TYPE_CHECKING, Any

import pytest

from ..submit.aws import BUCKET, ROLE, Aws  # noqa: TID252 - importmode=importlib
from .launch import MODES, REPOSITORY, Job

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from .hosts import Cluster

DIGITS = REPOSITORY / "examples" / "digits" / "train.py"


class SubmittedJob(Job):
    """A job as a `CreateTrainingJob` request describes it."""

    def __init__(self, cluster: Cluster, mode: str, request: dict[str, Any], sources: Path, processes: int) -> None:
        self._request = request
        self._sources = sources
        super().__init__(cluster, mode, DIGITS, {}, processes=processes, environ=request["Environment"])

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


# How it is started there, the SDK, and arguments.
CASES = [
    ("smdistributed", "v3", ("--strategy", "smddp")),
    ("v3-mpi-repaired", "v3", ("--launcher", "mpirun", "--processes-per-host", "2")),
]
if os.environ.get("LIGHTNING_SAGEMAKER_FULL") == "1":
    CASES += [
        ("smdistributed", "v2", ("--strategy", "smddp")),
        ("torch_distributed", "v2", ("--strategy", "ddp")),
        ("v3-torchrun", "v3", ("--strategy", "ddp")),
    ]


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case[1]} as {case[0]}")
def test_a_submitted_job_trains_on_the_hosts_that_it_asked_for(
    make_cluster: Callable[..., Cluster], aws: Aws, tmp_path: Path, case: tuple[str, str, tuple[str, ...]]
) -> None:
    mode, sdk, arguments = case
    before = len(aws.requests())
    told = arguments if "smddp" in arguments else ()  # the script gives its Trainer a strategy, so it has to know too
    (run,) = aws.submit(
        sdk,
        (
            *(DIGITS, "--role", ROLE, "--output-uri", f"s3://{BUCKET}/out", "--metric", "val_accuracy"),
            *("--instance-type", "ml.p4d.24xlarge", "--instance-count", "2", *arguments, "--", "--epochs", "1", *told),
        ),
    )
    assert run.code == 0, run.out + run.err
    (request,) = aws.requests()[before:]
    sources = aws.download_sources(request, tmp_path / "sources")
    names = ("algo-2", "algo-1") if MODES[mode].sdk == "v2" else ("algo-1", "algo-2")
    job = SubmittedJob(make_cluster(*names), mode, request, sources, processes=2).start()
    assert set(job.wait(200).values()) == {0}, job.text
    assert "world size: 4" in job.text
    assert ("distributed_backend=smddp" in job.text) == ("smddp" in arguments), job.text
    strategy = request["Environment"].get("PL_TRAINER_STRATEGY")
    assert strategy == (arguments[1] if arguments[0] == "--strategy" else None)
    metrics = {one["Name"]: one["Regex"] for one in request["AlgorithmSpecification"]["MetricDefinitions"]}
    values = re.findall(metrics["val_accuracy"], job.text)
    assert values, job.text
    assert float(values[-1]) > 0.3
