"""A training job, described completely before anything is sent: pure, printable, the same for both SDKs."""

from __future__ import annotations

import dataclasses
import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from lightning_sagemaker.redaction import redact

if TYPE_CHECKING:
    from collections.abc import Mapping

SDK = Literal["v2", "v3"]
LAUNCHERS = ("torchrun", "smddprun", "mpirun", "none")
# The last image with SMDDP (deep-learning-containers, 2.5.1 Dockerfile), and the newest that both SDKs know.
SMDDP_VERSION = "2.5.1"
NEWEST_VERSION = "2.8.0"
_JOB_NAME = re.compile(r"[a-zA-Z0-9](-*[a-zA-Z0-9]){0,42}")  # the SDKs append a time to it; 63 in all


@dataclass(frozen=True)
class JobDescription:
    """Everything that decides what a training job does.

    Attributes:
        name: Beginning of the job's name; the SDK appends the time.
        sdk: SageMaker Python SDK that runs it.
        script: Training script, relative to the source folder.
        source_dir: Folder that is sent.
        hyperparameters: The script's command line.
        requirements: Lines that the job's requirements need beyond those of the source folder's ``requirements.txt``.
        wheels: Local wheels that are sent along.
        image: URI of the image; ``None`` for AWS's PyTorch training image of ``torch_version``.
        torch_version: Version of that image.
        launcher: ``torchrun``, ``smddprun`` (mpirun with SMDDP), ``mpirun`` or ``none``.
        processes_per_host: Processes on each host; ``None`` for one per GPU.
        instance_type: For example ``ml.p4d.24xlarge``.
        instance_count: Number of hosts.
        volume_gb: Storage of each host, GB.
        role: ARN or name of the execution role; ``None`` for the SDK's default.
        environment: Variables of the job.
        channels: S3 URI of each input channel.
        sharded: Names of the channels that are ``ShardedByS3Key``: each host gets a part of the files.
        checkpoint_s3_uri: Where ``/opt/ml/checkpoints`` is kept.
        output_s3_uri: Where model and output go.
        subnets: Of the VPC, if the job runs in one.
        security_group_ids: Of the VPC.
        spot: Whether on managed spot instances.
        max_run: Limit of the training time, s.
        max_wait: Limit of training and waiting for spot instances together, s.
        retries: Restarts after faults of the service.
        metrics: Name and regular expression of each metric that the job page shows.
    """

    name: str
    sdk: SDK
    script: str
    source_dir: Path
    hyperparameters: Mapping[str, str]
    requirements: tuple[str, ...]
    wheels: tuple[str, ...]
    image: str | None
    torch_version: str
    launcher: str
    processes_per_host: int | None
    instance_type: str
    instance_count: int
    volume_gb: int
    role: str | None
    environment: Mapping[str, str]
    channels: Mapping[str, str]
    checkpoint_s3_uri: str | None
    output_s3_uri: str | None
    subnets: tuple[str, ...]
    security_group_ids: tuple[str, ...]
    spot: bool
    max_run: int
    max_wait: int | None
    retries: int | None
    metrics: Mapping[str, str] = field(default_factory=dict)
    sharded: tuple[str, ...] = ()

    @property
    def bucket(self) -> str | None:
        """Bucket of the outputs, which takes the source folder too; ``None`` for the SDK's default."""
        return None if self.output_s3_uri is None else self.output_s3_uri.removeprefix("s3://").partition("/")[0]

    @property
    def strategy(self) -> str | None:
        """Strategy that the job sets; the script's own comes first."""
        return self.environment.get("PL_TRAINER_STRATEGY")

    def __post_init__(self) -> None:
        """Refuse what cannot run.

        Raises:
            ValueError: A value is malformed, or two contradict each other.
        """
        if not re.fullmatch(r"ml\.[a-z0-9\-]+\.[a-z0-9]+", self.instance_type):
            raise ValueError(
                f"Instance type {self.instance_type!r}; expected one such as 'ml.p4d.24xlarge'. HINT: SageMaker's types"
                " begin with 'ml.'."
            )
        for name in ("instance_count", "processes_per_host", "volume_gb", "max_run", "max_wait"):
            number = getattr(self, name)
            if number is not None and number < 1:
                raise ValueError(
                    f"`{name}` is {number}; expected a whole number of 1 or more. HINT: --{name.replace('_', '-')} 1."
                )
        if not _JOB_NAME.fullmatch(self.name):
            raise ValueError(f"Name {self.name!r}; expected at most 43 letters, digits and dashes. HINT: --name.")
        if self.max_wait is not None and not (self.spot and self.max_wait >= self.max_run):
            raise ValueError(
                f"`max_wait` is {self.max_wait} s; expected at least `max_run`, {self.max_run} s, which it includes,"
                " and spot instances. HINT: --spot, or leave it out."
            )
        if not re.fullmatch(r"\d+(\.\d+){1,2}", self.torch_version):
            raise ValueError(
                f"Version of torch {self.torch_version!r}; expected one such as {NEWEST_VERSION}. HINT: --torch, or"
                " leave it out."
            )
        if self.launcher not in LAUNCHERS:
            raise ValueError(
                f"Launcher {self.launcher!r}; expected one of {', '.join(LAUNCHERS)}. HINT: leave it out for the one"
                " that the strategy needs."
            )
        self._check_places()

    def _check_places(self) -> None:
        uris = filter(None, (self.checkpoint_s3_uri, self.output_s3_uri, *self.channels.values()))
        if wrong := [uri for uri in uris if not re.fullmatch(r"s3://[^/]+(/.*)?", uri)]:
            raise ValueError(
                f"{wrong[0]!r} is no S3 URI; expected s3://bucket/prefix. HINT: --channel, --checkpoint-uri and"
                " --output-uri take places in S3, no local folders."
            )
        if unknown := [name for name in self.sharded if name not in self.channels]:
            raise ValueError(
                f"Sharded channel {unknown[0]!r} is none of the channels ({', '.join(self.channels)}). HINT: --channel"
                " NAME=S3URI:sharded."
            )
        if absent := [wheel for wheel in self.wheels if not Path(wheel).is_file()]:
            raise ValueError(f"There is no wheel {absent[0]!r}. HINT: build it first.")

    def __str__(self) -> str:
        """All that is set, a line each, without secrets."""
        lines = []
        for name, value in dataclasses.asdict(self).items():
            if isinstance(value, dict) and value:
                lines += [name, *(f"    {key} = {text}" for key, text in value.items())]
            elif value not in (None, (), {}):
                lines.append(f"{name:<20}{', '.join(value) if isinstance(value, tuple) else value}")
        return redact("\n".join(lines), self.environment)

    def to_json(self) -> str:
        """The same as JSON."""
        return redact(json.dumps(dataclasses.asdict(self), default=str, indent=2), self.environment)
