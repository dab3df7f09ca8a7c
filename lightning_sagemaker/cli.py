"""The command ``lightning-sagemaker``: one subcommand per tool."""

from __future__ import annotations

import argparse
import shlex
import sys
from typing import TYPE_CHECKING

from lightning_sagemaker.doctor import command as doctor
from lightning_sagemaker.probe import command as probe
from lightning_sagemaker.simulate import command as simulate
from lightning_sagemaker.submit import command as submit

if TYPE_CHECKING:
    from collections.abc import Sequence

# Each adds its subcommand with a default `run`, which takes the parsed arguments and returns the exit code. What
# follows -- on the command line is in `rest`.
_COMMANDS = (simulate, doctor, submit, probe)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        argv: Arguments without the program's name; those of this process by default.

    Returns:
        The exit code: 2 for bad input, otherwise the subcommand's.
    """
    parser = argparse.ArgumentParser(prog="lightning-sagemaker", description="PyTorch Lightning on Amazon SageMaker.")
    subparsers = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for command in _COMMANDS:
        command.add_parser(subparsers)
    given = list(sys.argv[1:] if argv is None else argv)
    # What follows -- belongs to the user's script; argparse would take a second -- out of it.
    end = given.index("--") if "--" in given else len(given)
    own, rest = given[:end], given[end + 1 :]
    arguments, unknown = parser.parse_known_args(own, argparse.Namespace(rest=rest))
    if unknown:
        parser.error(f"unrecognized arguments: {shlex.join(unknown)}. HINT: what belongs to a script goes after --")
    return int(arguments.run(arguments))


if __name__ == "__main__":
    sys.exit(main())
