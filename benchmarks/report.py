"""From a samples file to report.md, report.json and a plot per suite.

python -m benchmarks report samples.jsonl [--output build/benchmarks]
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks import plots
from benchmarks.claims import CLAIMS, NOT_OURS
from benchmarks.compare import decisive, in_words
from benchmarks.further import Kept, Scaling, kept, scaling
from benchmarks.rows import Row, Suite, judge
from benchmarks.samples import Launch, read
from benchmarks.steps import numbers_of_steps
from benchmarks.tables import table

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

COLUMNS = ("case", "arms", "metric", "label", "ours", "baseline", "launches", "ratio [95 % interval]", "verdict")

READING = """\
The unit is the launch: per step the slowest rank counts, per launch its quantiles after the warm-up. The ratio is
ours / baseline, the geometric mean over paired launches, with the interval of `benchmarks/intervals.py`; the two
columns of values are medians over those launches. Below 1 is faster for seconds and slower for rates. An A/A row
measures the baseline against itself; if its interval leaves out 1.0, the harness finds differences where there are
none."""


def header(launches: Sequence[Launch]) -> dict[str, Any]:
    """Date, machine, versions and git hash: each with all values that the launches have."""
    seen: dict[str, list[str]] = {}
    for launch in launches:
        for key, value in decisive(launch).items():
            name = key.removeprefix("environment.")
            if name != key and value not in seen.setdefault(name, []):
                seen[name].append(value)
    times = sorted(launch.time for launch in launches)
    dropped = [numbers_of_steps(launch.steps)[1] for launch in launches if launch.steps]
    return {
        "measured": f"{times[0]} to {times[-1]}",
        "launches": len(launches),
        "warm-up steps dropped": f"{min(dropped)} to {max(dropped)}" if dropped else "none",
        **{name: " / ".join(values).replace('"', "") for name, values in seen.items()},
    }


def markdown(launches: Sequence[Launch], suites: Sequence[Suite], images: Mapping[str, str]) -> str:
    """The report as text; its first line says whether it may be used."""
    return "\n".join(_lines(launches, suites, images)) + "\n"


def _lines(launches: Sequence[Launch], suites: Sequence[Suite], images: Mapping[str, str]) -> Iterator[str]:
    numbers, growth = kept(launches), scaling(launches)
    unfit = [f"{suite.name} ({_first(suite.unfit)})" for suite in suites if suite.unfit]
    yield f"# UNFIT FOR USE: {', '.join(unfit)}" if unfit else "# Benchmark report"
    yield ""
    yield from (f"- {name}: {value}" for name, value in header(launches).items())
    yield from ("", READING)
    for suite in suites:
        yield from ("", f"## {suite.name}", "")
        if suite.unfit:
            yield from (f"Unfit for use, so without verdicts: {'; '.join(suite.unfit)}.", "")
        yield from table(COLUMNS, (_cells(row) for row in suite.rows))
        for row in suite.rows:
            if row.refused:
                yield from (
                    "",
                    f"{row.case}, {row.ours} against {row.baseline}, is refused; these settings differ:",
                    "",
                )
                yield from (f"- {line}" for line in row.refused)
        if checks := sum(row.again and row.comparison is not None for row in suite.rows):
            yield from ("", f"A/A intervals: {checks}, judged together: a sound harness is called unfit in up to 5 %.")
        if suite.name in images:
            yield from ("", f"![{plots.title(suite)}]({images[suite.name]})")
        yield from _further([each for each in numbers if each.suite == suite.name])
        yield from _growth([each for each in growth if each.suite == suite.name], suite)
    yield from ("", "## What AWS reports", "", "Published without repeats or intervals.", "")
    yield from table(("claim", "where", "source", "ours"), ((*claim, NOT_OURS) for claim in CLAIMS))


def _first(reasons: Sequence[str]) -> str:
    return reasons[0] + (f"; and {len(reasons) - 1} more" if len(reasons) > 1 else "")


def _further(numbers: Sequence[Kept]) -> Iterator[str]:
    if numbers:
        cells = ((each.case, each.arm, each.number, _number(each.median), str(each.launches)) for each in numbers)
        yield from ("", "Also measured, not compared:", "")
        yield from table(("case", "arm", "number", "median", "launches"), cells)


def _growth(growth: Sequence[Scaling], suite: Suite) -> Iterator[str]:
    if growth and not suite.unfit:
        cells = (
            (each.what, each.arm, f"{each.smallest} to {each.world_size}", in_words(each.efficiency).partition(":")[0])
            for each in growth
        )
        yield from ("", "Scaling efficiency: step time of the smallest world / of this one, equal work per device.", "")
        yield from table(("model", "arm", "world size", "efficiency [95 % interval]"), cells)


def _cells(row: Row) -> tuple[str, ...]:
    found = row.comparison
    ratio = "-"
    if found is not None and found.ratio is not None:
        ratio = f"{found.ratio:.4f} [{found.low:.4f}, {found.high:.4f}] ({found.ratio - 1:+.1%})"
    return (
        f"{'A/A: ' if row.again else ''}{row.case}",
        f"{row.ours} / {row.baseline}",
        row.metric,
        ", ".join(row.labels),
        _number(row.ours_median),
        _number(row.baseline_median),
        "-" if found is None else str(found.launches),
        ratio,
        row.verdict,
    )


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.5g}"


def as_json(launches: Sequence[Launch], suites: Sequence[Suite]) -> dict[str, Any]:
    """The same as data."""
    return {
        "fit": not any(suite.unfit for suite in suites),
        "header": header(launches),
        "suites": [asdict(suite) for suite in suites],
        "kept": [each._asdict() for each in kept(launches)],
        "scaling": [each._asdict() | {"efficiency": asdict(each.efficiency)} for each in scaling(launches)],
        "claims": [claim._asdict() | {"ours": NOT_OURS} for claim in CLAIMS],
    }


def write(launches: Sequence[Launch], folder: Path) -> list[Suite]:
    """Write all files of the report.

    Raises:
        ValueError: There are no launches, or they do not make cases with one baseline each.
    """
    if not launches:
        raise ValueError("no launches: nothing to report")
    suites = judge(launches)
    folder.mkdir(parents=True, exist_ok=True)
    images = {suite.name: name for suite in suites if (name := plots.save(suite, folder)) is not None}
    (folder / "report.md").write_text(markdown(launches, suites, images), encoding="utf-8")
    content = json.dumps(as_json(launches, suites), indent=2, allow_nan=False)
    (folder / "report.json").write_text(content + "\n", encoding="utf-8")
    return suites


def main(arguments: Sequence[str]) -> int:
    """Write the report; 1 if it is unfit."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks report", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("file", type=Path, metavar="FILE.jsonl")
    parser.add_argument("--output", type=Path, default=Path("build/benchmarks"), metavar="FOLDER")
    given = parser.parse_args(arguments)
    suites = write(read(given.file), given.output)
    print(given.output / "report.md")
    return int(any(suite.unfit for suite in suites))
