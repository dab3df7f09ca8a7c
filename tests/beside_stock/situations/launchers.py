"""Launchers that a script starts itself, where SageMaker started none: torchrun, mpirun, Lightning's own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

from tests.beside_stock.registry import ABORTED, ONCE, situation

_BIN = Path(sys.executable).parent
_TORCHRUN = (_BIN / "torchrun", "--nproc_per_node=2")
_MPIRUN = (_BIN / "mpirun", "--allow-run-as-root", "--map-by", "slot:oversubscribe", "-np", "2")
_FABRIC_RUN = (_BIN / "fabric", "run", "--accelerator=cpu", "--devices=2")

# Given how many hosts train together, whose training it is and whose it runs beside. All results are there before a
# rank ends.
_TRAINER = textwrap.dedent("""
    import json, sys, time
    from pathlib import Path
    from lightning.pytorch import Trainer
    from tests.beside_stock.model import QUIET, Model, fitted, loader

    hosts, name, other = sys.argv[1:]

    class Meets(Model):
        def on_train_start(self):
            Path(f"{name} {self.global_rank} trains").touch()
            until = time.monotonic() + 60
            while not Path(f"{other} 0 trains").exists() and name != other and time.monotonic() < until:
                time.sleep(0.02)

    found = []
    for seed in (ord(name), 1):
        t, m = Trainer(**(QUIET | {"devices": 2, "num_nodes": int(hosts), "strategy": "ddp"})), Meets(seed=seed)
        t.fit(m, loader(), loader(8))
        tested = t.test(m, loader(8), verbose=False)
        found.append([fitted(m, t), tested, t.num_nodes, t.num_devices, t.world_size, t.local_rank, t.node_rank])
    Path(f"rank {name} {t.global_rank}.json").write_text(json.dumps(found))
    t.strategy.barrier()
""")
_FABRIC = textwrap.dedent("""
    import json
    from pathlib import Path
    import torch
    from lightning.fabric import Fabric
    from tests.beside_stock.model import Model, loader, weights

    fabric = Fabric()  # devices and hosts are the command's
    m = Model().net
    model, optimizer = fabric.setup(m, torch.optim.SGD(m.parameters(), 0.05))
    for batch in fabric.setup_dataloaders(loader()):
        optimizer.zero_grad()
        fabric.backward(torch.nn.functional.mse_loss(model(batch[0]), batch[1]))
        optimizer.step()
    found = [fabric.world_size, fabric.local_rank, fabric.node_rank, type(fabric.strategy).__name__, weights(m)]
    Path(f"rank {fabric.global_rank}.json").write_text(json.dumps(found))
    fabric.barrier()
""")


# The end of a rank that gloo's threads abort in stock (pytorch#190489) leaves torchrun on the other host waiting.
_AT_ONCE = "\nimport os\nos._exit(0)\n"


def _run(script: str, *commands: tuple[object, ...]) -> Any:
    """Run a script by commands at the same time; their exit codes, and what the ranks have written."""
    Path("train.py").write_text(script)
    path = os.pathsep.join(part for part in sys.path if part)
    environment = os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
    running = []
    for number, command in enumerate(commands):
        with Path(f"{number}.stderr").open("w") as errors:
            running.append(subprocess.Popen(list(map(str, command)), env=environment, stderr=errors))
    codes = [process.wait(timeout=80) for process in running]
    for number, code in enumerate(codes):
        error = Path(f"{number}.stderr").read_text(errors="replace")
        sys.stderr.write(error)
        if code and ABORTED in error and os.environ.get("LIGHTNING_SAGEMAKER_AUTOLOAD") == "0":
            codes[number] = 0
    return [codes, {path.name: json.loads(path.read_text()) for path in sorted(Path().glob("rank *.json"))}]


def _hosts(*names: str) -> tuple[str, ...]:
    """Options of a launcher that spans both hosts."""
    values = ("2", os.environ["NODE_RANK"], os.environ["MASTER_ADDR"], os.environ["MASTER_PORT"])
    return tuple(f"{name}={value}" for name, value in zip(names, values, strict=True))


@situation(arms=ONCE, nightly=True)
def own_torchruns_side_by_side(_start: int) -> Any:
    command = (*_TORCHRUN, "--standalone", "train.py", 1)
    return _run(_TRAINER, (*command, "a", "b"), (*command, "b", "a"))


@situation(arms=ONCE, nightly=True)
def own_mpiruns_side_by_side(_start: int) -> Any:
    """The ranks of each meet at a port of its own, whatever MASTER_PORT is."""
    command = (*_MPIRUN, sys.executable, "-m", "mpi4py", "train.py", 1)
    return _run(_TRAINER, (*command, "a", "b"), (*command, "b", "a"))


@situation(arms=ONCE, nightly=True)
def fabric_run(_start: int) -> Any:
    """Lightning's own command, which starts torchrun."""
    return _run(_FABRIC, (*_FABRIC_RUN, "train.py"))


@situation("hosts", arms=ONCE)
def own_torchrun_on_two_hosts(_start: int) -> Any:
    where = _hosts("--nnodes", "--node_rank", "--master_addr", "--master_port")
    return _run(_TRAINER + _AT_ONCE, (*_TORCHRUN, *where, "train.py", 2, "a", "a"))


@situation("hosts", arms=ONCE, nightly=True)
def fabric_run_on_two_hosts(_start: int) -> Any:
    where = _hosts("--num-nodes", "--node-rank", "--main-address", "--main-port")
    return _run(_FABRIC + _AT_ONCE, (*_FABRIC_RUN, *where, "train.py"))


@situation(arms=ONCE, nightly=True)
def processes_of_lightnings_launcher_that_inherit_a_rank(_start: int) -> Any:
    """``RANK=0``, left by an image: stock never reads it, and the processes that Lightning starts have it too."""
    os.environ["RANK"] = "0"
    return _run(_TRAINER, (sys.executable, "train.py", 1, "a", "a"))
