"""Finding a Python and knowing what it is, without starting it twice."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import site
import sys
import sysconfig
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from hpcest.errors import EnvironmentBuildError, SpecError
from hpcest.kit.files import read_json, write_json
from hpcest.kit.process import run

#: Seconds: a Python on a cold network file system can take ten.
TIME_LIMIT_S = 60.0
_VERSION = re.compile(r"\d+(\.\d+){0,2}")
_QUESTION = """
import json, site, sys, sysconfig
get = getattr(site, "getusersitepackages", str)
print(json.dumps({
    "base": getattr(sys, "_base_executable", None) or sys.executable, "real": sys.executable, "prefix": sys.prefix,
    "version": sys.version.split()[0], "implementation": getattr(getattr(sys, "implementation", 0), "name", "cpython"),
    "platform": sysconfig.get_platform(),
    "sites": [p for p in sys.path if p.endswith("-packages")] + ([get()] if getattr(site, "ENABLE_USER_SITE", 0) else []),
}))
"""


@dataclass(frozen=True)
class Interpreter:
    """One Python. ``base`` is what a virtual environment is made of, ``sites`` where its packages lie."""

    path: str
    base: str
    prefix: str
    version: str
    implementation: str
    platform: str
    sites: tuple[str, ...] = ()

    def key(self) -> dict[str, str]:
        """What packages depend on: the same wherever this Python lies."""
        return {"version": self.version, "implementation": self.implementation, "platform": self.platform}

    @property
    def minor(self) -> tuple[int, int]:
        """Major and minor version, ``(3, 11)``."""
        major, minor = self.version.split(".")[:2]
        return int(major), int(minor)

    def __str__(self) -> str:
        return f"{self.implementation} {self.version} ({self.path})"


def of_hpcest() -> Interpreter:
    """The Python that runs this."""
    user = [site.getusersitepackages()] if site.ENABLE_USER_SITE else []
    return Interpreter(
        path=sys.executable,
        base=getattr(sys, "_base_executable", None) or sys.executable,
        prefix=sys.prefix,
        version=sys.version.split()[0],
        implementation=sys.implementation.name,
        platform=sysconfig.get_platform(),
        sites=tuple(dict.fromkeys([entry for entry in sys.path if entry.endswith("-packages")] + user)),
    )


def locate(wanted: str, variables: Mapping[str, str] = os.environ) -> list[str]:
    """Where the Python may be that ``wanted`` names: a path, a name on PATH, or a version such as ``3.11``.

    Paths to try in turn, at least one. Raises SpecError.
    """
    if os.sep in wanted or wanted.startswith("~"):
        path = os.path.abspath(os.path.expanduser(wanted))
        if os.path.isdir(path):  # a virtual or conda environment
            path = os.path.join(path, "bin", "python")
        if not os.access(path, os.X_OK):
            raise SpecError(f"interpreter {path!r} does not exist or can't be executed", hint=_offer(variables))
        return [path]
    is_version = _VERSION.fullmatch(wanted) is not None
    name = "python" + ".".join(wanted.split(".")[:2]) if is_version else wanted
    found = list(_on_path(name, variables))
    if is_version and _is(of_hpcest(), wanted):
        found.append(of_hpcest().base)
    if not found:
        raise SpecError(f"interpreter {wanted!r} is not on PATH" + (f" as {name}" if is_version else ""), hint=_offer(variables))
    return found


def find(wanted: str, memory: Path, variables: Mapping[str, str] = os.environ) -> Interpreter:
    """The Python that ``wanted`` names, the first that runs and has that version.

    ``memory`` is a folder that keeps answers. Raises SpecError where there is none.
    """
    reasons = []
    for path in locate(wanted, variables):
        try:
            python = ask(path, memory, variables)
        except EnvironmentBuildError as error:
            reasons.append(error.message)
            continue
        if not _VERSION.fullmatch(wanted) or _is(python, wanted):
            return python
        reasons.append(f"{path} is {python.version}")
    raise SpecError(f"interpreter {wanted!r} can't be used: {'; '.join(reasons)}", hint=_offer(variables))


def _is(python: Interpreter, version: str) -> bool:
    return (python.version + ".").startswith(version + ".")


def ask(path: str, memory: Path, variables: Mapping[str, str] = os.environ) -> Interpreter:
    """What the Python at ``path`` is; remembered until the file changes. Raises EnvironmentBuildError."""
    if path == sys.executable:
        return of_hpcest()
    real = os.path.realpath(path)
    try:
        found = os.stat(real)
        with open(real, "rb") as stream:
            is_script = stream.read(2) == b"#!"
    except OSError as error:
        raise EnvironmentBuildError(f"{path} can't be read: {error.strerror}", hint=_offer(variables)) from None
    mark = f"{path}\0{real}\0{found.st_mtime_ns}\0{found.st_size}\0{found.st_ino}"
    note = memory / f"{hashlib.sha256(os.fsencode(mark)).hexdigest()[:16]}.json"
    known = _remembered(note)
    if known is None:
        known = _asked(path, variables)
        if not is_script:  # a script, pyenv's say, can lead elsewhere the next time
            with contextlib.suppress(OSError):  # asked again next time
                memory.mkdir(parents=True, exist_ok=True)
                write_json(note, asdict(known))
    return known


def _remembered(note: Path) -> Interpreter | None:
    try:
        data = read_json(note)
        return Interpreter(**{**data, "sites": tuple(data["sites"])}) if data else None
    except (OSError, ValueError, TypeError, KeyError):
        return None


def _asked(path: str, variables: Mapping[str, str]) -> Interpreter:
    env = {name: value for name, value in variables.items() if name not in ("PYTHONHOME", "PYTHONPATH", "PYTHONSTARTUP")}
    done = run([path, "-c", _QUESTION], env=env, timeout=TIME_LIMIT_S)
    try:
        facts = json.loads(done.out)
    except ValueError:
        words = (done.err.strip() or done.out.strip() or f"exit code {done.code}").splitlines()
        reason = words[-1 if words[0].startswith("Traceback") else 0][:200]
        raise EnvironmentBuildError(f"{path} doesn't run as a Python: {reason}", hint=_offer(variables)) from None
    real = facts.pop("real") or path
    shown = real if _is_wrapped(path, real) else path
    return Interpreter(path=shown, **{**facts, "sites": tuple(dict.fromkeys(facts["sites"]))})


def _is_wrapped(path: str, real: str) -> bool:
    """True where ``path`` is a script that started another file."""
    return os.path.realpath(path) != os.path.realpath(real)


def _on_path(name: str, variables: Mapping[str, str]) -> Iterator[str]:
    for folder in variables.get("PATH", os.defpath).split(os.pathsep):
        path = os.path.join(os.path.abspath(folder), name)
        if os.path.isfile(path) and os.access(path, os.X_OK):
            yield path


def _offer(variables: Mapping[str, str]) -> str:
    """The Pythons there are, for a hint."""
    found: set[str] = set()
    for folder in variables.get("PATH", os.defpath).split(os.pathsep):
        try:
            found.update(name[6:] for name in os.listdir(folder) if re.fullmatch(r"python3\.\d+", name))
        except OSError:
            continue
    versions = ", ".join(sorted(found, key=lambda version: int(version[2:])))
    return f"give a path or a version that is on PATH ({versions or 'none now'}), or load the module that has it"
