"""Recipes that users have: definition files as they are, Dockerfiles as far as they can be converted. The one door to spython.

spython reads a Dockerfile line by line and knows the plain instructions, so it is given those alone (see ``dockerfiles``).
Images are built by our own commands: its ``build`` hides failures.
"""

from __future__ import annotations

import contextlib
import glob
import os
import re
import tempfile
from pathlib import Path
from typing import Any

from hpcest.environments.apptainer.dockerfiles import WITHOUT_EFFECT, Dockerfile
from hpcest.environments.apptainer.references import Reference
from hpcest.environments.buildlog import BuildLog
from hpcest.errors import SpecError


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
    dockerfile = Dockerfile(reference.path, text)
    dockerfile.read()
    unused = f"{', '.join(sorted(('USER', *WITHOUT_EFFECT)))} have no effect"
    log.say(f"{reference.path.name} is converted to an Apptainer definition; {unused}")
    return _converted(dockerfile, log)


def files_of(recipe: Path) -> list[Path]:
    """The files and folders beside a recipe that it builds on, or that are copied into its image."""
    with contextlib.suppress(OSError, UnicodeDecodeError):
        text = recipe.read_text(encoding="utf-8")
        if recipe.suffix == ".def":
            words = [line.split()[0] for line in _section(text, "files") if line.split()]
            words += re.findall(r"(?im)^\s*from\s*:\s*(\S+)", text)
        else:
            dockerfile = Dockerfile(recipe, text)
            with contextlib.suppress(SpecError):  # said when it is converted
                dockerfile.read()
            return list(dict.fromkeys(dockerfile.sources))
        found = [path for word in words for path in sorted(glob.glob(os.path.join(recipe.parent, os.path.expanduser(word))))]
        return [Path(path) for path in dict.fromkeys(found)]
    return []


def _section(text: str, name: str) -> list[str]:
    """The lines of the sections of a definition that have this name."""
    parts = re.split(r"(?m)^%(\w+)(.*)$", text)
    return [line for kind, body in zip(parts[1::3], parts[3::3], strict=True) if kind == name for line in body.splitlines()]


def _converted(dockerfile: Dockerfile, log: BuildLog) -> str:
    stage = _parsed("".join(dockerfile.lines), log)
    sections = {
        "files": [f"    {source} {target}" for source, target in stage.files],
        "labels": [f"    {line}" for lines in stage.labels for line in lines],
        "environment": [f"    {line}" for line in dockerfile.environment],
        "post": ["    set -ex", *(f"    {line.rstrip()}" for line in stage.install)],
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
