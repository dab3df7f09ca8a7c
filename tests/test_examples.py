"""The examples, as SageMaker would run them: on simulated hosts, by real torchrun, mpirun and Lightning's launcher."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from torch import nn

EXAMPLES = Path(__file__).parents[1] / "examples"
HOSTS = 2 if os.environ.get("LIGHTNING_SAGEMAKER_FULL") == "1" else 1  # of `download`, with two processes each


def simulate(example: str, *options: object, arguments: tuple[str, ...] = ()) -> str:
    """What a job prints that runs an example."""
    command = [
        *(Path(sys.executable).with_name("lightning-sagemaker"), "simulate", *options),
        *(EXAMPLES / example / "train.py", "--", *arguments),
    ]
    job = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False, timeout=240)
    assert job.returncode == 0, job.stdout + job.stderr
    return job.stdout


def test_each_host_downloads_once_and_all_ranks_see_the_same_data() -> None:
    printed = simulate(
        "download", "--hosts", HOSTS, "--processes-per-host", 2, "--sdk", "v3", "--distribution", "torch_distributed"
    )
    for what in ("labels", "samples"):
        at_work = re.findall(rf"\[(algo-\d+)[^]]*] downloading the {what}", printed)
        assert sorted(at_work) == [f"algo-{host}" for host in range(1, HOSTS + 1)]
    seen = re.findall(r"rank (\d) of (\d): labels (.*), data (.*)", printed)
    assert sorted(rank for rank, *_ in seen) == [str(rank) for rank in range(2 * HOSTS)]
    assert len({tuple(rest) for _, *rest in seen}) == 1
    assert seen[0][2] == "inner/middle/outer"
    assert _numbers(r"accuracy (.*)", printed)[0] > 0.95


def test_the_gpt_learns_on_two_cpus_with_smddps_strategy() -> None:
    arguments = ("--strategy", "smddp", "--epochs", "2")
    printed = simulate("gpt_fsdp", "--hosts", 2, "--distribution", "smdistributed", arguments=arguments)
    assert sorted(re.findall(r"rank (\d) of 2 trained with SMDDPStrategy", printed)) == ["0", "1"]
    losses = _numbers(r"epoch \d: loss (.*)", printed)  # once: rank 0 alone prints them
    assert len(losses) == 2
    assert losses[1] < 0.9 * losses[0]


def test_options_of_the_cli_reach_all_ranks_as_hyperparameters() -> None:
    printed = simulate("cli", "--hosts", 2, arguments=("--trainer.max_epochs", "5", "--model.lr", "0.25"))
    assert "no hyperparameter can express" not in printed
    lines = re.findall(r"rank (\d) of 2, after (\d+) steps: y = (.*) x \+ (.*)", printed)
    assert sorted(rank for rank, *_ in lines) == ["0", "1"]
    assert {steps for _, steps, *_ in lines} == {"80"}  # 5 epochs of 256 samples, in batches of 8 on two ranks
    ((slope, intercept),) = {(slope, intercept) for *_, slope, intercept in lines}
    assert float(slope) == pytest.approx(2, abs=0.1)
    assert float(intercept) == pytest.approx(1, abs=0.1)


def test_fabric_shares_out_the_batches_and_keeps_the_weights_equal() -> None:
    printed = simulate("fabric", "--hosts", 2, "--distribution", "mpi")
    lines = re.findall(r"rank (\d) of 2: (\d+) batches an epoch, weights (.*)", printed)
    assert sorted(rank for rank, *_ in lines) == ["0", "1"]
    assert {batches for _, batches, _ in lines} == {"16"}  # 512 samples, in batches of 16 on two ranks
    assert len({weights for *_, weights in lines}) == 1
    losses = _numbers(r"epoch \d: loss (.*)", printed)
    assert losses[-1] < 0.5 * losses[0]


class _Sharded(nn.Module):
    """Stands for FSDP, which needs GPUs: shows what would be sharded."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module


@pytest.mark.xdist_group("torch's compiler")
def test_fsdp_would_shard_the_gpt_and_each_of_its_blocks() -> None:
    from torch.distributed.fsdp.wrap import enable_wrap  # noqa: PLC0415 - brings torch's compiler

    spec = importlib.util.spec_from_file_location("gpt", EXAMPLES / "gpt_fsdp" / "train.py")
    assert spec is not None
    assert spec.loader is not None
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    model = example.Writer(layers=3)
    with enable_wrap(wrapper_cls=_Sharded):
        model.configure_model()
    sharded = [type(module.module).__name__ for module in model.modules() if isinstance(module, _Sharded)]
    assert sharded == ["GPT", "Block", "Block", "Block"]


def _numbers(pattern: str, text: str) -> list[float]:
    return [float(number) for number in re.findall(pattern, text)]
