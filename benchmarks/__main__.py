"""``python -m benchmarks COMMAND ...``: each command is a module with ``main(arguments)``."""

import importlib
import sys

COMMANDS = {
    "run": "measure on this machine and write the report",
    "report": "from samples files to report.md and plots; refuses unequal settings",
}


def main() -> None:
    """Hand over to the command's module, which alone imports what it needs."""
    given = sys.argv[1:]
    if not given or given[0] not in COMMANDS:
        lines = "\n".join(f"  {name:8}{what}" for name, what in COMMANDS.items())
        print(f"usage: python -m benchmarks COMMAND ...\n\n{lines}", file=sys.stderr)
        sys.exit(0 if given[:1] in (["-h"], ["--help"]) else 2)
    sys.exit(importlib.import_module(f"benchmarks.{given[0]}").main(given[1:]))


if __name__ == "__main__":
    main()
