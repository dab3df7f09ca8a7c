"""The benchmark program.

python -m benchmarks run ...     measure on this machine and write the report
python -m benchmarks report ...  from samples files to report.md and plots; refuses unequal settings
"""

import sys

from benchmarks import report, run

COMMANDS = {"run": run.main, "report": report.main}


def main() -> None:
    """Hand over to the command."""
    name, *arguments = sys.argv[1:] or [""]
    if name not in COMMANDS:
        print(__doc__, file=sys.stderr)
        sys.exit(0 if name in ("-h", "--help") else 2)
    sys.exit(COMMANDS[name](arguments))


if __name__ == "__main__":
    main()
