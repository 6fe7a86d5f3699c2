"""What sbatch's refusals mean: try again, ask whether the job is there after all, or give up."""

from __future__ import annotations

from enum import Enum


class Kind(Enum):
    """What to do about a failed sbatch."""

    UNCERTAIN = "the job may have been accepted"
    BUSY = "Slurm is busy or down; nothing was accepted"
    FULL = "a limit on the number of jobs is reached; it passes when some have ended"
    REFUSED = "Slurm won't take this job as it is"


#: Parts of sbatch's messages, the first that fits counts. From Slurm's slurm_errno.c, versions 20 to 25.
_WORDS = (
    (Kind.UNCERTAIN, ("Socket timed out", "Zero Bytes were transmitted", "no answer in", "Transport endpoint", "Connection reset by peer")),
    (Kind.FULL, ("SubmitJob", "MaxSubmit", "Job array index limit reached", "too many jobs", "Too many jobs", "maximum job count")),
    (
        Kind.BUSY,
        (
            "Unable to contact slurm controller", "Connection refused", "Connection timed out",
            "temporarily unable", "Resource temporarily",
            "Slurm backup controller in standby", "still in standby", "Protocol authentication error", "Incompatible versions",
            "Unable to establish", "Rate limit exceeded", "Slurmctld is shutting down",
        ),
    ),
)  # fmt: skip


def kind_of(message: str) -> Kind:
    """What ``message``, sbatch's standard error, says of the job."""
    for kind, words in _WORDS:
        if any(word in message for word in words):
            return kind
    return Kind.REFUSED


def own_words(message: str) -> str:
    """sbatch's message on one line, without its prefixes."""
    lines = [line.removeprefix("sbatch: ").removeprefix("error: ").strip() for line in message.splitlines() if line.strip()]
    return "; ".join(dict.fromkeys(lines))
