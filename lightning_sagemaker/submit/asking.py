"""Questions to AWS: a refusal becomes a finding."""

from __future__ import annotations

from typing import TYPE_CHECKING

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    CredentialRetrievalError,
    NoCredentialsError,
    PartialCredentialsError,
    SSOError,
)

from lightning_sagemaker.findings import Finding
from lightning_sagemaker.options import one_line

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

UNREACHABLE = "HINT: check region and network."  # the fix where AWS gave no answer at all
_LONGEST = 300  # characters of it
_WHO = ("ExpiredToken", "ExpiredTokenException", "InvalidClientTokenId", "SignatureDoesNotMatch", "AuthFailure")
_LOG_IN = "HINT: `aws configure` or `aws sso login`, or AWS_PROFILE; `aws sts get-caller-identity` shows who you are."
_DENIED = ("AccessDenied", "AccessDeniedException", "UnauthorizedOperation", "403")
_ABSENT = (
    *("404", "NoSuchBucket", "NoSuchEntity", "InvalidGroup.NotFound", "InvalidGroupId.Malformed"),
    *("InvalidSubnetID.NotFound", "InvalidSubnetID.Malformed"),
)


def asked(name: str, action: str, ask: Callable[[], Iterator[Finding]]) -> list[Finding]:
    """Findings of a question to AWS, or one finding that says why there is no answer.

    Args:
        name: What is checked.
        action: Permission that the question needs.
        ask: The question.
    """
    try:
        return list(ask())
    except ClientError as error:
        code = error.response.get("Error", {}).get("Code", "")
        if code in _ABSENT:
            text = _short(error.response["Error"].get("Message", code))
            return [Finding(name, "fail", f"not found: {text}", "HINT: check the name, and the region.")]
        if code in _WHO:
            return [Finding(name, "fail", f"AWS refuses these credentials ({code}): {_short(error)}", _LOG_IN)]
        if code in _DENIED:
            fix = f"HINT: allow {action} to check it."
            return [Finding(name, "unknown", f"not checked: {action} is denied ({code}).", fix)]
        return [Finding(name, "unknown", f"not checked: {_short(error)}", "HINT: try again.")]
    except (NoCredentialsError, PartialCredentialsError, CredentialRetrievalError, SSOError) as error:
        return [Finding(name, "fail", f"There are no usable credentials for AWS. {error}.", _LOG_IN)]
    except BotoCoreError as error:
        return [Finding(name, "unknown", f"not checked: {_short(error)}", UNREACHABLE)]


def _short(text: object) -> str:
    """An error text of AWS, shortened: a proxy may have answered with a page."""
    return one_line(str(text))[:_LONGEST]
