from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from lightning_sagemaker.submit import TrainingJob, complete
from lightning_sagemaker.submit.notebook import notebook

if TYPE_CHECKING:
    from pathlib import Path

GOOD: dict[str, Any] = {"instance_type": "ml.p4d.24xlarge", "instance_count": 2}


def test_the_code_names_the_requirements_and_the_notebook_s_own_role(script: Path) -> None:
    code = notebook(complete(TrainingJob(script, **GOOD)), "v2", "image")
    assert f"# {script.parent}/requirements.txt needs these lines" in code
    assert "#     lightning==" in code
    assert "role=sagemaker.get_execution_role()" in code
    compile(code, "notebook", "exec")
    elsewhere = notebook(complete(TrainingJob(script, **GOOD)), "v2", "image", region="eu-west-1")
    assert "role=sagemaker.get_execution_role(" in elsewhere
    assert elsewhere.count("boto_session=boto3.Session(") == 2, "the role is that of the session"


@pytest.mark.parametrize("source", [None, "wheel", "folder"])
def test_the_code_names_the_wheels_that_submit_would_send(
    script: Path, monkeypatch: pytest.MonkeyPatch, source: str | None
) -> None:
    wheel = script.parent / "mine-1.0-py3-none-any.whl"
    ours = script.parent / "lightning_sagemaker-9.0-py3-none-any.whl"
    wheel.touch()
    places = {None: None, "wheel": ours, "folder": script.parent}
    monkeypatch.setattr("lightning_sagemaker.submit.source.local_source", lambda: places[source])
    code = notebook(complete(TrainingJob(script, **GOOD, requirements=[str(wheel), "einops"])), "v3", "image")
    lines = [line.removeprefix("#     ") for line in code.splitlines() if line.startswith("#     ")]
    assert lines[0] == f"./{wheel.name}"
    assert "einops" in lines
    assert f"# and {script.parent} needs these wheels, under those names: {wheel}" in code
    sent = {None: None, "wheel": f"./{ours.name}", "folder": "./lightning_sagemaker-*.whl"}[source]
    assert ("lightning-sagemaker==" in code) is (sent is None)
    assert sent is None or sent in lines
    assert source != "folder" or f", one built from {script.parent}" in code


def test_code_without_wheels_speaks_of_none(script: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lightning_sagemaker.submit.source.local_source", lambda: None)
    assert "needs these wheels" not in notebook(complete(TrainingJob(script, **GOOD)), "v2", "image")


@pytest.mark.parametrize(
    ("sdk", "changes", "error"),
    [
        ("v2", {"arguments": ("fit",)}, "The script's arguments are ['fit']"),
        ("v2", {"set": {"A": 1}}, "`set` and `instance_groups` cannot be written as code"),
        ("v2", {"processes_per_host": 4}, "SDK v2 silently drops it"),
        ("v3", {"strategy": "smddp"}, "SDK v3 starts no smddprun"),
        ("v3", {"launcher": "mpirun"}, "SDK v3's mpirun needs the number of all processes"),
    ],
)
def test_what_an_sdk_cannot_express_is_refused(script: Path, sdk: Any, changes: dict[str, Any], error: str) -> None:
    with pytest.raises(ValueError, match="HINT") as raised:
        notebook(complete(TrainingJob(script, **GOOD, **changes)), sdk, "image")
    assert error in str(raised.value)


def test_arguments_in_another_order_are_put_into_code(script: Path) -> None:
    code = notebook(complete(TrainingJob(script, **GOOD, arguments=("--lr=0.1", "--epochs", "3"))), "v2", "image")
    assert "hyperparameters={'lr': 0.1, 'epochs': 3}" in code
