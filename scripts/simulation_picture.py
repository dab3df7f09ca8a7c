"""The picture of a simulation in README.md, made from what the command prints.

.venv/bin/python scripts/simulation_picture.py
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path
from xml.sax.saxutils import escape

ROOT = Path(__file__).resolve().parents[1]
PICTURE = ROOT / "docs" / "pictures" / "simulation.svg"
COMMAND = (
    "simulate",
    "--hosts",
    "2",
    "--processes-per-host",
    "2",
    "--launcher",
    "torchrun",
    "examples/digits/train.py",
)
ARGUMENTS = ("--", "--epochs", "5")
# What every Lightning program prints, and rules: left out of the picture.
LEFT_OUT = re.compile(r"TPU available|Tip:|-{20}|deprecated|rank \d\] $|Seed set|DistributedSampler|stopped:")
COLUMNS = 116
LINE, LEFT, TOP = 20, 16, 28  # pixels
# Readable on light and on dark pages: a picture within a page follows the system's choice.
STYLE = """
text { font: 13px ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; fill: #1f2328; white-space: pre }
rect { fill: #f6f8fa; stroke: #d0d7de }
.dim { fill: #656d76 }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3 } rect { fill: #161b22; stroke: #30363d } .dim { fill: #8d96a0 }
}
"""


def run() -> list[str]:
    """Lines of a real run, and the command above them."""
    quiet = {"OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore", "PYTHONPATH": str(ROOT / ".venv" / "aside")}
    program = Path(sys.executable).with_name("lightning-sagemaker")
    done = subprocess.run(  # noqa: S603 - the command is ours
        [program, *COMMAND, *ARGUMENTS], cwd=ROOT, env=os.environ | quiet, capture_output=True, text=True, check=True
    )
    lines = [re.sub(r", folder .*", "", line) for line in (done.stderr + done.stdout).splitlines()]
    order = sorted(lines, key=lambda line: not line.startswith("simulate:") or "ended after" in line)
    shown = [line for line in order if not LEFT_OUT.search(line)]
    ended = [line for line in shown if "ended after" in line]
    return [
        f"$ lightning-sagemaker {' '.join([*COMMAND, *ARGUMENTS])}",
        *(one for one in shown if one not in ended),
        *ended,
    ]


def wrapped(line: str) -> list[str]:
    """A line as a terminal of some columns shows it."""
    return textwrap.wrap(line, COLUMNS, subsequent_indent="    ") or [""]


def svg(lines: list[str]) -> str:
    """A picture of a terminal with these lines."""
    rows = [(row, not line.startswith(("$", "[algo-2 rank 0] test"))) for line in lines for row in wrapped(line)]
    texts = "\n".join(
        f"<text x='{LEFT}' y='{TOP + LINE * number}' class='{'dim' if dim else 'loud'}'>{escape(row)}</text>"
        for number, (row, dim) in enumerate(rows)
    )
    width, height = LEFT * 2 + COLUMNS * 8, TOP + LINE * len(rows)
    title = "A simulated SageMaker job: two hosts of two processes train on this machine, under torchrun"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img" aria-label="{title}">\n'
        f"<title>{title}</title>\n<style>{STYLE}</style>\n"
        f'<rect x="0.5" y="0.5" width="{width - 1}" height="{height - 1}" rx="6"/>\n{texts}\n</svg>\n'
    )


if __name__ == "__main__":
    PICTURE.write_text(svg(run()), encoding="utf-8")
