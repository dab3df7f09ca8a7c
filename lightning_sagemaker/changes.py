"""Everything that this package changes in Lightning's behaviour in a training job: one table, and its switch.

A patch without a row fails a test: `_autoload` says which patch is for which rows. The documentation's page and
``doctor`` show this table. A change that a user can see is a row here, or a bug.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lightning_sagemaker.messages import warn_once
from lightning_sagemaker.settings import DISABLE, EXPORT, HEARTBEAT, METRICS, REACHABILITY, RESUME

if TYPE_CHECKING:
    from collections.abc import Mapping

SCOPES = {
    "always": "wherever the package is installed",
    "job": "in a training job",
    "processes": "in a training job of several processes",
    "hosts": "in a training job of several hosts",
}


@dataclass(frozen=True)
class Change:
    """A row: one difference from stock Lightning."""

    name: str  # the name with which ``LIGHTNING_SAGEMAKER_DISABLE`` switches it off alone
    scope: str  # in which processes: a key of `SCOPES`
    stock: str  # what Lightning, torch and the toolkit do by themselves
    ours: str  # what happens with this package
    only: str = ""  # a further condition; empty where there is none
    line: str = ""  # beginning of the line or error that says so; empty where a user sees no difference
    variable: str = ""  # another variable that switches it
    opt_in: bool = False  # whether that variable switches it on; if not, 0 switches it off
    values: tuple[str, ...] = ("1",)  # values of that variable that switch it on

    @property
    def when(self) -> str:
        """Scope and condition, in words."""
        return SCOPES[self.scope] + (f", {self.only}" if self.only else "")


CHANGES = (
    Change(
        "environment",
        "job",
        "each host trains alone, or waits forever for the others, unless the script sets ranks and `num_nodes`",
        "`num_nodes`, `devices`, ranks and addresses come from the job; a world that cannot form is an error;"
        " each process sets LIGHTNING_SAGEMAKER_RANK_PROCESS, so that children of ranks know that they are not ranks;"
        " a RANK that the image sets is ignored (LIGHTNING_SAGEMAKER_FOREIGN_RANK passes it to Lightning's processes),"
        " and so are RANK=0 WORLD_SIZE=1 LOCAL_RANK=0, with which stock waits for processes that nobody starts;"
        " in notebook kernels on several hosts `Trainer()` uses ddp_fork, where stock refuses",
        only="unless the script, SLURM or LSF chose a cluster environment",
        line="num_nodes=...",
    ),
    Change(
        "rank_zero",
        "job",
        "before a Trainer is made, `rank_zero_only` runs on each host's first process, under mpirun on every process",
        "it uses the job's rank from the import of Lightning on",
        only="if a launcher or the job sets the rank",
    ),
    Change(
        "world_check",
        "job",
        "`num_nodes` and `devices` are not checked against the script's cluster environment; with wrong values, as in"
        " AWS's workshop, training uses only part of the data",
        "wrong values are an error at construction, or a warning if they may be intended",
        only="if the script chose the cluster environment",
        line="ValueError",
    ),
    Change(
        "strategies",
        "always",
        '`strategy="smddp"` is unknown',
        "`smddp`, `smddp_find_unused_parameters_true`, `..._false` and `smddp_fsdp` are strategies",
    ),
    Change(
        "log_reduction",
        "always",
        "`self.log(sync_dist=True)` runs a barrier and a reduction for each metric, and waits for both",
        "the reductions start when metrics are logged, and are waited for when the metrics are read",
        only="with a Trainer's `smddp...` strategies; in a training job also with Lightning's: DDP in all variants,"
        " FSDP, `ModelParallelStrategy` and DeepSpeed, but where a script puts a `reduce` of its own into the strategy",
    ),
    Change(
        "prepare_barrier",
        "always",
        "an overridden `prepare_data` makes a second process group, over gloo",
        "the ranks wait at the first process group's store",
        only="if SMDDP is the backend",
    ),
    Change(
        "prepare_data",
        "job",
        "a failed `prepare_data` leaves the other processes waiting",
        "its error reaches all processes of the host",
        line="RuntimeError",
    ),
    Change(
        "gloo_interface",
        "hosts",
        "gloo uses the interface that the host's name resolves to",
        "GLOO_SOCKET_IFNAME is set to the job's interface, unless it is set already",
    ),
    Change(
        "rendezvous",
        "hosts",
        "ranks, and torchrun's agents, wait for each other silently; a blocked port is reported after 15 minutes",
        "lines name the missing processes and the blocked port; after a limit it is an error",
        line="... gets no answer from ...",
        variable=REACHABILITY,
    ),
    Change(
        "group_keys",
        "processes",
        "under torchrun, a process group that is made again, after `destroy_process_group()` or a restart of the"
        " processes, may read keys of the earlier group in the agents' store, and hangs or fails",
        "each process group has its own keys there",
        only="under torchrun",
    ),
    Change(
        "heartbeat",
        "processes",
        "after a rank stops, or a host is cut off, the others wait for half an hour",
        "a line names it, and after a limit the job ends",
        line="... has gone silent ...",
        variable=HEARTBEAT,
    ),
    Change(
        "sigterm",
        "job",
        "SIGTERM to one rank causes a deadlock, to all of them exit code 0; each batch begins with a broadcast",
        "all ranks stop at one step boundary, with a checkpoint if the job has a folder for them, and exit code 143;"
        " a script whose ranks are spawned or forked forwards it to them",
        line="SIGTERM ended the training ...",
    ),
    Change(
        "failure_file",
        "job",
        "the job page shows the end of some log",
        "it shows the first failure of any rank, with host and rank; that of a process that a rank or the script has"
        " started only if none of them gives another reason",
    ),
    Change(
        "quiet_end",
        "processes",
        "gloo's threads may abort a process after a successful training (pytorch#190489)",
        "before it exits, the process waits for them, 2 s at most",
    ),
    Change(
        "checkpoint_writing",
        "job",
        "a checkpoint is built in memory, then written; a kill leaves an incomplete file",
        "it is written to a temporary file, flushed to the device, and renamed",
        only="for local files",
    ),
    Change(
        "resume",
        "job",
        "checkpoints stay where the script puts them, and training restarts from the beginning",
        "checkpoints that would be lost with the container go below the job's checkpoint folder instead (a `dirpath`"
        " becomes a link to it), and each `fit` continues from the newest complete checkpoint in its own place, loaded"
        " with torch's `weights_only=False`",
        only="with LIGHTNING_SAGEMAKER_RESUME=1, which `submit --spot` sets",
        line="training continues from ...",
        variable=RESUME,
        opt_in=True,
    ),
    Change(
        "checkpoint_hint",
        "job",
        "checkpoints in a folder that is lost with the container are lost silently",
        "one line says so, and names two solutions; nothing is moved",
        only="if it has a checkpoint configuration",
        line="Checkpoints lie in ...",
    ),
    Change(
        "same_checkpoint",
        "processes",
        "each rank loads the file that it finds; a host that lacks the file fails, or trains from the beginning",
        "ranks compare the contents of what they load: continuing from different checkpoints is an error; a host that"
        ' lacks the file, or has an older copy, gets it from rank 0\'s host; rank 0 chooses the file for "last"',
        line="... lacks ...",
    ),
    Change(
        "metric_lines",
        "always",
        "metrics go to loggers only",
        "rank 0 prints them, and the training's progress, as lines that the job page can read: every 30 s"
        " (LIGHTNING_SAGEMAKER_PROGRESS) and when an epoch, a validation or a test ends",
        only="with LIGHTNING_SAGEMAKER_METRICS=1, which `submit` sets",
        line="lightning_sagemaker metrics: ...",
        variable=METRICS,
        opt_in=True,
    ),
    Change(
        "progress_bar",
        "job",
        "a Trainer's default progress bar fills the log, or with rich installed prints nothing until the end",
        "it draws nothing, since the metric lines show the progress; a bar that the script asks for draws, and the"
        " lines omit progress",
        only="with LIGHTNING_SAGEMAKER_METRICS=1, which `submit` sets, unless LIGHTNING_SAGEMAKER_PROGRESS=0",
        line="lightning_sagemaker metrics: ...",
        variable=METRICS,
        opt_in=True,
    ),
    Change(
        "export",
        "job",
        "SageMaker uploads a model only if the script copies it to the model folder",
        "when a `fit` has ended, rank 0 copies its best or last checkpoint there, with `hparams.yaml`",
        only="with LIGHTNING_SAGEMAKER_EXPORT=best or last",
        line="The ... checkpoint ... is in the job's model",
        variable=EXPORT,
        opt_in=True,
        values=("best", "last"),
    ),
    Change(
        "shards",
        "hosts",
        "if each host has different data (ShardedByS3Key), a distributed sampler silently drops rows",
        "one line says so, and how to fix it",
        only="with such a channel, unless `use_distributed_sampler=False`",
        line="... ShardedByS3Key ...",
    ),
)


def disabled(environ: Mapping[str, str] | None = None) -> frozenset[str]:
    """Names of the changes that ``LIGHTNING_SAGEMAKER_DISABLE`` switches off."""
    text = (os.environ if environ is None else environ).get(DISABLE, "")
    found = frozenset(name.strip() for name in text.split(",") if name.strip())
    known = [change.name for change in CHANGES]
    if unknown := sorted(found.difference(known)):
        raise ValueError(
            f"Environment variable `{DISABLE}`={text!r} lists {', '.join(unknown)}; expected names of changes."
            f" HINT: this version knows {', '.join(known)}; separate them by commas."
        )
    return found


def is_on(name: str) -> bool:
    """Whether a change is left on; a variable that cannot be read switches nothing off, and a line says so."""
    try:
        return name not in disabled()
    except ValueError as error:  # the rest of the plugin is no reason to train without hosts and ranks
        warn_once(f"Nothing is switched off: {error}")
        return True
