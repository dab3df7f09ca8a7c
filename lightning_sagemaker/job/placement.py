"""The place of one process: the hosts that train together, its node rank and ranks, and the address of rank 0."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lightning_sagemaker.job.launchers import MOST_PROCESSES_PER_HOST, Launcher, World, lightning_local_rank, read_world
from lightning_sagemaker.job.values import DAMAGED, integer, json_value, shown, some

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from lightning_sagemaker.job.resources import Resources

_V3_MASTER = "algo-1"  # SDK v3 writes this constant, whatever the hosts are called
_LOOPBACK = "127.0.0.1"


@dataclass(frozen=True)
class Place:
    """This process's place in the world; :class:`SageMakerJob` says what the fields are."""

    launcher: Launcher
    world_hosts: tuple[str, ...]
    num_nodes: int
    node_rank: int
    local_world_size: int | None
    local_rank: int
    rank: int | None
    world_size: int | None
    main_address: str


def find_place(environ: Mapping[str, str], resources: Resources, sdk: str | None) -> Place:
    """Find this process's place, in the world of its launcher or, without one, among the hosts of the job."""
    distributed = _distribution_hosts(environ, resources)
    # Without a launcher, only hosts of one group can form a world: groups differ in instance type and so in devices.
    joining = {*resources.group_hosts}.intersection(distributed or resources.hosts)
    world = read_world(environ, len(joining))
    if world is None:
        return _without_launcher(environ, resources, [host for host in resources.hosts if host in joining])
    launchable = _launchable_hosts(resources, distributed, sdk)
    hosts = next((hosts for hosts in launchable if len(hosts) == world.num_nodes), None)
    if hosts is None:
        raise ValueError(_wrong_span(environ, world, launchable[0], sdk))
    address = _launched_main_address(environ, world, hosts, sdk)
    return Place(
        launcher=world.launcher,
        world_hosts=hosts,
        num_nodes=world.num_nodes,
        node_rank=world.node_rank,
        local_world_size=world.local_size,
        local_rank=world.local_rank,
        rank=world.rank,
        world_size=world.size,
        main_address=address,
    )


def _distribution_hosts(environ: Mapping[str, str], resources: Resources) -> tuple[str, ...] | None:
    """Hosts that v2's ``distribution=`` joins with this one, in group order; ``None`` if it names no groups.

    A host outside the distribution's groups is on its own: it must not join the others' world.
    """
    text = environ.get("SM_DISTRIBUTION_INSTANCE_GROUPS")
    if len(resources.instance_groups) < 2 or not text:  # noqa: PLR2004 - one group is no choice
        return None
    groups = json_value(text, "SM_DISTRIBUTION_INSTANCE_GROUPS")
    if not isinstance(groups, list):
        raise ValueError(f"SM_DISTRIBUTION_INSTANCE_GROUPS={shown(text)}; expected a JSON list of names. {DAMAGED}")
    distributed = tuple(
        host for name, members in resources.instance_groups.items() if name in groups for host in members
    )
    if not distributed or resources.current_host in distributed:
        return distributed or None
    return (resources.current_host,)


# --- with a launcher -------------------------------------------------------------------------------------------------


def _launchable_hosts(
    resources: Resources, distributed: tuple[str, ...] | None, sdk: str | None
) -> tuple[tuple[str, ...], ...]:
    """The sets of hosts that a launcher may span, the likeliest first, each in the order of node ranks."""
    if distributed is not None:
        return (distributed,)
    if sdk == "v3":
        return (resources.hosts,)
    # Nothing is said of groups: an own entry point, or a variable lost on the way through ssh.
    return (resources.group_hosts, resources.hosts) if sdk == "v2" else (resources.hosts, resources.group_hosts)


def _wrong_span(environ: Mapping[str, str], world: World, hosts: Sequence[str], sdk: str | None) -> str:
    total = world.local_size * len(hosts)
    if world.launcher == "mpirun" and environ.get("SM_HOSTS_LIST"):  # set for `@remote` alone
        hint = (
            "`@remote(use_mpirun=True)` gives mpirun the processes of one host as the total (`-np`), and has no option"
            " for it: use `@remote(use_torchrun=True)`."
        )
    elif sdk == "v3" and world.launcher == "mpirun":
        hint = (
            "SDK v3's MPI() gives mpirun the processes of one host as the total (`-np`). Pass"
            f' MPI(process_count_per_node={world.local_size}, mpi_additional_options=["-np", "{total}"]).'
        )
    else:
        hint = (
            f"let {world.launcher} span all of them (torchrun: `--nnodes {len(hosts)} --node_rank ...`; mpirun:"
            f" `-np {total}`)."
        )
    return (
        f"{world.launcher} started {world.size} process(es) on {world.num_nodes} host(s) ({world}), but {len(hosts)}"
        f" hosts of this SageMaker job should train together: {some(hosts)}. They would train apart or idle, and the"
        f" job would be called a success. HINT: {hint} To train apart on purpose, set LIGHTNING_SAGEMAKER_AUTOLOAD=0."
    )


def _launched_main_address(environ: Mapping[str, str], world: World, hosts: Sequence[str], sdk: str | None) -> str:
    address = _given_address(environ, hosts, "MASTER_ADDR", "SMDATAPARALLEL_SERVER_ADDR", "SM_MASTER_ADDR")
    # The toolkit names the groups for which it starts a launcher.
    is_of_toolkit = sdk == "v2" and environ.get("SM_DISTRIBUTION_INSTANCE_GROUPS", "") not in ("", "[]")
    if world.launcher == "mpirun" and (address is None or (address in hosts[1:] and is_of_toolkit)):
        # mpirun fills the hosts in the order of the group, which begins with the leader. Another host's name is the
        # script's own, which stock does not look at.
        return hosts[0]
    if address is not None:
        return address
    if len(hosts) == 1:
        return _LOOPBACK  # as Lightning's TorchElasticEnvironment has it
    raise ValueError(
        f"{world.launcher} started this process ({world}) without `MASTER_ADDR`, so the address of rank 0 is unknown."
        f" HINT: set MASTER_ADDR on all hosts to the name of the host of rank 0; the hosts are {some(hosts)}."
    )


def _given_address(environ: Mapping[str, str], hosts: Sequence[str], *names: str) -> str | None:
    """The first address that is set; with several hosts, a loopback address only if there is no other.

    Images and scripts leave ``MASTER_ADDR=localhost``, which SDK v3 does not overwrite. Simulated jobs have only that.
    """
    given = [address for name in names if (address := environ.get(name))]
    others = [address for address in given if len(hosts) == 1 or not _is_loopback(address)]
    return next(iter(others or given), None)


def _is_loopback(address: str) -> bool:
    return address in {"localhost", "0.0.0.0", "::1"} or address.startswith("127.")  # noqa: S104 - compared, not bound


# --- without a launcher ----------------------------------------------------------------------------------------------


def _without_launcher(environ: Mapping[str, str], resources: Resources, joining: Sequence[str]) -> Place:
    leader, main_address = _leader(environ, resources.hosts, joining)
    hosts = [leader, *(host for host in joining if host != leader)]  # as far as the order is known here
    num_nodes, node_rank = len(hosts), hosts.index(resources.current_host)
    # A host alone is the first one, whatever a script has made of its name: stock asks only where ranks train together.
    if num_nodes > 1 and (given := integer(environ, "NODE_RANK")) is not None:
        # Stock Lightning goes by it. Whether the hosts' numbers fit together is seen at the rendezvous.
        if given >= num_nodes:
            raise ValueError(
                f"Environment variable `NODE_RANK`={given}, but {num_nodes} host(s) of the SageMaker job train"
                f" together: {some(hosts)}. HINT: remove `NODE_RANK` from the job's environment and from your entry"
                " script: it is derived from the job."
            )
        hosts[node_rank], hosts[given] = hosts[given], hosts[node_rank]
        node_rank = given
    local_rank = lightning_local_rank(environ)
    world_size = local_size = rank = None
    with suppress(ValueError):  # stock does not read it here, so it may be malformed
        world_size = integer(environ, "WORLD_SIZE", least=1)
    if local_rank is None or world_size is None:
        # Not SM_NUM_NEURONS: no accelerator of Lightning's uses Neuron cores, so each would be a process on the CPU.
        local_size, world_size = integer(environ, "SM_NUM_GPUS", most=MOST_PROCESSES_PER_HOST) or None, None
    elif world_size % num_nodes or not local_rank < world_size // num_nodes <= MOST_PROCESSES_PER_HOST:
        world_size = None  # Lightning's launcher has set it, and then the script, to its own. Stock never reads it.
    else:
        local_size = world_size // num_nodes
        rank = node_rank * local_size + local_rank
    return Place(
        "none", tuple(hosts), num_nodes, node_rank, local_size, local_rank or 0, rank, world_size, main_address
    )


def _leader(environ: Mapping[str, str], all_hosts: Sequence[str], hosts: Sequence[str]) -> tuple[str, str]:
    """Host of node rank 0, and its address."""
    if len(hosts) == 1:
        return hosts[0], _LOOPBACK  # works where the host's own name does not resolve (Studio's local mode)
    address = _given_address(environ, hosts, "MASTER_ADDR", "SM_MASTER_ADDR") or hosts[0]
    if address in hosts:
        return address, address
    if address in all_hosts or address == _V3_MASTER:  # another group's leader, or SDK v3's constant
        return hosts[0], hosts[0]
    return hosts[0], address  # an address, not a name
