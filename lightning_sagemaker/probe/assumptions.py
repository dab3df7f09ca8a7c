"""What this package assumes of SageMaker and SMDDP without having seen it, and which observations tell."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from lightning_sagemaker.probe import judges
from lightning_sagemaker.probe.judging import each, refused, worked

if TYPE_CHECKING:
    from lightning_sagemaker.probe.judging import Answer, Judge, Ranks

_SOURCE, _DOC, _SMDDP_DOC = "toolkit source", "AWS documentation", "AWS documentation of SMDDP"


@dataclass(frozen=True)
class Assumption:
    """Something that is assumed.

    Attributes:
        key: Its name; it stays the same from version to version.
        question: What is asked.
        expected: What this package assumes.
        where: What depends on it.
        source: Where the assumption is from.
        keys: Observations that it is judged by; those of a trial end with ``/``.
        judge: Gives verdict and sentence from what all ranks saw.
    """

    key: str
    question: str
    expected: str
    where: str
    source: str
    keys: tuple[str, ...]
    judge: Judge


def _device_id(ranks: Ranks) -> Answer:
    """The first of the operations that did not work, else the last."""
    for operation in ("init", "all_reduce_sum", "barrier"):
        key = f"smddp_device_id/{operation}"
        verdict, text = each(
            key if any(key in seen for seen in ranks.values()) else "smddp_device_id/end", judges.device_id
        )(ranks)
        if text != "it works":
            break
    return verdict, text if text == "it works" or verdict == "unknown" else f"{operation}: {text}"


ASSUMPTIONS = (
    Assumption(
        "world",
        "Does every process read the same world, and another place in it?",
        "one world over all hosts",
        "SageMakerJob",
        _SOURCE,
        ("job",),
        judges.world,
    ),
    Assumption(
        "smddprun-ranks",
        "Which of torch's variables does smddprun set?",
        "RANK, LOCAL_RANK and WORLD_SIZE",
        "SageMakerJob; scripts that read them",
        _DOC,
        ("ranks", "variables/SMDATAPARALLEL_"),
        judges.smddprun_sets_ranks,
    ),
    Assumption(
        "ranks-agree",
        "Do ranks of different origin agree?",
        "RANK, LOCAL_RANK, WORLD_SIZE and SMDATAPARALLEL_* equal OMPI_COMM_WORLD_*",
        "SageMakerJob",
        _SOURCE,
        ("ranks",),
        judges.ranks_agree,
    ),
    Assumption(
        "slots-by-host",
        "Does mpirun fill host after host?",
        "RANK // LOCAL_SIZE is the index of the host",
        "node ranks under mpirun",
        _SOURCE,
        ("ranks", "resource_config"),
        judges.slots_by_host,
    ),
    Assumption(
        "host-order",
        "Has every host's resourceconfig.json the same order of hosts?",
        "the same, in `hosts` and in `instance_groups[].hosts`",
        "node ranks without a launcher; the leader",
        _SOURCE,
        ("resource_config",),
        judges.host_order,
    ),
    Assumption(
        "own-file",
        "Is resourceconfig.json each host's own, and does SM_RESOURCE_CONFIG arrive whole?",
        "the file is; the variable may be damaged or another host's, and is not believed",
        "SageMakerJob",
        _SOURCE,
        ("resource_config", "sm_resource_config", "names"),
        judges.own_file,
    ),
    Assumption(
        "names-resolve",
        "Do the names of all hosts resolve on all hosts?",
        "yes, once the script runs",
        "main address, reachability checks",
        _SOURCE,
        ("names",),
        judges.names_resolve,
    ),
    Assumption(
        "main-host-name",
        "Does rank 0's host call itself as SageMaker does?",
        "yes; Lightning's MPIEnvironment needs it, this package does not",
        "stock Lightning under mpirun",
        _SOURCE,
        ("names", "port"),
        judges.main_host_calls_itself_so,
    ),
    Assumption(
        "interface",
        "Does the interface exist that resourceconfig.json names?",
        "yes",
        "GLOO_SOCKET_IFNAME",
        _DOC,
        ("interface",),
        each("interface", judges.interface),
    ),
    Assumption(
        "marks",
        "Does every process know that it is in a training job?",
        "TRAINING_JOB_NAME, TRAINING_JOB_ARN or SM_TRAINING_ENV is set, also by mpirun on other hosts",
        "whether the package does anything at all",
        _DOC,
        ("marks",),
        each("marks", judges.marks),
    ),
    Assumption(
        "port",
        "Is the job's port free for rank 0?",
        "yes; under torchrun its agent holds it",
        "rendezvous",
        _SOURCE,
        ("port",),
        judges.port,
    ),
    Assumption(
        "checkpoint-config",
        "Is checkpointconfig.json there only for a job with checkpoints?",
        "absent without, with LocalPath otherwise",
        "latest_checkpoint",
        _DOC,
        ("checkpoint_config",),
        each("checkpoint_config", judges.checkpoint_config),
    ),
    Assumption(
        "signals",
        "Does SIGTERM stop at process 1?",
        "yes: a shell that hands nothing on, so that training is not told of a stop",
        "SIGTERM handling, checkpoints",
        _DOC,
        ("processes",),
        judges.signals,
    ),
    Assumption(
        "hosts-meet",
        "Do all ranks reach a further port on the host of rank 0?",
        "yes: a job's hosts may talk on every port",
        "reachability checks, heartbeat",
        _DOC,
        ("meeting",),
        each("meeting", judges.meeting),
    ),
    Assumption(
        "rendezvous",
        "Can a group be made by the job's address and port?",
        "yes",
        "every process group",
        _SOURCE,
        ("gloo/", "variables/MASTER_"),
        worked("gloo", "rendezvous"),
    ),
    Assumption(
        "rendezvous-again",
        "Can a second group be made by them at once, when the first has been destroyed?",
        "yes: the first's TIME_WAIT does not prevent it",
        "several Trainers in one script",
        "TCP",
        ("gloo/",),
        worked("gloo", "rendezvous_again"),
    ),
    Assumption(
        "nccl",
        "Does NCCL do what Lightning asks of it, with a gloo group beside?",
        "yes",
        "every strategy but smddp",
        "torch documentation",
        ("nccl/",),
        worked("nccl", "init", "all_reduce_sum", "all_reduce_avg", "barrier", "gloo_group_beside"),
    ),
    Assumption(
        "smddp-collectives",
        "Do the documented collectives of SMDDP work, SUM only?",
        "yes",
        'strategy="smddp"',
        _SMDDP_DOC,
        ("smddp/",),
        worked(
            *("smddp", "init", "all_reduce_sum", "all_reduce_sum_int64", "broadcast", "all_gather", "barrier"),
            "reduce",
        ),
    ),
    Assumption(
        "smddp-sum-only",
        "Does SMDDP refuse reductions other than SUM?",
        "yes, with an error",
        "reductions of the smddp strategies",
        _SMDDP_DOC,
        ("smddp/",),
        refused("smddp", "all_reduce_avg", "all_reduce_max"),
    ),
    Assumption(
        "smddp-objects",
        "Can objects be broadcast by tensors on the device?",
        "yes",
        "broadcast of the smddp strategies",
        _SMDDP_DOC,
        ("smddp/",),
        worked("smddp", "broadcast_object"),
    ),
    Assumption(
        "smddp-cpu-tensors",
        "Does SMDDP refuse CPU tensors?",
        "yes, with an error",
        "broadcast of the smddp strategies",
        _SMDDP_DOC,
        ("smddp/",),
        refused("smddp", "cpu_tensor"),
    ),
    Assumption(
        "smddp-other-collectives",
        "Does SMDDP refuse what its documentation does not list?",
        "gather, scatter, all_to_all and barrier(device_ids) raise an error",
        "the smddp strategies",
        _SMDDP_DOC,
        ("smddp/",),
        refused("smddp", "gather", "scatter", "all_to_all", "barrier_device_ids"),
    ),
    Assumption(
        "smddp-new-group",
        "Does SMDDP refuse further groups, also one on gloo?",
        "yes, with an error",
        "prepare_data of Lightning; the smddp strategies make no group",
        _SMDDP_DOC,
        ("smddp/",),
        refused("smddp", "gloo_group_beside", "new_group"),
    ),
    Assumption(
        "smddp-device-id",
        "What comes of device_id, which Lightning gives since 2.5.5, on SMDDP?",
        "it works or raises; the smddp strategies leave it out",
        "stock DDPStrategy with process_group_backend",
        "torch source",
        ("smddp_device_id/",),
        _device_id,
    ),
    Assumption(
        "smddp-second-init",
        "Can SMDDP's group be made again after it was destroyed?",
        "yes",
        "several Trainers in one script",
        _SMDDP_DOC,
        ("smddp/",),
        worked("smddp", "second_init"),
    ),
    Assumption(
        "smddp-exit",
        "Does a process end that has not destroyed its SMDDP group?",
        "yes, with exit code 0",
        "stock Lightning, which destroys only NCCL's",
        "Lightning source",
        ("smddp_exit/",),
        each("smddp_exit/end", judges.ends_quietly),
    ),
)
