"""``python -m benchmarks COMMAND ...``: each command is a module with ``main(arguments)``."""

from __future__ import annotations

import importlib
import sys

COMMANDS = {
    "run": "measure on this machine and write the report",
    "on-sagemaker": "the same launches as SageMaker jobs, and one report of all",
    "compare": "two arms of one file, or two files; refuses unequal settings",
    "report": "from a samples file to report.md, report.json and plots",
}


def main() -> None:
    """Hand over to the command's module, which alone imports what it needs."""
    given = sys.argv[1:]
    if not given or given[0] not in COMMANDS:
        lines = "\n".join(f"  {name:14}{what}" for name, what in COMMANDS.items())
        print(f"usage: python -m benchmarks COMMAND ...\n\n{lines}", file=sys.stderr)
        sys.exit(0 if given[:1] in (["-h"], ["--help"]) else 2)
    sys.exit(importlib.import_module(f"benchmarks.{given[0].replace('-', '_')}").main(given[1:]))


if __name__ == "__main__":
    main()
