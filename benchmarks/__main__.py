"""The benchmark program, run as ``python -m benchmarks COMMAND ...`` from the repository's root."""

import argparse
import sys
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path

from benchmarks.plan import SUITES
from benchmarks.report import made, write
from benchmarks.run import ROOT, follow, steps
from benchmarks.samples import read


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, or not, and report; 1 if the report is unfit, or is not what `--check` finds."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    run = commands.add_parser("run", help="measure on this machine, in simulated jobs, and write the report")
    run.add_argument("--suites", nargs="+", choices=SUITES, metavar="NAME", help=f"of {', '.join(SUITES)}")
    run.add_argument("--full", action="store_true", help="more models, worlds and sizes, and the self-check")
    run.add_argument("--launches", type=int, help="of each arm (default: 5, with --full 12)")
    run.add_argument("--python", default=sys.executable, help="that has torch and Lightning (default: this one)")
    report = commands.add_parser("report", help="from samples files to report.md and plots; refuses unequal settings")
    report.add_argument("samples", nargs="+", type=Path, metavar="FILE.jsonl", help="no case may be in two of them")
    report.add_argument("--check", action="store_true", help="whether the files are there as the samples make them")
    for command in (run, report):
        command.add_argument("--output", type=Path, default=ROOT / "build" / "benchmarks", metavar="FOLDER")
    given = parser.parse_args(arguments)
    if given.command is None:
        parser.print_help(sys.stderr)
        return 2
    if given.command == "run":
        suites = given.suites or [name for name, suite in SUITES.items() if given.full or not suite.by_name]
        given.output.mkdir(parents=True, exist_ok=True)  # below /tmp, what a simulated host makes stays its own
        given.samples = [given.output.resolve() / f"samples-{datetime.now(timezone.utc):%Y%m%dT%H%M%SZ}.jsonl"]
        launches = given.launches or (12 if given.full else 5)
        for title, program in steps(suites, given.python, given.samples[0], full=given.full, launches=launches):
            follow(title, program)
    read_in = [launch for path in given.samples for launch in read(path)]
    if given.command == "report" and given.check:
        there = {path.name: path.read_bytes() for path in given.output.iterdir()}
        wrong = [name for name, content in made(read_in)[1].items() if there.get(name) != content.encode()]
        if wrong:
            hint = f"python -m benchmarks report {' '.join(map(str, given.samples))} --output {given.output}"
            print(f"{', '.join(wrong)}: not as the samples make it. HINT: {hint}", file=sys.stderr)
        return int(bool(wrong))
    judged = write(read_in, given.output)
    print(given.output / "report.md")
    return int(any(suite.unfit for suite in judged))


if __name__ == "__main__":
    sys.exit(main())
