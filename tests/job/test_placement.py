"""Which hosts train together, who leads them, and which worlds are refused."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import pytest

from lightning_sagemaker.job import FOREIGN_RANK, SageMakerJob

from .launch_modes import HETERO, LARGE, MODES, Process, ranks, started_by_lightning, torchrun

Detect = Callable[[Mapping[str, str], Any], SageMakerJob | None]

NONE = MODES["v2-none-2-hosts"].process("algo-2")
TORCHRUN = MODES["v2-torch_distributed-2-hosts"].process("algo-1", 3)
MPIRUN = MODES["v2-mpi-2-hosts"].process("algo-1", 3)


def _on_one_host(process: Process) -> Process:
    """The process of a launcher that started its world on this host alone."""
    return replace(process, world=replace(process.world, hosts=(process.host,)))


def _without(environ: Mapping[str, str], *names: str) -> dict[str, str]:
    return {name: value for name, value in environ.items() if name not in names}


# --- worlds that do not span the job ---------------------------------------------------------------------------------


@pytest.mark.parametrize("processes", [1, 8])
def test_too_small_an_np_of_sdk_v3_is_refused_with_the_option_that_repairs_it(
    processes: int, refusal: Callable[..., str]
) -> None:
    whole = MODES["v3-mpi-repaired"]
    process = _on_one_host(whole.process("algo-1", processes - 1))
    process = replace(process, world=replace(process.world, processes=processes))
    message = refusal(process.environ, process.config)
    assert f"mpirun started {processes} process(es) on 1 host(s)" in message
    assert "2 hosts of this SageMaker job should train together: algo-1, algo-2" in message
    assert f'MPI(process_count_per_node={processes}, mpi_additional_options=["-np", "{2 * processes}"])' in message


def test_the_hint_for_a_remote_function_names_what_it_has(refusal: Callable[..., str]) -> None:
    process = MODES["v3-remote-mpirun"].process("algo-1")
    config = {**process.config, "hosts": ["algo-1", "algo-2"], "instance_groups": None}
    message = refusal({**process.environ, "SM_HOSTS_LIST": "algo-1,algo-2"}, config)
    assert "`@remote(use_mpirun=True)` gives mpirun the processes of one host" in message
    assert "HINT: " in message
    assert "use `@remote(use_torchrun=True)`" in message
    assert "MPI()" not in message


def test_an_np_of_sdk_v3_repaired_for_too_few_hosts_is_refused_with_the_right_one(refusal: Callable[..., str]) -> None:
    mode = replace(MODES["v3-mpi-repaired"], hosts=("algo-1", "algo-2", "algo-3"), groups={})
    process = Process(mode, mode.worlds[0], "algo-2", 7)
    message = refusal(process.environ, process.config)
    assert "mpirun started 16 process(es) on 2 host(s)" in message
    assert 'mpi_additional_options=["-np", "24"]' in message


def test_the_repair_of_sdk_v3s_fault_counts_all_1000_hosts(refusal: Callable[..., str]) -> None:
    mode = LARGE["v3-none"]
    world = replace(MODES["v3-mpi-repaired"].worlds[0], hosts=("algo-1",))
    process = Process(mode, world, "algo-1", 7)
    assert 'mpi_additional_options=["-np", "8000"]' in refusal(process.environ, process.config)


@pytest.mark.parametrize(
    ("row", "host"),
    [
        ("v2-torch_distributed-2-hosts", "algo-1"),
        ("v2-torch_distributed-2-hosts", "algo-2"),
        ("v3-torchrun-2-hosts", "algo-2"),
        ("own-torchrun", "algo-2"),
        ("v2-local-torch_distributed", "algo-2-k3x9d"),
    ],
)
def test_torchrun_standalone_on_each_of_two_hosts_is_refused(row: str, host: str, refusal: Callable[..., str]) -> None:
    process = _on_one_host(MODES[row].process(host))
    message = refusal(process.environ, process.config)
    assert "torchrun started 8 process(es) on 1 host(s) (RANK=0, WORLD_SIZE=8, LOCAL_RANK=0" in message
    assert "`--nnodes 2 --node_rank" in message
    assert "LIGHTNING_SAGEMAKER_AUTOLOAD=0" in message


@pytest.mark.parametrize("row", ["v2-mpi-2-hosts", "v2-smddp-with-smddprun-2-hosts", "own-mpirun"])
def test_an_mpirun_world_on_one_of_two_hosts_is_refused(row: str, refusal: Callable[..., str]) -> None:
    process = _on_one_host(MODES[row].process("algo-1"))
    message = refusal(process.environ, process.config)
    assert "OMPI_COMM_WORLD_SIZE=8" in message
    assert "`-np 16`" in message
    assert "MPI(" not in message


def test_an_own_launchers_world_on_one_of_two_hosts_is_refused(refusal: Callable[..., str]) -> None:
    process = _on_one_host(MODES["own-launcher"].process("algo-1"))
    environ = {**process.environ, "LOCAL_WORLD_SIZE": "8"}
    assert "custom started 8 process(es) on 1 host(s)" in refusal(environ, process.config)


@pytest.mark.parametrize("row", ["v2-torch_distributed-2-hosts", "v2-mpi-2-hosts", "own-torchrun", "own-mpirun"])
def test_a_world_of_more_hosts_than_the_job_has_is_refused(row: str, refusal: Callable[..., str]) -> None:
    process = MODES[row].process("algo-1")
    process = replace(process, world=replace(process.world, hosts=("algo-1", "algo-2", "algo-3")))
    assert "on 3 host(s)" in refusal(process.environ, process.config)


# --- instance groups -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("row", ["own-torchrun-on-1-group", "own-torchrun-on-all-groups"])
@pytest.mark.parametrize("hosts", [("algo-1",), ("algo-1", "algo-2", "algo-3", "algo-4")], ids=["part", "too-many"])
def test_an_own_launcher_spans_a_group_or_the_job_and_nothing_else(
    row: str, hosts: tuple[str, ...], refusal: Callable[..., str]
) -> None:
    process = MODES[row].process("algo-1")
    process = replace(process, world=replace(process.world, hosts=hosts))
    assert f"on {len(hosts)} host(s)" in refusal(process.environ, process.config)


def test_a_launcher_inside_the_distributions_group_must_span_it(refusal: Callable[..., str]) -> None:
    process = MODES["v2-instance_groups-mpi"].process("algo-1")
    process = replace(process, world=replace(process.world, hosts=("algo-1", "algo-2", "algo-3")))
    message = refusal(process.environ, process.config)
    assert "2 hosts of this SageMaker job should train together: algo-3, algo-1" in message


def test_a_users_own_torchrun_outside_the_distributions_group_is_alone(detect: Detect) -> None:
    process = MODES["v2-instance_groups-smddp"].process("algo-2")
    world = replace(process.world, launcher="torchrun", main_address="localhost", main_port=29400, processes=4)
    process = replace(process, world=replace(world, layers=(*world.layers, torchrun)), local_rank=3)
    assert detect(process.environ, process.config) == process.expected


@pytest.mark.parametrize("row", ["v2-instance_groups-smddp", "v2-none-2-groups"])
def test_a_host_outside_never_joins_whatever_main_address_it_is_told(row: str, detect: Detect) -> None:
    process = MODES[row].process("algo-2")
    found = detect({**process.environ, "MASTER_ADDR": "algo-3"}, process.config)
    assert found == process.expected


@pytest.mark.parametrize("groups", ["[]", '["other"]', "[1, null, {}]"], ids=["none", "unknown", "no-names"])
def test_a_distribution_of_no_known_group_joins_the_hosts_of_one_group(groups: str, detect: Detect) -> None:
    process = MODES["v2-none-2-groups"].process("algo-3")
    assert detect({**process.environ, "SM_DISTRIBUTION_INSTANCE_GROUPS": groups}, process.config) == process.expected


@pytest.mark.parametrize(
    ("text", "part"),
    [('["gpu', "is not JSON"), ('"gpu"', "expected a JSON list"), ("7", "expected a JSON list"), ("{}", "JSON list")],
)
def test_a_damaged_distribution_is_refused_where_groups_differ(
    text: str, part: str, refusal: Callable[..., str]
) -> None:
    process = MODES["v2-instance_groups-smddp"].process("algo-3")
    message = refusal({**process.environ, "SM_DISTRIBUTION_INSTANCE_GROUPS": text}, process.config)
    assert "SM_DISTRIBUTION_INSTANCE_GROUPS" in message
    assert part in message
    assert repr(text) in message


def test_sdk_v3_knows_no_groups_under_a_launcher(detect: Detect, refusal: Callable[..., str]) -> None:
    mode = replace(MODES["v3-torchrun-2-hosts"], hosts=("algo-1", "algo-2", "algo-3"), groups=HETERO)
    world = replace(mode.worlds[0], hosts=mode.hosts)
    process = Process(replace(mode, worlds=(world,)), world, "algo-2", 1)
    assert detect(process.environ, process.config) == process.expected
    of_the_group = replace(process, world=replace(world, hosts=("algo-3", "algo-1")), host="algo-1")
    assert "3 hosts of this" in refusal(of_the_group.environ, of_the_group.config)


# --- the address of rank 0 -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("row", ["own-torchrun", "own-launcher"])
def test_a_launcher_of_torchs_convention_without_main_address_is_refused(row: str, refusal: Callable[..., str]) -> None:
    process = MODES[row].process("algo-2", 3)
    message = refusal(_without(process.environ, "MASTER_ADDR"), process.config)
    assert "`MASTER_ADDR`" in message
    assert "RANK=11" in message
    assert "algo-1, algo-2" in message


@pytest.mark.parametrize("launched_by", ["torchrun", "a launcher of one's own"])
def test_a_world_of_one_host_needs_no_main_address(launched_by: str, detect: Callable[..., SageMakerJob]) -> None:
    world = {"RANK": "1", "LOCAL_RANK": "1", "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
    if launched_by == "torchrun":
        world |= {"GROUP_RANK": "0", "GROUP_WORLD_SIZE": "1", "TORCHELASTIC_RUN_ID": "none"}
    job = {"TRAINING_JOB_NAME": "digits"}
    found = detect(job | world, {"current_host": "algo-1", "hosts": ["algo-1"]})
    assert (found.main_address, found.rank, found.world_size) == ("127.0.0.1", 1, 2)


@pytest.mark.parametrize("local_rank", [0, 7])
@pytest.mark.parametrize("host", ["algo-1", "algo-2"])
@pytest.mark.parametrize("row", ["v2-smddp-without-smddprun-2-hosts", "v2-smddp-with-smddprun-2-hosts"])
def test_variables_lost_on_the_way_through_ssh_are_not_missed(
    row: str, host: str, local_rank: int, detect: Detect
) -> None:
    process = MODES[row].process(host, local_rank)
    lost = [name for name in process.environ if name.startswith(("SM_", "MASTER_", "CURRENT_", "SAGEMAKER_"))]
    found = detect(_without(process.environ, *lost), process.config)
    # without SM_* nothing tells the SDK, nor whose order of hosts was the launcher's
    assert found == replace(process.expected, sdk=None, world_hosts=process.mode.hosts)


@pytest.mark.parametrize(
    ("variables", "address"),
    [
        ({"MASTER_ADDR": "a", "SMDATAPARALLEL_SERVER_ADDR": "b", "SM_MASTER_ADDR": "c"}, "a"),
        ({"MASTER_ADDR": "", "SMDATAPARALLEL_SERVER_ADDR": "b", "SM_MASTER_ADDR": "c"}, "b"),
        ({"SMDATAPARALLEL_SERVER_ADDR": "", "SM_MASTER_ADDR": "c"}, "c"),
        ({}, "algo-1"),
    ],
)
def test_under_mpirun_the_main_address_is_the_first_that_is_told(
    variables: dict[str, str], address: str, detect: Detect
) -> None:
    process = MODES["own-mpirun"].process("algo-2", 3)
    found = detect({**process.environ, **variables}, process.config)
    assert found is not None
    assert found.main_address == address


@pytest.mark.parametrize(
    ("variables", "leader", "address"),
    [
        ({}, "algo-1", "algo-1"),
        ({"MASTER_ADDR": ""}, "algo-1", "algo-1"),
        ({"MASTER_ADDR": "algo-2"}, "algo-2", "algo-2"),
        ({"SM_MASTER_ADDR": "algo-2"}, "algo-2", "algo-2"),
        ({"MASTER_ADDR": "algo-1", "SM_MASTER_ADDR": "algo-2"}, "algo-1", "algo-1"),
        ({"MASTER_ADDR": "10.0.208.15"}, "algo-1", "10.0.208.15"),
    ],
)
def test_without_launcher_the_host_of_the_main_address_comes_first(
    variables: dict[str, str], leader: str, address: str, detect: Detect
) -> None:
    for host in ("algo-1", "algo-2"):
        process = MODES["own-none-2-hosts"].process(host)
        found = detect({**process.environ, **variables}, process.config)
        assert found is not None
        assert (found.world_hosts[0], found.main_address) == (leader, address)
        assert found.node_rank == (0 if host == leader else 1)


def test_a_leader_in_the_middle_moves_to_the_front_and_the_others_keep_their_order(detect: Detect) -> None:
    process = MODES["v2-none-11-hosts"].process("algo-11")
    found = detect({**process.environ, "MASTER_ADDR": "algo-2"}, process.config)
    assert found is not None
    assert found.world_hosts[:4] == ("algo-2", "algo-1", "algo-10", "algo-11")
    assert found.node_rank == 3


def test_a_main_address_of_the_script_s_own_is_not_the_toolkit_s_mpirun_s(detect: Detect) -> None:
    """Under mpirun stock asks MPI, so a script that writes the first host there, which need not lead, trains."""
    for row, expected in (("v2-mpi-2-hosts", "algo-2"), ("v2-smddp-with-smddprun-2-hosts", "algo-2")):
        for host in ("algo-1", "algo-2"):
            process = MODES[row].process(host)
            job = detect({**process.environ, "MASTER_ADDR": "algo-1"}, process.config)
            assert job is not None
            assert job.main_address == expected
    own = MODES["own-mpirun"].process("algo-1")  # where nothing else tells who leads
    job = detect({**own.environ, "MASTER_ADDR": "algo-2"}, own.config)
    assert job is not None
    assert job.main_address == "algo-2"


# --- the port --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("variables", "port"),
    [
        ({}, 7777),
        ({"MASTER_PORT": ""}, 7777),
        ({"MASTER_PORT": "1"}, 1),
        ({"MASTER_PORT": "65535", "SM_MASTER_PORT": "7778"}, 65535),
        ({"SM_MASTER_PORT": "7778"}, 7778),
    ],
)
def test_the_port_is_the_first_that_is_told(variables: dict[str, str], port: int, detect: Detect) -> None:
    process = MODES["own-none-2-hosts"].process("algo-2")
    found = detect({**process.environ, **variables}, process.config)
    assert found is not None
    assert found.main_port == port


def test_each_mpirun_on_one_host_has_a_port_of_its_own_whatever_is_set(detect: Detect) -> None:
    """As in stock: a script may start several at a time. Where hosts train together the job's port stays."""
    found = set()
    for number in range(3):
        for row, host in (("v2-mpi-1-host", "algo-1"), ("v2-mpi-2-hosts", "algo-2")):
            process = MODES[row].process(host, number)
            environ = {**process.environ, "PMIX_NAMESPACE": f"prterun-{host}-{number // 2}@1"}
            job = detect(environ, process.config)
            assert job is not None
            found.add((row, number // 2, job.main_port))
    ports = [port for row, _, port in sorted(found) if row == "v2-mpi-1-host"]
    assert len(found) == 4
    assert len(set(ports)) == 2
    assert all(10_000 <= port < 29_400 for port in ports)
    assert {port for row, _, port in found if row == "v2-mpi-2-hosts"} == {7777}


@pytest.mark.parametrize("text", ["0", "65536", "-1", "abc", "7777.0", " 7777", "tcp://7777", "99999999999"])
@pytest.mark.parametrize("name", ["MASTER_PORT", "SM_MASTER_PORT"])
@pytest.mark.parametrize("row", ["own-none-2-hosts", "own-mpirun"])
def test_a_port_that_is_none_is_refused(row: str, name: str, text: str, refusal: Callable[..., str]) -> None:
    process = MODES[row].process("algo-2")
    message = refusal({**process.environ, name: text}, process.config)
    assert f"`{name}`={text!r}; expected an integer from 1 to 65535" in message


# --- ranks from outside, without a launcher --------------------------------------------------------------------------


def test_a_node_rank_of_the_script_s_own_order_is_believed_as_in_stock(detect: Detect) -> None:
    found = detect({**NONE.environ, "NODE_RANK": "0"}, NONE.config)
    assert found is not None
    assert (found.current_host, found.node_rank) == ("algo-2", 0)


def test_a_node_rank_beyond_the_hosts_is_refused(refusal: Callable[..., str]) -> None:
    message = refusal({**NONE.environ, "NODE_RANK": "2"}, NONE.config)
    assert "`NODE_RANK`=2, but 2 host(s) of the SageMaker job train together: algo-1, algo-2" in message


@pytest.mark.parametrize("text", ["0", "1", "first"])
def test_a_host_alone_is_the_first_one_whatever_its_node_rank(text: str, detect: Detect) -> None:
    process = MODES["own-none-1-host"].process("algo-1")
    found = detect({**process.environ, "NODE_RANK": text}, process.config)
    assert found is not None
    assert (found.num_nodes, found.node_rank) == (1, 0)


@pytest.mark.parametrize("row", ["own-none-2-hosts", "own-none-1-host"])
def test_what_images_set_for_a_single_process_is_no_launcher_s(row: str, detect: Detect) -> None:
    process = MODES[row].process("algo-1")
    found = detect({**process.environ, "RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0"}, process.config)
    assert found is not None
    assert (found.launcher, found.local_rank) == ("none", 0)


@pytest.mark.parametrize("row", ["own-none-2-hosts", "own-none-1-host"])
@pytest.mark.parametrize("words", [{}, {"LOCAL_WORLD_SIZE": "1"}, {"GROUP_RANK": "0", "GROUP_WORLD_SIZE": "1"}])
def test_a_rank_that_was_there_before_lightning_started_a_process_is_no_launcher_s(
    row: str, words: dict[str, str], detect: Detect
) -> None:
    process = MODES[row].process(MODES[row].hosts[-1])
    parent = detect(process.environ, process.config)
    assert parent is not None
    child = started_by_lightning({**process.environ, "RANK": "0", **words}, parent, 2, 1)
    found = detect({**child, FOREIGN_RANK: "0"}, process.config)
    assert found is not None
    place = (found.launcher, found.node_rank, found.local_rank, found.rank, found.world_size)
    hosts = len(MODES[row].hosts)
    assert place == ("none", hosts - 1, 1, 2 * hosts - 1, 2 * hosts)
    other = detect(
        {**child, "NODE_RANK": "", "RANK": "1", **dict.fromkeys(words, ""), FOREIGN_RANK: "0"}, process.config
    )
    assert other is not None
    assert other.launcher == "custom"  # started by a rank, with a RANK of its own


def test_mpirun_of_one_process_is_no_launcher_on_a_single_host(detect: Detect, refusal: Callable[..., str]) -> None:
    """Lightning starts the others then, as in stock, whose ``MPIEnvironment`` is for more than one."""
    one = {"OMPI_COMM_WORLD_RANK": "0", "OMPI_COMM_WORLD_SIZE": "1"}
    one |= {"OMPI_COMM_WORLD_LOCAL_RANK": "0", "OMPI_COMM_WORLD_LOCAL_SIZE": "1"}
    alone = MODES["v2-none-1-host"].process("algo-1")
    found = detect({**alone.environ, **one}, alone.config)
    assert found == alone.expected
    assert "mpirun started 1 process(es) on 1 host(s)" in refusal({**NONE.environ, **one}, NONE.config)


LOOPBACKS = ["localhost", "127.0.0.1", "127.0.1.1", "0.0.0.0", "::1"]  # noqa: S104 - as images set them


@pytest.mark.parametrize("address", LOOPBACKS)
@pytest.mark.parametrize("row", ["v3-none-2-hosts", "v3-mpi-repaired"])
def test_a_loopback_address_of_an_image_is_not_that_of_rank_zero_on_several_hosts(
    row: str, address: str, detect: Detect
) -> None:
    for process in MODES[row].processes():
        assert detect({**process.environ, "MASTER_ADDR": address}, process.config) == process.expected


@pytest.mark.parametrize("address", LOOPBACKS)
def test_a_loopback_address_is_taken_where_there_is_no_other(address: str, detect: Detect) -> None:
    """Simulated jobs have nothing else; a wait for it is told at the rendezvous."""
    found = detect({**NONE.environ, "MASTER_ADDR": address}, NONE.config)
    assert found is not None
    assert found.main_address == address


@pytest.mark.parametrize(
    ("world_size", "local_rank"),
    [
        ("3", "0"),
        ("1", "0"),
        ("4", "2"),
        ("16", "8"),
        ("100000000", "0"),
        ("2050", "0"),
        ("0", "0"),
        ("all", "1"),
    ],
    ids=["odd", "below-hosts", "local-rank-beyond", "local-rank-is-size", "absurd", "crowd", "zero", "a word"],
)
def test_a_world_size_of_the_script_s_own_tells_nothing_as_in_stock(
    world_size: str, local_rank: str, detect: Detect
) -> None:
    found = detect({**NONE.environ, "WORLD_SIZE": world_size, "LOCAL_RANK": local_rank}, NONE.config)
    assert found is not None
    assert (found.local_rank, found.rank, found.world_size) == (int(local_rank), None, None)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("NODE_RANK", "first"),
        ("NODE_RANK", "-1"),
        ("LOCAL_RANK", "1024"),
        ("LOCAL_RANK", "-1"),
        ("SM_NUM_GPUS", "eight"),
        ("SM_NUM_GPUS", "1025"),
    ],
)
def test_a_variable_that_is_no_number_is_refused(name: str, text: str, refusal: Callable[..., str]) -> None:
    environ = {**NONE.environ, "SM_NUM_GPUS": "0", name: text}
    assert f"`{name}`='{text}'; expected an integer from" in refusal(environ, NONE.config)


def test_1024_devices_on_a_host_are_not_too_many(detect: Detect) -> None:
    found = detect({**NONE.environ, "WORLD_SIZE": "2048", "LOCAL_RANK": "1023"}, NONE.config)
    assert found is not None
    assert (found.local_world_size, found.rank) == (1024, 2047)


def test_a_stray_rank_that_only_children_would_believe_is_refused_there(refusal: Callable[..., str]) -> None:
    environ = {**NONE.environ, "RANK": "0"}  # of the job's own Environment: the same on every host
    for local_rank in range(2):
        child = started_by_lightning(environ, NONE.expected, 2, local_rank)
        assert "RANK=0" in refusal(child, NONE.config)


def test_a_stray_rank_with_one_device_per_host_is_refused_by_the_node_rank(refusal: Callable[..., str]) -> None:
    environ = started_by_lightning({**NONE.environ, "RANK": "0"}, NONE.expected, 1, 0)
    message = refusal(environ, NONE.config)
    assert "`NODE_RANK`=1 contradicts custom" in message
    assert "RANK=0, WORLD_SIZE=2" in message


def test_a_stray_world_size_alone_says_nothing(detect: Detect) -> None:
    assert detect({**NONE.environ, "WORLD_SIZE": "16"}, NONE.config) == NONE.expected


def test_only_gpus_are_devices_for_which_lightning_starts_processes(detect: Detect) -> None:
    for gpus, neurons, told in [("4", "0", 4), ("0", "32", None), ("0", "0", None), ("", "", None)]:
        found = detect({**NONE.environ, "SM_NUM_GPUS": gpus, "SM_NUM_NEURONS": neurons}, NONE.config)
        assert found is not None
        assert found.local_world_size == told


def test_per_host_values_of_the_leader_are_not_believed(detect: Detect) -> None:
    assert json.loads(MPIRUN.environ["SM_RESOURCE_CONFIG"])["current_host"] == "algo-2"
    assert MPIRUN.environ["SM_CURRENT_HOST"] == "algo-2"
    found = detect(MPIRUN.environ, MPIRUN.config)
    assert found is not None
    assert found.current_host == "algo-1"


def test_an_own_launcher_on_one_group_says_ranks_and_address(detect: Detect) -> None:
    process = MODES["own-torchrun-on-1-group"].process("algo-1", 5)
    environ = {**_without(process.environ, *torchrun(process)), **ranks(process)}
    assert detect(environ, process.config) == replace(process.expected, launcher="custom")
