"""The hosts of a job: the file, the variable where there is none, and what is wrong with either."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lightning_sagemaker.job import SageMakerJob

from .launch_modes import LARGE, MODES

Detect = Callable[[Mapping[str, str], Any], SageMakerJob | None]

PROCESS = MODES["v2-mpi-2-hosts"].process("algo-1", 3)  # SM_* are those of algo-2
CONFIG = PROCESS.config
GROUP = CONFIG["instance_groups"][0]
TEXT = json.dumps(CONFIG)


def test_the_file_comes_before_the_variable(detect: Detect) -> None:
    other = {"current_host": "other", "hosts": ["other"]}
    environ = {**PROCESS.environ, "SM_RESOURCE_CONFIG": json.dumps(other), "CURRENT_HOST": "other"}
    assert detect(environ, CONFIG) == PROCESS.expected


def test_the_file_may_hold_more_than_is_read(detect: Detect) -> None:
    assert detect(PROCESS.environ, {**CONFIG, "topology": [{"a": 1}], "new": None}) == PROCESS.expected


@pytest.mark.parametrize("value", ["", None])
def test_what_the_file_leaves_empty_is_unknown(value: str | None, detect: Detect) -> None:
    unknown = {"current_instance_type": value, "current_group_name": value, "network_interface_name": value}
    assert detect(PROCESS.environ, {**CONFIG, **unknown}) == replace(
        PROCESS.expected, instance_type=None, instance_group=None, network_interface=None
    )


@pytest.mark.parametrize("groups", [[], None])
def test_a_job_may_have_no_groups(groups: list[Any] | None, detect: Detect) -> None:
    process = MODES["v3-none-2-hosts"].process("algo-2")
    assert detect(process.environ, {**process.config, "instance_groups": groups}) == process.expected


def test_without_file_the_variable_serves_and_the_toolkit_tells_the_host(detect: Detect) -> None:
    assert json.loads(PROCESS.environ["SM_RESOURCE_CONFIG"])["current_host"] == "algo-2"
    assert detect(PROCESS.environ, None) == PROCESS.expected


def test_without_file_and_toolkit_the_variable_tells_the_host(detect: Detect) -> None:
    process = MODES["v3-none-2-hosts"].process("algo-2")
    assert "CURRENT_HOST" not in process.environ
    assert detect(process.environ, None) == process.expected


UNNECESSARY = [
    *("SM_HPS", "SM_HP_NOTE", "SM_USER_ARGS", "SM_TRAINING_ENV", "SM_RESOURCE_CONFIG", "SM_FRAMEWORK_PARAMS"),
    *("SM_HOSTS", "SM_INSTANCE_GROUPS", "SM_INSTANCE_GROUPS_DICT", "SM_CURRENT_INSTANCE_GROUP_HOSTS", "SM_CHANNELS"),
    *("SM_DISTRIBUTION_INSTANCE_GROUPS", "SM_INPUT_DATA_CONFIG", "SM_NUM_GPUS", "SM_CURRENT_HOST", "CURRENT_HOST"),
]
LAUNCHED = ["v2-smddp-with-smddprun-2-hosts", "v2-smddp-without-smddprun-2-hosts", "v2-mpi-2-hosts", "v3-mpi-repaired"]


@pytest.mark.parametrize("name", UNNECESSARY)
@pytest.mark.parametrize("text", ['{"hosts":["algo-1"],"note":"a', "[algo-1", "[]", "\udcff", "-1", "algo-9"])
def test_damaged_variables_that_the_file_makes_unnecessary_change_nothing(name: str, text: str, detect: Detect) -> None:
    for row in [*LAUNCHED, "v2-torch_distributed-2-hosts", "v3-torchrun-2-hosts"]:
        process = MODES[row].process("algo-2", 5)
        assert detect({**process.environ, name: text}, process.config) == process.expected


# --- what is wrong with the file -------------------------------------------------------------------------------------

BROKEN: dict[str, tuple[Any, tuple[str, ...]]] = {
    "empty": ("", ("is not JSON", "''")),
    "blank": (" \n", ("is not JSON",)),
    "cut-at-hash": ((TEXT + "#").split("eth0")[0], ("is not JSON", "current_host")),
    "cut-to-a-brace": ("{", ("is not JSON", "'{'")),
    "two-objects": (TEXT * 2, ("is not JSON",)),
    "bottomless": ("[" * 100_000, ("is not JSON",)),
    "deep": ("[" * 900 + "]" * 900, ()),
    "not-utf-8": (TEXT.encode("utf-16"), ("cannot be read", "utf-8")),
    "one-bad-byte": (TEXT.encode().replace(b"eth0", b"\xff"), ("cannot be read", "utf-8")),
    "byte-order-mark": (b"\xef\xbb\xbf" + TEXT.encode(), ("is not JSON",)),
    "list": ("[]", ("holds []", "expected a JSON object")),
    "text": ('"algo-1"', ("holds 'algo-1'", "expected a JSON object")),
    "null": ("null", ("holds None", "expected a JSON object")),
    "long-list": (list(range(100_000)), ("holds [0, 1, 2", "expected a JSON object")),
    "no-hosts": ({"current_host": "algo-1"}, ("`hosts`", "None")),
    "hosts-empty": ({**CONFIG, "hosts": []}, ("`hosts`", "[]")),
    "hosts-text": ({**CONFIG, "hosts": "algo-1"}, ("`hosts`", "'algo-1'")),
    "hosts-numbers": ({**CONFIG, "hosts": [1, 2]}, ("`hosts`", "[1, 2]")),
    "hosts-null": ({**CONFIG, "hosts": ["algo-1", None]}, ("`hosts`", "None")),
    "hosts-empty-name": ({**CONFIG, "hosts": ["algo-1", ""]}, ("`hosts`", "['algo-1', '']")),
    "hosts-twice": ({**CONFIG, "hosts": ["algo-1", "algo-2", "algo-1"]}, ("`hosts`", "distinct", "algo-1")),
    "hosts-object": ({**CONFIG, "hosts": {"algo-1": 1}}, ("`hosts`", "{'algo-1': 1}")),
    "no-current-host": ({"hosts": ["algo-1"]}, ("`current_host`", "None", "algo-1")),
    "current-host-empty": ({**CONFIG, "current_host": ""}, ("`current_host`", "algo-1, algo-2")),
    "current-host-number": ({**CONFIG, "current_host": 1}, ("`current_host`", "1", "expected a string")),
    "current-host-list": ({**CONFIG, "current_host": ["algo-1"]}, ("`current_host`", "['algo-1']")),
    "current-host-unknown": ({**CONFIG, "current_host": "algo-9"}, ("`current_host`", "'algo-9'", "algo-1, algo-2")),
    "current-host-in-other-case": ({**CONFIG, "current_host": "Algo-1"}, ("`current_host`", "'Algo-1'")),
    "current-host-endless": ({**CONFIG, "current_host": "a" * 10_000}, ("`current_host`", "'aaa")),
    "type-number": ({**CONFIG, "current_instance_type": 4}, ("`current_instance_type`", "4")),
    "group-name-list": ({**CONFIG, "current_group_name": []}, ("`current_group_name`", "[]")),
    "interface-object": ({**CONFIG, "network_interface_name": {}}, ("`network_interface_name`", "{}")),
    "groups-text": ({**CONFIG, "instance_groups": "gpu"}, ("`instance_groups`", "'gpu'")),
    "groups-object": ({**CONFIG, "instance_groups": GROUP}, ("`instance_groups`", "list of objects")),
    "groups-number": ({**CONFIG, "instance_groups": 7}, ("`instance_groups`", "7")),
    "groups-empty-object": ({**CONFIG, "instance_groups": {}}, ("`instance_groups`", "{}")),
    "groups-empty-text": ({**CONFIG, "instance_groups": ""}, ("`instance_groups`", "''")),
    "groups-of-names": ({**CONFIG, "instance_groups": ["gpu"]}, ("`instance_groups`", "['gpu']")),
    "groups-many": ({**CONFIG, "instance_groups": [{}] * 1000 + [0]}, ("`instance_groups`", "list of objects")),
    "group-without-hosts": ({**CONFIG, "instance_groups": [{}]}, ("`instance_groups[].hosts`", "None")),
    "group-of-no-hosts": (
        {**CONFIG, "instance_groups": [{**GROUP, "hosts": []}]},
        ("`instance_groups[].hosts`", "[]"),
    ),
    "group-name-number": (
        {**CONFIG, "instance_groups": [{**GROUP, "instance_group_name": 1}]},
        ("`instance_group_name`", "1"),
    ),
    "group-of-unknown-hosts": (
        {**CONFIG, "instance_groups": [{**GROUP, "hosts": ["algo-1", "algo-2", "algo-9"]}]},
        ("`instance_groups`", "algo-9"),
    ),
    "group-repeats-a-host": (
        {**CONFIG, "instance_groups": [{**GROUP, "hosts": ["algo-1", "algo-2", "algo-2"]}]},
        ("`instance_groups[].hosts`", "distinct"),
    ),
    "host-in-no-group": (
        {**CONFIG, "instance_groups": [{**GROUP, "hosts": ["algo-2"]}]},
        ("`instance_groups`", "algo-1"),
    ),
    "host-in-two-groups": (
        {**CONFIG, "instance_groups": [GROUP, {"instance_group_name": "b", "hosts": ["algo-2"]}]},
        ("`instance_groups`", "algo-2"),
    ),
    "groups-of-one-name": (
        {**CONFIG, "instance_groups": [{**GROUP, "hosts": ["algo-1"]}, {**GROUP, "hosts": ["algo-2"]}]},
        ("`instance_groups`", "algo-1"),
    ),
}


@pytest.mark.parametrize(("content", "parts"), BROKEN.values(), ids=list(BROKEN))
def test_a_broken_file_is_refused(
    content: Any, parts: tuple[str, ...], refusal: Callable[..., str], tmp_path: Path
) -> None:
    message = refusal(PROCESS.environ, content)
    assert str(tmp_path / "resourceconfig.json") in message
    for part in parts:
        assert part in message


@pytest.mark.parametrize(
    ("content", "parts"),
    [row for row in BROKEN.values() if not isinstance(row[0], bytes) and row[0]],
    ids=[name for name, row in BROKEN.items() if not isinstance(row[0], bytes) and row[0]],
)
def test_a_broken_variable_is_refused_where_there_is_no_file(
    content: Any, parts: tuple[str, ...], refusal: Callable[..., str]
) -> None:
    text = content if isinstance(content, str) else json.dumps(content)
    message = refusal({**PROCESS.environ, "CURRENT_HOST": "", "SM_RESOURCE_CONFIG": text}, None)
    assert "SM_RESOURCE_CONFIG" in message
    for part in parts:
        assert part in message


def test_one_wrong_name_among_1000_hosts_is_refused_in_few_words(refusal: Callable[..., str]) -> None:
    process = LARGE["v2-torch_distributed"].process("algo-1000")
    for hosts in ([*process.mode.hosts, ""], [*process.mode.hosts, "algo-1000"], list(process.mode.hosts[:-1])):
        refusal(process.environ, {**process.config, "hosts": hosts})


def test_a_current_host_that_the_variable_lacks_is_refused_by_its_own_name(refusal: Callable[..., str]) -> None:
    message = refusal({**PROCESS.environ, "CURRENT_HOST": "algo-9"}, None)
    assert "Environment variable `CURRENT_HOST` is 'algo-9'" in message
    assert "SM_RESOURCE_CONFIG" in message


def test_a_folder_in_place_of_the_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "resourceconfig.json").mkdir()
    with pytest.raises(ValueError, match=r"resourceconfig\.json cannot be read: .*directory.*HINT: "):
        SageMakerJob.detect(PROCESS.environ, tmp_path)


def test_a_file_that_cannot_be_opened_is_refused(tmp_path: Path) -> None:
    (tmp_path / "resourceconfig.json").symlink_to("resourceconfig.json")  # unreadable for root too
    with pytest.raises(ValueError, match=r"resourceconfig\.json cannot be read: .*symbolic links.*HINT: "):
        SageMakerJob.detect(PROCESS.environ, tmp_path)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give up its rights")
def test_a_file_that_a_script_may_no_longer_read_is_read_from_the_toolkit_s_copy() -> None:
    with tempfile.TemporaryDirectory() as folder:  # readable by all up to the file, as in a container
        path = Path(folder, "resourceconfig.json")
        path.write_text(json.dumps(PROCESS.config))
        path.chmod(0)
        Path(folder).chmod(0o755)
        os.seteuid(65534)
        try:
            job = SageMakerJob.detect({**PROCESS.environ, "SM_RESOURCE_CONFIG": json.dumps(PROCESS.config)}, folder)
            with pytest.raises(ValueError, match=r"resourceconfig\.json cannot be read: .*Permission denied.*HINT: "):
                SageMakerJob.detect({**PROCESS.environ, "SM_RESOURCE_CONFIG": ""}, folder)
        finally:
            os.seteuid(0)
    assert job is not None
    assert list(job.hosts) == PROCESS.config["hosts"]


def test_a_base_folder_that_is_a_file_is_refused(tmp_path: Path) -> None:
    base = tmp_path / "base"
    base.touch()
    with pytest.raises(
        ValueError, match=r"base/input/config/resourceconfig\.json cannot be read: .*SAGEMAKER_BASE_DIR"
    ):
        SageMakerJob.detect({**PROCESS.environ, "SAGEMAKER_BASE_DIR": str(base)})


def test_no_file_and_no_variable_is_an_error_only_with_the_arn(refusal: Callable[..., str], detect: Detect) -> None:
    environ = {**PROCESS.environ, "SM_RESOURCE_CONFIG": ""}
    assert "TRAINING_JOB_ARN" in refusal(environ, None, FileNotFoundError)
    del environ["TRAINING_JOB_ARN"]
    assert detect(environ, None) is None
