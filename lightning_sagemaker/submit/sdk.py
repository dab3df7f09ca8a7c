"""Defaults of this account and region, from the SageMaker Python SDK, v2 or v3, whichever is installed."""

from __future__ import annotations

import importlib
import os
import sys
from contextlib import redirect_stdout, suppress
from typing import Any

_IMAGES = ("sagemaker.image_uris", "sagemaker.core.image_uris")
_SESSION = ("sagemaker.session", "sagemaker.core.helper.session_helper")


def registry(region: str) -> str:
    """Address of AWS's registry of training images in a region.

    Raises:
        ImportError: No SDK is installed.
        ValueError: AWS has none there, as far as the SDK knows.
    """
    image_uris = _module(_IMAGES, "image's registry", "--image with a URI, or pip install sagemaker.")
    known = {"version": "2.5.1", "py_version": "py311", "instance_type": "ml.p4d.24xlarge"}  # by both lines
    uri: str = image_uris.retrieve("pytorch", region, image_scope="training", **known)
    return uri.partition("/")[0]


def execution_role(session: Any) -> str:
    """ARN of the role of this notebook or user.

    Args:
        session: Session of boto3.

    Raises:
        ImportError: No SDK is installed.
        ValueError: There is no such role.
    """
    helper = _module(_SESSION, "role", "--role, or pip install sagemaker.")
    role: str = helper.get_execution_role(helper.Session(boto_session=session))
    return role


def bucket(session: Any, account: str, *, create: bool) -> str:
    """Name of the SDK's default bucket.

    Args:
        session: Session of boto3.
        account: Number of the AWS account.
        create: Whether to make the bucket where it is absent, as the SDK does.

    Raises:
        ImportError: No SDK is installed.
    """
    kind = _module(_SESSION, "bucket", "--output-uri, or pip install sagemaker.").Session
    # A configuration file of the SDK may name another one; asking for it by its public method would make it.
    name = getattr(kind(boto_session=session), "_default_bucket_name_override", None)
    name = name or f"sagemaker-{session.region_name}-{account}"
    return str(kind(boto_session=session, default_bucket=name).default_bucket()) if create else name


def _module(names: tuple[str, ...], what: str, fix: str) -> Any:
    os.environ.setdefault("SAGEMAKER_SUPPRESS_V2_WARNING", "1")  # of the command's user, who writes no code with it
    for name in names:  # v2's, v3's
        # The SDK's logger of its configuration takes the standard output for its own.
        with suppress(ImportError), redirect_stdout(sys.stderr):
            return importlib.import_module(name)
    raise ImportError(f"No SageMaker Python SDK is installed to ask for the default {what}. HINT: {fix}")
