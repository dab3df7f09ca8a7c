"""A real moto server, and the real SDKs, each in an environment of its own: v2 and v3 do not share one."""

from __future__ import annotations

import base64
import contextlib
import http.server
import io
import json
import os
import subprocess
import sys
import threading
import time
import unittest.mock
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from lightning_sagemaker.cli import main
from lightning_sagemaker.simulate.container import free_port

from ..simulate.helpers import require  # noqa: TID252 - importmode=importlib

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

ROOT = Path(__file__).parents[2]
ROLE = "arn:aws:iam::123456789012:role/Training"
BUCKET = "bucket-of-tests"
SDKS = ("v2", "v3")
CONSOLE = Path(__file__).with_name("console.py")


def sdk_python(sdk: str) -> Path:
    """Python of the environment that has a line of the SDK, and moto."""
    python = Path(sys.prefix, "sdk", sdk, "bin", "python")
    if not python.exists():
        require(f"no environment with SageMaker's SDK {sdk}; `make test` makes them")
    return python


def command_line(*arguments: object, module: str = "lightning_sagemaker.cli") -> str:
    """A program that runs the command line, or another module's."""
    return f"import sys\nfrom {module} import main\nsys.exit(main({[*map(str, arguments)]!r}))"


class Run(NamedTuple):
    """How one run of the command, or a piece of Python, ended."""

    code: int
    out: str
    err: str
    modules: list[str] = []  # noqa: RUF012 - of the process then


class SdkConsole:
    """A process with a line of the SDK, or what it brings, as boto3; it runs one program after the other."""

    def __init__(self, sdk: str, environ: Mapping[str, str]) -> None:
        self.process = subprocess.Popen(
            [sdk_python(sdk), CONSOLE], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environ
        )

    def run(self, program: str, folder: Path, environ: Mapping[str, str]) -> Run:
        """Run a program in a folder, with these variables."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps({"program": program, "folder": str(folder), "environ": {**environ}}) + "\n")
        self.process.stdin.flush()
        return Run(**json.loads(self.process.stdout.readline()))


class Aws:
    """A moto server, and what it has received."""

    def __init__(self, folder: Path, quotas: str) -> None:
        self._recording = folder / "requests.jsonl"
        self._consoles: dict[str, SdkConsole] = {}
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        # Opt out of telemetry, which would try to reach AWS.
        config = folder / "sagemaker.yaml"
        config.write_text('SchemaVersion: "1.0"\nSageMaker: {PythonSDK: {Modules: {TelemetryOptOut: true}}}\n')
        plain = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "SAGEMAKER"))}
        self.environ = plain | {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ENDPOINT_URL_SERVICE_QUOTAS": quotas,
            "AWS_ENDPOINT_URL_PRICING": quotas,
            "AWS_ACCESS_KEY_ID": "fake",
            "AWS_SECRET_ACCESS_KEY": "fake",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
            "SAGEMAKER_USER_CONFIG_OVERRIDE": str(config),
            "SAGEMAKER_VALIDATE_ROLE": "false",  # moto lacks iam:SimulatePrincipalPolicy
            "PYTHONPATH": str(ROOT),
            "PYTHONWARNINGS": "ignore",
        }
        self.server = subprocess.Popen(
            [sdk_python("v2"), "-m", "moto.server", "--port", str(port)],
            env=self.environ | {"MOTO_ENABLE_RECORDING": "1", "MOTO_RECORDER_FILEPATH": str(self._recording)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + 60
        while not self._answers():
            assert self.server.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.1)

    def _answers(self) -> bool:
        try:
            urllib.request.urlopen(f"{self.url}/moto-api/", timeout=5).close()  # noqa: S310 - http, and ours
        except OSError:
            return False
        return True

    def boto3(self, code: str) -> Any:
        """What a piece of code with `boto3` leaves in `result`, run in this process."""
        found: dict[str, Any] = {"result": None, "json": json}
        with unittest.mock.patch.dict(os.environ, self.environ, clear=True):
            exec(f"import boto3\nboto3.setup_default_session()\n{code}", found)  # noqa: S102 - of a test
        return json.loads(json.dumps(found["result"], default=str))

    def python(self, code: str, sdk: str) -> Any:
        """What a piece of code with an SDK leaves in `result`."""
        program = f"import json\nresult = None\n{code}\nprint(json.dumps(result, default=str))"
        done = subprocess.run(
            [sdk_python(sdk), "-c", program], env=self.environ, capture_output=True, text=True, check=False, timeout=120
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout.splitlines()[-1])

    def submit(self, sdk: str, *commands: tuple[object, ...], **environ: str) -> list[Run]:
        """Run `lightning-sagemaker submit` several times in one process of an SDK, whose import is slow."""
        return self.programs(sdk, (command_line("submit", *command) for command in commands), environ=environ)

    def programs(
        self, sdk: str, programs: Iterable[str], *, folder: Path | None = None, environ: Mapping[str, str] | None = None
    ) -> list[Run]:
        """Run several programs in one process of an SDK, without what it logs."""
        console = self._consoles.get(sdk) or self._consoles.setdefault(sdk, SdkConsole(sdk, self.environ))
        quiet = "import boto3, logging\nboto3.DEFAULT_SESSION = None\nlogging.disable(logging.WARNING)\n"
        return [console.run(quiet + one, folder or Path.cwd(), {**self.environ, **(environ or {})}) for one in programs]

    def close(self) -> None:
        """End what it has started."""
        for console in self._consoles.values():
            console.process.kill()
            console.process.communicate()
        self.server.kill()
        self.server.wait()

    def run(self, *commands: tuple[object, ...], **environ: str) -> list[Run]:
        """Run `lightning-sagemaker submit` several times in this process, where no SDK is installed."""
        found = []
        for command in commands:
            out, err = io.StringIO(), io.StringIO()
            with (
                unittest.mock.patch.dict(os.environ, self.environ | environ, clear=True),
                contextlib.redirect_stdout(out),
                contextlib.redirect_stderr(err),
            ):
                try:
                    code = main(["submit", *map(str, command)])
                except SystemExit as end:
                    code = int(end.code or 0)
            found.append(Run(code, out.getvalue(), err.getvalue()))
        return found

    def authorize(self, after: int | None) -> None:
        """Let moto check permissions, after so many requests; ``None``: no more."""
        text = str(10**9 if after is None else after)
        kind = {"Content-Type": "text/plain"}
        request = urllib.request.Request(f"{self.url}/moto-api/reset-auth", text.encode(), kind)  # noqa: S310 - http
        urllib.request.urlopen(request, timeout=20).close()  # noqa: S310 - the same

    def requests(self) -> list[dict[str, Any]]:
        """Bodies of all `CreateTrainingJob` requests so far."""
        return [body for _, body in self._created()]

    def signed(self) -> str:
        """By whom the last one was signed, and for which region."""
        return [*self._created()][-1][0]

    def _created(self) -> Iterator[tuple[str, dict[str, Any]]]:
        for line in self._recording.read_text().splitlines():
            request = json.loads(line)
            headers = {name.lower(): value for name, value in request["headers"].items()}
            if headers.get("x-amz-target") == "SageMaker.CreateTrainingJob":
                body = request["body"]
                body = json.loads(base64.b64decode(body) if request["body_encoded"] else body)
                yield headers["authorization"], body

    def download(self, uri: str, folder: Path) -> list[Path]:
        """Fetch all objects under an S3 URI; where they lie now."""
        code = f"""
import pathlib
bucket, _, prefix = {uri!r}.removeprefix("s3://").partition("/")
s3, result = boto3.client("s3"), []
for one in s3.list_objects_v2(Bucket=bucket, Prefix=prefix).get("Contents", ()):
    name = one["Key"].removeprefix(prefix).lstrip("/") or one["Key"].rpartition("/")[2]
    path = pathlib.Path({str(folder)!r}, name)
    path.parent.mkdir(parents=True, exist_ok=True)
    s3.download_file(bucket, one["Key"], str(path))
    result.append(str(path))
"""
        return [Path(name) for name in self.boto3(code)]

    def download_sources(self, request: dict[str, Any], folder: Path) -> Path:
        """Fetch what a training job starts with, by its request: an archive from v2, a folder per channel from v3."""
        archive = request.get("HyperParameters", {}).get("sagemaker_submit_directory")
        if archive:
            self.download(json.loads(archive), folder)
            return folder
        for channel in request["InputDataConfig"]:
            self.download(channel["DataSource"]["S3DataSource"]["S3Uri"], folder / channel["ChannelName"])
        return folder


class JsonAnswers(http.server.BaseHTTPRequestHandler):
    """Answers in AWS's JSON protocol, where moto does not: its training jobs are completed at birth."""

    def answer(self, operation: str, body: dict[str, Any]) -> tuple[int, Any]:
        """Status and content for a request."""
        raise NotImplementedError

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        status, answer = self.answer(self.headers["X-Amz-Target"].partition(".")[2], body)
        content = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/x-amz-json-1.1")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_arguments: object) -> None:
        pass


@contextlib.contextmanager
def serving(answers: type[JsonAnswers], **attributes: Any) -> Iterator[str]:
    """Serve them, with these attributes of the class; the address."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), type("OfThisTest", (answers,), attributes)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def _price(kind: str) -> str:
    dimension = {"unit": "Hrs", "pricePerUnit": {"USD": "2.5"}}
    return json.dumps(
        {
            "product": {"attributes": {"usagetype": f"USE1-Train:{kind}"}},
            "terms": {"OnDemand": {"one": {"priceDimensions": {"one": dimension}}}},
        }
    )


class Quotas(JsonAnswers):
    """Service Quotas, which moto has for VPCs only, and prices: what is in the second page counts too."""

    pages = (
        {"Quotas": [{"QuotaName": "ml.g5.xlarge for training job usage", "Value": 4.0}], "NextToken": "2"},
        {
            "Quotas": [
                {"QuotaName": "ml.p4d.24xlarge for training job usage", "Value": 8.0},
                {"QuotaName": "ml.p4d.24xlarge for spot training job usage", "Value": 4.0},
                {"QuotaName": "ml.p4d.24xlarge for training warm pool usage", "Value": 1.0},
            ]
        },
    )

    def answer(self, operation: str, body: dict[str, Any]) -> tuple[int, Any]:
        if operation == "GetProducts":
            wanted = {one["Field"]: one["Value"] for one in body["Filters"]}
            return 200, {"FormatVersion": "aws_v1", "PriceList": [_price(wanted["instanceName"])]}
        assert (operation, body["ServiceCode"]) == ("ListServiceQuotas", "sagemaker")
        return 200, self.pages["NextToken" in body]


@pytest.fixture(scope="session")
def aws(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Aws]:
    """AWS as moto plays it, with a bucket, a role and quotas."""
    with serving(Quotas) as quotas:
        yield from _aws(tmp_path_factory.mktemp("aws"), quotas)


def _aws(folder: Path, quotas: str) -> Iterator[Aws]:
    aws = Aws(folder, quotas)
    try:
        trust = {"Effect": "Allow", "Principal": {"Service": "sagemaker.amazonaws.com"}, "Action": "sts:AssumeRole"}
        policy = json.dumps({"Version": "2012-10-17", "Statement": [trust]})
        aws.boto3(
            f"boto3.client('s3').create_bucket(Bucket={BUCKET!r})\n"
            f"boto3.client('iam').create_role(RoleName='Training', AssumeRolePolicyDocument={policy!r})"
        )
        yield aws
    finally:
        aws.close()
