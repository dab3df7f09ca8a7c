"""The command line and the configuration file of ``lightning-sagemaker submit``, made from `TrainingJob`."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from typing import TYPE_CHECKING, Any, get_type_hints

from lightning_sagemaker.options import pairs, variables, write
from lightning_sagemaker.redaction import redact
from lightning_sagemaker.submit.request import is_secret
from lightning_sagemaker.submit.training_job import Channel, InstanceGroup, TrainingJob

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jsonargparse import ArgumentParser, Namespace

_EPILOG = """\
What follows -- are the script's own arguments, of any form:
lightning-sagemaker submit train.py --instance-type ml.p4d.24xlarge --instance-count 4 --role MyRole --dry-run --
--epochs 30. Exit code: 0 for a job that was sent (with --wait: completed), 1 where a check or the job failed, 2 for bad
input.
"""
# Titles of groups in `--help`, by the field that begins one; the script and its arguments are in none.
_TITLES = {
    "source_dir": "what runs",
    "instance_type": "where",
    "torch": "what runs",
    "channels": "data",
    "name": "job page",
    "role": "security",
    "set": "the rest of the API",
}
# Options that may be repeated: the field that each adds to, a mapping or a list, and the form of its value.
_REPEATABLE = {
    "--env": ("env", "NAME=VALUE"),
    "--channel": ("channels", "NAME=S3URI"),
    "--tag": ("tags", "KEY=VALUE"),
    "--instance-group": ("instance_groups", "NAME=TYPE:COUNT"),
    "--set": ("set", "KEY=JSON"),
    "--requirement": ("requirements", "LINE"),
    "--metric": ("metrics", "NAME"),
    "--subnet": ("subnets", "ID"),
    "--security-group": ("security_groups", "ID"),
}
_FIELDS = [one for one in dataclasses.fields(TrainingJob) if one.name not in ("script", "arguments")]


def read(prog: str, options: list[str], arguments: list[str]) -> tuple[Namespace, TrainingJob]:
    """Read the options of a command of this name and the script's arguments: what to do, and the job."""
    parser = _parser(prog)
    from jsonargparse import ArgumentError

    added, rest = _repeatable(options)
    try:
        found = parser.parse_args(rest)
    except ArgumentError as error:
        text = " ".join(str(error).split())
        raise ValueError(f"{text}. HINT: `{prog} --help` lists the options.") from None
    except UnicodeDecodeError as error:
        raise ValueError(f"the file of --config is no UTF-8 text ({error.reason}). HINT: save it as UTF-8.") from None
    for name, more in added.items():
        found[name] = {**found[name], **more} if isinstance(more, dict) else (*found[name], *more)
    if found.print_config:
        found.print_config = False
        told = [f"# left out since it is secret: {option}, to be given again\n" for option in _take_secrets(found)]
        write("".join([*told, parser.dump(found, skip_default=True)]), sys.stdout)
        sys.exit(0)
    values = parser.instantiate(found).as_dict()
    given: dict[str, Any] = {one.name: values[one.name] for one in _FIELDS}
    return found, TrainingJob(values["script"], arguments=tuple(arguments), **given)


def _parser(prog: str) -> ArgumentParser:
    try:
        from docstring_parser import parse
        from jsonargparse import ArgumentParser
    except ImportError:
        raise ImportError(
            "jsonargparse, which reads the options, is not installed. HINT: pip install 'lightning-sagemaker[submit]'."
        ) from None
    parser = ArgumentParser(
        prog=prog,
        usage="%(prog)s [options] script.py [-- arguments of the script]",
        description="Describe a training job, check it before money is spent, and send it to SageMaker as one request.",
        epilog=_EPILOG,
        exit_on_error=False,
        allow_abbrev=False,
        print_config=None,
    )
    parser.add_argument("--config", action="config", help="YAML file with these options by name: instance_type: ml...")
    told = {one.arg_name: str(one.description) for one in parse(str(TrainingJob.__doc__)).params}
    hints = get_type_hints(TrainingJob, localns={"Channel": Channel, "InstanceGroup": InstanceGroup})
    once = {field: f"{option} {value}" for option, (field, value) in _REPEATABLE.items()}
    parser.add_argument("script", type=str, help="training script")
    groups = {title: parser.add_argument_group(title) for title in dict.fromkeys(_TITLES.values())}
    title = ""
    for field in _FIELDS:
        name, kind = field.name, hints[field.name]
        title = _TITLES.get(name, title)
        default = {} if field.default is dataclasses.MISSING else field.default
        text = " ".join(told[name].replace("``", "").split())
        if name in once:
            text = f"{once[name]}, repeatable. {text}"
        form: dict[str, Any] = {"action": "store_true"} if kind is bool else {"type": kind}
        groups[title].add_argument(f"--{name.replace('_', '-')}", default=default, help=text, **form)
    add = parser.add_argument_group("what to do").add_argument
    add("--print_config", action="store_true", help="show the options as a file for --config, and end")
    add("--region", type=str | None, default=None, help="AWS region; by default that of your AWS configuration")
    add("--profile", type=str | None, default=None, help="profile of your AWS configuration")
    add("--dry-run", action="store_true", help="show the request, check it, and send nothing")
    add("--as-notebook", choices=("v2", "v3"), default=None, help="show the job as code for SageMaker's SDK instead")
    add("--json", action="store_true", help="with --dry-run: only the request on the standard output")
    add("--simulate-first", action="store_true", help="run the script for one batch on this machine first")
    add("--local-channel", action="append", default=[], type=str, help="NAME=PATH for --simulate-first; repeatable")
    add("--strict", action="store_true", help="what could not be checked counts as failed")
    add("--force", action="store_true", help="send it although a check has failed")
    add("--wait", action="store_true", help="follow the job's log until it ends")
    return parser


def _repeatable(options: Sequence[str]) -> tuple[dict[str, Any], list[str]]:
    """What repeatable options add to each field, and the options that are left.

    Their values are taken as they are: jsonargparse would read them as YAML.
    """
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    for option, (field, _) in _REPEATABLE.items():
        parser.add_argument(option, action="append", dest=field, default=[])
    try:
        found, rest = parser.parse_known_args(options)
    except argparse.ArgumentError as error:
        raise ValueError(f"{error}. HINT: it takes a value.") from None
    added: dict[str, Any] = {}
    for option, (field, value) in _REPEATABLE.items():
        given, split = getattr(found, field), variables if option == "--env" else pairs
        added[field] = split(given, f"{option} {value}") if "=" in value else tuple(given)
    added["set"] = {name: _json(name, text) for name, text in added["set"].items()}
    return added, rest


def _take_secrets(found: Namespace) -> list[str]:
    """Take what is secret out of the options that may be repeated; which they were."""
    taken = []
    for option, (field, _) in _REPEATABLE.items():
        given = found[field]
        if isinstance(given, dict):
            secret = [name for name, value in given.items() if is_secret(name.rpartition(".")[2], value)]
            found[field] = {name: value for name, value in given.items() if name not in secret}
        else:
            secret = [redact(line) for line in given if redact(line) != line]
            found[field] = [line for line in given if redact(line) == line]
        taken += [f"{option} {one}" for one in secret]
    return taken


def _json(name: str, text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise ValueError(
            f"--set {name} is {text!r}, which is not JSON ({error}). HINT: --set '{name}=\"text\"'."
        ) from None
