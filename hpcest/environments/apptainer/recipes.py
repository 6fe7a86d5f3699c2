"""Recipes that users have: definition files as they are, Dockerfiles as far as they can be converted. The one door to spython.

spython reads Dockerfiles line by line and knows the plain instructions. What it would turn into something wrong is refused
here by name, since a wrong image is worse than none. Images are built by our own commands: its ``build`` hides failures.
"""

from __future__ import annotations

import contextlib
import glob
import os
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hpcest.environments.apptainer.references import Reference
from hpcest.environments.buildlog import BuildLog
from hpcest.errors import SpecError

_STEP = re.compile(r"\s*([A-Za-z]+)\s+(.*)", re.DOTALL)
#: What spython misreads: instruction, pattern of its arguments, and what to write instead.
_UNSOUND = (
    ("COPY", r"--", "leave out the options of COPY"),
    ("ADD", r"--|https?://", "fetch it with RUN, and leave out the options of ADD"),
    ("RUN", r"--mount|--network|--security", "leave out the options of RUN"),
    ("RUN", r"\[|<<", "write RUN with a plain command line"),
    ("COPY", r"<<", "write the file into the folder of the Dockerfile"),
    ("COPY", r"^\[", "write COPY without brackets"),
    ("ADD", r"^\[", "write ADD without brackets"),
    ("COPY", r"\s(?!/)\S*$", "write the whole path of the target: WORKDIR does not count for it"),
    ("ADD", r"\s(?!/)\S*$", "write the whole path of the target: WORKDIR does not count for it"),
    ("ADD", r"\.(tar|tgz|tar\.\w+)\s", "unpack the archive with RUN: it would be copied as it is"),
    ("FROM", r"^--", "leave out the options of FROM"),
    ("FROM", r"^scratch\b", "begin with an image that has a shell"),
    ("SHELL", r"", "Apptainer runs /bin/sh"),
    ("ARG", r"", "write the value where it is used"),
    ("ONBUILD", r"", "leave it out"),
)
#: What spython reads; it would take another instruction for a command.
_KNOWN = (
    *("ADD", "ARG", "CMD", "COPY", "ENTRYPOINT", "ENV", "EXPOSE", "FROM", "HEALTHCHECK", "LABEL", "MAINTAINER", "ONBUILD", "RUN"),
    *("SHELL", "STOPSIGNAL", "USER", "VOLUME", "WORKDIR"),
)


def definition_of(reference: Reference, log: BuildLog) -> str:
    """The Apptainer definition that a ``.def`` file or a Dockerfile is. Raises SpecError, EnvironmentBuildError."""
    assert reference.path is not None
    try:
        text = reference.path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SpecError(f"{reference.path} can't be read: {error}") from None
    if reference.kind == "definition":
        if not re.search(r"(?im)^\s*bootstrap\s*:", text):
            raise SpecError(f"{reference.path} has no line 'Bootstrap: …'", hint="an Apptainer definition begins with it")
        return text
    plain = _refuse_unsound(reference.path, text)
    log.say(f"{reference.path.name} is converted to an Apptainer definition; USER, EXPOSE, VOLUME and HEALTHCHECK have no effect")
    return _converted(plain, log)


def files_of(recipe: Path) -> list[Path]:
    """The files and folders beside a recipe that it builds on, or that are copied into its image."""
    with contextlib.suppress(OSError, UnicodeDecodeError):
        text = recipe.read_text(encoding="utf-8")
        if recipe.suffix == ".def":
            words = [line.split()[0] for line in _section(text, "files") if line.split()]
            words += re.findall(r"(?im)^\s*from\s*:\s*(\S+)", text)
        else:
            words = [word for _, name, rest in _instructions(text) if name in ("COPY", "ADD") for word in rest.split()[:-1]]
        found = [path for word in words for path in sorted(glob.glob(os.path.join(recipe.parent, os.path.expanduser(word))))]
        return [Path(path) for path in dict.fromkeys(found)]
    return []


def _section(text: str, name: str) -> list[str]:
    """The lines of the sections of a definition that have this name."""
    parts = re.split(r"(?m)^%(\w+)(.*)$", text)
    return [line for kind, body in zip(parts[1::3], parts[3::3], strict=True) if kind == name for line in body.splitlines()]


def _refuse_unsound(path: Path, text: str) -> str:
    """The Dockerfile with one instruction a line and no comments, which spython reads without mistakes. Raises SpecError."""
    stages, lines = 0, []
    for number, instruction, arguments in _instructions(text):
        stages += instruction == "FROM"
        lines.append(f"{instruction} {arguments}\n")
        if instruction not in _KNOWN:
            raise SpecError(f"{path}:{number}: there is no instruction {instruction}", hint=f"known: {', '.join(_KNOWN)}")
        for name, pattern, instead in _UNSOUND:
            if instruction == name and re.search(pattern, arguments):
                raise SpecError(f"{path}:{number}: {instruction} {arguments[:60]!r} can't be converted for Apptainer", hint=instead)
    if stages != 1:
        raise SpecError(
            f"{path} has {stages} stages (FROM lines), and one can be converted",
            hint="build it with docker or podman, and give the result: docker-archive:FILE",
        )
    return "".join(lines)


def _instructions(text: str) -> Iterator[tuple[int, str, str]]:
    """Line number, instruction and arguments, continued lines joined."""
    begun, number = "", 0
    for count, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue  # also between the lines of one instruction
        number = number if begun else count
        begun += line.rstrip()
        if begun.endswith("\\"):
            begun = begun[:-1] + " "
            continue
        found = _STEP.fullmatch(begun)
        if found:
            yield number, found[1].upper(), found[2].strip()
        begun = ""


def _converted(text: str, log: BuildLog) -> str:
    stage = _parsed(text, log)
    done = [f"# EXPOSE {port}" for port in stage.ports]
    told = [line.rstrip() for line in stage.install]
    steps = [f"export {line}" if line in stage.environ else line for line in told if line not in done and not line.startswith("USER ")]
    sections = {
        "files": [f"    {source} {target}" for source, target in stage.files],
        "labels": [f"    {line.replace('=', ' ', 1)}" for lines in stage.labels for line in lines],
        "environment": [f"    export {line}" for line in stage.environ],
        "post": ["    set -ex", *(f"    {line}" for line in steps)],
    }
    body = "\n".join(f"\n%{name}\n" + "\n".join(lines) for name, lines in sections.items() if lines)
    return f"Bootstrap: docker\nFrom: {stage.fromHeader.strip()}\n{body}\n"


def _parsed(text: str, log: BuildLog) -> Any:
    """What spython makes of a Dockerfile; its warnings go to the log."""
    import io
    from tempfile import TemporaryDirectory

    from spython.logger import bot
    from spython.main.parse.parsers import DockerParser

    stream, bot.errorStream = bot.errorStream, io.StringIO()
    try:
        with TemporaryDirectory(prefix="hpcest-") as folder:
            path = Path(folder, "Dockerfile")
            path.write_text(text, encoding="utf-8")
            (stage,) = DockerParser(str(path)).recipe.values()
        log.note(bot.errorStream.getvalue())
    finally:
        bot.errorStream = stream
    return stage


def labels(image: Path, program: str) -> dict[str, str]:
    """The labels of an image, as far as spython can tell; empty where it can't."""
    from spython.main import Client

    before = os.environ.get("PATH", os.defpath)
    with tempfile.TemporaryDirectory(prefix="hpcest-") as shim:
        Path(shim, "singularity").symlink_to(program)  # spython knows no other name, which not every Apptainer has
        os.environ["PATH"] = f"{shim}{os.pathsep}{before}"
        try:
            found = Client.inspect(str(image), json=True, quiet=True)
        except (SystemExit, ValueError, KeyError, OSError):  # it exits where it meets something that it doesn't expect
            return {}
        finally:
            os.environ["PATH"] = before
    facts = found.get("attributes") if isinstance(found, dict) else None
    return {str(name): str(value) for name, value in ((facts or {}).get("labels") or {}).items()}
