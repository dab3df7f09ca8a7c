"""The SageMaker Python SDK that is installed, and what both of its lines do alike."""

from __future__ import annotations

import importlib.metadata
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lightning_sagemaker.submit.description import SDK, JobDescription


def installed() -> SDK | None:
    """Line of the SDK that is installed; ``None`` if none is."""
    for name in ("sagemaker", "sagemaker-train"):
        try:
            major = int(importlib.metadata.version(name).partition(".")[0])
        except importlib.metadata.PackageNotFoundError:
            continue
        return "v3" if name == "sagemaker-train" or major >= 3 else "v2"  # noqa: PLR2004
    return None


def require(job: JobDescription) -> None:
    """Check that the job's SDK is the one that is installed.

    Raises:
        ImportError: It is not.
    """
    found = installed()
    if found != job.sdk:
        what = f"SDK {found} is installed" if found else "no SageMaker SDK is installed"
        range_ = "sagemaker>=3" if job.sdk == "v3" else "sagemaker<3"
        raise ImportError(
            f"The job is described for SDK {job.sdk}, and {what}. HINT: pip install '{range_}'"
            + (f", or --sdk {found}." if found else ".")
        )


def image_uri(job: JobDescription, region: str) -> str:
    """Image of a job: its own, or AWS's PyTorch training image of its version.

    Args:
        job: The job.
        region: AWS region whose registry holds it.

    Raises:
        ValueError: AWS has no such image, as far as the SDK knows.
    """
    if job.image is not None:
        return job.image
    if job.sdk == "v2":
        from sagemaker import image_uris
    else:
        from sagemaker.core import image_uris

    versions: dict[str, Any] = image_uris.config_for_framework("pytorch")["training"]["versions"]
    if job.torch_version not in versions:
        newest = sorted(versions, key=lambda version: [int(part) for part in version.split(".")])[-6:]
        raise ValueError(
            f"The SDK knows no PyTorch training image {job.torch_version!r}; its newest are {', '.join(newest)}."
            " HINT: --torch with one of these, or --image with a URI."
        )
    uri: str = image_uris.retrieve(
        "pytorch",
        region,
        version=job.torch_version,
        py_version=versions[job.torch_version]["py_versions"][-1],
        instance_type=job.instance_type,
        image_scope="training",
    )
    return uri


def start(job: JobDescription, session: Any) -> str:
    """Send a job; it runs on its own then.

    Args:
        job: The job.
        session: Session of boto3.

    Returns:
        The job's name.

    Raises:
        ImportError: The job's SDK is not installed.
        ValueError: AWS has no such image.
    """
    require(job)
    if session is None:
        raise ImportError("boto3 is not installed. HINT: pip install 'lightning-sagemaker[submit]'.")
    if job.sdk == "v2":
        from lightning_sagemaker.submit import v2 as line
    else:
        from lightning_sagemaker.submit import v3 as line  # type: ignore[no-redef]

    return line.start(job, image_uri(job, session.region_name), session)


def session(region: str | None) -> Any:
    """Session of boto3, or ``None`` where it is not installed.

    Args:
        region: AWS region; by default that of the AWS configuration.
    """
    try:
        import boto3
    except ImportError:
        return None
    return boto3.Session(region_name=region)
