"""The environment that Slurm's commands are called with, and that a job inherits.

Inside a job, or a shell that was started from one, variables of that job would size the new one, bind it
to the wrong cores, or make its ranks believe that they are others.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from fnmatch import translate
from functools import cache

#: What belongs to the job, step or MPI process that we are called from, or changes what Slurm's commands do.
DROPPED = (
    "SLURM_*", "SLURMD_*", "SBATCH_*", "SALLOC_*", "SRUN_*", "SQUEUE_*", "SACCT_*", "SCONTROL_*", "SINFO_*", "SCANCEL_*", "SSTAT_*",
    "PMI_*", "PMIX_*", "PMI2_*", "OMPI_COMM_WORLD_*", "OMPI_UNIVERSE_SIZE", "OMPI_MCA_ess*", "OMPI_MCA_orte_*", "PRTE_*",
    "HYDRA_*", "HYDI_*", "MPIR_*", "MPI_LOCALRANKID", "MPI_LOCALNRANKS", "SUBMITIT_*", "CUDA_VISIBLE_DEVICES@job", "TMPDIR@job",
)  # fmt: skip
#: Where Slurm is configured by the environment, that is part of the machine and stays.
KEPT = ("SLURM_CONF", "SLURM_CONF_SERVER", "SLURM_JWT", "SLURM_SACK_KEY", "SLURM_SACK_JWKS")


def scrubbed(environ: Mapping[str, str], keep: Iterable[str] = ()) -> dict[str, str]:
    """``environ`` without what belongs to another job; ``keep`` are further patterns of names that stay.

    In a job also the devices and the scratch directory that Slurm gave that job are dropped.
    """
    kept, dropped = _pattern((*KEPT, *keep)), _pattern(_dropped("SLURM_JOB_ID" in environ))
    return {name: value for name, value in environ.items() if kept.fullmatch(name) or not dropped.fullmatch(name)}


def _dropped(in_job: bool) -> tuple[str, ...]:
    return tuple(pattern.removesuffix("@job") for pattern in DROPPED if in_job or not pattern.endswith("@job"))


@cache
def _pattern(names: tuple[str, ...]) -> re.Pattern[str]:
    """One expression for many names with * and ?."""
    return re.compile("|".join(translate(name) for name in names))


def for_asking(environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The environment of squeue, sacct and their like: nothing of the user's changes what they print.

    Times come as epoch seconds, and lists of an array's tasks whole.
    """
    return {**scrubbed(environ), "LC_ALL": "C", "SLURM_TIME_FORMAT": "%s", "SLURM_BITSTR_LEN": "0"}
