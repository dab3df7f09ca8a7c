"""What may be printed: values of listed variables only, and nothing in any text that looks like a credential."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from lightning_sagemaker.doctor.report import Report, Section, Value

MASK = "***"

_RELATED = re.compile(
    r"""
      (FI | GLOO | LT | NCCL | OMPI_COMM_WORLD | PL | SMDATAPARALLEL | TORCHELASTIC | TORCH_NCCL)_\w+
    | (GROUP_ | LOCAL_ | NODE_ | ROLE_)? RANK | (GROUP_ | LOCAL_ | ROLE_)? WORLD_SIZE | MASTER_(ADDR|PORT)
    | CUDA_VISIBLE_DEVICES | NVIDIA_VISIBLE_DEVICES | OMP_NUM_THREADS | RDMAV_FORK_SAFE | SLURM_NTASKS
    | TORCH_DEVICE_BACKEND_AUTOLOAD | CURRENT_HOST | TRAINING_JOB_NAME | SAGEMAKER_(BASE_DIR|INSTANCE_TYPE|JOB_NAME)
    | SM_(CURRENT_HOST|CURRENT_HOST_RANK|CURRENT_INSTANCE_GROUP|CURRENT_INSTANCE_TYPE|DISTRIBUTION_INSTANCE_GROUPS)
    | SM_(DLC_TORCH_VERSION|HOSTS|HOST_COUNT|IS_HETERO|MASTER_ADDR|MASTER_PORT|NETWORK_INTERFACE_NAME)
    | SM_NUM_(CPUS|GPUS|NEURONS)
    """,
    re.VERBOSE,
)
_CREDENTIAL = re.compile(r"TOKEN(?!IZER)|KEY|SECRET|PASSW|PASSPHRASE|CREDENTIAL|AUTH(?!OR)", re.IGNORECASE)
_SHORTEST = 6  # characters of a secret that is looked for in texts; shorter values stand in harmless words

_SHAPES = (
    (re.compile(r"://.*@", re.DOTALL), f"://{MASK}@"),  # a URL with user and password, or with a token
    (re.compile(r"://[^\s/@:]+:[^\s@]*\.\.\."), f"://{MASK}..."),  # one that an error has cut
    (re.compile(r"[^\s'\"=:]+:[^\s'\"]+@"), f"{MASK}@"),  # the same without its scheme
    (re.compile(r"\b(AKIA|ASIA)[0-9A-Z]{16}\b"), MASK),  # AWS access key ids
    (re.compile(r"(?<=:)\d{12}(?=:)"), MASK),  # the account in an ARN
    (
        re.compile(
            r"((?:token|secret|passw(?:or)?d|signature|credential|api_?key|access_?key)\w*['\"]?\s*[=:]\s*['\"]?)"
            r"[^\s'\"&,}]+",
            re.IGNORECASE,
        ),
        rf"\1{MASK}",
    ),
)


def is_credential(name: str) -> bool:
    """Whether a variable's name suggests a secret; its value is then printed under no circumstances."""
    return _CREDENTIAL.search(name) is not None


def related(environ: Mapping[str, str]) -> dict[str, str]:
    """The variables that may be printed with their values: those that launchers, Lightning, NCCL and libfabric read."""
    return {name: environ[name] for name in sorted(environ) if _RELATED.fullmatch(name) and not is_credential(name)}


def without_shapes(text: str) -> str:
    """The text without what has the shape of a credential."""
    for shape, instead in _SHAPES:
        text = shape.sub(instead, text)
    return text


def cleaner(environ: Mapping[str, str]) -> Callable[[str], str]:
    """A function that takes out of a text what has the shape of a credential, and what variables hold that name one.

    Args:
        environ: The variables.
    """
    values = (value for name, value in environ.items() if is_credential(name))
    lines = {line.strip() for value in values for line in value.splitlines()}
    secrets = sorted((line for line in lines if len(line) >= _SHORTEST), key=len, reverse=True)

    def clean(text: str) -> str:
        for secret in secrets:
            text = text.replace(secret, MASK)
        return without_shapes(_without_beginnings(text, secrets))

    return clean


def masked(report: Report, environ: Mapping[str, str]) -> Report:
    """The report without secrets, wherever they stand in it.

    Args:
        report: The report, whose texts may quote errors of others.
        environ: The variables; what those with a credential's name hold is looked for in every text.
    """
    text = cleaner(environ)

    def anything(value: Value) -> Value:
        if isinstance(value, tuple):
            return tuple(map(text, value))
        return text(value) if isinstance(value, str) else value

    def section(each: Section) -> Section:
        return replace(
            each, facts=tuple(replace(fact, value=anything(fact.value), why=text(fact.why)) for fact in each.facts)
        )

    return replace(
        report,
        findings=tuple(replace(each, what=text(each.what), fix=text(each.fix)) for each in report.findings),
        sections=tuple(map(section, report.sections)),
    )


def _without_beginnings(text: str, secrets: Sequence[str]) -> str:
    """The text without beginnings of secrets before ``...``: errors cut long values."""
    *cut, last = text.split("...")
    for index, piece in enumerate(cut):
        for secret in secrets:
            lengths = range(min(len(secret), len(piece)), _SHORTEST - 1, -1)
            if length := next((length for length in lengths if piece.endswith(secret[:length])), 0):
                cut[index] = piece[:-length] + MASK
                break
    return "...".join((*cut, last))
