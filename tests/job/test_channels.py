"""Which channels are sharded, from the file or the variable that tells it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from lightning_sagemaker.job.channels import dropped_rows, sharded_channels

if TYPE_CHECKING:
    from pathlib import Path


def channel(distribution: Any = "FullyReplicated") -> dict[str, Any]:
    return {"TrainingInputMode": "File", "S3DistributionType": distribution, "RecordWrapperType": "None"}


def write(folder: Path, content: Any) -> None:
    (folder / "inputdataconfig.json").write_text(content if isinstance(content, str) else json.dumps(content))


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ({}, ()),
        ("null", ()),
        ("", ()),
        ({"train": channel()}, ()),
        ({"train": {"TrainingInputMode": "File"}, "fsx": channel(None)}, ()),
        ({"b": channel("ShardedByS3Key"), "all": channel(), "a": channel("ShardedByS3Key")}, ("b", "a")),
    ],
)
def test_the_file_tells(tmp_path: Path, content: Any, expected: tuple[str, ...]) -> None:
    write(tmp_path, content)
    assert sharded_channels({}, tmp_path) == expected


def test_the_base_folder_is_that_of_the_job(tmp_path: Path) -> None:
    config = tmp_path / "input" / "config"
    config.mkdir(parents=True)
    write(config, {"train": channel("ShardedByS3Key")})
    assert sharded_channels({"SAGEMAKER_BASE_DIR": str(tmp_path)}) == ("train",)


def test_without_a_file_the_variable_tells(tmp_path: Path) -> None:
    told = json.dumps({"train": channel("ShardedByS3Key")})
    assert sharded_channels({"SM_INPUT_DATA_CONFIG": told}, tmp_path) == ("train",)
    assert sharded_channels({"SM_INPUT_DATA_CONFIG": ""}, tmp_path) == ()
    assert sharded_channels({}, tmp_path) == ()


def test_the_file_comes_before_the_variable_which_mpirun_takes_from_another_host(tmp_path: Path) -> None:
    write(tmp_path, {"train": channel()})
    assert sharded_channels({"SM_INPUT_DATA_CONFIG": json.dumps({"train": channel("ShardedByS3Key")})}, tmp_path) == ()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"train": {"S3Dis', r"inputdataconfig\.json is not JSON"),
        ("[]", r"inputdataconfig\.json holds \[\]; expected a JSON object"),
        ("3", "holds 3; expected a JSON object"),
        ({"train": "ShardedByS3Key"}, r"Channel 'train' in .* is 'ShardedByS3Key'; expected an object whose"),
        ({"train": channel(1)}, "Channel 'train' in .*'S3DistributionType': 1"),
        ({"train": None}, "Channel 'train' in .* is None; expected"),
    ],
)
def test_malformed_content_is_an_error_that_names_it(tmp_path: Path, content: Any, message: str) -> None:
    write(tmp_path, content)
    with pytest.raises(ValueError, match=f"{message}.*HINT: "):
        sharded_channels({}, tmp_path)


def test_a_malformed_variable_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"SM_INPUT_DATA_CONFIG is not JSON.*HINT: "):
        sharded_channels({"SM_INPUT_DATA_CONFIG": '{"train'}, tmp_path)


def test_what_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "inputdataconfig.json").mkdir()
    with pytest.raises(
        ValueError, match=r"inputdataconfig\.json cannot be read: .*It lists the input channels.*HINT: "
    ):
        sharded_channels({}, tmp_path)


def test_the_text_names_channels_hosts_and_the_three_ways_out() -> None:
    text = dropped_rows(("train", "validation"), 4)
    assert "train, validation" in text
    assert "4 hosts" in text
    for way in ("FullyReplicated", "use_distributed_sampler=False", "plugins=[LightningEnvironment()]"):
        assert way in text.partition("HINT: ")[2]
    assert len(text) < 1024  # of what SageMaker's job page shows
