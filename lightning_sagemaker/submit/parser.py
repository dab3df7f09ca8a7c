"""The command line and the configuration file of ``lightning-sagemaker submit``, made from `TrainingJob`."""

from __future__ import annotations

import argparse
import dataclasses
import json
from typing import TYPE_CHECKING, Any, get_type_hints

from lightning_sagemaker.options import pairs, variables
from lightning_sagemaker.submit.training_job import Channel, InstanceGroup, TrainingJob

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jsonargparse import ArgumentParser

# Groups of `--help`; each field of a job is in one, the script and its arguments apart.
GROUPS = {
    "what runs": (
        *(
            "source_dir",
            "requirements",
            "strategy",
            "launcher",
            "processes_per_host",
            "env",
            "torch",
            "image",
            "export",
        ),
    ),
    "where": (
        *("instance_type", "instance_count", "instance_groups", "volume_gb", "spot", "max_run", "max_wait", "retries"),
        *("keep_alive", "training_plan"),
    ),
    "data": ("channels", "checkpoint_uri", "output_uri"),
    "job page": ("name", "tags", "metrics"),
    "security": (
        *("role", "subnets", "security_groups", "network_isolation", "encrypt_traffic", "output_kms_key"),
        "volume_kms_key",
    ),
    "the rest of the API": ("set",),
}
# Options that may be repeated, in the words of a person, and the fields that they add to.
MAPPINGS = {
    "--env": ("env", "NAME=VALUE"),
    "--channel": ("channels", "NAME=S3URI"),
    "--tag": ("tags", "KEY=VALUE"),
    "--instance-group": ("instance_groups", "NAME=TYPE:COUNT"),
    "--set": ("set", "KEY=JSON"),
}
LISTS = {
    "--requirement": ("requirements", "LINE"),
    "--metric": ("metrics", "NAME"),
    "--subnet": ("subnets", "ID"),
    "--security-group": ("security_groups", "ID"),
}


def make(prog: str, description: str, epilog: str) -> ArgumentParser:
    """Make the parser of a job; its option ``config`` names a file with the same names.

    Args:
        prog: Name of the command.
        description: First lines of ``--help``.
        epilog: Last lines of ``--help``.

    Raises:
        ImportError: jsonargparse is not installed.
    """
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
        description=description,
        epilog=epilog,
        exit_on_error=False,
        allow_abbrev=False,
        print_config=None,
    )
    parser.add_argument("--config", action="config", help="YAML file with these options by name: instance_type: ml...")
    told = {one.arg_name: str(one.description) for one in parse(str(TrainingJob.__doc__)).params}
    hints = get_type_hints(TrainingJob, localns={"Channel": Channel, "InstanceGroup": InstanceGroup})
    by_name = {field.name: field for field in dataclasses.fields(TrainingJob)}
    once = {field: f"{option} {value}" for option, (field, value) in (MAPPINGS | LISTS).items()}
    parser.add_argument("script", type=str, help="training script")
    for title, names in GROUPS.items():
        group = parser.add_argument_group(title)
        for name in names:
            field, kind = by_name[name], hints[name]
            default = field.default if field.default is not dataclasses.MISSING else {}
            text = " ".join(told[name].replace("``", "").split())
            if name in once:
                text = f"{once[name]}, repeatable. {text}"
            form: dict[str, Any] = {"action": "store_true"} if kind is bool else {"type": kind}
            group.add_argument(f"--{name.replace('_', '-')}", default=default, help=text, **form)
    return parser


def repeatable(options: Sequence[str]) -> tuple[dict[str, Any], list[str]]:
    """Read the repeatable options, whose values are taken literally: jsonargparse would read them as YAML.

    Args:
        options: The command line.

    Returns:
        What each field gets in addition, and the options that are left.

    Raises:
        ValueError: One lacks a name, or its JSON is malformed.
    """
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    for option, (field, _) in (MAPPINGS | LISTS).items():
        parser.add_argument(option, action="append", dest=field, default=[])
    try:
        found, rest = parser.parse_known_args(options)
    except argparse.ArgumentError as error:
        raise ValueError(f"{error}. HINT: it takes a value.") from None
    added: dict[str, Any] = {field: tuple(getattr(found, field)) for field, _ in LISTS.values()}
    for option, (field, value) in MAPPINGS.items():
        read = variables if option == "--env" else pairs
        added[field] = read(getattr(found, field), f"{option} {value}")
    added["set"] = {name: _json(name, text) for name, text in added["set"].items()}
    return added, rest


def _json(name: str, text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise ValueError(
            f"--set {name} is {text!r}, which is not JSON ({error}). HINT: --set '{name}=\"text\"'."
        ) from None
