"""docs/submit.md and the quick start are run: every block that describes or sends a job, one after the other."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from .aws import ROOT, Aws, sdk_python

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.xdist_group("aws")

BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
# The package and Lightning are those of the tests, the SDK that of an environment of its own, which comes last.
RUN = """
import json, shlex, sys, traceback
sys.path += json.loads(sys.argv[1])
from lightning_sagemaker.cli import main
for number, (language, text) in enumerate(json.loads(sys.argv[2])):
    print(f"block {number}", flush=True)
    if language == "yaml":
        open("job.yaml", "w").write(text)
    elif language == "python":
        exec(compile(text, f"block {number}", "exec"), {"image_uri": "image", "role": sys.argv[3]})
    else:
        for line in text.replace("\\\\\\n", " ").splitlines():
            words = shlex.split(line)
            if words[0] == "lightning-sagemaker":
                code = main(words[1:])
                assert code == 0, (line, code)
"""


@pytest.fixture
def ready(aws: Aws, tmp_path: Path) -> Path:
    """A folder with the script of the pages, and what their jobs name in AWS."""
    aws.boto3(
        "trust = json.dumps({'Version': '2012-10-17', 'Statement': [{'Effect': 'Allow', 'Action': 'sts:AssumeRole',"
        " 'Principal': {'Service': 'sagemaker.amazonaws.com'}}]})\n"
        "iam, s3 = boto3.client('iam'), boto3.client('s3')\n"
        "roles = [role['RoleName'] for role in iam.list_roles()['Roles']]\n"
        "'MyRole' in roles or iam.create_role(RoleName='MyRole', AssumeRolePolicyDocument=trust)\n"
        "s3.create_bucket(Bucket='bucket')\n"
        "[s3.put_object(Bucket='bucket', Key=key, Body=b'1') for key in ('train/1', 'logs/1')]"
    )
    for folder in (tmp_path, tmp_path / "src"):
        folder.mkdir(exist_ok=True)
        (folder / "train.py").write_text("import sys\nprint(sys.argv)\n")
        (folder / "requirements.txt").write_text("lightning\nlightning-sagemaker\n")
    return tmp_path


def blocks(page: str, *words: str) -> list[tuple[str, str]]:
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    return [(kind, code) for kind, code in BLOCK.findall(text) if any(word in code for word in words)]


@pytest.mark.parametrize(
    "case",
    [
        ("submit.md", "v2", ("lightning-sagemaker submit", "TrainingJob(", "job.yaml"), 2),
        ("quick-start.md", "v2", ("lightning-sagemaker submit", "sagemaker.pytorch"), 1),
        ("quick-start.md", "v3", ("sagemaker.train",), 1),
    ],
)
def test_every_block_is_true(aws: Aws, ready: Path, case: tuple[str, str, tuple[str, ...], int]) -> None:
    page, sdk, words, sent = case
    (packages,) = sdk_python(sdk).parents[1].glob("lib/python*/site-packages")
    given = blocks(page, *words)
    assert given
    # The SDKs ask for their default bucket at an address that is no test's.
    config = ready / "sagemaker.yaml"
    modules = "{TelemetryOptOut: true, Session: {DefaultS3Bucket: bucket}}"
    config.write_text(f'SchemaVersion: "1.0"\nSageMaker: {{PythonSDK: {{Modules: {modules}}}}}\n')
    before = len(aws.requests())
    arguments = ["-c", json.dumps([str(packages)]), json.dumps(given), "arn:aws:iam::123456789012:role/MyRole"]
    program = f"import sys\nsys.argv = {arguments}\n{RUN}"
    environ = {"SAGEMAKER_USER_CONFIG_OVERRIDE": str(config)}
    if page == "submit.md":
        done = subprocess.run(
            [sys.executable, "-c", program],
            cwd=ready,
            env=aws.environ | environ,
            capture_output=True,
            text=True,
            check=False,
            timeout=250,
        )
        code, told = done.returncode, done.stdout[-3000:] + done.stderr[-3000:]
    else:
        (run,) = aws.programs(sdk, [program], folder=ready, environ=environ)
        code, told = run.code, run.out + run.err
    assert code == 0, told
    assert len(aws.requests()) == before + sent
