"""Every variable that decides about a training process's world: what stock goes by, and what this package goes by.

Each row is run, without and with the package (``test_variables.py``); scripts/variables_table.py makes the table of
docs/launch-modes.md from it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

TORCH = "env://"
COLUMNS = {
    "none": "no launcher",
    "torchrun": "torchrun",
    "mpirun": "mpirun",
    "custom": "another launcher",
    "slurm": "Slurm",
    TORCH: "torch's `env://`",
}


@dataclass(frozen=True)
class Variable:
    """A row.

    Attributes:
        name: The variable.
        set_by: Who sets it.
        values: Other values that are tried.
        stock: By column, what is other with another value in stock Lightning, and whether it is an error then, or where
            the variable is not set. Only columns in which anything is.
        here: The same with this package.
        by: ``"Fabric"`` or ``"Trainer"`` for what decides only where the script says neither ``devices`` nor
            ``num_nodes``; tried without a launcher.
        read: Whether :class:`SageMakerJob` looks at it.
        note: What else there is to say.
    """

    name: str
    set_by: str
    values: tuple[str, ...] = ("1", "0")
    stock: Mapping[str, str] = field(default_factory=dict)
    here: Mapping[str, str] = field(default_factory=dict)
    by: str = ""
    read: bool = False
    note: str = ""


VARIABLES = (
    Variable(
        "TRAINING_JOB_ARN",
        "SageMaker",
        read=True,
        note="shows that it is a job",
    ),
    Variable(
        "TRAINING_JOB_NAME",
        "SageMaker, local mode too",
        read=True,
        note="shows that it is a job; its name",
    ),
    Variable(
        "SM_TRAINING_ENV",
        "toolkit, SDK v3's driver",
        read=True,
        note="shows that it is a job; its content is never read",
    ),
    Variable(
        "SAGEMAKER_JOB_NAME",
        "toolkit",
        read=True,
        note="the job's name where `TRAINING_JOB_NAME` is missing",
    ),
    Variable(
        "SAGEMAKER_BASE_DIR",
        "tests and simulations",
        values=("/nowhere",),
        here={"custom": "environment, node rank, rank"},
        read=True,
        note="`/opt/ml` somewhere else. With no `resourceconfig.json` there, nor `SM_RESOURCE_CONFIG`, it is no job",
    ),
    Variable(
        "SM_RESOURCE_CONFIG",
        "toolkit, SDK v3's driver",
        values=("{}",),
        read=True,
        note="content of `resourceconfig.json`, where there is no file",
    ),
    Variable(
        "CURRENT_HOST",
        "toolkit",
        read=True,
        note="this host's name, only with `SM_RESOURCE_CONFIG`",
    ),
    Variable(
        "SM_CURRENT_HOST",
        "toolkit, SDK v3's driver",
        note="not read: mpirun sends the leader's to every host",
    ),
    Variable(
        "SM_HOSTS",
        "toolkit, SDK v3's driver",
        values=('["a"]',),
        read=True,
        note="whether it was v2 or v3: only that it is there",
    ),
    Variable(
        "SM_HOST_COUNT",
        "SDK v3's driver",
        read=True,
        note="v3's mark: only that it is there",
    ),
    Variable(
        "SM_CURRENT_HOST_RANK",
        "SDK v3's driver",
        read=True,
        note="v3's mark: only that it is there",
    ),
    Variable(
        "SM_HOSTS_LIST",
        "`@remote` of SDK v2 and v3",
        read=True,
        note="whose mpirun it was, for a hint",
    ),
    Variable(
        "SM_DISTRIBUTION_INSTANCE_GROUPS",
        "toolkit",
        values=('["gpu"]', '["cpu"]'),
        read=True,
        note="which instance groups train together, where there are several",
    ),
    Variable(
        "SM_NUM_GPUS",
        "toolkit, SDK v3's driver",
        values=("3",),
        here={"none": "devices, world size, rank"},
        by="Fabric",
        read=True,
        note='processes per host on the CPU with `devices="auto"`, where torch sees no GPU',
    ),
    Variable(
        "SM_NUM_NEURONS",
        "toolkit, SDK v3's driver",
        values=("3",),
        by="Fabric",
        note="not read: no accelerator of Lightning's uses Neuron cores",
    ),
    Variable(
        "SM_NETWORK_INTERFACE_NAME",
        "toolkit, SDK v3's driver",
        values=("ethx",),
        note="not read: `resourceconfig.json` names the interface",
    ),
    Variable(
        "SM_MASTER_ADDR",
        "SDK v3's driver",
        values=("elsewhere",),
        here={"none": "main address", "mpirun": "main address"},
        read=True,
        note="main address, after `MASTER_ADDR`; v3's mark",
    ),
    Variable(
        "SM_MASTER_PORT",
        "SDK v3's driver",
        here={"none": "error if other, main port", "mpirun": "error if other, main port"},
        read=True,
        note="main port, after `MASTER_PORT`",
    ),
    Variable(
        "MASTER_ADDR",
        "toolkit, torchrun, scripts",
        values=("elsewhere",),
        stock={
            "none": "main address",
            "slurm": "main address",
            "torchrun": "main address",
            "mpirun": "main address",
            "custom": "main address",
            "env://": "error if unset",
        },
        here={
            "none": "main address",
            "slurm": "main address",
            "torchrun": "error if unset, main address",
            "mpirun": "main address",
            "custom": "error if unset, main address",
            "env://": "error if unset",
        },
        read=True,
        note=(
            "a loopback address, left by an image, comes last on several hosts; another host's name is ignored"
            " under the toolkit's mpirun"
        ),
    ),
    Variable(
        "MASTER_PORT",
        "toolkit, torchrun, scripts",
        stock={
            "none": "main port",
            "slurm": "main port",
            "torchrun": "main port",
            "mpirun": "main port",
            "custom": "main port",
            "env://": "error if unset",
        },
        here={
            "none": "error if other, main port",
            "slurm": "main port",
            "torchrun": "error if other, main port",
            "mpirun": "error if other, main port",
            "custom": "error if other, main port",
            "env://": "error if unset",
        },
        read=True,
    ),
    Variable(
        "SMDATAPARALLEL_SERVER_ADDR",
        "toolkit, for SMDDP on several hosts",
        values=("elsewhere",),
        here={"mpirun": "main address"},
        read=True,
        note="main address where `MASTER_ADDR` is missing",
    ),
    Variable(
        "RANK",
        "torchrun, smddprun, images",
        values=("1", "0"),
        stock={
            "none": "early rank",
            "slurm": "early rank",
            "torchrun": "error if unset, rank, early rank",
            "mpirun": "early rank",
            "custom": "early rank",
            "env://": "error if unset",
        },
        here={
            "none": "early rank",
            "slurm": "early rank",
            "torchrun": "error if unset, error if other",
            "mpirun": "error if other",
            "custom": "error if other, node rank, rank, early rank",
            "env://": "error if unset",
        },
        read=True,
        note="without a launcher it tells nothing, in the processes that Lightning starts neither",
    ),
    Variable(
        "WORLD_SIZE",
        "torchrun, smddprun, Lightning's launcher, images",
        values=("6",),
        stock={"torchrun": "error if unset, world size", "env://": "error if unset"},
        here={
            "torchrun": "error if unset, error if other",
            "mpirun": "error if other",
            "custom": "error if other",
            "env://": "error if unset",
        },
        read=True,
    ),
    Variable(
        "LOCAL_RANK",
        "torchrun, smddprun, Lightning's launcher, images",
        values=("1", "0"),
        stock={
            "none": "who starts processes, local rank, rank, early rank",
            "slurm": "early rank",
            "torchrun": "error if unset, local rank",
            "mpirun": "who starts processes, local rank, rank, early rank",
            "custom": "local rank, rank",
        },
        here={
            "none": "who starts processes, local rank, rank, early rank",
            "slurm": "early rank",
            "torchrun": "error if unset, error if other",
            "mpirun": "error if other, early rank",
            "custom": "error if other",
        },
        read=True,
        note=(
            "without a launcher: processes are started by hand, or by Lightning already; `RANK=0 WORLD_SIZE=1 "
            "LOCAL_RANK=0` tells nothing"
        ),
    ),
    Variable(
        "LOCAL_WORLD_SIZE",
        "torchrun",
        values=("3",),
        here={"torchrun": "error if unset, error if other", "custom": "error if other"},
        read=True,
    ),
    Variable(
        "NODE_RANK",
        "scripts, Lightning's launcher",
        values=("1", "0"),
        stock={"none": "node rank, rank", "mpirun": "node rank, rank", "custom": "node rank, rank"},
        here={"none": "node rank, rank", "custom": "error if other"},
        read=True,
    ),
    Variable(
        "GROUP_RANK",
        "torchrun",
        values=("1", "0"),
        stock={
            "none": "node rank, rank",
            "torchrun": "node rank",
            "mpirun": "node rank, rank",
            "custom": "node rank, rank",
        },
        here={"torchrun": "error if other", "custom": "error if other"},
        read=True,
        note="without a launcher the job's order stands; stock takes it for `NODE_RANK`",
    ),
    Variable(
        "GROUP_WORLD_SIZE",
        "torchrun",
        values=("1",),
        here={"torchrun": "error if other", "custom": "error if other"},
        read=True,
    ),
    Variable(
        "TORCHELASTIC_RUN_ID",
        "torchrun",
        stock={
            "none": "error if other",
            "slurm": "error if other",
            "mpirun": "error if other, environment, rank",
            "custom": "environment, rank",
        },
        here={
            "none": "error if other",
            "slurm": "error if other",
            "mpirun": "error if other",
            "custom": "error if other",
        },
        read=True,
        note="its mark",
    ),
    Variable(
        "TORCHELASTIC_RESTART_COUNT",
        "torchrun",
        note="keeps attempts apart in the store",
    ),
    Variable(
        "TORCHELASTIC_USE_AGENT_STORE",
        "torchrun",
        note="whether an agent listens at the main address, so that nobody there is an error",
    ),
    Variable(
        "OMPI_COMM_WORLD_SIZE",
        "Open MPI",
        values=("6",),
        here={"none": "error if other", "mpirun": "error if other", "custom": "error if other"},
        read=True,
        note="its mark. 1 on a single host is no launcher's, as for `MPIEnvironment`",
    ),
    Variable(
        "OMPI_COMM_WORLD_RANK",
        "Open MPI",
        values=("1", "0"),
        here={"mpirun": "error if unset, error if other, node rank, rank"},
        read=True,
    ),
    Variable(
        "OMPI_COMM_WORLD_LOCAL_SIZE",
        "Open MPI",
        values=("3",),
        here={"mpirun": "error if unset, error if other"},
        read=True,
    ),
    Variable(
        "OMPI_COMM_WORLD_LOCAL_RANK",
        "Open MPI",
        values=("1", "0"),
        here={"mpirun": "error if unset, error if other"},
        read=True,
    ),
    Variable(
        "OMPI_COMM_WORLD_NODE_RANK",
        "Open MPI",
        values=("1", "0"),
        note="not read: it is the rank on the node, whatever its name says",
    ),
    Variable(
        "PMI_RANK",
        "other MPIs",
        note="which process stands for a run that shares locks, outside jobs",
    ),
    Variable(
        "PMI_SIZE",
        "other MPIs",
    ),
    Variable(
        "PMIX_NAMESPACE",
        "Open MPI, Slurm",
        values=("prterun-algo-8@1",),
        read=True,
        note="main port of an mpirun on one host: each has its own",
    ),
    Variable(
        "PMIX_RANK",
        "Open MPI, Slurm",
        note="as `PMI_RANK`",
    ),
    Variable(
        "LOCAL_SIZE",
        "deepspeed",
        values=("3",),
        here={"custom": "error if other"},
        read=True,
        note="with `CROSS_SIZE` its mark: processes per host",
    ),
    Variable(
        "CROSS_SIZE",
        "deepspeed",
        values=("1",),
        here={"custom": "error if other"},
        read=True,
    ),
    Variable(
        "CROSS_RANK",
        "deepspeed",
        values=("0",),
        here={"custom": "error if other"},
        read=True,
    ),
    Variable(
        "SLURM_NTASKS",
        "Slurm",
        values=("4",),
        stock={"none": "error if other", "mpirun": "error if other", "custom": "error if other"},
        here={
            "none": "error if other",
            "torchrun": "environment",
            "mpirun": "error if other",
            "custom": "error if other",
        },
        note="its mark for Lightning; Lightning chooses then",
    ),
    Variable(
        "SLURM_JOB_NAME",
        "Slurm",
        values=("interactive",),
        stock={"slurm": "environment, who starts processes, node rank, local rank, rank"},
        here={"slurm": "environment, who starts processes, local rank, rank"},
        note="`interactive` and `bash` switch Slurm off in Lightning, and the job is found",
    ),
    Variable(
        "SLURM_JOB_ID",
        "Slurm",
    ),
    Variable(
        "SLURM_NTASKS_PER_NODE",
        "Slurm",
        stock={"slurm": "error if unset"},
        here={"slurm": "error if unset"},
    ),
    Variable(
        "SLURM_PROCID",
        "Slurm",
        values=("1", "0"),
        stock={"none": "early rank", "slurm": "error if unset, rank, early rank", "mpirun": "early rank"},
        here={"none": "early rank", "slurm": "error if unset, rank, early rank", "mpirun": "early rank"},
        note="as `PMI_RANK`",
    ),
    Variable(
        "SLURM_NODEID",
        "Slurm",
        values=("0",),
        stock={"slurm": "error if unset, node rank"},
        here={"slurm": "error if unset, node rank"},
    ),
    Variable(
        "SLURM_LOCALID",
        "Slurm",
        values=("0",),
        stock={"slurm": "error if unset, local rank"},
        here={"slurm": "error if unset, local rank"},
    ),
    Variable(
        "LSB_JOBID",
        "LSF",
        note=(
            "LSF's environment wins where all four of `LSB_JOBID`, `LSB_DJOB_RANKFILE`, "
            "`JSM_NAMESPACE_LOCAL_RANK`, `JSM_NAMESPACE_SIZE` are set"
        ),
    ),
    Variable(
        "JSM_NAMESPACE_SIZE",
        "LSF",
    ),
    Variable(
        "JSM_NAMESPACE_RANK",
        "LSF",
        values=("1", "0"),
        stock={"none": "early rank", "mpirun": "early rank"},
        here={"none": "early rank", "mpirun": "early rank"},
    ),
    Variable(
        "KUBERNETES_PORT",
        "Kubernetes",
        note="Lightning's `KubeflowEnvironment` is never chosen by itself",
    ),
    Variable(
        "STANDALONE_PORT",
        "Lightning's tests",
        note="stock's port where `MASTER_PORT` is not set",
    ),
    Variable(
        "LT_CLI_USED",
        "`fabric run`",
        note="Fabric launches when it is made",
    ),
    Variable(
        "LT_DEVICES",
        "`fabric run`",
        values=("3",),
        stock={"none": "environment, devices, world size"},
        here={"none": "devices, world size, rank"},
        by="Fabric",
        note="`Fabric(devices=)`, beats the argument",
    ),
    Variable(
        "LT_NUM_NODES",
        "`fabric run`",
        values=("3",),
        stock={"none": "environment, hosts, world size"},
        here={"none": "error if other"},
        by="Fabric",
        note="`Fabric(num_nodes=)`, beats the argument; 1 yields to the job",
    ),
    Variable(
        "PL_TRAINER_DEVICES",
        "you",
        values=("3",),
        stock={"none": "environment, devices, world size"},
        here={"none": "devices, world size, rank"},
        by="Trainer",
        note="default of `Trainer(devices=)`",
    ),
    Variable(
        "PL_TRAINER_NUM_NODES",
        "you",
        values=("3",),
        stock={"none": "environment, hosts, world size"},
        here={"none": "error if other"},
        by="Trainer",
        note="default of `Trainer(num_nodes=)`",
    ),
    Variable(
        "GLOO_SOCKET_IFNAME",
        "you",
        values=("ethx",),
        stock={"env://": "error if other"},
        here={"env://": "error if other"},
        note=(
            "gloo's interface; set to the job's on several hosts, where nobody has set it. A name that does not "
            "exist is an error where gloo is used"
        ),
    ),
    Variable(
        "NCCL_SOCKET_IFNAME",
        "toolkit, v3's `Torchrun`, you",
        values=("ethx",),
        note="NCCL's interface; a name that does not exist is an error where NCCL is used",
    ),
    Variable(
        "LIGHTNING_SAGEMAKER_FOREIGN_RANK",
        "this package",
        read=True,
        note="a `RANK` that no launcher has set ([settings](settings.md#set-by-the-package-for-its-own-processes))",
    ),
    Variable(
        "LIGHTNING_SAGEMAKER_RANK_PROCESS",
        "this package",
        values=("1 x",),
        here={"none": "environment, main address, main port, node rank, rank"},
        note=(
            "a process that trains has started this one, which is no rank if that is one "
            "([settings](settings.md#set-by-the-package-for-its-own-processes))"
        ),
    ),
)
