from __future__ import annotations

import json
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from ..submit.aws import ROOT, Run, SdkConsole, command_line, serving  # noqa: TID252 - importmode=importlib
from ..submit.aws import aws as aws  # noqa: PLC0414, TID252 - a fixture
from .service import REGION, Service, World

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


class Console(SdkConsole):
    """A process that has boto3, which knows where AWS is."""

    def python(self, program: str, folder: Path, url: str, **variables: str) -> Run:
        """Run a program in a folder, with AWS at this address, and further variables."""
        return self.run(program, folder, environ(url) | variables)


def environ(url: str) -> dict[str, str]:
    """Variables with which boto3 finds AWS there."""
    return {
        "AWS_ENDPOINT_URL": url,
        "AWS_ACCESS_KEY_ID": "fake",
        "AWS_SECRET_ACCESS_KEY": "fake",
        "AWS_DEFAULT_REGION": REGION,
        "AWS_EC2_METADATA_DISABLED": "true",
        "PYTHONPATH": str(ROOT),
    }


command = partial(command_line, "jobs")


@pytest.fixture(scope="session")
def console() -> Iterator[Console]:
    """The process, for all tests of a worker."""
    console = Console("v2", environ(""))
    yield console
    console.process.kill()
    console.process.communicate()


@pytest.fixture
def world() -> World:
    """What the services know."""
    return World()


@pytest.fixture
def url(world: World) -> Iterator[str]:
    """Where they answer."""
    with serving(Service, world=world) as url:
        yield url


@pytest.fixture
def jobs(console: Console, url: str, tmp_path: Path) -> Callable[..., Run]:
    """Run `lightning-sagemaker jobs`."""
    return lambda *arguments: console.python(command(*arguments), tmp_path, url)


@pytest.fixture
def python(console: Console, url: str, tmp_path: Path) -> Callable[[str], Any]:
    """What a program leaves in `result`."""

    def python(program: str) -> Any:
        run = console.python(f"import json\n{program}\nprint(json.dumps(result, default=str))", tmp_path, url)
        assert run.code == 0, run.err
        return json.loads(run.out)

    return python
