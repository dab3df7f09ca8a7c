"""Every judge, both ways, from what ranks might have seen."""

from __future__ import annotations

from typing import Any

import pytest

from lightning_sagemaker.probe.assumptions import ASSUMPTIONS

JUDGES = {assumption.key: assumption.judge for assumption in ASSUMPTIONS}
RANKS = {f"{rank} on algo-{rank + 1}": rank for rank in (0, 1)}


def judged(key: str, **seen: Any) -> tuple[str, str]:
    """Verdict where two ranks saw the same, or, where a list is given, each its own; `_` stands for `/`."""
    return JUDGES[key](
        {
            name: {
                look.replace("__", "/"): value[rank] if isinstance(value, tuple) else value
                for look, value in seen.items()
            }
            for name, rank in RANKS.items()
        }
    )


def job(rank: int, **changes: Any) -> dict[str, Any]:
    world = {"launcher": "mpirun", "num_nodes": 2, "world_size": 2, "main_address": "algo-1"}
    return {**world, "node_rank": rank, "local_rank": 0, **changes}


def ompi(rank: int, **changes: str) -> dict[str, str]:
    found = {"RANK": str(rank), "LOCAL_RANK": "0", "WORLD_SIZE": "2"}
    found |= {f"OMPI_COMM_WORLD_{name}": value for name, value in found.items() if name != "WORLD_SIZE"}
    return {**found, "OMPI_COMM_WORLD_SIZE": "2", "OMPI_COMM_WORLD_LOCAL_SIZE": "1", **changes}


def config(rank: int, hosts: list[str] | None = None) -> dict[str, Any]:
    return {"current_host": f"algo-{rank + 1}", "hosts": hosts or ["algo-1", "algo-2"], "groups": {}}


FLAG = {"SMDATAPARALLEL_USE_HOMOGENEOUS": "1"}
STARTED = {"variables__SMDATAPARALLEL_": FLAG}
CONFIGS = (config(0), config(1))
NAMES = {"own": "algo-1", "current_host": "algo-1", "unknown": {}}
ASKED = {"asked": True, "port": 7777, "launcher": "mpirun", "free": True}
PYTHON = {"pid": 70, "name": "python", "catches_sigterm": False}
BASH = {"pid": 1, "name": "bash", "catches_sigterm": False}
OK, REFUSED = {"outcome": "ok"}, {"outcome": "error", "text": "RuntimeError: no"}
HANG = {"outcome": "hang", "text": "no answer"}


@pytest.mark.parametrize(
    ("key", "seen", "verdict", "text"),
    [
        ("world", {"job": (job(0), job(1))}, "holds", "2 processes"),
        ("world", {"job": (job(0), job(0))}, "fails", "2 processes read 1 places"),
        ("world", {"job": (job(0), job(1, num_nodes=1))}, "fails", "different worlds"),
        ("world", {"job": (job(0), {"problem": "ValueError: WORLD_SIZE"})}, "fails", "ValueError: WORLD_SIZE"),
        ("smddprun-ranks", {"ranks": (ompi(0), ompi(1)), **STARTED}, "holds", "all three"),
        (
            "smddprun-ranks",
            {"ranks": {"SMDATAPARALLEL_WORLD_RANK": "0", "RANK": "0"}, **STARTED},
            "fails",
            "does not set LOCAL_RANK, WORLD_SIZE",
        ),
        ("smddprun-ranks", {"ranks": {}, **STARTED}, "unknown", "no smddprun"),
        ("smddprun-ranks", {"ranks": {}, "variables__SMDATAPARALLEL_": {}}, "unknown", "not started for SMDDP"),
        ("ranks-agree", {"ranks": (ompi(0), ompi(1))}, "holds", "equal Open MPI's"),
        ("ranks-agree", {"ranks": (ompi(0), ompi(1, RANK="5"))}, "fails", "RANK=5, OMPI_COMM_WORLD_RANK=1"),
        ("ranks-agree", {"ranks": {"RANK": "0"}}, "unknown", "one launcher only"),
        ("slots-by-host", {"ranks": (ompi(0), ompi(1)), "resource_config": CONFIGS}, "holds", "2 hosts"),
        ("slots-by-host", {"ranks": (ompi(0), ompi(0)), "resource_config": CONFIGS}, "fails", "by host"),
        ("slots-by-host", {"ranks": {}, "resource_config": CONFIGS}, "unknown", "mpirun"),
        ("host-order", {"resource_config": CONFIGS}, "holds", "2 hosts have"),
        ("host-order", {"resource_config": (config(0), config(1, ["algo-2", "algo-1"]))}, "fails", "algo-2: hosts"),
        ("host-order", {"resource_config": (config(0), {"error": "no"})}, "unknown", "not heard"),
        (
            "own-file",
            {"resource_config": CONFIGS, "names": ({"own": "algo-1"}, {"own": "algo-2"})},
            "holds",
            "SM_RESOURCE_CONFIG is not heard",
        ),
        ("own-file", {"resource_config": CONFIGS, "names": {"own": "algo-1"}}, "fails", "calls itself algo-1"),
        (
            "own-file",
            {
                "resource_config": CONFIGS,
                "names": {"own": "aws"},
                "sm_resource_config": {"is": "damaged", "how": "char 9"},
            },
            "holds",
            "SM_RESOURCE_CONFIG is damaged (how char 9)",
        ),
        ("names-resolve", {"names": NAMES}, "holds", "all names"),
        ("names-resolve", {"names": (NAMES, {**NAMES, "unknown": {"algo-1": {}}})}, "fails", "unknown: algo-1"),
        ("names-resolve", {"names": NAMES, "begin": {"simulated": True}}, "unknown", "simulated"),
        ("main-host-name", {"names": NAMES, "port": ASKED}, "holds", "algo-1"),
        ("main-host-name", {"names": {**NAMES, "own": "ip-10"}, "port": ASKED}, "fails", "calls itself ip-10"),
        ("main-host-name", {"names": NAMES, "port": {"asked": False}}, "unknown", "rank 0"),
        ("main-host-name", {"names": NAMES, "port": {**ASKED, "launcher": "none"}}, "unknown", "mpirun"),
        ("interface", {"interface": {"named": "eth0", "present": True, "all": ["eth0"]}}, "holds", "eth0"),
        ("interface", {"interface": {"named": "ethwe", "present": False, "all": ["eth0"]}}, "fails", "are eth0"),
        ("interface", {"interface": {"named": None, "present": False, "all": []}}, "unknown", "none"),
        ("interface", {"interface": {"hang": "no answer"}}, "unknown", "could not be seen: no answer"),
        ("interface", {"interface": {"named": "eth0"}}, "unknown", "unexpected form"),
        ("marks", {"marks": {"TRAINING_JOB_ARN": True}}, "holds", "TRAINING_JOB_ARN"),
        ("marks", {"marks": ({"TRAINING_JOB_NAME": True}, {"SAGEMAKER_JOB_NAME": True})}, "fails", "rank 1 on algo-2"),
        ("port", {"port": (ASKED, {"asked": False})}, "holds", "port 7777 is free"),
        ("port", {"port": {**ASKED, "free": False, "holder": "sshd"}}, "fails", "held by sshd"),
        ("port", {"port": {**ASKED, "free": False, "launcher": "torchrun"}}, "holds", "launcher torchrun"),
        ("port", {"port": {**ASKED, "launcher": "torchrun"}}, "fails", "free"),
        ("port", {"port": {"asked": False}}, "unknown", "rank 0"),
        ("checkpoint-config", {"checkpoint_config": {"present": False}}, "holds", "absent"),
        (
            "checkpoint-config",
            {"checkpoint_config": {"present": True, "local_path": "/c", "folder": True}},
            "holds",
            "LocalPath '/c'",
        ),
        ("checkpoint-config", {"checkpoint_config": {"present": True, "local_path": None}}, "fails", "None"),
        ("signals", {"processes": [PYTHON, BASH]}, "holds", "python < bash; process 1 ignores"),
        ("signals", {"processes": [PYTHON, {**BASH, "name": "tini"}]}, "fails", "may hand on"),
        ("signals", {"processes": [PYTHON, {**BASH, "catches_sigterm": True}]}, "fails", "may hand on"),
        ("signals", {"processes": [PYTHON]}, "unknown", "not among the parents"),
        ("signals", {"processes": [PYTHON, BASH], "begin": {"simulated": True}}, "unknown", "this machine"),
        ("hosts-meet", {"meeting": OK}, "holds", "all ranks"),
        ("hosts-meet", {"meeting": (OK, {"outcome": "error", "text": "timed out"})}, "fails", "timed out (rank 1"),
        ("rendezvous", {"gloo__rendezvous": OK}, "holds", "rendezvous: works"),
        ("rendezvous", {"gloo__rendezvous": REFUSED}, "fails", "RuntimeError: no"),
        ("rendezvous", {"meeting": {"outcome": "error", "text": "timed out"}}, "unknown", "not tried: timed out"),
        ("rendezvous", {}, "unknown", "not heard"),
        ("smddp-cpu-tensors", {"smddp__cpu_tensor": REFUSED}, "holds", "RuntimeError: no"),
        ("smddp-cpu-tensors", {"smddp__cpu_tensor": OK}, "fails", "cpu_tensor: works"),
        ("smddp-cpu-tensors", {"smddp__cpu_tensor": (REFUSED, HANG)}, "fails", "hangs: no answer (rank 1"),
        ("smddp-cpu-tensors", {"smddp__cpu_tensor": {"outcome": "ended", "text": "exit code -6"}}, "fails", "ends"),
        ("smddp-cpu-tensors", {"smddp__end": {"outcome": "not tried", "text": "no SMDDP"}}, "unknown", "no SMDDP"),
        ("smddp-sum-only", {"smddp__all_reduce_avg": REFUSED, "smddp__all_reduce_max": OK}, "fails", "max: works"),
        ("smddp-sum-only", {"smddp__all_reduce_avg": REFUSED}, "unknown", "all_reduce_max: not heard"),
        (
            "smddp-device-id",
            {f"smddp_device_id__{each}": OK for each in ("init", "all_reduce_sum", "barrier")},
            "holds",
            "it works",
        ),
        ("smddp-device-id", {"smddp_device_id__init": REFUSED}, "holds", "init: it raises RuntimeError: no"),
        ("smddp-device-id", {"smddp_device_id__init": HANG}, "fails", "init: hang"),
        ("smddp-device-id", {"smddp_device_id__end": {"outcome": "not tried", "text": "no GPU"}}, "unknown", "no GPU"),
        ("smddp-exit", {"smddp_exit__end": {"outcome": "ok", "processes": [{"code": 0, "hang": False}]}}, "holds", "0"),
        (
            "smddp-exit",
            {"smddp_exit__end": {"outcome": "error", "processes": [{"code": -6, "hang": False}]}},
            "fails",
            "-6",
        ),
        (
            "smddp-exit",
            {"smddp_exit__end": {"outcome": "error", "processes": [{"code": -9, "hang": True}]}},
            "fails",
            "end",
        ),
        ("smddp-exit", {"smddp_exit__end": {"outcome": "not tried", "text": "no SMDDP"}}, "unknown", "no SMDDP"),
    ],
)
def test_judge(key: str, seen: dict[str, Any], verdict: str, text: str) -> None:
    found, sentence = judged(key, **seen)
    assert (found, text in sentence) == (verdict, True), sentence


@pytest.mark.parametrize("key", JUDGES)
def test_nothing_is_judged_from_nothing(key: str) -> None:
    assert judged(key)[0] == "unknown"
    assert JUDGES[key]({})[0] == "unknown"


def test_every_assumption_says_what_it_is_about_and_has_a_name_of_its_own() -> None:
    assert len(JUDGES) == len(ASSUMPTIONS)
    for assumption in ASSUMPTIONS:
        assert assumption.question.endswith("?")
        assert all((assumption.expected, assumption.where, assumption.source, assumption.keys))
