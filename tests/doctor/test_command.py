"""The command as a user types it: on this machine, and on simulated hosts."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from lightning_sagemaker.cli import main
from lightning_sagemaker.doctor import situation as machine_module
from lightning_sagemaker.doctor.report import Report
from lightning_sagemaker.doctor.sections import Fact
from lightning_sagemaker.findings import Finding

from ..simulate.helpers import environment, run_cli  # noqa: TID252 - importmode=importlib
from .conftest import MACHINE, TORCHRUN

if TYPE_CHECKING:
    from pathlib import Path

    from .conftest import Examine

KEYS = [
    *("versions", "job", "world", "hardware", "smddp", "lightning", "settings", "changes", "variables", "credentials"),
    "checkpoints",
]
SCRIPT = """\
import contextlib, os, sys  # its arguments are hyperparameters
from lightning_sagemaker.cli import main
from lightning_sagemaker.environment import mark_rank
mark_rank()  # as once a Trainer was made here
host = os.environ.get("CURRENT_HOST", os.environ.get("SM_CURRENT_HOST"))
with open(os.path.join(os.environ["SEEN"], host), "w") as file, contextlib.redirect_stdout(file):
    code = main(["doctor", "--json"])
sys.exit(code)
"""


def doctor(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "lightning_sagemaker.cli", "doctor", *arguments],
        env=environment(**variables),
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )


@pytest.fixture
def known_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A machine that is not looked at, outside of any job."""
    monkeypatch.setattr(machine_module, "probe_machine", lambda _: MACHINE)
    monkeypatch.setenv("SAGEMAKER_BASE_DIR", str(tmp_path))


def test_on_this_machine_nothing_fails_and_versions_are_told() -> None:
    done = doctor()
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith("# lightning-sagemaker doctor\n")
    assert "**OK** this process is in no SageMaker training job" in done.stdout
    assert "import torch: `2." in done.stdout
    assert done.stderr == ""


def test_the_plugin_s_off_switch_is_seen_at_work_and_no_secret_is_printed() -> None:
    secrets = dict.fromkeys(("HF_TOKEN", "NCCL_NOTE"), "hf-planted")
    done = doctor("--json", LIGHTNING_SAGEMAKER_AUTOLOAD="0", **secrets)
    report = json.loads(done.stdout)
    assert [each["level"] for each in report["findings"] if each["name"] == "autoload-off"] == ["warn"]
    assert report["sections"]["credentials"]["names"]["value"] == ["HF_TOKEN"]
    assert "hf-planted" not in done.stdout + done.stderr


def test_simulated_hosts_are_told_their_place(tmp_path: Path) -> None:
    seen, source = tmp_path / "seen", tmp_path / "source"
    seen.mkdir()
    source.mkdir()
    (source / "see.py").write_text(SCRIPT)
    options = ("--hosts", "2", "--distribution", "torch_distributed", "--env", f"SEEN={seen}")
    secret = ("--env", "HF_TOKEN=planted-0")
    hyperparameters = ("--api_key", "planted-1", "--plain", "planted-2")
    done = run_cli(*options, *secret, str(source / "see.py"), "--", *hyperparameters, timeout=250)
    assert done.returncode == 0, done.stdout + done.stderr
    reports = {path.name: json.loads(path.read_text()) for path in seen.iterdir()}
    assert sorted(reports) == ["algo-1", "algo-2"]
    for host, report in reports.items():
        sections: dict[str, Any] = report["sections"]
        assert sections["job"]["launcher"]["value"] == "torchrun"
        assert sections["job"]["current_host"]["value"] == host
        assert sections["world"]["node_rank"]["value"] == ["algo-2", "algo-1"].index(host)
        assert sections["lightning"]["cluster_environment"]["value"] == "SageMakerEnvironment"
        assert sections["lightning"]["strategy"]["value"] == "DDPStrategy"
        assert {each["name"] for each in report["findings"]} <= {"healthy", "shared-memory-small"}
        assert "planted" not in json.dumps(report)
        assert sections["credentials"]["names"]["value"] == ["HF_TOKEN", "SM_HP_API_KEY"]


@pytest.mark.usefixtures("known_machine")
def test_the_exit_code_is_1_where_something_fails(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["doctor"]) == 0
    monkeypatch.setenv("LIGHTNING_SAGEMAKER_RESUME", "perhaps")
    assert main(["doctor"]) == 1
    assert "**FAIL** Environment variable `LIGHTNING_SAGEMAKER_RESUME`='perhaps'; expected" in capsys.readouterr().out


@pytest.mark.usefixtures("known_machine")
def test_what_the_output_s_encoding_lacks_is_escaped(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("NCCL_NOTE", "café \udcff")
    with (tmp_path / "out").open("w", encoding="ascii") as out:
        monkeypatch.setattr(sys, "stdout", out)
        assert main(["doctor"]) == 0
    assert "- NCCL_NOTE: `caf\\xe9 \\udcff`" in (tmp_path / "out").read_text()


def test_json_holds_what_markdown_holds_under_documented_keys(in_job: Examine) -> None:
    report = in_job({**TORCHRUN, "LIGHTNING_SAGEMAKER_RESUME": "x"})
    told = json.loads(json.dumps(report.as_json()))
    assert list(told) == ["schema", "ok", "findings", "sections"]
    assert (told["schema"], told["ok"]) == (1, False)
    assert list(told["sections"]) == KEYS
    assert [Finding(**each) for each in told["findings"]] == list(report.findings)
    for key, (_, facts) in report.sections.items():
        answers = told["sections"][key].items()
        read = [Fact(name, _tuple(each["value"]), each["why"]) for name, each in answers]
        assert read == list(facts), "a name stands twice, or a value changes on its way through JSON"
        for fact in facts:
            assert f"- {fact.name}: " in report.as_markdown()


def _tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def test_values_cannot_break_out_of_the_markdown() -> None:
    fact = Fact("name", "`x`\n## forged\x1b[31m")
    page = Report((Finding("f", "warn", "a\n# forged", "HINT: b"),), {"s": ("S", (fact,))}).as_markdown()
    assert "- name: `'x' ## forged\\x1b[31m`\n" in page
    assert "- **WARN** a # forged HINT: b\n" in page
    assert not [line for line in page.splitlines() if "forged" in line and not line.startswith("- ")]
