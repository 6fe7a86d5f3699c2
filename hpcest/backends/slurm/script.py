"""The text of a batch script, by submitit's SlurmExecutor: the script of record, what is printed and what is submitted."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hpcest.onnode.rank import boot_argv

if TYPE_CHECKING:
    from submitit.slurm.slurm import SlurmExecutor

_OPTION = re.compile(r"#SBATCH --([\w-]+)")
#: What sbatch prints for an accepted job: ``123``, ``123;cluster``, or the long form that wrappers may leave.
_ANSWER = re.compile(
    r"^(?:Submitted batch job )?(?P<id>[0-9]+)(?:;(?P<cluster>[\w.-]+))?(?: on cluster (?P<name>[\w.-]+))?\s*$", re.MULTILINE
)


@cache
def executor_class() -> type[SlurmExecutor]:
    """submitit's executor with what a run needs: no pickle, no options that nobody asked for, a robust reading of sbatch.

    submitit is imported here and nowhere else: it takes a fifth of a second.
    """
    from submitit.slurm import slurm

    class Executor(slurm.SlurmExecutor):
        """Makes and submits one script for one run or one array of runs."""

        def _make_submission_file_text(self, command: str, uid: str) -> str:
            """submitit's text, less the lines for what it has defaults for and nobody asked for."""
            asked = {name.replace("_", "-") for name in self.parameters["additional_parameters"]}
            lines = super()._make_submission_file_text(command, uid).splitlines()
            kept = [line for line in lines if not line.startswith("export SUBMITIT_")]
            kept = [line for line in kept if not (match := _OPTION.match(line)) or match[1] in asked]
            return "\n".join(kept).rstrip() + "\n"

        def _make_submission_command(self, submission_file_path: Path) -> list[str]:
            return ["sbatch", "--parsable", str(submission_file_path)]

        @staticmethod
        def _get_job_id_from_submission_command(string: bytes | str) -> str:
            """The last line that is an answer: a wrapper may print a banner before it. Raises ValueError."""
            answers = [*_ANSWER.finditer(string if isinstance(string, str) else string.decode("utf-8", "replace"))]
            if not answers:
                raise ValueError(f"sbatch answered {string!r}")
            return answers[-1]["id"] + (f";{cluster}" if (cluster := answers[-1]["cluster"] or answers[-1]["name"]) else "")

        @classmethod
        def affinity(cls) -> int:
            """A script can be made, and printed, also where there is no Slurm."""
            return 2

    return Executor


def executor(folder: Path, options: Mapping[str, Any], setup: Sequence[str]) -> Any:
    """An executor for one script, with sbatch options by their long names and lines of shell before the command."""
    made = executor_class()(folder=folder)
    names = {name if name == "open-mode" else name.replace("-", "_"): value for name, value in options.items()}
    # wckey and the like have defaults in submitit; those of them that were not asked for are left out of the text.
    made.update_parameters(use_srun=False, stderr_to_stdout=True, setup=[*setup] or None, additional_parameters=names)
    return made


def script_text(folder: Path, options: Mapping[str, Any], setup: Sequence[str], command: str) -> str:
    """The whole script. ``command`` is a line of shell; ``options`` keep their order by name, as submitit sorts them."""
    text: str = executor(folder, options, setup)._make_submission_file_text(command, "")
    return text


def pattern(path: Path) -> str:
    """A path as sbatch's --output takes it: signs that would be replaced are doubled."""
    return str(path).replace("%", "%%")


def controller_command(launch: Mapping[str, Any], manifest: Path) -> str:
    """The script's last line: the controller takes the place of the shell, so that signals reach it."""
    return "exec " + shlex.join([*boot_argv(launch), "controller", str(manifest)])
