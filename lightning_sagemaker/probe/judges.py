"""How each assumption about the environment is judged; those about process groups need no more than `judging`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lightning_sagemaker.probe.judging import Answer, each, together

if TYPE_CHECKING:
    from lightning_sagemaker.probe.judging import Ranks, Seen

_SHELLS = ("bash", "sh", "dash", "start_with_right")  # Linux cuts a command's name after 15 characters
_PAIRS = {
    "RANK": "OMPI_COMM_WORLD_RANK",
    "LOCAL_RANK": "OMPI_COMM_WORLD_LOCAL_RANK",
    "WORLD_SIZE": "OMPI_COMM_WORLD_SIZE",
    "LOCAL_WORLD_SIZE": "OMPI_COMM_WORLD_LOCAL_SIZE",
    "SMDATAPARALLEL_LOCAL_RANK": "OMPI_COMM_WORLD_LOCAL_RANK",
    "SMDATAPARALLEL_WORLD_RANK": "OMPI_COMM_WORLD_RANK",
    "SMDATAPARALLEL_WORLD_SIZE": "OMPI_COMM_WORLD_SIZE",
}
_SMDDPRUN = ("SMDATAPARALLEL_USE_HOMOGENEOUS", "SMDATAPARALLEL_USE_SINGLENODE")  # of the toolkit's command with it


def simulated(ranks: Ranks) -> bool:
    """Whether the hosts were this machine."""
    return any(seen.get("begin", {}).get("simulated") for seen in ranks.values())


def world(ranks: Ranks) -> Answer:
    """Whether every process reads the same world, and another place in it."""
    verdict, text = each("job", lambda job: ("fails", job["problem"]) if "problem" in job else ("holds", "read"))(ranks)
    if verdict != "holds":
        return verdict, text
    jobs = [seen["job"] for seen in ranks.values()]
    worlds = {(job["launcher"], job["num_nodes"], job["world_size"], job["main_address"]) for job in jobs}
    if len(worlds) > 1:
        return "fails", f"processes read different worlds: {sorted(map(str, worlds))}"
    places = {(job["node_rank"], job["local_rank"]) for job in jobs}
    if len(places) < len(jobs):
        return "fails", f"{len(jobs)} processes read {len(places)} places"
    return "holds", f"{len(jobs)} processes, launcher {jobs[0]['launcher']}, {jobs[0]['num_nodes']} host(s)"


def smddprun_sets_ranks(ranks: Ranks) -> Answer:
    """Whether ``smddprun`` sets torch's variables."""

    def one(seen: Seen) -> Answer:
        if not any(name in seen.get("variables/SMDATAPARALLEL_", {}) for name in _SMDDPRUN):
            return "unknown", "the job was not started for SMDDP"
        missing = [name for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE") if name not in seen["ranks"]]
        if missing and "SMDATAPARALLEL_WORLD_RANK" not in seen["ranks"]:
            return "unknown", "no smddprun: the image has no SMDDP"
        further = sorted(name for name in seen["ranks"] if name.startswith(("LOCAL_WORLD", "GROUP_")))
        also = f", besides {', '.join(further)}" if further else ""
        return ("fails", f"it does not set {', '.join(missing)}") if missing else ("holds", f"it sets all three{also}")

    return together({rank: _safely(one, seen) for rank, seen in ranks.items()})


def ranks_agree(ranks: Ranks) -> Answer:
    """Whether variables that say the same thing have the same value."""

    def one(found: dict[str, str]) -> Answer:
        both = {name: other for name, other in _PAIRS.items() if name in found and other in found}
        wrong = [
            f"{name}={found[name]}, {other}={found[other]}"
            for name, other in both.items()
            if found[name] != found[other]
        ]
        if wrong:
            return "fails", "; ".join(wrong)
        if not both:
            return "unknown", "one launcher only has set ranks"
        return "holds", f"{', '.join(sorted(both))} equal Open MPI's"

    return each("ranks", one)(ranks)


def slots_by_host(ranks: Ranks) -> Answer:
    """Whether mpirun fills host after host."""
    hosts: dict[str, set[int]] = {}
    for seen in ranks.values():
        found = seen.get("ranks", {})
        try:
            index = int(found["OMPI_COMM_WORLD_RANK"]) // int(found["OMPI_COMM_WORLD_LOCAL_SIZE"])
        except (KeyError, ValueError):
            return "unknown", "not all ranks were started by mpirun"
        hosts.setdefault(str(seen.get("resource_config", {}).get("current_host")), set()).add(index)
    if len(hosts) <= 1:
        return "unknown", "all ranks are on one host"
    indices = [index for found in hosts.values() for index in found]
    if len(indices) == len(hosts) == len(set(indices)):
        return "holds", f"{len(hosts)} hosts have {len(hosts)} different values of RANK // LOCAL_SIZE"
    return "fails", f"RANK // LOCAL_SIZE by host: { {host: sorted(found) for host, found in hosts.items()} }"


def host_order(ranks: Ranks) -> Answer:
    """Whether every host has the same lists in the same order."""
    lists: dict[str, str] = {}
    for rank, seen in ranks.items():
        config = seen.get("resource_config", {})
        if "hosts" not in config:
            return "unknown", f"the file of rank {rank} was not heard"
        lists[config["current_host"]] = f"hosts {config['hosts']}, groups {config['groups']}"
    if len(lists) <= 1:
        return "unknown", "there is one host only"
    if len(set(lists.values())) > 1:
        return "fails", "; ".join(f"{host}: {text}" for host, text in lists.items())
    return "holds", f"{len(lists)} hosts have {next(iter(lists.values()))}"


def own_file(ranks: Ranks) -> Answer:
    """Whether the file names this host, and how well the variable with its content travels."""

    def one(seen: Seen) -> Answer:
        own = {seen["resource_config"]["current_host"]}
        where = seen["names"]["own"]
        variable = seen.get("sm_resource_config", {})
        how = "; ".join(f"{key} {value}" for key, value in variable.items() if key in ("in", "how"))
        text = f"SM_RESOURCE_CONFIG is {variable.get('is', 'not heard')}{f' ({how})' if how else ''}"
        named = where in own or not where.startswith("algo-")  # elsewhere a container has another name
        return ("holds", text) if named else ("fails", f"the file names {own}, the host calls itself {where}; {text}")

    return together({rank: _safely(one, seen) for rank, seen in ranks.items()})


def names_resolve(ranks: Ranks) -> Answer:
    """Whether all hosts find all hosts."""
    if simulated(ranks):
        return "unknown", "simulated hosts have no names of their own"

    def one(names: dict[str, Any]) -> Answer:
        if unknown := names["unknown"]:
            return "fails", f"unknown: {', '.join(unknown)}"
        return "holds", "all names are known"

    return each("names", one)(ranks)


def main_host_calls_itself_so(ranks: Ranks) -> Answer:
    """Whether rank 0's own name is the one by which others find it."""
    if simulated(ranks):
        return "unknown", "simulated hosts have no names of their own"
    first = {rank: seen for rank, seen in ranks.items() if seen.get("port", {}).get("asked")}
    if not first:
        return "unknown", "rank 0 was not heard"
    if any(seen["port"]["launcher"] != "mpirun" for seen in first.values()):
        return "unknown", "nothing depends on it without mpirun"

    def one(names: dict[str, Any]) -> Answer:
        text = f"it calls itself {names['own']}, SageMaker calls it {names['current_host']}"
        return ("holds" if names["own"] == names["current_host"] else "fails"), text

    return each("names", one)(first)


def interface(found: dict[str, Any]) -> Answer:
    """Whether the interface that SageMaker names exists."""
    if not found["named"]:
        return "unknown", "resourceconfig.json names none"
    text = f"{found['named']}; there are {', '.join(found['all'])}"
    return ("holds" if found["present"] else "fails"), text


def marks(found: dict[str, bool]) -> Answer:
    """Whether the process can tell that it is in a training job."""
    present = [name for name, there in found.items() if there]
    known = any(found.get(name) for name in ("TRAINING_JOB_NAME", "TRAINING_JOB_ARN", "SM_TRAINING_ENV"))
    return ("holds" if known else "fails"), f"set: {', '.join(present) or 'none'}"


def port(ranks: Ranks) -> Answer:
    """Whether the job's port is free for rank 0, and under torchrun on several hosts held by its agent."""
    asked = {rank: seen for rank, seen in ranks.items() if seen.get("port", {}).get("asked")}
    if not asked:
        return "unknown", "rank 0 was not heard"

    def one(found: dict[str, Any]) -> Answer:
        text = f"port {found['port']} is " + ("free" if found["free"] else f"held by {found.get('holder')}")
        held_by_agent = found["launcher"] == "torchrun"
        return ("holds" if found["free"] != held_by_agent else "fails"), f"{text}, launcher {found['launcher']}"

    return each("port", one)(asked)


def checkpoint_config(found: dict[str, Any]) -> Answer:
    """Whether the file of a job without checkpoints is absent, and that of one with them names their folder."""
    if not found["present"]:
        return "holds", "absent, and the probing job has no CheckpointConfig"
    named = found.get("local_path")
    return ("holds" if named and found.get("folder") else "fails"), f"present, LocalPath {named!r}"


def signals(ranks: Ranks) -> Answer:
    """Whether process 1 is a shell that does not hand SIGTERM on."""
    if simulated(ranks):
        return "unknown", "process 1 is that of this machine"

    def one(chain: list[dict[str, Any]]) -> Answer:
        first = chain[-1]
        names = " < ".join(process["name"] for process in chain)
        if first["pid"] != 1:
            return "unknown", f"process 1 is not among the parents: {names}"
        deaf = first["name"].startswith(_SHELLS) and not first["catches_sigterm"]
        return ("holds" if deaf else "fails"), f"{names}; process 1 {'ignores' if deaf else 'may hand on'} SIGTERM"

    return each("processes", one)(ranks)


def meeting(found: dict[str, Any]) -> Answer:
    """Whether all ranks met at a port of their own on the host of rank 0."""
    return ("holds", "all ranks came") if found["outcome"] == "ok" else ("fails", found["text"])


def ends_quietly(found: dict[str, Any]) -> Answer:
    """Whether processes end that have not destroyed their group."""
    if found["outcome"] == "not tried":
        return "unknown", found["text"]
    last = found["processes"][-1]
    if last["hang"]:
        return "fails", "it does not end"
    return ("holds" if last["code"] == 0 else "fails"), f"exit code {last['code']}"


def device_id(found: dict[str, Any]) -> Answer:
    """What comes of a group that is bound to its device: either is fine, but not silence."""
    outcome, text = found["outcome"], found.get("text", "")
    if outcome == "not tried":
        return "unknown", f"not tried: {text}"
    if outcome in ("ok", "error"):
        return "holds", "it works" if outcome == "ok" else f"it raises {text}"
    return "fails", f"{outcome}: {text}"


def _safely(judge: Any, seen: Seen) -> Answer:
    try:
        answer: Answer = judge(seen)
    except (KeyError, TypeError) as error:
        return "unknown", f"{error} was not heard"
    return answer
