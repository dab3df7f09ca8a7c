"""The end of a function of ``@remote``, by the entry of the SDKs, ``invoke_function.py``, which catches all errors."""

from __future__ import annotations

import json
import subprocess
import sysconfig
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest

from tests.simulate.namespaces import inside, require_namespaces
from tests.submit.aws import BUCKET, SDKS, Aws, sdk_python
from tests.submit.aws import aws as aws  # noqa: PLC0414 - a fixture

if TYPE_CHECKING:
    from collections.abc import Callable

    Invoke = Callable[..., "End"]

ROOT = Path(__file__).parents[2]
PACKAGES = {"v2": "sagemaker", "v3": "sagemaker.core"}
# Pickled by value: the function that a user decorates.
FUNCTION = """
def train(what, devices):
    import os, signal, time
    from lightning.pytorch import Callback, Trainer
    from lightning.pytorch.demos.boring_classes import BoringModel

    class Does(Callback):
        def on_train_batch_start(self, trainer, *_):
            if trainer.global_step > 2:
                time.sleep(1)  # a signal that is told to a thread finds the training at work
            if trainer.global_step == 2 and trainer.global_rank == devices - 1:
                if what == "SIGKILL":
                    time.sleep(6)  # by then the other one knows of this process
                if what == "raises":
                    raise ValueError("of the user's")
                os.kill(os.getpid(), {"SIGTERM": signal.SIGTERM, "SIGKILL": signal.SIGKILL}[what])

    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    trainer = Trainer(accelerator="cpu", devices=devices, strategy="ddp" if devices > 1 else "auto", max_steps=20,
                      callbacks=[Does()], **quiet)
    trainer.fit(BoringModel())
"""
SAVE = """
import os
{function}
from {package}.remote_function.core.stored_function import StoredFunction
from {session} import Session
options, result = dict(sagemaker_session=Session(), s3_base_uri="{uri}"), ""
if {signs}:
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
    options["signing_key"] = ec.generate_private_key(ec.SECP256R1())
    public = options["signing_key"].public_key()
    result = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
StoredFunction(**options).save(train, "{what}", {devices})
"""


class End(NamedTuple):
    """How the container ended."""

    code: int
    log: str
    reason: str


@pytest.fixture
def invoke(aws: Aws, tmp_path: Path, free_port: int) -> Invoke:
    """Run the function in a container of the job, in which the SDK and Lightning are installed."""
    require_namespaces(tmp_path)

    def invoke(sdk: str, what: str, *, devices: int = 1) -> End:
        package, uri = PACKAGES[sdk], f"s3://{BUCKET}/remote-{sdk}-{what}"
        session = {"v2": "sagemaker.session", "v3": "sagemaker.core.helper.session_helper"}[sdk]
        code = SAVE.format(
            function=FUNCTION, package=package, session=session, uri=uri, signs=sdk == "v3", what=what, devices=devices
        )
        key = aws.python(code, sdk)
        ml = tmp_path / "ml"
        for folder in ("input/config", "output"):
            (ml / folder).mkdir(parents=True)
        resources = {"current_host": "algo-1", "hosts": ["algo-1"], "network_interface_name": "lo"}
        (ml / "input/config/resourceconfig.json").write_text(json.dumps(resources))
        (tmp_path / "hosts").write_text("127.0.0.1 localhost algo-1\n")
        python = str(sdk_python(sdk))
        own = next(Path(python).parents[1].glob("lib/python*/site-packages"))  # before the others: `sagemaker` is here
        # As job.py's scripts have it.
        torchrun = f"-m torch.distributed.run --nnodes 1 --nproc_per_node {devices} --master_addr algo-1 --node_rank 0"
        torchrun += f" --master_port {free_port}"
        entry = f"-m {package}.remote_function.invoke_function --region us-east-1 --s3_base_uri {uri}"
        shell = f"exec {python} {torchrun if devices > 1 else ''} {entry}"
        plain = {name: value for name, value in aws.environ.items() if not name.startswith("LIGHTNING_SAGEMAKER")}
        done = subprocess.run(
            inside(tmp_path, shell),
            env=plain
            | {
                "PYTHONPATH": f"{ROOT}:{own}:{sysconfig.get_path('purelib')}",
                "TRAINING_JOB_NAME": "digits",
                "REMOTE_FUNCTION_SECRET_KEY": key,
                "OMP_NUM_THREADS": "1",
            },
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        failure = ml / "output" / "failure"
        return End(done.returncode, done.stdout + done.stderr, failure.read_text() if failure.exists() else "")

    return invoke


@pytest.mark.parametrize("sdk", SDKS)
def test_sigterm_is_a_success_to_the_entry_and_the_log_says_so(invoke: Invoke, sdk: str) -> None:
    end = invoke(sdk, "SIGTERM")
    assert end.code == 0, end.log
    assert "Exit code: 0, as `@remote` ends whatever happens." in end.log
    assert "143" not in end.log
    assert end.reason.startswith("SIGTERM ended the training; it arrived on algo-1, rank 0.")


def test_what_the_function_raises_is_the_reason_with_host_and_rank(invoke: Invoke) -> None:
    end = invoke("v2", "raises")
    assert end.code == 1, end.log
    assert end.reason.startswith("ValueError: of the user's\n[algo-1"), end.log


def test_a_rank_that_is_killed_is_named(invoke: Invoke) -> None:
    end = invoke("v3", "SIGKILL", devices=2)
    assert end.code == 1, end.log
    assert "Signal 9 (SIGKILL)" in end.log
    # By the other rank, or, where torchrun has ended that one before, by torchrun.
    named = end.reason.startswith("RuntimeError: rank 1 on algo-1 (process") or "Signal 9 (SIGKILL)" in end.reason
    assert named, end.reason
