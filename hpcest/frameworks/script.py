"""The framework ``script``: a program in any language, started once for each rank and otherwise left alone."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import Any, ClassVar

from hpcest.contracts import Framework
from hpcest.errors import SpecError
from hpcest.hookspecs import hookimpl
from hpcest.model.plan import Activation, Program
from hpcest.model.spec import Command, Resources, RunSpec

#: Suffix of an entry script → its interpreter, found on the environment's PATH. ``.py`` has the environment's own Python.
INTERPRETERS = {".sh": "bash", ".bash": "bash", ".R": "Rscript", ".r": "Rscript", ".jl": "julia"}

# A command line means bash, as in Azure ML; a small image may have nothing but sh.
_SHELL = 'command -v bash >/dev/null 2>&1 && exec bash -c "$1" bash; exec /bin/sh -c "$1" sh'


class Script(Framework):
    """Starts an entry script with the interpreter of its suffix, or a command line with a shell.

    Ranks find each other by the variables that every rank gets (RANK, WORLD_SIZE, LOCAL_RANK,
    MASTER_ADDR, …), which suits all kinds of distribution. Frameworks with ranks of their own build on this one.
    """

    name = "script"
    distributions: ClassVar[tuple[str, ...]] = ("mpi", "pytorch", "tensorflow")

    def check(self, spec: RunSpec) -> None:
        """Refuse a command that can't be started, amounts that can't be given, an unknown distribution. Raises SpecError."""
        _check_command(spec.command)
        _check_resources(spec.resources)
        if spec.command.script and not _starter(spec.command.script) and not spec.snapshot:  # a rerun has its own source
            _check_program(spec)
        if spec.distribution and spec.distribution.kind not in self.distributions:
            allowed = ", ".join(self.distributions)
            raise SpecError(
                f"the framework {self.name!r} can't do the distribution {spec.distribution.kind!r}",
                hint=f"allowed: {allowed}" if allowed else "it runs one process on one node: leave the distribution out",
            )

    def program(self, spec: RunSpec, activation: Activation) -> Program:
        """The argv of one rank. Python writes its output at once, so that logs can be followed."""
        kind = spec.distribution.kind if spec.distribution else ""
        return Program(
            command_argv(spec.command, activation.python),
            {"PYTHONUNBUFFERED": "1"},
            expand=not spec.command.line,
            meets=kind not in ("", "mpi"),  # those of MPI find each other by PMI
            roles={"worker": spec.ranks} if kind == "tensorflow" else {},
        )


def command_argv(command: Command, python: str) -> tuple[str, ...]:
    """The argv of a script with the interpreter of its suffix, ``python`` for Python's, or of a command line with a shell."""
    if command.line:
        return ("/bin/sh", "-c", _SHELL, "sh", command.line)
    script, starter = command.script, _starter(command.script)
    if starter == "python":
        starter = python
    if not starter or script.startswith("-"):  # PATH is not meant, nor an option
        script = f"./{script}"
    return (*filter(None, [starter]), script, *command.arguments)


def _starter(script: str) -> str:
    """What starts the script: ``python``, an interpreter's name, or nothing where it is a program itself."""
    suffix = PurePosixPath(script).suffix
    return "python" if suffix == ".py" else INTERPRETERS.get(suffix, "")


def _check_command(command: Command) -> None:
    script, line = command.script, command.line
    if not isinstance(script, str) or not isinstance(line, str):
        raise SpecError(f"script and command line must be texts, not {(line if isinstance(script, str) else script)!r}")
    if bool(script) == bool(line) or (line and not line.strip()):
        both = f"not both a script ({script!r}) and a command line" if script else "here is neither"
        raise SpecError(
            f"a run needs an entry script or a command line, {both}", hint="give one: script='train.py', or command='python train.py'"
        )
    if line and command.arguments:
        raise SpecError("a command line takes no arguments beside it", hint="write them into the line")
    for number, argument in enumerate(command.arguments):
        if not isinstance(argument, str):
            raise SpecError(f"argument {number + 1} must be a text, not {argument!r}", hint=f"write it as {str(argument)!r}")
    if any("\0" in word for word in (script, line, *command.arguments)):
        raise SpecError("a command can't contain NUL characters", hint="pass such data in a file")
    if script:
        _check_path(script)


def _check_path(script: str) -> None:
    path = PurePosixPath(script)
    if path.is_absolute():
        raise SpecError(f"entry script {script!r} must be a path relative to the source directory", hint=f"such as {path.name!r}")
    if ".." in path.parts or script.endswith("/") or not path.name:
        raise SpecError(f"entry script {script!r} must be a file inside the source directory", hint="name a higher source directory")
    if path.suffix == ".ipynb":
        raise SpecError(f"entry script {script!r} is a notebook, which is not a program", hint=f"jupyter nbconvert --to script {script}")


def _check_program(spec: RunSpec) -> None:
    """A file with no suffix that we know must be a program itself. If the source is gone (a rerun), nothing can be told."""
    script = spec.command.script
    file = os.path.join(spec.source or ".", script)
    if os.path.isfile(file) and not os.access(file, os.X_OK):
        known = ", ".join([".py", *INTERPRETERS])
        hint = f"make it a program: chmod +x {script} (with a first line such as #!/usr/bin/env perl); or use a command line"
        raise SpecError(f"entry script {script!r} is not executable, and its suffix names no interpreter (known: {known})", hint=hint)


def _check_resources(resources: Resources) -> None:
    least = {"nodes": 1, "procs_per_node": 1, "cpus": 1, "gpus": 0, "memory": 1, "time": 1}
    for name, lowest in least.items():
        amount: Any = getattr(resources, name)
        if amount is None and name not in ("nodes", "procs_per_node"):
            continue
        if isinstance(amount, bool) or not isinstance(amount, int) or amount < lowest:
            raise SpecError(f"{name} must be a whole number from {lowest} up, not {amount!r}")


@hookimpl
def hpcest_register_frameworks() -> Sequence[type[Framework]]:
    """The classes of this module."""
    return [Script]
