"""docs/probe.md has every assumption, as it is, and every key of the report."""

from __future__ import annotations

from pathlib import Path

from lightning_sagemaker.probe.assumptions import ASSUMPTIONS
from lightning_sagemaker.probe.lines import Observation, line
from lightning_sagemaker.probe.report import report

PAGE = Path(__file__).parents[2].joinpath("docs", "probe.md").read_text(encoding="utf-8")


def test_the_table_of_assumptions_is_the_codes() -> None:
    table = PAGE.partition("| name | question |")[2].partition("\n\n")[0].splitlines()[2:]
    assert table == [f"| `{each.key}` | {each.question} | {each.expected} | {each.where} |" for each in ASSUMPTIONS]


def test_every_key_of_the_report_is_documented() -> None:
    found = report([line(Observation(0, "algo-1", "begin", {"world_size": 1}), {})])
    assert [key for key in (*found, *found["ranks"], *found["assumptions"][0]) if f"`{key}`" not in PAGE] == []
