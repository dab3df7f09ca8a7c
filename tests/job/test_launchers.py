"""What launchers say of the world, in which order they are believed, and when they are not."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest

from lightning_sagemaker.job import SageMakerJob, lightning_local_rank
from lightning_sagemaker.job.launchers import read_world

from .launch_modes import MODES, mpirun, smddp_flags, smddprun, torchrun

Detect = Callable[[Mapping[str, str], Any], SageMakerJob | None]

PROCESSES = {  # rank 11 of 16 on the second host of two; the last is by a launcher that says nothing of hosts
    "torchrun": MODES["v2-torch_distributed-2-hosts"].process("algo-1", 3),
    "v3-torchrun": MODES["v3-torchrun-2-hosts"].process("algo-2", 3),
    "mpirun": MODES["v2-mpi-2-hosts"].process("algo-1", 3),
    "smddprun": MODES["v2-smddp-with-smddprun-2-hosts"].process("algo-1", 3),
    "own": MODES["own-launcher"].process("algo-2", 3),
}
OMPI = "OMPI_COMM_WORLD_"


# --- precedence ------------------------------------------------------------------------------------------------------


def test_torchrun_inside_mpirun_started_the_process(detect: Detect) -> None:
    process = PROCESSES["torchrun"]
    assert (
        detect({**mpirun(process), "OMPI_COMM_WORLD_RANK": "0", **process.environ}, process.config) == process.expected
    )


def test_mpirun_comes_before_ranks_of_any_launcher(detect: Detect) -> None:
    process = PROCESSES["smddprun"]
    found = detect({**process.environ, **smddp_flags(process), **smddprun(process)}, process.config)
    assert found is not None
    assert found.launcher == "mpirun"


def test_the_node_rank_of_mpirun_is_not_that_of_open_mpi(detect: Detect) -> None:
    process = PROCESSES["mpirun"]
    assert process.environ["OMPI_COMM_WORLD_NODE_RANK"] == "3"
    found = detect(process.environ, process.config)
    assert found is not None
    assert found.node_rank == 1


def test_deepspeed_tells_how_many_processes_a_host_has_by_names_of_its_own(detect: Detect) -> None:
    """Each host started apart has a world of one host, whatever the job has."""
    process = PROCESSES["own"]
    ranks = {"RANK": "3", "WORLD_SIZE": "8", "LOCAL_RANK": "3", "LOCAL_SIZE": "8", "CROSS_RANK": "0", "CROSS_SIZE": "1"}
    apart = {**process.environ, "LOCAL_WORLD_SIZE": "", "GROUP_RANK": "", "GROUP_WORLD_SIZE": "", **ranks}
    with pytest.raises(
        ValueError, match=r"^custom started 8 process\(es\) on 1 host\(s\) .*LOCAL_SIZE=8.* but 2 hosts"
    ):
        detect(apart, process.config)
    together = {**ranks, "RANK": "11", "WORLD_SIZE": "16", "CROSS_RANK": "1", "CROSS_SIZE": "2"}
    world = read_world(together, 2)
    assert world is not None
    assert (world.local_size, world.num_nodes, world.node_rank) == (8, 2, 1)


@pytest.mark.parametrize("missing", ["RANK", "WORLD_SIZE", "LOCAL_RANK"])
def test_ranks_of_no_known_launcher_count_only_together(missing: str) -> None:
    environ = {"RANK": "11", "WORLD_SIZE": "16", "LOCAL_RANK": "3"}
    assert read_world(environ, 2) is not None
    assert read_world({**environ, missing: ""}, 2) is None
    del environ[missing]
    assert read_world(environ, 2) is None


@pytest.mark.parametrize(
    ("told", "hosts", "local_size"),
    [
        ({}, 2, 8),
        ({"LOCAL_WORLD_SIZE": ""}, 2, 8),
        ({"LOCAL_WORLD_SIZE": "4"}, 2, 4),
        ({"GROUP_WORLD_SIZE": "2"}, 2, 8),
        ({}, 1, 16),
        ({}, 4, 4),
    ],
)
def test_a_launcher_that_keeps_the_processes_per_host_to_itself_shares_them_out_evenly(
    told: dict[str, str], hosts: int, local_size: int
) -> None:
    world = read_world({"RANK": "1", "WORLD_SIZE": "16", "LOCAL_RANK": "1", **told}, hosts)
    assert world is not None
    assert (world.launcher, world.local_size, world.num_nodes) == ("custom", local_size, 16 // local_size)


def test_a_number_of_processes_that_nobody_told_is_not_shown_as_if_somebody_had() -> None:
    """Each of two hosts trains apart with four processes, say by Ray: ranks 2 and 3 of each cannot be of both."""
    with pytest.raises(ValueError, match=r"LOCAL_RANK is not below LOCAL_WORLD_SIZE") as caught:
        read_world({"RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "3"}, 2)
    message = str(caught.value)
    assert "LOCAL_WORLD_SIZE not set, 2 where all hosts of the job have as many" in message
    assert message.endswith("Where a host has another number of processes, set LOCAL_WORLD_SIZE to it.")
    with pytest.raises(ValueError, match=r"LOCAL_WORLD_SIZE=2\)") as caught:
        read_world({"RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "3", "LOCAL_WORLD_SIZE": "2"}, 2)
    assert str(caught.value).endswith("set none of these variables yourself.")


def test_a_launcher_of_fewer_processes_than_hosts_has_one_on_each() -> None:
    world = read_world({"RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "0"}, 4)
    assert world is not None
    assert (world.local_size, world.num_nodes, world.node_rank) == (1, 2, 1)


def test_1024_processes_on_a_host_are_not_too_many() -> None:
    environ = {"RANK": "0", "WORLD_SIZE": "1024", "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "1024"}
    assert read_world(environ, 1) is not None


def test_without_launcher_there_is_no_world() -> None:
    assert read_world({"PATH": "/usr/bin", "TORCHELASTIC_RUN_ID": "", "OMPI_COMM_WORLD_SIZE": ""}, 2) is None


@pytest.mark.parametrize(("environ", "local_rank"), [({}, None), ({"LOCAL_RANK": ""}, None), ({"LOCAL_RANK": "3"}, 3)])
def test_lightnings_local_rank_is_what_its_launcher_set(environ: dict[str, str], local_rank: int | None) -> None:
    assert lightning_local_rank(environ) == local_rank


@pytest.mark.parametrize("text", ["-1", "1024", "one", "1.0"])
def test_a_local_rank_of_lightning_that_is_no_local_rank_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=rf"`LOCAL_RANK`='{text}'; expected an integer from 0 to 1023\. HINT: "):
        lightning_local_rank({"LOCAL_RANK": text})


# --- incomplete, malformed, contradictory ----------------------------------------------------------------------------

REQUIRED = {
    "torchrun": ["RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE"],
    "v3-torchrun": ["RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE"],
    "mpirun": [f"{OMPI}RANK", f"{OMPI}LOCAL_RANK", f"{OMPI}LOCAL_SIZE"],
    "smddprun": [f"{OMPI}RANK", f"{OMPI}LOCAL_RANK", f"{OMPI}LOCAL_SIZE"],
}
READ = {**REQUIRED, "own": ["RANK", "WORLD_SIZE", "LOCAL_RANK"]}
READ["mpirun"] = READ["smddprun"] = [*REQUIRED["mpirun"], f"{OMPI}SIZE"]
GARBAGE = ["-1", "1.5", "1e1", "999999999", "9" * 40, "٣", "1_000", " 1", "1\n", "one", "None"]


@pytest.mark.parametrize("value", [None, ""], ids=["unset", "empty"])
@pytest.mark.parametrize(("name", "missing"), [(name, one) for name, all_ in REQUIRED.items() for one in all_])
def test_an_incomplete_set_of_variables_is_refused(
    name: str, missing: str, value: str | None, refusal: Callable[..., str]
) -> None:
    environ = PROCESSES[name].environ
    if value is None:
        del environ[missing]
    else:
        environ[missing] = value
    message = refusal(environ, PROCESSES[name].config)
    assert f"`{missing}` is not set, but others of the same launcher are" in message
    present = message.partition("same launcher are (")[2].partition(")")[0].split(", ")
    known = {"GROUP_RANK", "TORCHELASTIC_RUN_ID"} if "torchrun" in name else {f"{OMPI}SIZE", f"{OMPI}NODE_RANK"}
    assert (
        known <= {*present} <= {name for name in environ if "RANK" in name or name.startswith((OMPI, "TORCHELASTIC"))}
    )


@pytest.mark.parametrize("text", GARBAGE)
@pytest.mark.parametrize(("name", "damaged"), [(name, one) for name, all_ in READ.items() for one in all_])
def test_a_rank_that_is_no_number_is_refused(name: str, damaged: str, text: str, refusal: Callable[..., str]) -> None:
    message = refusal({**PROCESSES[name].environ, damaged: text}, PROCESSES[name].config)
    assert f"`{damaged}`={text!r}; expected an integer from 0 to 100000000" in message


CONTRADICTIONS: dict[str, tuple[str, dict[str, str], str]] = {
    "rank-is-world-size": ("torchrun", {"RANK": "16"}, "RANK is not below WORLD_SIZE"),
    "rank-above-world-size": ("mpirun", {f"{OMPI}RANK": "19"}, f"{OMPI}RANK is not below {OMPI}SIZE"),
    "world-of-nobody": ("own", {"WORLD_SIZE": "0"}, "RANK is not below WORLD_SIZE"),
    "local-rank-is-local-size": ("torchrun", {"LOCAL_RANK": "8"}, "LOCAL_RANK is not below LOCAL_WORLD_SIZE"),
    "local-rank-above": ("mpirun", {f"{OMPI}LOCAL_RANK": "11"}, f"{OMPI}LOCAL_RANK is not below {OMPI}LOCAL_SIZE"),
    "nobody-on-the-host": ("torchrun", {"LOCAL_WORLD_SIZE": "0"}, "LOCAL_WORLD_SIZE is not between 1 and 1024"),
    "crowd-on-the-host": ("torchrun", {"LOCAL_WORLD_SIZE": "1025"}, "LOCAL_WORLD_SIZE is not between 1 and 1024"),
    "absurd-crowd": ("mpirun", {f"{OMPI}LOCAL_SIZE": "100000000"}, f"{OMPI}LOCAL_SIZE is not between 1 and 1024"),
    "not-divisible": ("torchrun", {"WORLD_SIZE": "15"}, "WORLD_SIZE is not divisible by LOCAL_WORLD_SIZE"),
    "fewer-on-the-last-host": ("mpirun", {f"{OMPI}SIZE": "12"}, f"{OMPI}SIZE is not divisible by {OMPI}LOCAL_SIZE"),
    "own-launchers-world-not-divisible": ("own", {"WORLD_SIZE": "17"}, "WORLD_SIZE is not divisible by"),
    "host-by-host-no-more": (
        "mpirun",
        {f"{OMPI}RANK": "7", f"{OMPI}LOCAL_RANK": "3"},
        f"{OMPI}LOCAL_RANK is not {OMPI}RANK modulo {OMPI}LOCAL_SIZE",
    ),
    "same-rank-on-each-host": ("own", {"RANK": "1"}, "LOCAL_RANK is not RANK modulo LOCAL_WORLD_SIZE"),
}


@pytest.mark.parametrize(("name", "changes", "rule"), CONTRADICTIONS.values(), ids=list(CONTRADICTIONS))
def test_ranks_that_contradict_each_other_are_refused(
    name: str, changes: dict[str, str], rule: str, refusal: Callable[..., str]
) -> None:
    message = refusal({**PROCESSES[name].environ, **changes}, PROCESSES[name].config)
    assert "ranks that contradict each other" in message
    assert rule in message
    for variable, value in changes.items():
        assert f"{variable}={value}" in message


WITNESSES: list[tuple[str, str, str, str]] = [
    ("torchrun", "GROUP_RANK", "0", "1"),
    ("torchrun", "GROUP_WORLD_SIZE", "3", "2"),
    ("smddprun", "RANK", "3", "11"),
    ("smddprun", "WORLD_SIZE", "8", "16"),
    ("smddprun", "LOCAL_RANK", "0", "3"),
    ("mpirun", "WORLD_SIZE", "8", "16"),
    ("own", "GROUP_RANK", "0", "1"),
    ("own", "GROUP_WORLD_SIZE", "16", "2"),
    ("own", "NODE_RANK", "0", "1"),
]


@pytest.mark.parametrize(("name", "witness", "told", "true"), WITNESSES)
def test_a_witness_that_contradicts_the_launcher_is_refused(
    name: str, witness: str, told: str, true: str, refusal: Callable[..., str]
) -> None:
    message = refusal({**PROCESSES[name].environ, witness: told}, PROCESSES[name].config)
    assert f"`{witness}`={told} contradicts" in message
    assert f"it would be {true}" in message


@pytest.mark.parametrize(("name", "witness"), [row[:2] for row in WITNESSES])
def test_a_witness_that_is_no_number_is_refused(name: str, witness: str, refusal: Callable[..., str]) -> None:
    assert f"`{witness}`='one'" in refusal({**PROCESSES[name].environ, witness: "one"}, PROCESSES[name].config)


@pytest.mark.parametrize(("name", "witness", "true"), [(name, witness, true) for name, witness, _, true in WITNESSES])
@pytest.mark.parametrize("padding", ["", "0"])
def test_a_witness_may_be_right(name: str, witness: str, true: str, padding: str, detect: Detect) -> None:
    process = PROCESSES[name]
    assert detect({**process.environ, witness: padding + true}, process.config) == process.expected


@pytest.mark.parametrize(("name", "witness"), [row[:2] for row in WITNESSES if row[0] != "own"])
def test_a_witness_may_be_empty_or_unset(name: str, witness: str, detect: Detect) -> None:
    process = PROCESSES[name]
    environ = {**process.environ, witness: ""}
    assert detect(environ, process.config) == process.expected
    del environ[witness]
    assert detect(environ, process.config) == process.expected


def test_a_stray_node_rank_under_a_launcher_that_knows_better_is_no_matter(detect: Detect) -> None:
    process = PROCESSES["torchrun"]
    assert detect({**process.environ, "NODE_RANK": "0", **torchrun(process)}, process.config) == process.expected
