"""The command ``lightning-sagemaker``: one subcommand per tool, and one boundary for their errors."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from typing import TYPE_CHECKING, Any

from lightning_sagemaker.options import BAD_INPUT, INTERRUPTED, installed_version, one_line, write
from lightning_sagemaker.redaction import redact

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import ModuleType

_COMMANDS = ("simulate", "doctor", "submit", "jobs")
# Errors of botocore, which no command imports before it needs it, by name: what to do.
_FIXES = {
    "ProfileNotFound": "`aws configure list-profiles` lists them; see AWS_PROFILE.",
    "NoRegionError": "--region, or AWS_DEFAULT_REGION.",
    "ClientError": "the message is AWS's: check the permissions, names and region.",
    **dict.fromkeys(
        ("EndpointConnectionError", "ConnectTimeoutError", "ReadTimeoutError", "SSLError", "ProxyConnectionError"),
        "check --region, and the network from here to AWS.",
    ),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        argv: Arguments without the program's name; those of this process by default.

    Returns:
        The exit code: 2 for bad input, 130 after Ctrl-C, otherwise the subcommand's.
    """
    given = list(sys.argv[1:] if argv is None else argv)
    # What follows -- belongs to the user's script; argparse would take a second -- out of it.
    end = given.index("--") if "--" in given else len(given)
    own, rest = given[:end], given[end + 1 :]
    asked = [name for name in _COMMANDS if name in own[:1]]
    version = "" if asked else installed_version("lightning-sagemaker") or "(from its source)"
    parser = argparse.ArgumentParser(prog="lightning-sagemaker", description="PyTorch Lightning on Amazon SageMaker.")
    parser.add_argument("--version", action="version", version=f"%(prog)s {version}")
    subparsers = parser.add_subparsers(title="commands", metavar="COMMAND", required=True, parser_class=_Subcommand)
    for name in asked or _COMMANDS:
        _command(name).add_parser(subparsers)
    arguments, unknown = parser.parse_known_args(own, argparse.Namespace(rest=rest, debug=False))
    if getattr(arguments, "reads_options_itself", False):
        arguments.options = unknown
    elif unknown:
        arguments.parser.error(
            f"unrecognized arguments: {shlex.join(unknown)}. HINT: the script's own arguments go after --"
        )
    if rest and not getattr(arguments, "takes_script", False):
        arguments.parser.error(f"unrecognized arguments after --: {shlex.join(rest)}. HINT: leave the -- out.")
    return _run(arguments)


def _command(name: str) -> ModuleType:
    """The module of a subcommand, imported where it is asked for: all of them would be half of each one's start.

    It adds the subcommand with a default ``run``, which takes the parsed arguments and returns the exit code. What
    follows -- on the command line is in ``rest``.
    """
    if name == "simulate":
        from lightning_sagemaker.simulate import command as simulate

        return simulate
    if name == "doctor":
        from lightning_sagemaker.doctor import command as doctor

        return doctor
    if name == "submit":
        from lightning_sagemaker.submit import command as submit

        return submit
    from lightning_sagemaker.jobs import command as jobs

    return jobs


class _Subcommand(argparse.ArgumentParser):
    """Parser of a subcommand, and of a subcommand's own: argparse makes those of the same class."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        # Without a default, which a subcommand's own would put in the place of what was given before it.
        unset = argparse.SUPPRESS
        self.add_argument("--debug", action="store_true", default=unset, help="show where an error comes from")
        self.set_defaults(parser=self)


def _run(arguments: argparse.Namespace) -> int:
    """Run a subcommand; of an error, one line without a traceback."""
    try:
        code = int(arguments.run(arguments))
        sys.stdout.flush()
    except KeyboardInterrupt:
        text, code = "interrupted.", INTERRUPTED
    except BrokenPipeError:  # who reads, such as `head`, has gone; the interpreter's own end writes too
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:
        if arguments.debug:
            raise
        text, code = f"error: {_in_words(error)}", BAD_INPUT
    else:
        return code
    write(f"{arguments.parser.prog}: {text}\n", sys.stderr)
    return code


def _in_words(error: Exception) -> str:
    """One line on an error: what was found, and what to do."""
    from lightning_sagemaker.jobs.aws import LOG_IN, lacks_login

    if isinstance(error, OSError) and error.strerror:
        text = f"{error.strerror}: {error.filename}" if error.filename else error.strerror
    elif isinstance(error, (ValueError, ImportError, OSError)):  # of this package: they say it all
        text = str(error)
    else:
        text = f"{type(error).__name__}: {error}"
    names = [kind.__name__ for kind in type(error).__mro__]
    known = [LOG_IN] if lacks_login(error) else [_FIXES[name] for name in names if name in _FIXES]
    fix = next(iter(known), "--debug shows where it comes from.")
    return redact(one_line(text if "HINT:" in text else f"{text.rstrip('.')}. HINT: {fix}"))


if __name__ == "__main__":
    sys.exit(main())
