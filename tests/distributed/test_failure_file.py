"""The failure file: what SageMaker's job page would show. The processes that fail are real."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from lightning_sagemaker.distributed import failure_file

if TYPE_CHECKING:
    from collections.abc import Callable

    Run = Callable[..., subprocess.CompletedProcess[str]]

STEADY = Path(__file__).parents[1] / "programs" / "steady.py"


@pytest.fixture
def output(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "output"
    folder.mkdir()
    monkeypatch.setenv("SAGEMAKER_BASE_DIR", str(tmp_path))
    return folder


def test_the_text_stands_in_the_file_and_nothing_else_is_left(output: Path) -> None:
    assert failure_file.report("RuntimeError: no luck")
    assert [path.name for path in output.iterdir()] == ["failure"]
    assert (output / "failure").read_text() == "RuntimeError: no luck"


def test_the_first_failure_of_a_host_stays(output: Path) -> None:
    failure_file.report("first")
    assert not failure_file.report("second")
    assert (output / "failure").read_text() == "first"
    assert len(list(output.iterdir())) == 1


def test_what_the_job_page_does_not_show_is_cut(output: Path) -> None:
    failure_file.report("x" * 5000)
    assert (output / "failure").read_text() == "x" * 1024


SECRET = "hun" + "ter2" + 8 * "x1"


def test_a_secret_is_taken_out_before_the_text_is_cut(output: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEAM_TOKEN", f"any words {SECRET}")
    start = "x" * 1000
    failure_file.report(f"{start} any words {SECRET}; password='{SECRET}' {'y' * 100_000}")
    assert (output / "failure").read_text().startswith(f"{start} ***; password='***' y")


def test_text_that_no_file_can_hold_is_written_as_well_as_it_goes(output: Path) -> None:
    failure_file.report("lone surrogate \ud800")
    assert (output / "failure").read_text() == "lone surrogate ?"


def test_where_there_is_no_output_folder_nothing_is_written_and_nothing_raised(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SAGEMAKER_BASE_DIR", str(tmp_path))
    assert not failure_file.report("RuntimeError: no luck")
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def run(output: Path, tmp_path: Path) -> Run:  # noqa: ARG001 - the folder and variable that the script meets
    """Run a script that reports its exceptions, outside any process group."""

    def run(script: str) -> subprocess.CompletedProcess[str]:
        path = tmp_path / "train.py"
        path.write_text(
            f"from lightning_sagemaker.distributed.failure_file import report_exceptions\nreport_exceptions()\n{script}"
        )
        return subprocess.run([sys.executable, str(path)], capture_output=True, text=True, check=False)

    return run


def test_an_exception_is_reported_with_type_message_place_and_line_and_printed_as_ever(output: Path, run: Run) -> None:
    done = run("import json\ndef load():\n    json.loads('{')\nload()\n")
    text = (output / "failure").read_text()
    assert text.startswith("json.decoder.JSONDecodeError: Expecting property name")
    assert "train.py:5 in load: json.loads('{')" in text
    assert done.returncode == 1
    assert done.stderr.rstrip().splitlines()[-1].startswith("json.decoder.JSONDecodeError: Expecting property name")


def test_the_user_s_own_frames_come_before_those_of_packages(output: Path, run: Run) -> None:
    run("import torch\ndef step():\n    torch.nn.functional.linear(torch.ones(1), None)\nstep()\n")
    run("import torch\ndef step():\n    torch.nn.Linear(2, 2)(torch.ones(3))\nstep()\n")
    lines = [line for line in (output / "failure").read_text().splitlines() if line.startswith("  ")]
    assert "train.py" in lines[0]


def test_frames_of_python_s_own_import_are_left_out(output: Path, run: Run, tmp_path: Path) -> None:
    (tmp_path / "dataset.py").write_text("raise KeyError('age')\n")
    run("import dataset\n")
    lines = (output / "failure").read_text().splitlines()[2:]
    assert [line.strip().partition(" in ")[0] for line in lines] == [
        f"{tmp_path / 'dataset.py'}:1",
        f"{tmp_path / 'train.py'}:3",
    ]


def test_a_secret_in_a_source_line_or_in_a_message_is_not_published(output: Path, run: Run) -> None:
    run(f"def login(token):\n    raise ValueError('401 for Bearer {SECRET}')\nlogin(token='{SECRET}')\n")
    text = (output / "failure").read_text()
    assert text.startswith("ValueError: 401 for Bearer ***\n")
    assert "train.py:5 in <module>: login(token='***')" in text
    assert SECRET not in text


def test_no_secret_comes_into_the_store_from_which_other_ranks_take_it(output: Path, run: Run, free_port: int) -> None:
    done = run(
        "import torch.distributed as dist\nfrom lightning_sagemaker.distributed import failure_file, store\n"
        "from lightning_sagemaker.smddp.collectives import StoreBarrier\n"
        f"dist.init_process_group('gloo', init_method='tcp://127.0.0.1:{free_port}', rank=0, world_size=1)\n"
        f"failure_file.report_to_all('RuntimeError: api_key={SECRET}')\n"
        f"StoreBarrier().fail(RuntimeError('api_key={SECRET}'))\n"
        "from datetime import timedelta\n"
        "print(*store.read(store.own_connection(timedelta(seconds=60)), 'failure', str))\n"
        "print(*store.read(store.default_store(), 'barrier/0/0/outcome', str))\n"
        "dist.destroy_process_group()\n"
    )
    assert done.stdout.splitlines() == [
        "RuntimeError: api_key=***",
        "rank 0 failed while the others waited for it: RuntimeError: api_key=***",
    ], done.stderr
    assert (output / "failure").read_text() == "RuntimeError: api_key=***"


_HELPER = """
import os, subprocess, sys
code = "from lightning_sagemaker.distributed.failure_file import report_exceptions; report_exceptions(); "
def start(**more):
    command = [sys.executable, "-c", f"{code} raise ValueError(500 * 'tolerated ')"]
    return subprocess.run(command, env=os.environ | more).check_returncode
"""


def test_what_a_helper_failed_by_and_the_script_tolerates_is_no_reason(output: Path, run: Run) -> None:
    run(f"{_HELPER}start(); start(); raise RuntimeError('real')")
    assert (output / "failure").read_text().startswith("RuntimeError: real\n")


def test_the_failure_of_a_helper_is_the_reason_where_the_script_fails_for_it(output: Path, run: Run) -> None:
    run(f"{_HELPER}start()()")
    run("raise RuntimeError('its consequence in another process')")
    text = (output / "failure").read_text()
    assert text.startswith("ValueError: tolerated ")
    assert "\n[in a process that the training script started]\nfor which the script failed: subprocess.Called" in text
    assert "consequence" not in text


def test_a_rank_is_no_helper_of_the_script_that_launched_it(output: Path, run: Run) -> None:
    run(f"{_HELPER}start(LOCAL_RANK='1'); raise RuntimeError('a consequence')")
    assert (output / "failure").read_text().startswith("ValueError: tolerated ")


@pytest.mark.parametrize("script", ["raise SystemExit(3)", "raise KeyboardInterrupt"])
def test_what_is_no_failure_of_the_script_is_not_reported(output: Path, run: Run, script: str) -> None:
    assert run(script).returncode != 0
    assert list(output.iterdir()) == []


# The end of one host is the end of the others: here each host stays until all have said why it ended.
# The job ends with its first host, which waits here until the other has reported too. Each sees only its own disk.
PATIENT = f"""
import os, subprocess, sys, time
from pathlib import Path

folder, host = Path(sys.argv[sys.argv.index("--folder") + 1]), os.environ["SM_CURRENT_HOST"]
code = subprocess.run([sys.executable, {str(STEADY)!r}, *sys.argv[1:]]).returncode
(folder / f"reported-{{host}}").touch()
until = time.monotonic() + 60
while len(list(folder.glob("reported-*"))) < 2 and time.monotonic() < until:
    time.sleep(0.1)
sys.exit(code % 256)
"""


@pytest.mark.parametrize("exits", [[], ["--exit"]], ids=["exception", "exit"])
def test_an_exception_or_exit_in_one_rank_stands_on_every_host_with_host_and_rank(
    tmp_path: Path, exits: list[str]
) -> None:
    script = tmp_path / "patient.py"
    script.write_text(PATIENT)
    done = subprocess.run(
        [
            *(sys.executable, "-m", "lightning_sagemaker.cli", "simulate", "--hosts", "2", "--processes-per-host", "2"),
            *("--work-dir", str(tmp_path / "job"), "--distribution", "none"),
            *(str(script), "--", "--folder", str(tmp_path), "--steps", "50", "--fail", "3", "2", *exits),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    # Lightning looks after its children each 5 s: where it is faster than its own rank's error, it kills itself.
    assert done.returncode in (1, 256 - 9), done.stderr
    failures = [path.read_text() for path in tmp_path.glob("job/*/ml/output/failure")]
    assert len(failures) == 2, done.stderr
    for text in failures:
        reason = "SystemExit: the column 'age' is missing" if exits else "KeyError: \"the column 'age' is missing\""
        assert text.startswith(reason), text
        assert "rank 3]" in text
