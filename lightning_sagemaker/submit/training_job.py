"""The description of a training job; what it leaves out is chosen when it is sent."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal

from lightning_sagemaker.job.channels import SHARDED
from lightning_sagemaker.launch_modes import MODES
from lightning_sagemaker.redaction import redact
from lightning_sagemaker.script import Script, check

Launcher = Literal["torchrun", "smddprun", "mpirun", "none"]
InputMode = Literal["File", "FastFile", "Pipe"]
Export = Literal["best", "last"]

LONGEST_NAME = 39  # characters: 24 of the time follow, and SageMaker takes 63
_NAME = re.compile(r"[a-zA-Z0-9](-*[a-zA-Z0-9])*")
_S3 = re.compile(r"s3://[^/]+(/.*)?")
_COUNTS = ("instance_count", "processes_per_host", "volume_gb", "max_run", "max_wait", "retries")


@dataclass(frozen=True)
class Channel:
    """An input channel.

    Attributes:
        uri: Prefix in S3.
        sharded: Whether each host gets a part of the files (``ShardedByS3Key``) instead of all.
        input_mode: ``File`` copies the files before training, ``FastFile`` streams them as they are read, ``Pipe`` is a
            named pipe; ``None`` for the API's default, ``File``.
    """

    uri: str
    sharded: bool = False
    input_mode: InputMode | None = None

    @staticmethod
    def parse(text: str) -> Channel:
        """Read ``s3://bucket/prefix``, optionally followed by ``:sharded``, ``:FastFile`` or both."""
        place, *words = re.split(r":(?=sharded\b|File\b|FastFile\b|Pipe\b)", text)
        modes: list[Any] = [word for word in words if word != "sharded"]
        return Channel(place, "sharded" in words, modes[-1] if modes else None)

    @property
    def distribution(self) -> str:
        """The API's name for the distribution of files to hosts."""
        return SHARDED if self.sharded else "FullyReplicated"


@dataclass(frozen=True)
class InstanceGroup:
    """A group of equal hosts in a heterogeneous cluster.

    Attributes:
        instance_type: For example ``ml.p4d.24xlarge``.
        instance_count: Number of hosts.
    """

    instance_type: str
    instance_count: int = 1

    @staticmethod
    def parse(text: str) -> InstanceGroup:
        """Read ``ml.p4d.24xlarge:2``."""
        kind, _, count = text.partition(":")
        if not (count or "1").isdecimal():
            raise ValueError(f"`instance_groups` has {count!r}, expected a whole number. HINT: NAME=ml.p4d.24xlarge:2.")
        return InstanceGroup(kind, int(count or "1"))


@dataclass(frozen=True)
class TrainingJob(Script):
    """A SageMaker training job that runs a Lightning script.

    Whatever is ``None`` is chosen: see `lightning_sagemaker.submit.choices.complete`.

    Attributes:
        script: Training script, a ``.py`` file.
        arguments: The script's command line.
        source_dir: Folder that is sent; by default the script's.
        requirements: Lines of the job's requirements besides those of the folder's ``requirements.txt``; a local wheel
            is sent along.
        strategy: Lightning's strategy, as ``PL_TRAINER_STRATEGY``: the script's own comes first.
        launcher: What starts the processes: ``torchrun``, ``smddprun`` (mpirun with SMDDP), ``mpirun`` or ``none``; by
            default what the strategy needs.
        processes_per_host: By default one for each GPU.
        env: Environment variables of the job.
        export: ``best`` or ``last``: which checkpoint becomes part of the model artifact (``model.tar.gz``).
        instance_type: For example ``ml.p4d.24xlarge``.
        instance_count: Number of hosts.
        instance_groups: Groups of a heterogeneous cluster by name, ``TYPE:COUNT`` each, instead of the two above; the
            launcher runs on the first group.
        volume_gb: Storage of each host in GB.
        spot: Managed spot instances; a restarted job resumes from its newest checkpoint.
        max_run: Limit of the training time in seconds.
        max_wait: Limit of waiting for spot instances and training together in seconds; by default twice ``max_run``.
        retries: Restarts after faults of the service; on spot instances 3 by default.
        keep_alive: Seconds that the hosts are kept after the job, for the next one (warm pool).
        training_plan: ARN of a training plan, whose capacity is used.
        torch: Version of AWS's PyTorch training image; by default the newest that has what the strategy needs.
        image: URI of an image instead.
        channels: Input channels by name, ``s3://bucket/prefix`` each, with ``:sharded`` or ``:FastFile`` behind it.
        checkpoint_uri: Prefix in S3 with which ``/opt/ml/checkpoints`` is kept the same.
        output_uri: Prefix in S3 where source, model and output go; by default in the SDK's default bucket.
        name: Beginning of the job's name, to which the time is added; by default the script's.
        tags: Of the job.
        metrics: Names of logged metrics for the job page, besides those that the scripts' ``self.log("name")`` tell.
        role: Execution role, ARN or name; by default the SDK's.
        subnets: Ids, for a job in a VPC.
        security_groups: Ids, for a job in a VPC.
        network_isolation: Whether the containers reach no network but each other.
        encrypt_traffic: Whether the traffic between hosts is encrypted; it takes time.
        output_kms_key: Key for what the job writes to S3.
        volume_kms_key: Key for the hosts' volumes.
        set: Values for the request, for what has no option here: ``ResourceConfig.KeepAlivePeriodInSeconds`` or such.
    """

    script: str | Path
    arguments: Sequence[str] = ()
    source_dir: str | Path | None = None
    requirements: Sequence[str] = ()
    strategy: str | None = None
    launcher: Launcher | None = None
    processes_per_host: int | None = None
    env: Mapping[str, str | int | float] = field(default_factory=dict)
    export: Export | None = None
    instance_type: str | None = None
    instance_count: int = 1
    instance_groups: Mapping[str, str | InstanceGroup] = field(default_factory=dict)
    volume_gb: int = 100
    spot: bool = False
    max_run: int = 86_400
    max_wait: int | None = None
    retries: int | None = None
    keep_alive: int | None = None
    training_plan: str | None = None
    torch: str | None = None
    image: str | None = None
    channels: Mapping[str, str | Channel] = field(default_factory=dict)
    checkpoint_uri: str | None = None
    output_uri: str | None = None
    name: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    metrics: Sequence[str] = ()
    role: str | None = None
    subnets: Sequence[str] = ()
    security_groups: Sequence[str] = ()
    network_isolation: bool = False
    encrypt_traffic: bool = False
    output_kms_key: str | None = None
    volume_kms_key: str | None = None
    set: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Normalize values, and refuse a job that cannot run, with a `FileNotFoundError` or `ValueError`."""
        change = object.__setattr__
        for one in fields(self):  # lists of a notebook or of a file
            if isinstance(value := getattr(self, one.name), list):
                change(self, one.name, tuple(value))
        change(self, "env", {name: str(value) for name, value in self.env.items()})
        change(self, "channels", _parsed(self.channels, Channel))
        change(self, "instance_groups", _parsed(self.instance_groups, InstanceGroup))
        check(self, self.env, self.channels)
        _check_hosts(self)
        _check_start(self)
        _check_values(self)

    @property
    def groups(self) -> Mapping[str, InstanceGroup]:
        """Hosts of the job by the names of their groups; those of a homogeneous job have none."""
        groups: Any = self.instance_groups
        return groups or {"": InstanceGroup(str(self.instance_type), self.instance_count)}

    @property
    def launched(self) -> InstanceGroup:
        """Hosts on which the launcher starts processes."""
        return next(iter(self.groups.values()))

    @property
    def inputs(self) -> Mapping[str, Channel]:
        """The channels, parsed."""
        return self.channels  # type: ignore[return-value] # __post_init__ has parsed them

    @property
    def sharded(self) -> tuple[str, ...]:
        """Names of the channels whose files are divided among the hosts."""
        return tuple(name for name, channel in self.inputs.items() if channel.sharded)

    @property
    def wheels(self) -> Sequence[Path]:
        """The requirements that are wheels of this machine, which are sent along."""
        return [Path(line) for line in self.requirements if line.endswith(".whl") and "://" not in line]

    @property
    def variables(self) -> Mapping[str, str]:
        """The environment variables, as texts."""
        return self.env  # type: ignore[return-value] # __post_init__ has made them texts

    def __str__(self) -> str:
        """The values that are given, one line each, without secrets."""
        given = {one.name: getattr(self, one.name) for one in fields(self)}
        lines = [f"{name:<20}{_shown(value)}" for name, value in given.items() if value not in (None, False, (), {})]
        return redact("\n".join(lines), self.variables)

    def changed(self, **values: Any) -> TrainingJob:
        """A copy with other values."""
        return replace(self, **values)


def _parsed(given: Mapping[str, Any], kind: Any) -> dict[str, Any]:
    return {name: kind.parse(value) if isinstance(value, str) else value for name, value in given.items()}


def _shown(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name}={one}" for name, one in value.items())
    return " ".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _check_hosts(job: TrainingJob) -> None:
    if (job.instance_type is None) == (not job.instance_groups):
        what = "neither an instance type nor instance groups" if not job.instance_groups else "both of them"
        raise ValueError(f"The job has {what}. HINT: --instance-type ml.p4d.24xlarge.")
    if job.instance_groups and job.instance_count != 1:
        raise ValueError(
            f"`instance_count` is {job.instance_count}, but instance groups have counts of their own. HINT:"
            " --instance-group NAME=TYPE:COUNT."
        )
    for name, group in job.groups.items():
        kind = group.instance_type
        if not re.fullmatch(r"ml\.[a-z0-9\-]+\.[a-z0-9]+", kind):
            raise ValueError(
                f"Instance type {kind!r}; expected one such as 'ml.p4d.24xlarge'. HINT: SageMaker's types begin with"
                " 'ml.'."
            )
        if name and group.instance_count < 1:
            raise ValueError(
                f"Instance group {name!r} has {group.instance_count} instances; expected 1 or more. HINT:"
                f" --instance-group {name}={kind}:1."
            )


def _check_start(job: TrainingJob) -> None:
    if absent := [str(path) for path in job.wheels if not path.is_file()]:
        raise FileNotFoundError(f"There is no wheel {absent[0]!r}. HINT: build it first.")
    if broken := [line for line in job.requirements if "\n" in line or "\r" in line]:
        raise ValueError(f"`requirements` has {broken[0]!r}, with a line break. HINT: --requirement for each line.")
    if job.launcher not in (None, *MODES):
        raise ValueError(
            f"Launcher {job.launcher!r}; expected one of {', '.join(MODES)}. HINT: leave it out for the one that"
            " the strategy needs."
        )
    if job.launcher == "none" and job.processes_per_host is not None:
        raise ValueError(
            f"`processes_per_host` is {job.processes_per_host}, but without a launcher SageMaker starts one process on"
            " each host, and Lightning one for each device. HINT: Trainer(devices=...), or --launcher torchrun."
        )
    if job.image is None and job.torch is not None and not re.fullmatch(r"\d+(\.\d+){1,2}", job.torch):
        raise ValueError(f"Version of torch {job.torch!r}; expected one such as 2.13. HINT: --torch, or leave it out.")


def _check_values(job: TrainingJob) -> None:
    for name in _COUNTS:
        number = getattr(job, name)
        if number is not None and number < 1:
            raise ValueError(
                f"`{name}` is {number}; expected a whole number of 1 or more. HINT: --{name.replace('_', '-')} 1."
            )
    if job.max_wait is not None and not (job.spot and job.max_wait >= job.max_run):
        raise ValueError(
            f"`max_wait` is {job.max_wait} s; expected at least `max_run`, {job.max_run} s, which it includes, and spot"
            " instances. HINT: --spot, or leave it out."
        )
    if job.name is not None and not (len(job.name) <= LONGEST_NAME and _NAME.fullmatch(job.name)):
        raise ValueError(
            f"Name {job.name!r}; expected at most {LONGEST_NAME} letters, digits and dashes. HINT: --name."
        )
    if job.network_isolation and "code" in job.channels:
        raise ValueError(
            "A channel is named 'code', as the one that brings the source where the network is isolated. HINT: another"
            " name."
        )
    uris = filter(None, (job.checkpoint_uri, job.output_uri, *(channel.uri for channel in job.inputs.values())))
    if wrong := [uri for uri in uris if not _S3.fullmatch(uri)]:
        raise ValueError(
            f"{wrong[0]!r} is not an S3 URI; expected s3://bucket/prefix. HINT: --channel, --checkpoint-uri and"
            " --output-uri take places in S3, no local folders."
        )
