"""No secret leaves: planted ones, in variables, files and error texts."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from lightning_sagemaker.redaction import is_credential, redact

from .conftest import MACHINE, TORCHRUN, with_import

if TYPE_CHECKING:
    from pathlib import Path

    from .conftest import Examine

SECRET = "s3cr3t-Hunter-77-"  # noqa: S105 - planted
PEM = f"-----BEGIN-----\n{SECRET}line-one\n{SECRET}line-two\n-----END-----"
PLANTED = {
    "AWS_ACCESS_KEY_ID": "AKIAIOSFODNN7EXAMPLE",
    "AWS_SECRET_ACCESS_KEY": f"{SECRET}a/b+c",
    "AWS_SESSION_TOKEN": f"{SECRET}b" * 20,
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI": f"/v2/{SECRET}c",
    "HF_TOKEN": f"hf_{SECRET}d",
    "WANDB_API_KEY": f"{SECRET}e",
    "DB_PASSWORD": f"{SECRET}f",
    "DEPLOY_KEY": PEM,
    "MY_SECRET": f"{SECRET}g",
    # by allow-listed names
    "PL_TRAINER_API_KEY": f"{SECRET}h",
    "NCCL_AUTH_TOKEN": f"{SECRET}i",
    "NCCL_TOPO_FILE": f"https://user:{SECRET}j@host/topo.xml",
    "PL_TRAINER_LOGGER": f"mlflow://{SECRET}k@tracking",
    "FI_LOG": f"user:{SECRET}l@host",
    "GLOO_NOTE": f"see {SECRET}f and {SECRET}line-two",
    "LIGHTNING_SAGEMAKER_RUN_ID": f"https://me:{SECRET} m@host",
    "PL_TRAINER_PLUGINS": f"https://bucket/x?X-Amz-Signature={SECRET}n&x=1",
    # not listed
    "SM_HPS": json.dumps({"password": f"{SECRET}o", "plain": f"{SECRET}p"}),
    "SM_HP_PLAIN": f"{SECRET}p",
    "SM_USER_ARGS": json.dumps(["--plain", f"{SECRET}p"]),
    "SM_TRAINING_ENV": json.dumps({"hyperparameters": {"plain": f"{SECRET}p"}}),
    "UNRELATED": f"{SECRET}q",
}
URL = f"https://user:{SECRET}{'r' * 150}@host"  # cut by error messages before its @


@pytest.mark.parametrize(
    "broken",
    [
        {},
        {"RANK": URL},
        {"RANK": URL.removeprefix("https://")},
        {"WORLD_SIZE": PLANTED["MY_SECRET"]},
        {"GROUP_RANK": PLANTED["AWS_SESSION_TOKEN"]},
        {"MASTER_PORT": f"x{PLANTED['AWS_SESSION_TOKEN']}"},
        {"LIGHTNING_SAGEMAKER_RESUME": PLANTED["HF_TOKEN"]},
        {"LIGHTNING_SAGEMAKER_AUTOLOAD": URL},
        {"PL_TRAINER_STRATEGY": f"smddp{PLANTED['WANDB_API_KEY']}"},
        {"MASTER_ADDR": PLANTED["DB_PASSWORD"]},
        {"CUDA_VISIBLE_DEVICES": URL},
        {"NCCL_SOCKET_IFNAME": URL},
    ],
    ids=lambda broken: next(iter(broken), "healthy"),
)
def test_no_planted_secret_is_printed(in_job: Examine, tmp_path: Path, broken: dict[str, str]) -> None:
    config = tmp_path / "input" / "config"
    config.mkdir(parents=True)
    (config / "hyperparameters.json").write_text(json.dumps({"plain": f"{SECRET}p"}))
    machine = replace(
        with_import(MACHINE, "lightning.pytorch", problem=f"ImportError: no pip index {URL} for {SECRET}e"),
        checkpoint_folder=f"/opt/ml/{SECRET}f",
    )
    report = in_job({**TORCHRUN, **PLANTED, **broken}, machine)
    for output in (report.as_markdown(), json.dumps(report.as_json(), ensure_ascii=False)):
        assert SECRET not in output
        assert SECRET[:10] not in output
        assert PLANTED["AWS_ACCESS_KEY_ID"] not in output


def test_a_damaged_file_with_secrets_is_quoted_without_them(in_job: Examine) -> None:
    for damaged in ({"password": f"{SECRET}a", "url": f"https://u:{SECRET}b@h"}, {"hosts": URL}):
        report = in_job(config=json.dumps(damaged))
        assert report.exit_code == 1
        assert SECRET not in report.as_markdown() + json.dumps(report.as_json())


def test_credentials_are_listed_by_name(in_job: Examine) -> None:
    report = in_job({**TORCHRUN, **PLANTED})
    named = report.as_json()["sections"]["credentials"]["names"]["value"]
    assert named == tuple(sorted(name for name in PLANTED if is_credential(name)))
    assert "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI" in named
    assert "HF_TOKEN" in report.as_markdown()


def test_account_ids_are_masked(in_job: Examine) -> None:
    arn = "arn:aws:sagemaker:eu-west-1:111122223333:training-job/digits"
    assert "111122223333" not in json.dumps(in_job({**TORCHRUN, "NCCL_NOTE": arn}).as_json())


@pytest.mark.parametrize("name", ["TOKENIZERS_PARALLELISM", "RANK", "NCCL_DEBUG", "AUTHOR", "MASTER_ADDR"])
def test_harmless_names_are_no_credentials(name: str) -> None:
    assert not is_credential(name)


@pytest.mark.parametrize(
    "text",
    [
        "algo-1:7777",
        "torchrun started 8 process(es) (RANK=8, WORLD_SIZE=16)",
        '{"hosts": ["algo-1"]}',
        "https://github.com/aws/x",
        "MPI(process_count_per_node=2)",
    ],
)
def test_harmless_texts_stay_as_they_are(text: str) -> None:
    assert redact(text) == text


def test_only_listed_variables_are_printed_with_values(in_job: Examine) -> None:
    listed = {
        **dict.fromkeys(("NCCL_DEBUG", "FI_PROVIDER", "GLOO_SOCKET_IFNAME", "MASTER_ADDR", "MASTER_PORT", "RANK"), "1"),
        **dict.fromkeys(("LOCAL_RANK", "WORLD_SIZE", "OMPI_COMM_WORLD_RANK", "SMDATAPARALLEL_SERVER_ADDR"), "1"),
        **dict.fromkeys(("TORCHELASTIC_RUN_ID", "PL_TRAINER_DEVICES", "CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS"), "1"),
    }
    others = (
        "PATH",
        "HOME",
        "SM_HPS",
        "SM_TRAINING_ENV",
        "SM_USER_ARGS",
        "SM_HP_RANK",
        "OMPI_MCA_x",
        "XRANK",
        "FI_KEY",
    )
    report = in_job({**listed, **dict.fromkeys((*others, "nccl_x"), "1")}).as_json()
    told = {name: fact["value"] for name, fact in report["sections"]["variables"].items()}
    of_the_job = {name: told.pop(name) for name in ("SM_HOSTS", "SM_NUM_GPUS", "TRAINING_JOB_NAME")}
    assert (told, of_the_job["SM_NUM_GPUS"]) == (dict(sorted(listed.items())), "8")
