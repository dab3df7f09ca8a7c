from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightning_sagemaker import metrics
from lightning_sagemaker.submit import describe
from lightning_sagemaker.submit.arguments import hyperparameters
from lightning_sagemaker.submit.source import files, logged_names, needed, stage

if TYPE_CHECKING:
    from pathlib import Path

GOOD: dict[str, Any] = {"instance_type": "ml.p4d.24xlarge", "instance_count": 2}


def test_a_description_shows_all_that_is_set_and_is_the_same_as_json(script: Path) -> None:
    job = describe(script, **GOOD, strategy="ddp", arguments=["--epochs", "3"])
    assert "instance_type       ml.p4d.24xlarge" in str(job)
    assert "    epochs = 3" in str(job)
    assert "subnets" not in str(job)
    told = json.loads(job.to_json())
    assert (told["instance_type"], told["environment"]["PL_TRAINER_STRATEGY"]) == ("ml.p4d.24xlarge", "ddp")


def test_what_a_secret_s_variable_or_option_holds_is_not_shown_and_is_sent(script: Path) -> None:
    secret = "hun" + "ter2, and words"
    job = describe(script, **GOOD, arguments=["--password", secret], environment={"WANDB_API_KEY": secret})
    assert secret not in str(job)
    told = json.loads(job.to_json())
    assert (told["environment"]["WANDB_API_KEY"], told["hyperparameters"]["password"]) == ("***", "***")
    assert (job.environment["WANDB_API_KEY"], job.hyperparameters["password"]) == (secret, secret)


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"instance_type": "p4d.24xlarge"}, "Instance type 'p4d.24xlarge'; expected one such as"),
        ({"instance_count": 0}, "`instance_count` is 0; expected a whole number of 1 or more"),
        ({"processes_per_host": 0}, "`processes_per_host` is 0"),
        ({"name": "no_underscores"}, "Name 'no_underscores'; expected at most 43 letters"),
        ({"max_wait": 10}, "`max_wait` is 10 s; expected at least"),
        ({"spot": True, "max_wait": 10}, "`max_wait` is 10 s; expected at least"),
        ({"launcher": "slurm"}, "Launcher 'slurm'; expected one of torchrun"),
        ({"launcher": "mpirun", "instance_type": "ml.x9.large"}, "GPUs of 'ml.x9.large' is not known.*HINT"),
        ({"torch_version": "newest"}, "Version of torch 'newest'"),
        ({"checkpoint_s3_uri": "bucket/prefix"}, "'bucket/prefix' is no S3 URI"),
        ({"requirements": ["absent.whl"]}, "There is no wheel 'absent.whl'"),
        ({"source_dir": "tests"}, "does not lie in the source folder 'tests'.*HINT"),
    ],
)
def test_what_cannot_run_is_refused_by_name(script: Path, changes: dict[str, Any], error: str) -> None:
    with pytest.raises(ValueError, match=error):
        describe(script, **GOOD | changes)


def test_an_absent_script_is_an_error_that_names_it() -> None:
    with pytest.raises(FileNotFoundError, match=r"There is no script 'absent.py'\. HINT"):
        describe("absent.py", **GOOD)


@pytest.mark.parametrize(
    ("changes", "launcher", "version"),
    [
        ({}, "torchrun", "2.8.0"),
        ({"strategy": "smddp", "sdk": "v2"}, "smddprun", "2.5.1"),
        ({"strategy": "smddp_find_unused_parameters_true", "sdk": "v2"}, "smddprun", "2.5.1"),
        ({"strategy": "smddp_fsdp"}, "torchrun", "2.5.1"),
        ({"strategy": "fsdp"}, "torchrun", "2.8.0"),
        ({"instance_type": "ml.g5.xlarge", "instance_count": 1}, "none", "2.8.0"),
        ({"instance_type": "ml.g5.xlarge"}, "torchrun", "2.8.0"),
        ({"instance_type": "ml.new.huge", "instance_count": 1}, "torchrun", "2.8.0"),
    ],
)
def test_launcher_and_image_are_what_the_strategy_needs(
    script: Path, changes: dict[str, Any], launcher: str, version: str
) -> None:
    job = describe(script, **GOOD | changes)
    assert (job.launcher, job.torch_version) == (launcher, version)


def test_the_users_variables_come_before_those_that_are_chosen(script: Path) -> None:
    job = describe(script, **GOOD, environment={"FI_PROVIDER": "tcp"})
    assert job.environment["FI_PROVIDER"] == "tcp"
    assert job.environment["FI_EFA_USE_DEVICE_RDMA"] == "1"
    assert "FI_PROVIDER" not in describe(script, **GOOD | {"instance_count": 1}).environment


def test_images_without_mpi4py_get_it_where_mpirun_starts_python_with_it(script: Path) -> None:
    assert "mpi4py" in describe(script, **GOOD, launcher="mpirun", torch_version="2.11.0").requirements
    assert "mpi4py" not in describe(script, **GOOD, launcher="mpirun", torch_version="2.10.0").requirements
    assert "mpi4py" not in describe(script, **GOOD, torch_version="2.11.0").requirements


@pytest.mark.parametrize("sdk", ["v2", "v3"])
def test_options_with_values_become_hyperparameters(sdk: str) -> None:
    given = ["--epochs", "30", "--lr=1e-3", "--offset", "-5", "--name", "a b", "--empty", ""]
    expected = {"epochs": "30", "lr": "1e-3", "offset": "-5", "name": "a b", "empty": ""}
    assert hyperparameters(given, sdk) == expected


@pytest.mark.parametrize(
    ("sdk", "arguments", "error"),
    [
        ("v2", ["fit"], "'fit' belongs to no option"),
        ("v2", ["--fast"], "'--fast' has no value"),
        ("v2", ["--fast", "--epochs", "3"], "'--fast' has no value"),
        ("v2", ["--a1", "1", "--a1", "2"], "`--a1` is given twice"),
        ("v2", ["-lr", "1"], "`-lr` would arrive as `--lr`"),
        ("v2", ["--e", "1"], "`--e` would arrive as `-e`"),
        ("v3", ["-e", "1"], "`-e` would arrive as `--e`"),
        ("v3", ["--name", "it's"], "holds a single quote"),
        ("v2", ["--sagemaker_mpi_enabled", "true"], "a name of SageMaker's own"),
        ("v2", ["--long", "x" * 2501], "a value of 2501 characters"),
        ("v2", [text for n in range(101) for text in (f"--n{n}", "1")], "has 101 arguments"),
    ],
)
def test_arguments_that_would_not_arrive_as_they_are_are_refused(sdk: str, arguments: list[str], error: str) -> None:
    with pytest.raises(ValueError, match=rf"{error}.*HINT"):
        hyperparameters(arguments, sdk)


def test_single_letters_pass_with_one_dash_in_v2() -> None:
    assert hyperparameters(["-e", "3"], "v2") == {"e": "3"}


def test_requirements_name_what_is_installed_here_unless_the_user_does(tmp_path: Path) -> None:
    lines = needed(tmp_path, [])
    assert [re.split("[=>]", line)[0] for line in lines] == ["lightning", "lightning-sagemaker"]
    (tmp_path / "requirements.txt").write_text("Lightning_SageMaker @ file:///x  # ours\npytorch_lightning==2.5\n")
    assert needed(tmp_path, ["numpy"]) == ["numpy"]


def test_a_wheel_of_this_package_replaces_the_published_one(tmp_path: Path) -> None:
    (tmp_path / "requirements.txt").write_text("lightning==2.5")
    wheel = tmp_path / "lightning_sagemaker-0.1.0-py3-none-any.whl"
    wheel.write_bytes(b"")
    lines = needed(tmp_path, [str(wheel)])
    assert lines == [f"./{wheel.name}"]
    stage(tmp_path, tmp_path.parent / "staged", lines, [str(wheel)])
    assert (tmp_path.parent / "staged" / "requirements.txt").read_text() == f"lightning==2.5\n{lines[0]}\n"


def test_names_of_logged_metrics_are_read_from_the_scripts(tmp_path: Path) -> None:
    (tmp_path / "model.py").write_text(
        'self.log("loss", x, on_step=True, on_epoch=True)\nself.log_dict({"a/b": 1, name: 2})\nmath.log(2)\n'
        'self.log(f"{stage}_loss", x)\nself.log("acc", x, on_step=False, on_epoch=True)\n'
    )
    (tmp_path / "broken.py").write_text("def")
    (tmp_path / ".venv").mkdir()
    (tmp_path / ".venv" / "other.py").write_text('self.log("hidden", x)')
    assert logged_names(tmp_path) == ["a/b", "acc", "loss", "loss_epoch"]


@given(st.dictionaries(st.sampled_from(["loss", "val loss", "a/b", "x+y"]), st.floats(width=32), min_size=1))
def test_the_pattern_of_a_metric_finds_its_value_in_a_line(values: dict[str, float]) -> None:
    line = metrics.line({"epoch": 3, **values})
    for name, value in values.items():
        found = re.search(metrics.pattern(name), f"[1,mpirank:0,algo-1]<stdout>:{line}")
        assert found is not None
        assert float(found[1]) == pytest.approx(value, rel=1e-6, nan_ok=True)


def test_links_in_circles_are_neither_searched_nor_sent(script: Path, tmp_path: Path) -> None:
    folder = script.parent
    (folder / "part").mkdir()
    (folder / "part" / "data.txt").write_text("x")
    (folder / "again").symlink_to("part")
    for name in ("a", "b", "part/up"):
        (folder / name).symlink_to(folder)
    assert len(list(files(folder))) == 2
    stage(folder, tmp_path / "sent", [], [])
    sent = {path.relative_to(tmp_path / "sent").as_posix() for path in (tmp_path / "sent").rglob("*") if path.is_file()}
    assert sent == {script.name, "part/data.txt", "again/data.txt", "requirements.txt"}
