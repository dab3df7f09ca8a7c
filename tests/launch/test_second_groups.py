"""Process groups that are made again under torchrun, after a restart too, and groups of what ranks start."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

SCRIPT = Path(__file__).with_name("second_groups.py")
FOREIGN = ("SM_", "SAGEMAKER", "TRAINING_JOB", "LIGHTNING_SAGEMAKER", "TORCHELASTIC", "PYTEST", "MASTER_")


@pytest.mark.parametrize(("hosts", "per_host"), [(1, 2), (2, 1)])
def test_no_group_takes_keys_of_another_one_for_its_own(
    hosts: int, per_host: int, tmp_path: Path, free_port: int
) -> None:
    names, plain = [f"algo-{number}" for number in range(1, hosts + 1)], dict(os.environ)
    for name in tuple(plain):
        if name.startswith(FOREIGN):
            del plain[name]
    running = []
    try:
        for node_rank, name in enumerate(names):
            base = tmp_path / name
            for folder in ("input/config", "output"):
                (base / folder).mkdir(parents=True)
            resources = {"current_host": name, "hosts": names, "network_interface_name": "lo"}
            (base / "input/config/resourceconfig.json").write_text(json.dumps(resources))
            job = {"TRAINING_JOB_NAME": "digits", "SAGEMAKER_BASE_DIR": str(base), "SEEN": str(tmp_path)}
            where = ["--node_rank", str(node_rank), "--master_addr", "127.0.0.1", "--master_port", str(free_port)]
            torchrun = ["-m", "torch.distributed.run", "--nnodes", str(hosts), "--nproc_per_node", str(per_host)]
            torchrun += [*(where if hosts > 1 else []), "--max-restarts", "1", str(SCRIPT)]
            with (tmp_path / f"{name}.log").open("w") as log:
                running.append(
                    subprocess.Popen(
                        [sys.executable, "-W", "ignore", *torchrun],
                        env=plain | job | {"GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": "1"},
                        stdout=log,
                        stderr=subprocess.STDOUT,
                    )
                )
        codes = [agent.wait(timeout=400) for agent in running]
    finally:
        for agent in running:
            if agent.poll() is None:
                tree = [*psutil.Process(agent.pid).children(recursive=True), agent]
                for process in tree:
                    with contextlib.suppress(psutil.NoSuchProcess):
                        process.kill()
    logs = "\n".join((tmp_path / f"{name}.log").read_text(errors="replace") for name in names)
    assert codes == [0] * hosts, logs
    seen = {path.stem: json.loads(path.read_text()) for path in tmp_path.glob("?-?.json")}
    assert sorted(seen) == ["0-0", "0-1", "1-0", "1-1"], logs
    for attempt in "01":
        assert [seen[f"{attempt}-{rank}"]["sums"] for rank in "01"] == [[2.0, 2.0], [2.0, 2.0]]
        # Both ranks have counted in the same place, and nobody else: not those of another attempt.
        assert max(seen[f"{attempt}-{rank}"]["attempt"] for rank in "01") == 0x11
    assert seen["0-1"]["torchrun of a rank"] == [0, "2 2", "2 2"], logs
    assert seen["0-1"]["child of a rank"] == [0, ["1 1"]], logs
