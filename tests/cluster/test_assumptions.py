"""tests/on_sagemaker on hosts with names of their own, under the real toolkit: what no simulated host can be asked."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from .launch import Job

if TYPE_CHECKING:
    from collections.abc import Callable

    from .hosts import Cluster

FOLDER = Path(__file__).parents[1] / "on_sagemaker"
SCRIPT = f"""\
import runpy, sys
sys.path.insert(0, {str(FOLDER)!r})
runpy.run_path({str(FOLDER / "run.py")!r}, run_name="__main__")
"""


@pytest.mark.nightly
def test_hosts_are_known_by_their_names_and_a_process_1_that_is_no_shell_fails_the_job(
    make_cluster: Callable[..., Cluster], tmp_path: Path
) -> None:
    script = tmp_path / "run.py"
    script.write_text(SCRIPT)
    cluster = make_cluster("algo-2", "algo-1")
    job = Job(cluster, "smdistributed", script, {"k": "sigterm or by_name or calls_itself"}, processes=1).start()
    assert cluster["algo-2"].wait(300) == 1, job.text  # the toolkit lets the other host wait for minutes
    report = ET.parse(cluster["algo-2"].ml / "output" / "data" / "assumptions-0.xml")  # noqa: S314 - pytest wrote it
    told = {str(case.get("name")): {part.tag: part.get("message") for part in case} for case in report.iter("testcase")}
    for name in ("all_hosts_find_all_hosts_by_name", "the_host_of_rank_0_calls_itself_as_sagemaker_does"):
        assert list(told[f"test_{name}"]) == ["properties"], told  # neither skipped nor failed
    failed = {name: parts["failure"] for name, parts in told.items() if "failure" in parts}
    assert list(failed) == ["test_sigterm_stops_at_process_1_a_shell"], failed
    assert "[1, 'train', False]" in str(failed)
    assert "FAILED" in job.text
    assert "\x1b[" not in job.text.partition("test session starts")[2].partition("short test summary")[0]
