"""``resourceconfig.json``: the hosts of the job, this host, and the instance groups."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightning_sagemaker.job.values import DAMAGED, json_value, names, shown, some

if TYPE_CHECKING:
    from collections.abc import Mapping

DEFAULT_BASE_DIR = "/opt/ml"
RESOURCE_CONFIG = Path("input", "config", "resourceconfig.json")  # under the base folder


@dataclass(frozen=True)
class Resources:
    """The checked content of ``resourceconfig.json``; order of hosts as SageMaker lists them."""

    hosts: tuple[str, ...]
    current_host: str
    instance_type: str | None
    instance_group: str | None
    instance_groups: Mapping[str, tuple[str, ...]]
    network_interface: str | None

    @property
    def group_hosts(self) -> tuple[str, ...]:
        """Hosts of this host's instance group, in the group's own order; all hosts if there are no groups."""
        return next((hosts for hosts in self.instance_groups.values() if self.current_host in hosts), self.hosts)


def base_dir(environ: Mapping[str, str]) -> Path:
    """Folder in which SageMaker keeps a job's input and output: ``SAGEMAKER_BASE_DIR``, ``/opt/ml`` unless set."""
    return Path(environ.get("SAGEMAKER_BASE_DIR") or DEFAULT_BASE_DIR)


def config_text(
    environ: Mapping[str, str], config_dir: str | Path | None, name: str, variable: str | None, holds: str
) -> tuple[str, str | None]:
    """Text of a file in the config folder, or of the toolkit's copy in a variable, and which one it is.

    The variable is read where there is no such file, and where this process may not read it; ``holds`` is a sentence
    for the error.
    """
    path = _config_path(environ, config_dir, name)
    copy = environ.get(variable) or None if variable else None
    try:
        return str(path), path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return variable or str(path), copy
    except (OSError, ValueError) as error:
        if variable and copy and isinstance(error, PermissionError):  # a script that gave up root: stock trains
            return variable, copy
        raise ValueError(
            f"{path} cannot be read: {error}. {holds} HINT: run as the user that the container starts with, and look at"
            " SAGEMAKER_BASE_DIR."
        ) from error


def read_resources(environ: Mapping[str, str], config_dir: str | Path | None) -> Resources | None:
    """Read the file, or ``SM_RESOURCE_CONFIG`` if there is none; ``None`` if neither exists."""
    holds = "It names the hosts of the SageMaker training job."
    variable = "SM_RESOURCE_CONFIG"
    where, text = config_text(environ, config_dir, RESOURCE_CONFIG.name, variable, holds)
    if text is not None:
        # Under mpirun this is the leader's value on every host; CURRENT_HOST is not passed along and is the host's own.
        return _check(text, where, environ.get("CURRENT_HOST") if where == variable else None)
    if arn := environ.get("TRAINING_JOB_ARN"):
        path = _config_path(environ, config_dir, RESOURCE_CONFIG.name)
        raise FileNotFoundError(
            f"TRAINING_JOB_ARN={arn!r} says that this is a SageMaker training job, but there is no file {path} and"
            f" {variable} is not set, so the hosts of the job are unknown. HINT: SageMaker mounts that file into"
            " every training container; look for something that hides /opt/ml/input, or for a wrong SAGEMAKER_BASE_DIR."
        )
    return None  # a stray variable on a machine that is no training container


def _config_path(environ: Mapping[str, str], config_dir: str | Path | None, name: str) -> Path:
    return Path(base_dir(environ) / "input" / "config" if config_dir is None else config_dir, name)


def _check(text: str, where: str, current_host: str | None) -> Resources:
    config = json_value(text, where)
    if not isinstance(config, dict):
        raise ValueError(f"{where} holds {shown(config)}; expected a JSON object. {DAMAGED}")
    hosts = names(config.get("hosts"), f"`hosts` in {where}")
    source = "Environment variable `CURRENT_HOST`" if current_host else f"`current_host` in {where}"
    current_host = current_host or _text(config, "current_host", where)
    if current_host not in hosts:
        raise ValueError(
            f"{source} is {shown(current_host)}, which is not among the `hosts` of {where} ({some(hosts)}), so this"
            " host has no place in the job. HINT: SageMaker writes both; look for a copy from another host or job."
        )
    return Resources(
        hosts=hosts,
        current_host=current_host,
        instance_type=_text(config, "current_instance_type", where),
        instance_group=_text(config, "current_group_name", where),
        instance_groups=_groups(config.get("instance_groups"), hosts, where),
        network_interface=_text(config, "network_interface_name", where),
    )


def _groups(listed: object, hosts: tuple[str, ...], where: str) -> dict[str, tuple[str, ...]]:
    if listed is None:
        return {}  # local mode
    if not isinstance(listed, list) or not all(isinstance(group, dict) for group in listed):
        raise ValueError(f"`instance_groups` in {where} is {shown(listed)}; expected a list of objects. {DAMAGED}")
    groups = {
        _text(group, "instance_group_name", where) or "": names(
            group.get("hosts"), f"`instance_groups[].hosts` in {where}"
        )
        for group in listed
    }
    expected, grouped = Counter(hosts), Counter(host for members in groups.values() for host in members)
    if groups and (amiss := sorted((expected - grouped) | (grouped - expected))):
        raise ValueError(
            f"`instance_groups` in {where} does not have each of `hosts` in exactly one group: {some(amiss)}. {DAMAGED}"
        )
    return groups


def _text(config: Mapping[str, Any], key: str, where: str) -> str | None:
    value = config.get(key)
    if value is None or isinstance(value, str):
        return value or None
    raise ValueError(f"`{key}` in {where} is {shown(value)}; expected a string. {DAMAGED}")
