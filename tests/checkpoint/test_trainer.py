"""Checkpoints of real Trainers in a job, of both distributions."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Run = Callable[..., subprocess.CompletedProcess[str]]

TRAIN = """
import sys
from {package} import Trainer
from {package}.callbacks import ModelCheckpoint
from {package}.demos.boring_classes import BoringModel
QUIET = dict(accelerator="cpu", enable_progress_bar=False, enable_model_summary=False, limit_train_batches=2,
             limit_val_batches=0)
def fit(epochs, ckpt_path=None, **given):
    trainer = Trainer(max_epochs=epochs, **{{**QUIET, "logger": False, **given}})
    trainer.fit(BoringModel(), ckpt_path=ckpt_path)
    return trainer
"""


@pytest.fixture(
    params=[
        pytest.param(name, marks=pytest.mark.xdist_group(name)) for name in ("lightning.pytorch", "pytorch_lightning")
    ]
)
def package(request: pytest.FixtureRequest) -> str:
    """Each distribution that is installed."""
    if importlib.util.find_spec(request.param.partition(".")[0]) is None:
        pytest.skip(f"`{request.param}` is not installed")
    return str(request.param)


@pytest.fixture
def train(package: str, run: Run) -> Run:
    """Run code after a preamble that has `fit(epochs, ckpt_path, **trainer)`."""

    def train(code: str, **environ: str) -> subprocess.CompletedProcess[str]:
        done = run(TRAIN.format(package=package) + code, **environ)
        assert done.returncode == 0, done.stderr
        return done

    return train


@pytest.fixture(scope="session")
def trained() -> dict[str, dict[str, bytes]]:
    """Checkpoints of one and of three epochs, by distribution: made by the first test that needs them."""
    return {}


@pytest.fixture
def checkpoints(package: str, train: Run, base: Path, trained: dict[str, dict[str, bytes]]) -> Path:
    """The job's checkpoint folder with whole checkpoints of steps 2 and 6, and last week's weights."""
    folder = base / "checkpoints"
    if package not in trained:
        weights = "ModelCheckpoint(filename='weights', save_weights_only=True, mode='max')"
        train(f"fit(1)\nfit(3)\nfit(4, callbacks=[{weights}])")
        trained[package] = {path.name: path.read_bytes() for path in folder.iterdir()}
    for name, content in trained[package].items():
        (folder / name).write_bytes(content)
    return folder


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


def test_without_a_folder_of_the_user_s_checkpoints_go_to_the_job_s(train: Run, base: Path, tmp_path: Path) -> None:
    train(
        "fit(1)\n"
        "fit(1, callbacks=[ModelCheckpoint(filename='chosen', dirpath='mine')])\n"
        "fit(1, default_root_dir='root')\n"
    )
    assert names(base / "checkpoints") == ["epoch=0-step=2.ckpt"]
    assert names(tmp_path / "mine") == ["chosen.ckpt"]
    assert names(tmp_path / "root") == ["epoch=0-step=2.ckpt"]


def test_the_setting_continues_the_first_fit_from_the_newest_and_says_so(train: Run, base: Path) -> None:
    code = "first, second = fit(2), fit(1)\nprint(first.global_step, second.global_step)"
    started = train(code, LIGHTNING_SAGEMAKER_RESUME="1")
    assert started.stdout.split() == ["4", "2"]
    assert f"starts from the beginning: there is no whole checkpoint in {base / 'checkpoints'}" in started.stderr
    resumed = train("print(fit(3).global_step)", LIGHTNING_SAGEMAKER_RESUME="1")
    assert resumed.stdout.split() == ["6"]
    assert "training continues from" in resumed.stderr
    assert "epoch=1-step=4.ckpt" in resumed.stderr


def test_a_path_that_the_user_gives_comes_before_the_setting(train: Run, checkpoints: Path) -> None:
    code = f"print(fit(2, ckpt_path={str(checkpoints / 'epoch=0-step=2.ckpt')!r}).global_step)"
    assert train(code, LIGHTNING_SAGEMAKER_RESUME="1").stdout.split() == ["4"]


def test_without_a_path_and_the_setting_training_starts_anew(train: Run, checkpoints: Path) -> None:
    assert train("print(fit(1).global_step)").stdout.split() == ["2"]
    assert checkpoints.is_dir()


def test_a_fit_after_one_with_a_path_starts_anew(train: Run, checkpoints: Path) -> None:
    path = str(checkpoints / "epoch=0-step=2.ckpt")
    code = f"fit(2, ckpt_path={path!r})\nprint(fit(1).global_step)"
    assert train(code, LIGHTNING_SAGEMAKER_RESUME="1").stdout.split() == ["2"]


def test_the_path_set_on_the_trainer_comes_before_the_setting(train: Run, checkpoints: Path) -> None:
    path = str(checkpoints / "epoch=0-step=2.ckpt")
    code = (
        f"trainer = Trainer(max_epochs=2, logger=False, **QUIET)\ntrainer.ckpt_path = {path!r}\n"
        "trainer.fit(BoringModel())\nprint(trainer.global_step)"
    )
    assert train(code, LIGHTNING_SAGEMAKER_RESUME="1").stdout.split() == ["4"]


def test_a_path_in_the_home_folder_is_written_there(train: Run, tmp_path: Path) -> None:
    train("fit(1).save_checkpoint('~/here/a.ckpt')", HOME=str(tmp_path))
    assert (tmp_path / "here" / "a.ckpt").is_file()
    assert not (tmp_path / "~").exists()


def test_weights_only_are_not_continued_from(train: Run, checkpoints: Path) -> None:
    assert (checkpoints / "weights.ckpt").is_file()
    resumed = train("print(fit(4).global_step)", LIGHTNING_SAGEMAKER_RESUME="1")
    assert resumed.stdout.split() == ["8"]
    assert f"continues from {checkpoints / 'epoch=2-step=6.ckpt'}" in resumed.stderr
    assert f"{checkpoints / 'weights.ckpt'} is passed over: it holds weights only" in resumed.stderr


def test_one_line_in_the_script_does_the_same_and_may_find_none(train: Run) -> None:
    fits = "print(*(fit(epochs, latest_checkpoint()).global_step for epochs in (1, 3)))"
    assert train(f"from lightning_sagemaker import latest_checkpoint\n{fits}").stdout.split() == ["2", "6"]


def test_a_malformed_setting_is_an_error_that_names_it(run: Run) -> None:
    package = "lightning.pytorch" if importlib.util.find_spec("lightning") else "pytorch_lightning"
    done = run(TRAIN.format(package=package) + "fit(1)", LIGHTNING_SAGEMAKER_RESUME="perhaps")
    assert done.returncode == 1
    assert "ValueError: Environment variable `LIGHTNING_SAGEMAKER_RESUME`='perhaps'; expected 1" in done.stderr


DISAGREE = """
import os
os.environ.pop("LIGHTNING_SAGEMAKER_RESUME", None)
choice = {choice} if os.environ["RANK"] == "1" else {first}
print(fit(2, choice, strategy="ddp").global_step)
"""


@pytest.fixture
def torchrun(base: Path, tmp_path: Path) -> Callable[[str], subprocess.CompletedProcess[str]]:
    """Run a script in two processes of the job."""

    def torchrun(code: str) -> subprocess.CompletedProcess[str]:
        path = tmp_path / "two.py"
        package = "lightning.pytorch" if importlib.util.find_spec("lightning") else "pytorch_lightning"
        path.write_text(TRAIN.format(package=package) + code)
        job = {"TRAINING_JOB_NAME": "digits", "SAGEMAKER_BASE_DIR": str(base), "OMP_NUM_THREADS": "1"}
        return subprocess.run(
            [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", str(path)],
            env=os.environ | job,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=200,
            check=False,
        )

    return torchrun


def test_ranks_that_would_continue_from_different_checkpoints_are_an_error_on_all_and_no_hang(
    checkpoints: Path, torchrun: Callable[[str], subprocess.CompletedProcess[str]], base: Path
) -> None:
    path = checkpoints / "epoch=0-step=2.ckpt"
    done = torchrun(DISAGREE.format(choice=None, first=repr(str(path))))
    assert done.returncode != 0
    text = f"The ranks would continue from different checkpoints: rank 0 would continue from {path} (step 2, "
    assert f"ValueError: {text}" in done.stderr
    failure = (base / "output" / "failure").read_text()
    assert "but algo-1, rank 1 from the beginning" in failure


FOREIGN = """
import os
fabric = "lightning.fabric" if "lightning." in Trainer.__module__ else "lightning_fabric"
environments = __import__(f"{{fabric}}.plugins.environments", fromlist=["TorchElasticEnvironment"])
given = {{**QUIET, "logger": False, "limit_val_batches": 1, "devices": 2, "strategy": "ddp"}}
trainer = Trainer(plugins=[environments.TorchElasticEnvironment()], **given)
trainer.validate(BoringModel(), ckpt_path={paths}[int(os.environ["RANK"])], verbose=False)
print("validated")
"""


def test_ranks_of_an_environment_of_the_user_s_are_left_alone(
    checkpoints: Path, torchrun: Callable[[str], subprocess.CompletedProcess[str]]
) -> None:
    paths = [str(checkpoints / name) for name in ("epoch=0-step=2.ckpt", "epoch=2-step=6.ckpt")]
    done = torchrun(FOREIGN.format(paths=paths))
    assert (done.returncode, done.stdout.count("validated")) == (0, 2), done.stderr
    assert "different checkpoints" not in done.stderr


def test_a_job_of_two_hosts_has_one_writer(tmp_path: Path) -> None:
    script = tmp_path / "train.py"
    script.write_text(TRAIN.format(package="lightning.pytorch") + "fit(1)")
    done = subprocess.run(
        [
            *(sys.executable, "-m", "lightning_sagemaker.cli", "simulate", "--hosts", "2", "--processes-per-host", "2"),
            *("--distribution", "none", "--work-dir", str(tmp_path / "job"), str(script)),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    written = [path.relative_to(tmp_path / "job") for path in (tmp_path / "job").rglob("*.ckpt")]
    resources = json.loads(next((tmp_path / "job").rglob("resourceconfig.json")).read_text())
    assert [str(path) for path in written] == [f"{resources['hosts'][0]}/ml/checkpoints/epoch=0-step=2.ckpt"]
