"""A process finds its place in every launch mode, and is not fooled elsewhere."""

from __future__ import annotations

import json
import os
import pickle
import random
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import FrozenInstanceError, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import pytest

from lightning_sagemaker.job import SageMakerJob, in_training_job

from .launch_modes import LARGE, MODES, NAME, THOUSAND, Mode, Process, started_by_lightning

if TYPE_CHECKING:
    from pathlib import Path

Detect = Callable[[Mapping[str, str], Any], SageMakerJob | None]

LAUNCHERLESS = [name for name, mode in MODES.items() if any(world.launcher == "none" for world in mode.worlds)]
TWO_HOSTS = MODES["v2-torch_distributed-2-hosts"].process("algo-1", 3)
MARKS = ("TRAINING_JOB_ARN", "TRAINING_JOB_NAME", "SM_TRAINING_ENV")


# --- every launch mode -----------------------------------------------------------------------------------------------


def test_every_process_of_every_launch_mode_finds_its_place(mode: Mode, detect: Detect) -> None:
    for process in mode.processes():
        assert detect(process.environ, process.config) == process.expected


def test_processes_of_one_world_agree(mode: Mode, detect: Detect) -> None:
    for world in mode.worlds:
        jobs = [_found(detect, process) for process in mode.processes() if process.world is world]
        assert len({(job.main_address, job.main_port, job.world_hosts, job.num_nodes, job.hosts) for job in jobs}) == 1
        assert len({(job.world_size, job.local_world_size, job.launcher, job.sdk) for job in jobs}) == 1
        assert {job.current_host: job.node_rank for job in jobs} == {
            host: index for index, host in enumerate(jobs[0].world_hosts)
        }
        if world.launcher != "none":
            assert sorted(job.rank for job in jobs if job.rank is not None) == list(range(jobs[0].world_size or 0))


def test_worlds_of_one_job_share_no_host(mode: Mode, detect: Detect) -> None:
    hosts = [host for world in mode.worlds for host in _found(detect, mode.process(world.hosts[0])).world_hosts]
    assert sorted(hosts) == sorted(set(hosts))


# --- processes that Lightning's own launcher starts ------------------------------------------------------------------


@pytest.mark.parametrize("devices", [1, 4])
@pytest.mark.parametrize("name", LAUNCHERLESS)
def test_parent_and_children_give_the_same_answers(name: str, devices: int, detect: Detect) -> None:
    for process in MODES[name].processes():
        if process.world.launcher != "none":
            continue
        before = _found(detect, process)
        for local_rank in range(devices):
            environ = started_by_lightning(process.environ, before, devices, local_rank)
            assert detect(environ, process.config) == replace(
                before,
                local_world_size=devices,
                local_rank=local_rank,
                rank=before.node_rank * devices + local_rank,
                world_size=before.num_nodes * devices,
            )


def test_children_of_all_hosts_have_distinct_ranks(detect: Detect) -> None:
    mode, ranks = MODES["v2-none-11-hosts"], []
    for process in mode.processes():
        parent = _found(detect, process)
        children = [started_by_lightning(process.environ, parent, 8, local_rank) for local_rank in range(8)]
        ranks += [_found(detect, process, environ).rank for environ in children]
    assert ranks == list(range(88))


@pytest.mark.parametrize("local_rank", [0, 3])
def test_a_world_size_that_lightnings_teardown_removed_is_asked_for_again(local_rank: int, detect: Detect) -> None:
    process = MODES["v2-none-2-hosts"].process("algo-2")
    before = _found(detect, process)
    environ = started_by_lightning(process.environ, before, 4, local_rank)
    del environ["WORLD_SIZE"]  # LightningEnvironment.teardown, of a Trainer that was apart from the job
    assert detect(environ, process.config) == replace(before, local_rank=local_rank)


@pytest.mark.parametrize("name", LAUNCHERLESS)
def test_ranks_that_deepspeed_leaves_behind_are_those_of_before(name: str, detect: Detect) -> None:
    for process in MODES[name].processes():
        if process.world.launcher != "none":
            continue
        before = _found(detect, process)
        for local_rank in range(2):
            environ = started_by_lightning(process.environ, before, 2, local_rank)
            known = _found(detect, process, environ)
            left = {**environ, "RANK": str(known.rank)}
            after = _found(detect, process, left)
            assert after.launcher == "custom"
            assert replace(after, launcher="none", world_hosts=known.world_hosts) == known


# --- 1,000 hosts -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", LARGE)
def test_any_process_of_1000_hosts_finds_its_place(name: str, detect: Detect) -> None:
    processes = list(LARGE[name].processes())
    assert len(processes) == (1000 if name.endswith("none") else 8000)
    sample = random.Random(8000).sample(processes, 20)  # noqa: S311 - a sample, not a secret
    for process in [processes[0], processes[7], processes[8], processes[-1], *sample]:
        assert detect(process.environ, process.config) == process.expected


@pytest.mark.parametrize("name", ["v2-none", "v3-none", "v3-torchrun"])
def test_algo_10_stands_before_algo_2_as_in_sagemakers_list(name: str, detect: Detect) -> None:
    node_ranks = {
        host: _found(detect, LARGE[name].process(host)).node_rank
        for host in ("algo-1", "algo-10", "algo-1000", "algo-2")
    }
    assert node_ranks == {"algo-1": 0, "algo-10": 1, "algo-1000": 3, "algo-2": THOUSAND.index("algo-2")}


def test_children_of_1000_hosts_find_their_place(detect: Detect) -> None:
    process = LARGE["v2-none"].process("algo-999")
    parent = _found(detect, process)
    child = _found(detect, process, started_by_lightning(process.environ, parent, 8, 7))
    assert (child.node_rank, child.rank, child.world_size) == (999, 7999, 8000)


# --- not fooled ------------------------------------------------------------------------------------------------------

ELSEWHERE: dict[str, dict[str, str]] = {
    "laptop": {"PATH": "/usr/bin"},
    "laptop-with-torchrun": {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1", "TORCHELASTIC_RUN_ID": "none"},
    "laptop-with-stray-sm-variables": {"SM_HOSTS": '["algo-1"]', "SM_CURRENT_HOST": "algo-1", "SM_NUM_GPUS": "1"},
    "laptop-with-stray-resource-config": {"SM_RESOURCE_CONFIG": json.dumps(TWO_HOSTS.config)},
    "notebook": {"NOTEBOOK_METADATA_FILE": "/opt/ml/metadata/resource-metadata.json", "AWS_REGION": "eu-west-1"},
    "studio": {"SAGEMAKER_APP_TYPE": "JupyterLab", "SAGEMAKER_SPACE_NAME": "mine", "SAGEMAKER_INTERNAL_IMAGE_URI": "i"},
    "processing": {"PROCESSING_JOB_ARN": "arn:aws:sagemaker:eu-west-1:111122223333:processing-job/p"},
    "batch-transform": {"TRANSFORM_JOB_ARN": "arn:aws:sagemaker:eu-west-1:111122223333:transform-job/t"},
    "endpoint": {"SAGEMAKER_PROGRAM": "inference.py", "SAGEMAKER_SUBMIT_DIRECTORY": "/opt/ml/model/code"},
    "hyperpod-slurm": {
        "SAGEMAKER_RESOURCE_CONFIG_PATH": "/opt/ml/config/resource_config.json",
        "SLURM_NTASKS": "16",
        "SLURM_PROCID": "3",
        "SLURM_JOB_NAME": "train",
    },
    "marks-without-value": {"TRAINING_JOB_ARN": "", "TRAINING_JOB_NAME": "", "SM_TRAINING_ENV": ""},
}


@pytest.mark.parametrize("place", ELSEWHERE)
@pytest.mark.parametrize("file", [False, True], ids=["no-file", "file"])
def test_other_places_are_no_training_job(place: str, file: bool, detect: Detect) -> None:
    assert detect(ELSEWHERE[place], TWO_HOSTS.config if file else None) is None
    assert not in_training_job(ELSEWHERE[place])


@pytest.mark.parametrize("config", ["", "{", b"\xff\xfe", "[]"], ids=["empty", "cut", "binary", "list"])
def test_a_file_without_marks_is_not_even_judged(config: str | bytes, detect: Detect) -> None:
    assert detect({}, config) is None


@pytest.mark.parametrize("stray", ["TRAINING_JOB_NAME", "SM_TRAINING_ENV"])
def test_a_stray_mark_without_file_is_no_training_job(stray: str, detect: Detect) -> None:
    assert detect({stray: "{}"}, None) is None
    assert detect({**ELSEWHERE["laptop-with-torchrun"], stray: "{}"}, None) is None


@pytest.mark.parametrize("mark", MARKS)
def test_each_mark_alone_with_the_file_is_a_training_job(mark: str, detect: Detect) -> None:
    process = MODES["own-none-1-host"].process("algo-1")
    assert detect({mark: "anything"}, process.config) is not None


def test_the_arn_without_a_file_is_an_error(refusal: Callable[..., str], tmp_path: Path) -> None:
    message = refusal({"TRAINING_JOB_ARN": "arn:aws:sagemaker:x"}, None, FileNotFoundError)
    assert "TRAINING_JOB_ARN='arn:aws:sagemaker:x'" in message
    assert str(tmp_path / "resourceconfig.json") in message
    assert "SM_RESOURCE_CONFIG" in message


# --- what detection is -----------------------------------------------------------------------------------------------


def test_detection_changes_neither_its_mapping_nor_the_process(
    mode: Mode, detect: Detect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RANK", "untouched")
    process = next(iter(mode.processes()))
    own, given = dict(os.environ), process.environ
    assert detect(MappingProxyType(given), process.config) == process.expected
    assert given == process.environ
    assert dict(os.environ) == own


def test_detection_reads_the_processs_own_environment_by_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "input" / "config"
    folder.mkdir(parents=True)
    (folder / "resourceconfig.json").write_text(json.dumps(TWO_HOSTS.config))
    monkeypatch.setattr(os, "environ", {**TWO_HOSTS.environ, "SAGEMAKER_BASE_DIR": str(tmp_path)})
    assert SageMakerJob.detect() == TWO_HOSTS.expected


def test_the_given_folder_comes_before_the_base_folder(tmp_path: Path, detect: Detect) -> None:
    environ = {**TWO_HOSTS.environ, "SAGEMAKER_BASE_DIR": str(tmp_path / "nowhere")}
    assert detect(environ, TWO_HOSTS.config) == TWO_HOSTS.expected
    assert SageMakerJob.detect(environ, str(tmp_path)) == TWO_HOSTS.expected


@pytest.mark.parametrize("environ", [{}, {"SAGEMAKER_BASE_DIR": ""}], ids=["unset", "empty"])
def test_the_base_folder_is_opt_ml(environ: dict[str, str]) -> None:
    with pytest.raises(FileNotFoundError, match=r"/opt/ml/input/config/resourceconfig\.json"):
        SageMakerJob.detect({"TRAINING_JOB_ARN": "arn", **environ})


def test_importing_the_package_imports_neither_torch_nor_lightning() -> None:
    program = (
        "import sys, lightning_sagemaker.job; print(*sorted("
        "{name.partition('.')[0] for name in sys.modules} & {'torch', 'lightning', 'pytorch_lightning', 'numpy'}),"
        "*sorted(name for name in sys.modules if name.startswith('lightning_sagemaker.')))"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert run.stdout.split() == ["lightning_sagemaker._autoload", "lightning_sagemaker.job"] + [
        f"lightning_sagemaker.job.{name}" for name in ("launchers", "placement", "resources", "values")
    ]


# --- what a job is ---------------------------------------------------------------------------------------------------


def test_a_job_is_frozen_and_hashable() -> None:
    job = TWO_HOSTS.expected
    with pytest.raises(FrozenInstanceError):
        job.rank = 0  # type: ignore[misc]
    assert len({job, replace(job), replace(job, rank=0)}) == 2


def test_a_job_survives_pickling(mode: Mode) -> None:
    for process in mode.processes():
        assert pickle.loads(pickle.dumps(process.expected)) == process.expected


def test_a_jobs_text_tells_where_the_process_stands() -> None:
    assert repr(TWO_HOSTS.expected) == (
        f"SageMakerJob(name={NAME}, launcher=torchrun, host=algo-1 of [algo-2, algo-1], node_rank=1(2),"
        " local_rank=3(8), rank=11(16), main=algo-2:7777)"
    )


def test_a_jobs_text_is_short_for_1000_hosts() -> None:
    text = repr(LARGE["v2-torch_distributed"].process("algo-1000", 7).expected)
    assert len(text) < 350
    assert "algo-1000 of" in text
    assert "(1000 in all)" in text


def test_each_world_has_one_rank_zero(mode: Mode) -> None:
    for world in mode.worlds:
        zeros = [process for process in mode.processes() if process.world is world and process.expected.is_rank_zero]
        assert [(process.node_rank, process.local_rank) for process in zeros] == [(0, 0)]


@pytest.mark.parametrize(
    ("variables", "sdk"),
    [
        ({}, None),
        ({"SM_HOSTS": "[]"}, "v2"),
        ({"SM_TRAINING_ENV": "{}"}, "v2"),
        ({"SM_TRAINING_ENV": "{}", "SM_HOSTS": "[]", "SM_HOST_COUNT": "1"}, "v3"),
        ({"SM_HOSTS": "[]", "SM_CURRENT_HOST_RANK": "0"}, "v3"),
        ({"SM_HOSTS": "[]", "SM_MASTER_ADDR": "algo-1"}, "v3"),
    ],
)
def test_the_sdk_is_told_by_what_only_it_sets(variables: dict[str, str], sdk: str | None, detect: Detect) -> None:
    process = MODES["own-none-1-host"].process("algo-1")
    job = detect({**process.environ, **variables}, process.config)
    assert job is not None
    assert job.sdk == sdk


@pytest.mark.parametrize("variables", [{}, {"TRAINING_JOB_NAME": "", "SAGEMAKER_JOB_NAME": ""}], ids=["unset", "empty"])
def test_a_job_without_a_name_is_a_job(variables: dict[str, str], detect: Detect) -> None:
    job = detect({"SM_TRAINING_ENV": "{}", **variables}, MODES["own-none-1-host"].process("algo-1").config)
    assert job is not None
    assert job.name is None
    assert "name=None" in repr(job)


def test_the_toolkits_name_of_the_job_serves_where_the_platforms_is_lost(detect: Detect) -> None:
    environ = TWO_HOSTS.environ
    del environ["TRAINING_JOB_NAME"]
    assert detect(environ, TWO_HOSTS.config) == TWO_HOSTS.expected


def _found(detect: Detect, process: Process, environ: Mapping[str, str] | None = None) -> SageMakerJob:
    job = detect(process.environ if environ is None else environ, process.config)
    assert job is not None
    return job
