from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from lightning_sagemaker.submit import Channel, InstanceGroup, TrainingJob, complete

if TYPE_CHECKING:
    from collections.abc import Sequence

GOOD: dict[str, Any] = {"instance_type": "ml.p4d.24xlarge", "instance_count": 2}


@pytest.mark.parametrize(  # what test_mistakes.py has no option for; the others are there
    ("changes", "error"),
    [
        ({"instance_groups": {"gpu": "ml.p4d.24xlarge:2"}}, "The job has both of them"),
        ({"instance_type": None, "instance_groups": {"gpu": "ml.p4d.24xlarge:two"}}, "'two', expected a whole number"),
        ({"processes_per_host": 0}, "`processes_per_host` is 0"),
        ({"spot": True, "max_wait": 10}, "`max_wait` is 10 s; expected at least"),
        ({"launcher": "slurm"}, "Launcher 'slurm'; expected one of torchrun"),
        ({"checkpoint_uri": "bucket/prefix"}, "'bucket/prefix' is not an S3 URI"),
        ({"requirements": ["numpy\ntorch"]}, r"`requirements` has 'numpy\\ntorch', with a line break"),
        ({"arguments": ["a\0b"]}, "has a null character"),
        ({"arguments": "--epochs 2"}, "`arguments` is '--epochs 2', expected a list"),
    ],
)
def test_what_cannot_run_is_refused_by_name(script: Path, changes: dict[str, Any], error: str) -> None:
    with pytest.raises(ValueError, match=f"(?s){error}.*HINT"):
        TrainingJob(script, **GOOD | changes)


@pytest.mark.parametrize("name", ["my train.py", "train;ls.py", "-train.py", "train.sh"])
def test_a_script_that_the_toolkit_would_not_start_is_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / "code" / name
    path.parent.mkdir()
    path.touch()
    with pytest.raises(ValueError, match=r"toolkit refuses an entry point with other|expected a \.py file"):
        TrainingJob(path, **GOOD)


def test_what_does_not_exist_is_named(script: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"script is 'absent.py', which is not a file\. HINT"):
        TrainingJob(Path("absent.py"), **GOOD)
    with pytest.raises(FileNotFoundError, match=r"There is no wheel 'absent.whl'\. HINT"):
        TrainingJob(script, **GOOD, requirements=["absent.whl"])


def test_a_home_or_temporary_folder_is_sent_only_if_it_is_named(script: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("HOME", "TMPDIR"):
        with monkeypatch.context() as patch:
            patch.setenv(variable, str(script.parent))
            patch.setattr("tempfile.tempdir", None)
            with pytest.raises(ValueError, match=r"all of which would be the source folder\. HINT"):
                TrainingJob(script, **GOOD)
            TrainingJob(script, **GOOD, source_dir=script.parent)
    TrainingJob(script, **GOOD)


def test_texts_and_lists_of_a_notebook_or_a_file_are_read(script: Path) -> None:
    job = TrainingJob(
        str(script),
        arguments=["--epochs", "3"],
        instance_groups={"gpu": "ml.p4d.24xlarge:2", "cpu": InstanceGroup("ml.c5.xlarge")},
        channels={
            "a": "s3://bucket/a",
            "b": "s3://bucket/b:sharded:FastFile",
            "c": Channel("s3://bucket/c", input_mode="Pipe"),
        },
        env={"ONE": 1, "TEXT": "x"},
    )
    assert (job.path, job.entry, job.arguments) == (script, "train.py", ("--epochs", "3"))
    assert dict(job.groups) == {"gpu": InstanceGroup("ml.p4d.24xlarge", 2), "cpu": InstanceGroup("ml.c5.xlarge", 1)}
    assert job.launched == InstanceGroup("ml.p4d.24xlarge", 2)
    assert dict(job.inputs) == {
        "a": Channel("s3://bucket/a"),
        "b": Channel("s3://bucket/b", sharded=True, input_mode="FastFile"),
        "c": Channel("s3://bucket/c", input_mode="Pipe"),
    }
    assert job.sharded == ("b",)
    assert job.env == {"ONE": "1", "TEXT": "x"}


@pytest.mark.parametrize(
    ("changes", "launcher", "version"),
    [
        ({}, "torchrun", "2.13.0"),
        ({"strategy": "smddp"}, "smddprun", "2.5.1"),
        ({"strategy": "smddp_find_unused_parameters_true"}, "smddprun", "2.5.1"),
        ({"strategy": "smddp_fsdp"}, "torchrun", "2.5.1"),
        ({"strategy": "fsdp"}, "torchrun", "2.13.0"),
        ({"instance_type": "ml.g5.xlarge", "instance_count": 1}, "none", "2.13.0"),
        ({"instance_type": "ml.g5.xlarge", "instance_count": 1, "processes_per_host": 1}, "torchrun", "2.13.0"),
        ({"instance_type": "ml.g5.xlarge"}, "torchrun", "2.13.0"),
        ({"instance_type": "ml.new.huge", "instance_count": 1}, "torchrun", "2.13.0"),
    ],
)
def test_launcher_and_image_are_what_the_strategy_needs(
    script: Path, changes: dict[str, Any], launcher: str, version: str
) -> None:
    job = complete(TrainingJob(script, **GOOD | changes))
    assert (job.launcher, job.torch) == (launcher, version)


def test_the_users_variables_come_before_those_that_are_chosen(script: Path) -> None:
    job = complete(TrainingJob(script, **GOOD, env={"FI_PROVIDER": "tcp"}))
    assert job.env["FI_PROVIDER"] == "tcp"
    assert job.env["FI_EFA_USE_DEVICE_RDMA"] == "1"
    assert "FI_PROVIDER" not in complete(TrainingJob(script, **GOOD | {"instance_count": 1})).env


def test_a_spot_job_resumes_with_retries_and_twice_the_time(script: Path) -> None:
    job = complete(TrainingJob(script, **GOOD, spot=True, max_run=100))
    assert (job.retries, job.max_wait, job.env["LIGHTNING_SAGEMAKER_RESUME"]) == (3, 200, "1")
    assert (complete(TrainingJob(script, **GOOD, spot=True, retries=7)).retries) == 7


def test_images_without_mpi4py_get_it_where_mpirun_starts_python_with_it(script: Path) -> None:
    def requirements(**changes: Any) -> Sequence[str]:
        return complete(TrainingJob(script, **GOOD, **changes)).requirements

    assert "mpi4py" in requirements(launcher="mpirun", torch="2.11")
    assert "mpi4py" not in requirements(launcher="mpirun", torch="2.10")
    assert "mpi4py" not in requirements(torch="2.11")
    assert "mpi4py" not in requirements(launcher="mpirun", image="mine")


def test_a_name_of_any_script_leaves_room_for_the_time(tmp_path: Path) -> None:
    script = tmp_path / "code" / f"train_{'x' * 40}.py"
    script.parent.mkdir()
    script.write_text("")
    assert len(f"{complete(TrainingJob(script, **GOOD)).name}-2026-12-02-13-00-00-000") == 63
    assert TrainingJob(script, **GOOD, name="-".join("a" * 20)).name
    with pytest.raises(ValueError, match="expected at most 39 letters"):
        TrainingJob(script, **GOOD, name="-".join("a" * 21))


def test_the_job_s_name_is_the_script_s_and_its_metrics_those_that_scripts_log(tmp_path: Path) -> None:
    folder = tmp_path / "code"
    folder.mkdir()
    script = folder / "my_train.v2.py"
    script.write_text("")
    (folder / "model.py").write_text(
        'self.log("loss", x, on_step=True, on_epoch=True)\nself.log_dict({"a/b": 1, name: 2})\nmath.log(2)\n'
        'self.log(f"{stage}_loss", x)\nself.log("acc", x, on_step=False, on_epoch=True)\n'
    )
    (folder / "broken.py").write_text("def")
    (folder / "venv").mkdir()
    (folder / "venv" / "other.py").write_text('self.log("hidden", x)')
    job = complete(TrainingJob(script, **GOOD, metrics=("val acc",)))
    assert job.name == "my-train-v2"
    assert job.metrics == ("epoch", "step", "val acc", "a/b", "acc", "loss", "loss_epoch")
