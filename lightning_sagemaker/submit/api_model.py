"""Checks a request against botocore's model of the API, without asking AWS."""

from __future__ import annotations

import difflib
import re
from typing import TYPE_CHECKING, Any

from lightning_sagemaker.findings import Finding, fail, ok
from lightning_sagemaker.submit.request import UNKNOWN

if TYPE_CHECKING:
    from collections.abc import Iterator


def check(request: dict[str, Any], service_model: Any) -> Iterator[Finding]:
    """Everything in a request that SageMaker would refuse, by boto3's model of it."""
    from botocore.validate import ParamValidator

    shape = service_model.operation_model("CreateTrainingJob").input_shape
    report = ParamValidator().validate(request, shape).generate_report()
    # Names and types; all limits, and patterns and words, which botocore leaves to the service, are measured below.
    lines = [line for line in report.splitlines() if not line.startswith(("Invalid length", "Invalid range"))]
    fix = "HINT: --set, or a boto3 that knows the name: pip install -U boto3."
    found = [*(fail("request", line, fix) for line in lines), *_wrong(request, shape, "")]
    yield from found or [ok("request", "within the limits of the API, by boto3's model.")]


def _wrong(value: Any, shape: Any, path: str) -> Iterator[Finding]:
    if shape.type_name == "structure" and isinstance(value, dict):
        for name, member in shape.members.items():
            if name in value:
                yield from _wrong(value[name], member, f"{path}.{name}" if path else name)
    elif shape.type_name == "list" and isinstance(value, list):
        yield from _beyond(len(value), shape, path, " elements")
        for number, one in enumerate(value):
            yield from _wrong(one, shape.member, f"{path}[{number}]")
    elif shape.type_name == "map" and isinstance(value, dict):
        yield from _beyond(len(value), shape, path, " entries")
        for name, one in value.items():
            yield from _wrong(name, shape.key, f"{path} (name)")
            yield from _wrong(one, shape.value, f"{path}.{name}")
    elif shape.type_name == "string" and isinstance(value, str) and UNKNOWN not in value:
        yield from _wrong_text(value, shape, path)
    elif isinstance(value, int):
        yield from _beyond(value, shape, path, "")


def _wrong_text(value: str, shape: Any, path: str) -> Iterator[Finding]:
    yield from _beyond(len(value), shape, path, " characters")
    if shape.enum and value not in shape.enum:
        near = " or ".join(difflib.get_close_matches(value, shape.enum, 3))
        fix = f"HINT: {near}{'? ' if near else ''}A newer name needs a newer boto3: pip install -U boto3."
        yield fail(path, f"{value} is not a value that boto3 knows.", fix)
    pattern = shape.metadata.get("pattern")
    try:
        fits = pattern is None or re.fullmatch(pattern, value, re.DOTALL)
    except re.error:  # Java's own syntax
        return
    if not fits:
        yield fail(path, f"{value!r} does not fit the API's pattern {pattern}.", "HINT: choose another name.")


def _beyond(number: int, shape: Any, path: str, unit: str) -> Iterator[Finding]:
    limits = shape.metadata
    if not limits.get("min", number) <= number <= limits.get("max", number):
        told = " to ".join(str(limits[name]) for name in ("min", "max") if name in limits)
        yield fail(path, f"{number}{unit}, but SageMaker takes {told}.", "HINT: within these limits.")
