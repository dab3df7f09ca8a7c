"""Hosts whose names cannot be looked up: when their training begins and ends, ours beside stock.

Torch looks up the name of each client of its store. Here the first host's own list has no name for the second one, so
each such lookup goes to a resolver: to one that refuses at once, or to one that never answers.
"""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import pytest

from tests.beside_stock.registry import ABORTED

from . import faults
from .launch import Job

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from .hosts import Cluster

pytestmark = pytest.mark.nightly
LOOKUP = 10.0  # seconds that one takes which nobody answers, by glibc's defaults: two attempts of 5 s
OFF = {"LIGHTNING_SAGEMAKER_AUTOLOAD": "0"}
SCRIPT = """
import json, os
from lightning.pytorch import Trainer
from lightning.pytorch.demos.boring_classes import BoringModel

class Model(BoringModel):
    def on_train_batch_end(self, *_):
        if self.trainer.global_step == 1:
            print("first step", flush=True)

hosts, here = json.loads(os.environ["SM_HOSTS"]), os.environ["SM_CURRENT_HOST"]
os.environ.update(MASTER_ADDR=hosts[0], MASTER_PORT="7777", NODE_RANK=str(hosts.index(here)))
quiet = dict(logger=False, enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False)
print("fit begins", flush=True)
Trainer(
    accelerator="cpu", devices=1, num_nodes=2, strategy="ddp", max_steps=3, limit_val_batches=0, **quiet
).fit(Model())
print("script ended", flush=True)
"""


@pytest.mark.timeout(600)  # two jobs
@pytest.mark.parametrize("resolver", ["refuses", "is silent"])
def test_training_begins_and_ends_as_in_stock_whatever_the_resolver_does(
    make_cluster: Callable[..., Cluster], tmp_path: Path, record_property: Callable[[str, object], None], resolver: str
) -> None:
    script = tmp_path / "train.py"
    script.write_text(SCRIPT)
    begins, ends = {}, {}
    for arm, environ in {"stock": OFF, "ours": {}}.items():
        job = Job(make_cluster("algo-1", "algo-2"), "v3-none", script, {}, processes=1, environ=environ)
        first, second = job.world
        first.knows({})
        second.knows({first.name: first.address})
        if resolver == "is silent":
            for host in job.world:
                faults.silence_resolver(host)
        codes = {*job.start().wait(280).values()}
        if arm == "stock" and ABORTED in job.text:  # after its script has ended; `quiet_end` mends that
            codes.discard(256 - signal.SIGABRT)
        assert codes <= {0}, job.text
        assert job.text.count("script ended") == 2

        def since(text: str, job: Job = job) -> list[float]:
            """Seconds before the end of each host at which it said so."""
            return [host.seconds - (host.seconds_until(text) or 0.0) for host in job.world]

        begins[arm] = max(a - b for a, b in zip(since("fit begins"), since("first step"), strict=True))
        ends[arm] = max(since("script ended"))
        record_property(arm, f"{begins[arm]:.1f} s from fit to the first step, {ends[arm]:.1f} s from the script's end")
    assert begins["ours"] < begins["stock"] + LOOKUP
    assert ends["ours"] < ends["stock"] + LOOKUP
