"""One forest plot per suite: ratios with their intervals. matplotlib is imported only when something is drawn."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from matplotlib.figure import Figure

    from benchmarks.rows import Row, Suite


def label(row: Row) -> str:
    """What the row is called in the plot; says what must be read with its numbers."""
    labels = "".join(f" [{each}]" for each in row.labels)
    return f"{'A/A ' if row.again else ''}{row.case}: {row.ours} / {row.baseline}, {row.metric}{labels}"


def title(suite: Suite) -> str:
    """Title of the plot: a picture is passed on without the report around it."""
    labels = dict.fromkeys(each for row in suite.rows for each in row.labels)
    parts = [suite.name, *(f"[{each}]" for each in labels), *(["UNFIT FOR USE"] if suite.unfit else [])]
    return " ".join(parts)


def forest(suite: Suite) -> Figure | None:
    """Draw the rows that have an interval; None if no row has one."""
    rows = [row for row in suite.rows if row.comparison is not None and row.comparison.ratio is not None]
    if not rows:
        return None
    # A figure of its own, not pyplot's: draws without a display and leaves no global state.
    from matplotlib.figure import Figure  # noqa: PLC0415 - of the extra `bench`

    figure = Figure(figsize=(10, 1.6 + 0.4 * len(rows)), layout="constrained")
    axes = figure.add_subplot()
    for place, row in enumerate(rows):
        found = row.comparison
        if found is None or found.ratio is None or found.low is None or found.high is None:
            continue
        color = "0.5" if row.again else "C0"
        axes.plot([found.low, found.high], [place, place], color=color, linewidth=2)
        axes.plot([found.ratio], [place], "o", color=color)
    axes.axvline(1.0, color="black", linewidth=1, linestyle="--")
    axes.set_yticks(range(len(rows)), [label(row) for row in rows])
    axes.set_ylim(len(rows) - 0.5, -0.5)
    # Of the figure, not of the axes: long row names leave those little room.
    figure.supxlabel("ours / baseline, geometric mean over paired launches, 95 % interval (seconds: below 1 is faster)")
    figure.suptitle(title(suite))
    return figure


def save(suite: Suite, folder: Path) -> str | None:
    """Write the suite's plot; its file name, or None if there is nothing to draw."""
    figure = forest(suite)
    if figure is None:
        return None
    name = re.sub(r"[^a-z0-9]+", "-", suite.name.lower()).strip("-") + ".png"
    figure.savefig(folder / name, dpi=120)
    return name
