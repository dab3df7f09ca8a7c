"""`python -m benchmarks on-sagemaker`: submits in an SDK's environment, gathers in that of the harness."""

from __future__ import annotations

import io
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING

from ..simulate.helpers import require  # noqa: TID252 - importmode=importlib
from .aws import BUCKET, ROLE, ROOT, Run, command_line, sdk_python

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .aws import Aws

# The benchmarks are a program of the repository; last, so that a wheel under test stays the one that is imported.
sys.path.append(str(ROOT))

COMMON = ("--role", ROLE, "--region", "us-east-1", "--output-uri", f"s3://{BUCKET}/benchmarks")
P4D = ("--instance-type", "ml.p4d.24xlarge")
# boto3 comes last, from an SDK's environment: numpy is that of the harness.
_GATHER = """
import sys
sys.path.append(sys.argv[1])
from benchmarks.on_sagemaker import main
sys.exit(main(["gather", *sys.argv[2:]]))
"""


def submit(aws: Aws, *commands: tuple[object, ...]) -> list[Run]:
    """Run `submit` once for each list of arguments, with nobody to ask, where SDK v2 is installed."""
    module = "benchmarks.on_sagemaker"
    return aws.programs("v2", (command_line("submit", *COMMON, *command, module=module) for command in commands))


def gather(aws: Aws, *arguments: object, **environ: str) -> Run:
    """Run `gather`."""
    python = Path(sys.prefix, "bench", "bin", "python")
    if not python.exists():
        require("no environment of the benchmark harness; `make test` makes it")
    (packages,) = sdk_python("v2").parents[1].glob("lib/python*/site-packages")
    done = subprocess.run(
        [python, "-c", _GATHER, packages, *map(str, arguments)],
        env=aws.environ | environ,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        check=False,
        timeout=250,
    )
    return Run(done.returncode, done.stdout, done.stderr)


def upload(aws: Aws, uri: str, files: Mapping[str, bytes], folder: Path) -> None:
    """Put files into S3 as SageMaker does with the output folders of all hosts: as one archive."""
    archive = folder / "output.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    bucket, _, prefix = uri.removeprefix("s3://").partition("/")
    aws.python(f"boto3.client('s3').upload_file({str(archive)!r}, {bucket!r}, {prefix + '/output/output.tar.gz'!r})")
    archive.unlink()
