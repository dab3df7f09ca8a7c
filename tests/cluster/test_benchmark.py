"""The benchmark on SageMaker, to its end: what `submit` sends runs on hosts, and its samples make the report."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from ..simulate.helpers import require  # noqa: TID252 - importmode=importlib
from ..submit.aws import BUCKET, ROLE, ROOT, Aws  # noqa: TID252 - the same
from .launch import MODES
from .test_submitted import SubmittedJob

if TYPE_CHECKING:
    from collections.abc import Callable

    from .hosts import Cluster

sys.path.append(str(ROOT))  # last, so that a wheel under test stays the one that is imported

from benchmarks.samples import read

# How it is started there, `submit`'s launcher, what processes call it, and suites.
CASES = [("smdistributed", "smddprun", "mpirun", "collectives")]
if os.environ.get("LIGHTNING_SAGEMAKER_FULL") == "1":
    CASES += [
        ("smdistributed", "smddprun", "mpirun", "training"),
        ("torch_distributed", "torchrun", "torchrun", "training,collectives"),
    ]


def submitted(aws: Aws, folder: Path, launcher: str, suites: str) -> tuple[dict[str, object], Path]:
    """What `submit` sends, as docs/benchmarks.md has it: the request, and where its sources lie."""
    shutil.copytree(ROOT / "benchmarks", folder / "code" / "benchmarks")
    before = len(aws.requests())
    (run,) = aws.run(
        (
            *(folder / "code" / "benchmarks" / "job.py", "--source-dir", folder / "code", "--launcher", launcher),
            *("--instance-type", "ml.p4d.24xlarge", "--instance-count", "2", "--processes-per-host", "1"),
            *("--role", ROLE, "--output-uri", f"s3://{BUCKET}/benchmarks", "--image", "mine:1"),
            *("--requirement", "lightning-sagemaker", "--"),
            *("--suites", suites, "--launches", "1", "--scale", "quick", "--device", "cpu"),
        )
    )
    assert run.code == 0, run.out + run.err
    (request,) = aws.requests()[before:]
    sources = aws.download_sources(request, folder / "sources")
    # Without the requirements, which pip would look up on every host, and find installed: test_submitted.py lets it.
    shutil.unpack_archive(sources / "sourcedir.tar.gz", sources / "code")
    (sources / "code" / "requirements.txt").unlink()
    shutil.make_archive(str(sources / "sourcedir"), "gztar", sources / "code")
    return request, sources


@pytest.mark.timeout(900)  # many trainings, one after the other
@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case[3]} as {case[0]}")
def test_what_was_sent_measures_on_the_hosts_and_its_samples_make_the_report(
    make_cluster: Callable[..., Cluster],
    aws: Aws,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    case: tuple[str, str, str, str],
) -> None:
    mode, launcher, seen, suites = case
    monkeypatch.setitem(MODES, mode, replace(MODES[mode], smddp=True))  # the one image of all jobs has it
    request, sources = submitted(aws, tmp_path, launcher, suites)
    names = ("algo-2", "algo-1")
    cluster = make_cluster(*names)
    job = SubmittedJob(cluster, mode, request, sources, processes=1).start()
    assert set(job.wait(600).values()) == {0}, job.text

    written = {name: list((cluster[name].ml / "output" / "data").iterdir()) for name in names}
    assert [path.name for path in written[names[0]]] == ["samples.jsonl"], "rank 0's host alone writes"
    assert not written[names[1]]
    launches = read(written[names[0]][0])
    assert {launch.suite for launch in launches} == set(suites.split(","))
    for launch in launches:
        smddp = launch.arm == "smddp"
        assert launch.environment.backend == ("smddp" if smddp else "gloo"), launch.arm
        assert ("fake SMDDP" in launch.all_labels) is smddp
        assert launch.environment.launcher == seen
        assert launch.case.endswith(f", 2 x 1, {seen}")
        assert (launch.environment.hosts, launch.settings["world_size"]) == (2, 2)

    python = Path(sys.prefix, "bench", "bin", "python")
    if not python.exists():
        require("no environment of the benchmark harness; `make test` makes it")
    report = (python, "-m", "benchmarks", "report", written[names[0]][0], "--output", tmp_path / "report")
    assert subprocess.run(report, cwd=ROOT, check=False, timeout=120).returncode == 1  # one launch tells nothing
    text = (tmp_path / "report" / "report.md").read_text()
    assert text.startswith("# UNFIT FOR USE: ")
    rows = [line for line in text.splitlines() if "| smddp / " in line]
    assert rows
    assert all("fake SMDDP" in line for line in rows)
    shutil.rmtree(sources)
