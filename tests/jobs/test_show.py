"""What is told of one job."""

from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

import pytest

from lightning_sagemaker.jobs.description import Job, console_link, log_link, read

from .service import DENIED, NOON, REGION, World, described, product

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.xdist_group("jobs")

KIND = "ml.p4d.24xlarge"
TIMES: dict[str, Any] = {"TrainingStartTime": NOON + 60, "TrainingEndTime": NOON + 3660, "BillableTimeInSeconds": 1800}
# What this package writes into the failure file, as SageMaker repeats it.
REASON = (
    "AlgorithmError: ValueError: the column 'age' is missing\n[algo-2, rank 11]\n"
    "  /opt/ml/code/train.py:31 in fit: \x1b[2J raise ValueError(token='abcdefgh12345678')"
)


def page(world: World, jobs: Callable[..., Any], **changes: Any) -> dict[str, str]:
    """The rows of a job's page, by their names."""
    world.add(described("digits", **changes))
    run = jobs("show", "digits")
    assert (run.code, run.err) == (0, "")
    return {line[:12].strip(): line[13:] for line in run.out.splitlines()}


def as_job(**changes: Any) -> Job:
    found = described("digits", **changes)
    times = {key: datetime.fromtimestamp(found[key], timezone.utc) for key in found if key.endswith("Time")}
    return read(found | times, REGION)


def test_a_metric_that_is_no_number_is_null_for_programs(world: World, jobs: Any) -> None:
    values = {"loss": float("nan"), "gain": float("inf"), "epoch": 3.0}
    world.add(described("digits", FinalMetricDataList=[{"MetricName": k, "Value": v} for k, v in values.items()]))

    def refuse(word: str) -> None:
        raise ValueError(word)

    found = json.loads(jobs("show", "digits", "--json").out, parse_constant=refuse)
    assert found["metrics"] == {"loss": None, "gain": None, "epoch": 3.0}
    assert "nan" in jobs("show", "digits").out
    json.loads(jobs("list", "--json").out, parse_constant=refuse)


def test_places_image_tags_metrics_and_links_are_told(world: World, jobs: Any) -> None:
    told = page(
        world,
        jobs,
        AlgorithmSpecification={"TrainingImage": "763104351884.dkr.ecr.us-east-1.amazonaws.com/pytorch-training:2.5.1"},
        CheckpointConfig={"S3Uri": "s3://bucket/checkpoints"},
        EnableManagedSpotTraining=True,
        FinalMetricDataList=[
            {"MetricName": "val_loss", "Value": 0.25, "Timestamp": NOON},
            {"MetricName": "epoch", "Value": 3, "Timestamp": NOON},
        ],
    )
    assert told["hosts"] == f"2 x {KIND}, spot"
    assert told["image"].endswith("/pytorch-training:2.5.1")
    assert told["checkpoints"] == "s3://bucket/checkpoints"
    assert told["model"] == "s3://bucket/runs/digits/output/model.tar.gz"
    assert told["output"] == "s3://bucket/runs/digits/output/"
    assert told["metrics"] == "val_loss=0.25, epoch=3"
    assert told["tags"] == "team=vision, owner=me, run=7"
    assert told["console"] == console_link("digits", REGION)
    assert told["log"] == log_link("digits", REGION)


def test_the_states_are_told_with_their_times_and_sagemakers_words(world: World, jobs: Any) -> None:
    world.add(
        described(
            "digits",
            "InProgress",
            SecondaryStatusTransitions=[
                {
                    "Status": "Starting",
                    "StartTime": NOON,
                    "EndTime": NOON + 95,
                    "StatusMessage": "Launching\tinstances",
                },
                {"Status": "Training", "StartTime": NOON + 95},
            ],
        )
    )
    run = jobs("show", "digits")
    assert run.out.startswith("digits: InProgress (Training)\n")
    starting, training = run.out.splitlines()[-2:]
    assert starting.split() == ["2026-05-28", "20:26:40", "UTC", "1m", "35s", "Starting", "Launching", "instances"]
    assert training.split()[:3] == ["2026-05-28", "20:28:15", "UTC"]
    assert training.endswith(" Training")


def test_the_failure_file_is_told_line_by_line_without_secrets_and_control_characters(world: World, jobs: Any) -> None:
    world.add(described("digits", "Failed", FailureReason=REASON))
    assert jobs("show", "digits").out.splitlines()[:4] == [
        "digits: Failed (Failed)",
        "FailureReason: AlgorithmError: ValueError: the column 'age' is missing",
        "    [algo-2, rank 11]",
        "      /opt/ml/code/train.py:31 in fit: \\x1b[2J raise ValueError(token='***')",
    ]
    assert "abcdefgh" not in jobs("show", "digits", "--json").out


def test_the_cost_is_billable_seconds_times_hosts_times_the_price_of_training(world: World, jobs: Any) -> None:
    world.products = [
        product(KIND, "40.00", use="Host"),
        product(KIND, "0.05", unit="GB-Mo"),
        product(f"{KIND}x", "50.00"),
        product(KIND, "30.00"),
    ]
    told = page(world, jobs, **TIMES)["cost"]
    assert told == f"$30.00 (1800 s x 2 host(s), on demand: {KIND} $30/h)"
    found = json.loads(jobs("show", "digits", "--json").out)
    assert (found["cost"], found["prices"], found["duration"]) == (30.0, {KIND: 30.0}, 3600)


@pytest.mark.parametrize(
    ("pool", "kept", "cost"),
    [
        (
            {"Status": "Reused", "ResourceRetainedBillableTimeInSeconds": 600},
            "Reused, kept for 10m 00s",
            "$40.00 (2400 s",
        ),
        ({"Status": "Available"}, "Available, kept for -", "$30.00 so far (1800 s"),
    ],
)
def test_the_time_in_a_warm_pool_is_told_and_costs_as_much(
    world: World, jobs: Any, pool: dict[str, Any], kept: str, cost: str
) -> None:
    world.products = [product(KIND, "30.00")]
    told = page(world, jobs, WarmPoolStatus=pool, **TIMES)
    assert told["warm pool"] == kept
    assert told["cost"] == f"{cost} x 2 host(s), on demand: {KIND} $30/h)"


def test_a_cluster_of_several_types_costs_the_sum(world: World, jobs: Any) -> None:
    world.products = [product(KIND, "30.00"), product("ml.c5.xlarge", "0.25")]
    groups = [{"InstanceType": KIND, "InstanceCount": 2}, {"InstanceType": "ml.c5.xlarge", "InstanceCount": 4}]
    told = page(world, jobs, ResourceConfig={"InstanceGroups": groups}, **TIMES)["cost"]
    assert told.startswith("$30.50 (1800 s x 6 host(s)")


@pytest.mark.parametrize(
    ("products", "why"),
    [
        ([], f"the price API has no prices of {KIND} in us-east-1"),
        ([product(KIND, "30"), product(KIND, "31")], f"the price API has 2 prices of {KIND} in us-east-1"),
    ],
)
def test_a_price_that_nobody_tells_is_unknown_and_not_guessed(
    world: World, jobs: Any, products: list[str], why: str
) -> None:
    world.products = products
    assert page(world, jobs, **TIMES)["cost"] == f"1800 s x 2 host(s); the price is unknown: {why}"


def test_who_may_ask_neither_prices_nor_tags_sees_the_rest(world: World, jobs: Any) -> None:
    world.refusals = {"GetProducts": [DENIED], "ListTags": [DENIED]}
    told = page(world, jobs, **TIMES)
    assert told["cost"].startswith("1800 s x 2 host(s); the price is unknown: pricing:GetProducts, ")
    assert "not authorized" in told["cost"]
    assert "123456789012" not in told["cost"]
    assert "tags" not in told
    assert told["hosts"] == f"2 x {KIND}"


def test_a_running_job_has_cost_something_so_far() -> None:
    begun = (datetime.now(timezone.utc) - timedelta(seconds=1800)).timestamp()
    running = as_job(status="InProgress", TrainingStartTime=begun)
    assert running.billable_seconds is not None
    assert 1800 <= running.billable_seconds < 1830
    assert " s x 2 host(s) so far; the price is unknown" in str(running)
    spot = as_job(status="InProgress", TrainingStartTime=begun, EnableManagedSpotTraining=True)
    assert " so far, without spot's discount; " in str(spot)


@pytest.mark.parametrize(
    ("status", "cost"), [("InProgress", "nothing yet"), ("Failed", "nothing"), ("Stopped", "nothing")]
)
def test_hosts_that_never_began_cost_nothing(status: str, cost: str) -> None:
    assert f"\ncost         {cost}\n" in str(as_job(status=status))


def test_a_job_without_hosts_and_places_of_its_own_has_no_such_rows() -> None:
    serverless = str(as_job(ResourceConfig=None, OutputDataConfig=None, ModelArtifacts=None))
    assert "\nhosts        -\n" in serverless
    assert "\noutput" not in serverless
    assert "\nmodel" not in serverless


def test_the_cost_of_a_job_without_an_instance_type_is_unknown(world: World, jobs: Any) -> None:
    told = page(world, jobs, ResourceConfig={"VolumeSizeInGB": 30}, **TIMES)["cost"]
    assert told == "1800 s x unknown host(s); the price is unknown: AWS names no instance type"
    assert json.loads(jobs("show", "digits", "--json").out)["cost"] is None
    assert jobs("logs", "digits", "--follow").out.splitlines()[-1] == "billed: 1800 s x unknown instance(s)"


@pytest.mark.parametrize(
    ("region", "domain"),
    [
        ("eu-west-1", "aws.amazon.com"),
        ("cn-north-1", "amazonaws.cn"),
        ("us-gov-west-1", "amazonaws-us-gov.com"),
    ],
)
def test_links_lead_to_the_console_of_the_regions_partition(region: str, domain: str) -> None:
    assert (
        console_link("digits", region)
        == f"https://{region}.console.{domain}/sagemaker/home?region={region}#/jobs/digits"
    )
    assert log_link("digits", region).startswith(
        f"https://{region}.console.{domain}/cloudwatch/home?region={region}#logsV2:"
    )
    assert log_link("digits", region).endswith(
        "/$252Faws$252Fsagemaker$252FTrainingJobs$3FlogStreamNameFilter$3Ddigits$252F"
    )


def test_in_a_notebook_a_job_and_a_list_of_jobs_print_as_for_people(world: World, python: Any) -> None:
    world.add(described("digits", **TIMES))
    told = python(
        "from lightning_sagemaker.jobs import job, jobs\n"
        "found = job('dig')\n"
        "result = [repr(found), repr(jobs(limit=1)), found.hosts, found.cost, found.has_ended, dict(found.tags)]"
    )
    assert told[0].startswith("digits: Completed (Completed)\n")
    assert told[1].splitlines()[0].split() == ["name", "status", "created", "hosts", "duration"]
    assert told[2:] == [2, None, True, {"team": "vision", "owner": "me", "run": "7"}]
