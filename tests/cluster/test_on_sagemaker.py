"""The benchmark on SageMaker, to its end: what an SDK sends runs on hosts, and its samples make the report."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from ..submit.aws import BUCKET, Aws  # noqa: TID252 - importmode=importlib
from ..submit.on_sagemaker import P4D, gather, submit, upload  # noqa: TID252 - the same
from .launch import MODES
from .test_submitted import SubmittedJob

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from .hosts import Cluster

from benchmarks.on_sagemaker import LAUNCHERS
from benchmarks.samples import read

# How it is started there, `submit`'s launcher, and suites.
CASES = [("smdistributed", "smddprun", "collectives")]
if os.environ.get("LIGHTNING_SAGEMAKER_FULL") == "1":
    CASES += [("smdistributed", "smddprun", "training"), ("torch_distributed", "torchrun", "training,collectives")]


def without_requirements(sources: Path) -> None:
    """Leave out what pip would look up on every host, and find installed: test_submitted.py lets it."""
    code = sources / "code"
    shutil.unpack_archive(sources / "sourcedir.tar.gz", code)
    (code / "requirements.txt").unlink()
    shutil.make_archive(str(sources / "sourcedir"), "gztar", code)


@pytest.mark.timeout(900)  # many trainings, one after the other
@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case[2]} as {case[0]}")
def test_what_was_sent_measures_on_the_hosts_and_its_samples_make_the_report(
    make_cluster: Callable[..., Cluster],
    aws: Aws,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    case: tuple[str, str, str],
) -> None:
    mode, launcher, suites = case
    monkeypatch.setitem(MODES, mode, replace(MODES[mode], smddp=True))  # the one image of all jobs has it
    file, before = tmp_path / "jobs.json", len(aws.requests())
    tiny = ("--launches", "1", "--scale", "quick", "--device", "cpu")
    asked = (*P4D, "--instance-counts", "2", "--launchers", launcher, "--suites", suites, *tiny)
    (run,) = submit(aws, (*asked, "--jobs", file, "--yes"))
    assert run.code == 0, run.out + run.err
    (request,) = aws.requests()[before:]
    sources = aws.download_sources(request, tmp_path / "sources")
    without_requirements(sources)
    names = ("algo-2", "algo-1")
    cluster = make_cluster(*names)
    job = SubmittedJob(cluster, mode, request, sources, processes=1).start()
    assert set(job.wait(600).values()) == {0}, job.text

    written = {name: list((cluster[name].ml / "output" / "data").iterdir()) for name in names}
    assert [path.name for path in written[names[0]]] == ["samples.jsonl"], "rank 0's host alone writes"
    assert not written[names[1]]
    (samples,) = written[names[0]]
    upload(
        aws, f"s3://{BUCKET}/benchmarks/{request['TrainingJobName']}", {"samples.jsonl": samples.read_bytes()}, tmp_path
    )
    folder = tmp_path / "report"
    run = gather(aws, file, "--output", folder)
    assert run.code == 1, run.out + run.err  # unfit: one launch tells nothing
    text = (folder / "report.md").read_text()
    assert text.startswith("# UNFIT FOR USE: ")
    assert "Incomplete" not in text
    assert f"| {request['TrainingJobName']} | 2 | {launcher} | Completed |" in text
    merged = read(folder / "samples.jsonl")
    assert {launch.suite for launch in merged} == {f"{suite}, {LAUNCHERS[launcher]}" for suite in suites.split(",")}
    for launch in merged:
        smddp = launch.arm == "smddp"
        assert launch.environment.backend == ("smddp" if smddp else "gloo"), launch.arm
        assert ("stand-in" in launch.all_labels) is smddp
        assert launch.environment.launcher == LAUNCHERS[launcher]
        assert (launch.environment.hosts, launch.settings["world_size"]) == (2, 2)
    rows = [line for line in text.splitlines() if "| smddp / " in line]
    assert rows
    assert all("stand-in" in line for line in rows)
    shutil.rmtree(sources)
