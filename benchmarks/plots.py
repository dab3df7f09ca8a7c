"""One forest plot per suite: ratios with their intervals, as SVG that is readable in dark mode and on a phone."""

import math
import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1] / "scripts"))

from drawing import Drawing

from benchmarks.compare import Row, Suite

WIDTH, MARGIN, TOP, ROW, TEXT = 520, 16, 84, 60, 36
TICKS = (0.01, 0.1, 0.2, 0.5, 0.8, 0.9, 0.95, 0.98, 1, 1.02, 1.05, 1.1, 1.25, 2, 5, 10, 100)
KINDS = {"faster": "good", "less": "good", "slower": "bad", "more": "bad"}  # of boxes, by verdict
TAILS = ("_p95_seconds", "_p99_seconds")  # in the table only: their intervals are wide, and would set the scale


def title(suite: Suite) -> str:
    """Title of the plot: a picture is passed on without the report around it."""
    labels = dict.fromkeys(each for row in suite.rows for each in row.labels)
    return " ".join([suite.name, *(f"[{each}]" for each in labels), *(["UNFIT FOR USE"] if suite.unfit else [])])


def label(row: Row) -> str:
    """What the row is called in the plot."""
    return f"{'A/A: ' if row.again else ''}{row.case}: {row.metric.removesuffix('_seconds').replace('_', ' ')}"


def forest(suite: Suite, where: str) -> Drawing | None:
    """Draw the rows that have an interval; None if no row has one. `where` is when and on what it was measured."""
    rows = [
        (row, found.ratio, found.low, found.high)
        for row in suite.rows
        if (found := row.comparison) and found.ratio and found.low and found.high and not row.metric.endswith(TAILS)
    ]
    if not rows:
        return None
    lowest = math.log(min(1.0, *(low for _, _, low, _ in rows)) / 1.02)
    highest = math.log(max(1.0, *(high for *_, high in rows)) * 1.02)

    def place(ratio: float) -> int:
        return round(MARGIN + (math.log(ratio) - lowest) / (highest - lowest) * (WIDTH - 2 * MARGIN))

    told = "; ".join(f"{label(row)}, {row.ours} / {row.baseline} {a:.3f} [{b:.3f}, {c:.3f}]" for row, a, b, c in rows)
    height = TOP + ROW * len(rows) + 34
    picture = Drawing(WIDTH, height, f"{title(suite)}. Ratios with their 95 % intervals: {told}")
    picture.text(MARGIN, 26, title(suite), "strong")
    picture.text(MARGIN, 46, f"ours / baseline with 95 % interval; {where}", "dim")
    named: list[int] = []
    for tick in sorted(TICKS, key=lambda tick: abs(math.log(tick))):  # 1 first; others where they have room
        at = place(tick)
        if MARGIN <= at <= WIDTH - MARGIN and all(abs(at - other) > TEXT for other in named):
            named.append(at)
            picture.line(at, height - 38, at, height - 30)
            picture.text(at, height - 12, f"{tick:g}", "middle dim")
    for number, (row, ratio, low, high) in enumerate(rows):
        y = TOP + ROW * number
        picture.text(MARGIN, y, label(row))
        picture.text(MARGIN, y + 18, f"{row.ours} / {row.baseline}: {ratio:.3f} [{low:.3f}, {high:.3f}]", "dim")
        picture.line(place(1), y + 22, place(1), y + 40, "cut")
        picture.box(place(low), y + 26, max(2, place(high) - place(low)), 8, KINDS.get(row.verdict, ""))
        picture.box(place(ratio) - 3, y + 24, 6, 12, "rank")
    return picture
