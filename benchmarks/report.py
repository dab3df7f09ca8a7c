"""From launches to report.md and a plot for each suite."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from statistics import median

from benchmarks import plots
from benchmarks.compare import COMPARED, Row, Suite, by_case, decisive, judge
from benchmarks.samples import Launch
from benchmarks.steps import after_warm_up

COLUMNS = ("case", "arms", "metric", "label", "ours", "baseline", "launches", "ratio [95 % interval]", "verdict")

READING = """\
The unit is the launch: per step the slowest rank counts, per launch its quantiles after the warm-up. The ratio is
ours / baseline, the geometric mean over paired launches, with the interval of `benchmarks/intervals.py`; the two
columns of values are medians over those launches. Below 1 is faster for seconds and slower for rates. An A/A row
measures the baseline against itself; if its interval leaves out 1.0, the harness finds differences where there are
none."""


def header(launches: Sequence[Launch]) -> dict[str, str]:
    """Date, machine, versions and git hash: each with all values that the launches have."""
    seen: dict[str, list[str]] = {}
    for launch in launches:
        for key, value in decisive(launch).items():
            name = key.removeprefix("environment.")
            if name != key and value not in seen.setdefault(name, []):
                seen[name].append(value)
    times = sorted(launch.time for launch in launches)
    dropped = [len(launch.steps[0]) - len(after_warm_up(launch.steps)) for launch in launches if launch.steps]
    return {
        "measured": f"{times[0]} to {times[-1]}",
        "launches": str(len(launches)),
        "warm-up steps dropped": f"{min(dropped)} to {max(dropped)}" if dropped else "none",
        **{name: " / ".join(values).replace('"', "") for name, values in seen.items()},
    }


def made(launches: Sequence[Launch]) -> tuple[list[Suite], dict[str, str]]:
    """The suites, and the files of their report, names and contents; ValueError if there are no launches."""
    if not launches:
        raise ValueError("no launches: nothing to report")
    suites, images, files = judge(launches), {}, {}
    for suite in suites:
        own = header([launch for launch in launches if launch.suite == suite.name])
        where = f"{own['measured'][:10]}, {own['cores']} cores of {own['cpu']}"
        if (picture := plots.forest(suite, where)) is not None:
            images[suite.name] = re.sub(r"[^a-z0-9]+", "-", suite.name.lower()).strip("-") + ".svg"
            files[images[suite.name]] = str(picture)
    return suites, {"report.md": "\n".join((*_lines(launches, suites, images), ""))} | files


def write(launches: Sequence[Launch], folder: Path) -> list[Suite]:
    """Write all files of the report; see `made`."""
    suites, files = made(launches)
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).write_text(content, encoding="utf-8")
    return suites


def _lines(launches: Sequence[Launch], suites: Sequence[Suite], images: Mapping[str, str]) -> Iterator[str]:
    unfit = [f"{suite.name} ({_first(suite.unfit)})" for suite in suites if suite.unfit]
    yield f"# UNFIT FOR USE: {', '.join(unfit)}" if unfit else "# Benchmark report"
    yield ""
    yield from (f"- {name}: {value}" for name, value in header(launches).items())
    yield from ("", READING)
    for suite in suites:
        yield from ("", f"## {suite.name}", "")
        if suite.unfit:
            yield from (f"Unfit for use, so without verdicts: {'; '.join(suite.unfit)}.", "")
        yield from _table(COLUMNS, map(_cells, suite.rows))
        for row in suite.rows:
            if row.refused:
                why = f"{row.case}, {row.ours} against {row.baseline}, is refused; these settings differ:"
                yield from ("", why, "", *(f"- {line}" for line in row.refused))
        if checks := sum(row.again and row.comparison is not None for row in suite.rows):
            yield from ("", f"A/A intervals: {checks}, judged together: a sound harness is called unfit in up to 5 %.")
        if suite.name in images:
            yield from ("", f"![{plots.title(suite)}]({images[suite.name]})")
        if further := list(_further([launch for launch in launches if launch.suite == suite.name])):
            yield from ("", "Also measured, not compared:", "")
            yield from _table(("case", "arm", "number", "median", "launches"), further)


def _first(reasons: Sequence[str]) -> str:
    return reasons[0] + (f"; and {len(reasons) - 1} more" if len(reasons) > 1 else "")


def _further(launches: Sequence[Launch]) -> Iterator[tuple[str, ...]]:
    for (_, case), arms in by_case(launches).items():
        for arm, own in arms.items():
            for name in dict.fromkeys(name for each in own for name in each.numbers if not name.endswith(COMPARED)):
                values = [each.numbers[name] for each in own if name in each.numbers]
                yield (case, arm, name, _number(median(values)), str(len(values)))


def _table(names: Sequence[str], rows: Iterable[tuple[str, ...]]) -> Iterator[str]:
    yield f"| {' | '.join(names)} |"
    yield "|" + " --- |" * len(names)
    for row in rows:
        yield f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |"


def _cells(row: Row) -> tuple[str, ...]:
    found, ratio = row.comparison, "-"
    if found and found.ratio:
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
