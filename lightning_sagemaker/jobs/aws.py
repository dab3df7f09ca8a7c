"""Access to AWS by boto3, if it is installed: retries what AWS throttles, and recognizes errors for missing things."""

from __future__ import annotations

import re
from typing import Any

# Of SageMaker's own calls few are allowed in a second; botocore waits longer from one to the next, 20 s at most.
_RETRIES = {"mode": "standard", "total_max_attempts": 10}
_MISSING = (
    *("404", "NoSuchBucket", "NoSuchEntity", "NoSuchKey", "ResourceNotFound", "ResourceNotFoundException"),
    *("InvalidGroup.NotFound", "InvalidGroupId.Malformed", "InvalidSubnetID.NotFound", "InvalidSubnetID.Malformed"),
)
LOG_IN = "`aws configure` or `aws sso login`, or AWS_PROFILE; `aws sts get-caller-identity` shows who you are."


def session(region: str | None = None, profile: str | None = None) -> Any:
    """Session of boto3; region and profile are by default those of the AWS configuration."""
    try:
        import boto3
        from botocore.config import Config
        from botocore.session import Session
    except ImportError as error:
        raise ImportError("boto3 is not installed. HINT: pip install 'lightning-sagemaker[submit]'.") from error
    core = Session(profile=profile)
    # Where the network drops packets (a VPC without a way out), boto3's own limits make five minutes of each question.
    core.set_default_client_config(Config(connect_timeout=5, retries={"mode": "standard", "total_max_attempts": 3}))
    return boto3.Session(botocore_session=core, region_name=region)


def client(session: Any, service: str) -> Any:
    """A client of a service; it repeats requests that were throttled or lost."""
    from botocore.config import Config

    return session.client(service, config=Config(retries=_RETRIES))


def is_missing(error: Any) -> bool:
    """Whether a ``ClientError`` means that something does not exist; SageMaker has a code of its own for that."""
    found = error.response.get("Error", {})
    code, message = str(found.get("Code", "")), str(found.get("Message", ""))
    return code in _MISSING or (code == "ValidationException" and bool(re.search(r"(?i)not found|not find", message)))
