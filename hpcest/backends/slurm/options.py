"""The settings of a compute target with ``backend: slurm``."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class SlurmOptions:
    """Nothing has a default that Slurm would see: what is not set here or by the run is not sent to sbatch."""

    partition: str = field(default="", metadata={"help": "partition, or several with commas"})
    account: str = field(default="", metadata={"help": "account to charge"})
    qos: str = field(default="", metadata={"help": "quality of service"})
    constraint: str = field(default="", metadata={"help": "features that nodes must have, such as 'ib&avx512'"})
    reservation: str = field(default="", metadata={"help": "reservation to use"})
    gres: str = field(default="", metadata={"help": "generic resources of each node, such as gpu:a100:2"})
    gpu_option: str = field(
        default="gpus-per-node", metadata={"help": "what a run's GPUs become: gpus-per-node, gres, or such as gres=gpu:a100"}
    )
    cpus: int | None = field(default=None, metadata={"help": "cores per process, for runs that don't say"})
    memory: str = field(default="", metadata={"help": "memory per node, for runs that don't say, such as 8G"})
    time: str = field(default="", metadata={"help": "time limit, for runs that don't say, such as 4:00:00; a number is minutes"})
    launcher: str = field(default="auto", metadata={"help": "auto, srun, srun:pmix, srun:pmi2, srun:none, mpirun or single"})
    wait: int = field(default=0, metadata={"help": "seconds after the first rank's good end at which the others are ended; 0: never"})
    setup: tuple[str, ...] = field(default=(), metadata={"help": "lines of shell before the program, such as 'module load cuda'"})
    sbatch: dict[str, Any] = field(default_factory=dict, metadata={"help": "any other options of sbatch, by their long names"})
    grace: float = field(default=30.0, metadata={"help": "seconds between TERM and KILL when a run is ended"})
    signal: str = field(default="", metadata={"help": "signal that ranks get before the time limit, for runs that don't say"})
    warn: int | None = field(default=None, metadata={"help": "how many seconds before; 120 where only a signal is named"})
    max_requeues: int | None = field(
        default=None, metadata={"help": "how often a run may start again; not set: as Slurm is configured; 0: never"}
    )
    python: str = field(default="", metadata={"help": "a Python 3.8 or newer on the nodes; default: the one of hpcest"})
    keep_env: tuple[str, ...] = field(
        default=(), metadata={"help": "variables (with * and ?) that reach the job although they are Slurm's or MPI's"}
    )
    poll: float = field(default=5.0, metadata={"help": "least seconds between two questions to Slurm, for all processes of a user"})
    patience: float = field(default=600.0, metadata={"help": "seconds to go on submitting while Slurm is busy, down, or a limit is full"})
