"""Access to AWS by boto3, if it is installed: throttled requests are repeated; what is missing is known; prices."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

# Of SageMaker's own calls few are allowed in a second; botocore waits longer from one to the next, 20 s at most.
_RETRIES = {"mode": "standard", "total_max_attempts": 10}
_MISSING = (
    *("404", "NoSuchBucket", "NoSuchEntity", "NoSuchKey", "ResourceNotFound", "ResourceNotFoundException"),
    "InvalidInstanceType",
    *("InvalidGroup.NotFound", "InvalidGroupId.Malformed", "InvalidSubnetID.NotFound", "InvalidSubnetID.Malformed"),
)
DENIED = ("AccessDenied", "AccessDeniedException", "UnauthorizedOperation", "403")
# Errors of botocore, by name, since versions of it lack some, and codes of AWS's, which a login mends.
_NO_LOGIN = {
    *("NoCredentialsError", "PartialCredentialsError", "CredentialRetrievalError", "TokenRetrievalError", "SSOError"),
    *("LoginError", "NoAuthTokenError"),
}
_REFUSED = ("ExpiredToken", "ExpiredTokenException", "InvalidClientTokenId", "SignatureDoesNotMatch", "AuthFailure")
LOG_IN = "`aws configure` or `aws sso login`, or AWS_PROFILE; `aws sts get-caller-identity` shows who you are."
_PRICES = "us-east-1"  # the price API is in few regions, and tells of all
# Nobody waits long for a price: from a VPC without a way out the API is never reached.
_PATIENCE = {"connect_timeout": 5, "read_timeout": 10, "retries": {"mode": "standard", "total_max_attempts": 2}}


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


def errors() -> tuple[type[Exception], ...]:
    """What calls of boto3 raise: AWS refuses, or gives no answer."""
    from botocore.exceptions import BotoCoreError, ClientError

    return BotoCoreError, ClientError


def lacks_login(error: Exception) -> bool:
    """Whether there are no credentials, or they have expired, or AWS refuses them."""
    names = {kind.__name__ for kind in type(error).__mro__}
    return bool(names & _NO_LOGIN) or code_of(error) in _REFUSED


def code_of(error: Any) -> str:
    """The code of a ``ClientError``; empty for another error."""
    response = getattr(error, "response", None)  # that of a time-out is None
    return str(response.get("Error", {}).get("Code", "")) if isinstance(response, dict) else ""


def is_missing(error: Any) -> bool:
    """Whether a ``ClientError`` means that something does not exist; SageMaker has a code of its own for that."""
    code, message = code_of(error), str(error.response.get("Error", {}).get("Message", ""))
    return code in _MISSING or (code == "ValidationException" and bool(re.search(r"(?i)not found|not find", message)))


def place(uri: str) -> tuple[str, str]:
    """Bucket and key of an S3 URI."""
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    return bucket, key


def prices(instance_types: Iterable[str], session: Any) -> tuple[dict[str, float], str]:
    """On-demand price per hour of training on each type in the session's region, in USD, and why some are missing.

    Nothing is guessed: a price that may not be asked for, is not there, or is there twice, is unknown.
    """
    from botocore.config import Config

    found: dict[str, float] = {}
    if session.region_name.startswith(("cn-", "us-gov-")):
        return found, f"the price API does not list {session.region_name}"
    try:
        api = session.client("pricing", region_name=_PRICES, config=Config(**_PATIENCE))
        for kind in instance_types:
            offers = set(_offers(api, kind, session.region_name))
            if len(offers) != 1:
                return found, f"the price API has {len(offers) or 'no'} prices of {kind} in {session.region_name}"
            found[kind] = offers.pop()
    except errors() as error:
        return found, f"pricing:GetProducts, {error}"
    return found, ""


def _offers(api: Any, kind: str, region: str) -> Iterator[float]:
    wanted = {"regionCode": region, "instanceName": kind}
    filters = [{"Type": "TERM_MATCH", "Field": name, "Value": value} for name, value in wanted.items()]
    pages = api.get_paginator("get_products").paginate(ServiceCode="AmazonSageMaker", Filters=filters)
    for product in map(json.loads, pages.search("PriceList[]")):
        # Notebooks and endpoints have prices of their own; training's usage type is such as USE1-Train:ml.m5.large.
        if re.search(rf"(?:^|-)Train:{re.escape(kind)}$", product["product"]["attributes"].get("usagetype", "")):
            for term in product.get("terms", {}).get("OnDemand", {}).values():
                for dimension in term["priceDimensions"].values():
                    if dimension["unit"] == "Hrs" and "USD" in dimension["pricePerUnit"]:
                        yield float(dimension["pricePerUnit"]["USD"])
