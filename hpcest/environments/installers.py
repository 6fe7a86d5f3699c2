"""The two tools that resolve and install pip packages: uv where there is one, else pip."""

from __future__ import annotations

import json
import os
import re
import shutil
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

from hpcest.environments.buildlog import BuildLog
from hpcest.environments.interpreter import Interpreter
from hpcest.environments.locked import Pinned, read_report, read_text
from hpcest.environments.requirements import Request, is_local_repository
from hpcest.environments.secrets import Veil, expand
from hpcest.environments.sources import Sources
from hpcest.errors import ConfigError, EnvironmentBuildError
from hpcest.kit.process import run

#: Older ones lack an option that is used here.
OLDEST_UV = (0, 5)
OLDEST_PIP = (22, 3)
#: Names the tool to use, ``uv`` or ``pip``, for who wants the one that isn't chosen.
CHOICE = "HPCEST_INSTALLER"
#: uv's own: nothing is fetched, and what its cache has counts as fresh however old it is.
OFFLINE = "UV_OFFLINE"


@dataclass(frozen=True)
class Bench:
    """What a tool works with: the Python to build for, where packages come from, a private scratch folder."""

    python: Interpreter
    sources: Sources
    veil: Veil
    scratch: Path
    variables: Mapping[str, str]

    @property
    def env(self) -> dict[str, str]:
        """The environment of the tools.

        uv copies: hard links would let whoever edits a file here edit uv's cache, and every environment that is built from it.
        """
        return self.sources.variables({"UV_LINK_MODE": "copy", **self.variables})

    def write(self, name: str, lines: Sequence[str]) -> Path:
        """A file of requirements in the scratch folder; only its owner can read it, since it may hold secrets."""
        path = self.scratch / name
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with open(fd, "w", encoding="utf-8") as stream:
            stream.writelines(expand(line, self.variables) + "\n" for line in lines)
        return path


class Installer(ABC):
    """One tool. ``label`` is its name and version."""

    label: str

    def __init__(self, bench: Bench) -> None:
        self.bench = bench

    @abstractmethod
    def resolve(self, request: Request, log: BuildLog) -> list[Pinned]:
        """Every package that the request needs, in its newest version that fits. Raises EnvironmentBuildError."""

    @abstractmethod
    def create(self, folder: Path, log: BuildLog) -> None:
        """Make an empty virtual environment in ``folder``, which is there and has no more than our own mark."""

    @abstractmethod
    def _install(self, folder: Path, arguments: Sequence[str | Path], log: BuildLog) -> None: ...

    @abstractmethod
    def check(self, folder: Path, log: BuildLog) -> None:
        """Have the tool look for packages that don't fit together; what it finds is only logged."""

    def install(self, folder: Path, packages: Sequence[Pinned], log: BuildLog) -> None:
        """Install exactly these packages. One that has hashes is refused with any other content."""
        hashed = [self._line(package) for package in packages if package.hashes]
        rest = [self._line(package) for package in packages if not package.hashes]
        if hashed:
            self._install(folder, ["--require-hashes", "-r", self.bench.write("hashed.txt", hashed)], log)
        if rest:  # from version control and local directories, which have no hash to compare with
            self._install(folder, ["-r", self.bench.write("unhashed.txt", rest)], log)

    def _line(self, package: Pinned) -> str:
        real = Pinned(package.name, package.version, self.bench.veil.unveil(package.url), package.hashes) if package.url else package
        requirement = real.url if is_local_repository(real.url) else real.requirement
        return " ".join([requirement, *(f"--hash={value}" for value in real.hashes)])

    def _read(self, step: str, path: Path, log: BuildLog) -> str:
        try:
            return path.read_text(encoding="utf-8")
        except OSError as error:
            raise log.failure(step, f"{self.label} left no result: {error.strerror}") from None


class Uv(Installer):
    """uv, which needs nothing in the Python that it builds for."""

    compiles = True

    def __init__(self, bench: Bench, program: str, version: str) -> None:
        super().__init__(bench)
        self.program, self.label = program, f"uv {version}"

    def resolve(self, request: Request, log: BuildLog) -> list[Pinned]:
        """See Installer."""
        wanted = self.bench.write("wanted.in", [one.real for one in request.wanted])
        result = self.bench.scratch / "resolved.txt"
        options = [*self.bench.sources.arguments(), *(["--prerelease=allow"] if request.options.pre else [])]
        options += ["--refresh"] if any(one.kind == "local" for one in request.wanted) else []  # it looks at pyproject.toml alone
        quiet = ["--generate-hashes", "--no-header", "--no-annotate", "--quiet"]
        self._run("resolve", ["pip", "compile", *quiet, *self._target(), *options, "-o", result, wanted], log)
        try:
            return read_text(self._read("resolve", result, log))
        except ValueError as error:
            raise log.failure("resolve", f"{self.label} answered in a way that this version can't read: {error}") from None

    @property
    def is_offline(self) -> bool:
        """Whether all must come from uv's cache, as ``fetch`` has left it or as the user wants it."""
        return self.bench.variables.get(OFFLINE, "").lower() not in ("", "0", "false", "no", "off", "n", "f")

    def create(self, folder: Path, log: BuildLog) -> None:
        """See Installer."""
        self._run("create", ["venv", "--quiet", "--allow-existing", *self._python(self.bench.python.base), folder], log)

    def _install(self, folder: Path, arguments: Sequence[str | Path], log: BuildLog) -> None:
        options = ["--no-deps", *(["--compile-bytecode"] if self.compiles else []), *self.bench.sources.arguments()]
        fresh = "--require-hashes" in arguments or self.is_offline
        options += [] if fresh else ["--refresh"]  # its cache misses changed code of local directories
        self._run("install", ["pip", "install", *self._python(folder / "bin" / "python"), *options, *arguments], log)

    def check(self, folder: Path, log: BuildLog) -> None:
        """See Installer."""
        self._run("check", ["pip", "check", *self._python(folder / "bin" / "python")], log, check=False)

    def _target(self) -> list[str | Path]:
        """Which Python packages are chosen for."""
        return self._python(self.bench.python.base)

    def _run(self, step: str, words: Sequence[str | Path], log: BuildLog, *, check: bool = True) -> None:
        log.run(step, [self.program, *words], cwd=self.bench.scratch, env=self.bench.env, check=check)

    @staticmethod
    def _python(path: Path | str) -> list[str | Path]:
        return ["--python", path]


class Pip(Installer):
    """pip of the Python that is built for, or of a throw-away environment of it where it has none."""

    def __init__(self, bench: Bench, log: BuildLog) -> None:
        super().__init__(bench)
        self._pip: list[str | Path] = [bench.python.base, "-m", "pip"]
        version = self._version()
        if version < OLDEST_PIP:
            place = bench.scratch / "pip"
            log.run("prepare pip", [bench.python.base, "-m", "venv", place], cwd=bench.scratch, env=bench.env)
            self._pip = [place / "bin" / "python", "-m", "pip"]
            version = self._version()
        self.label = f"pip {'.'.join(map(str, version))}"
        if version < OLDEST_PIP:
            raise EnvironmentBuildError(
                f"{self.label} of {bench.python} is too old: 22.3 is needed", hint="install uv with pip install 'hpcest[fast]'"
            )

    def _version(self) -> tuple[int, ...]:
        done = run([*self._pip, "--version"], env=self.bench.env, cwd=self.bench.scratch, timeout=60.0)
        found = re.match(r"pip (\d+(?:\.\d+)*)", done.out)
        return tuple(map(int, found[1].split("."))) if done.ok and found else (0,)

    def resolve(self, request: Request, log: BuildLog) -> list[Pinned]:
        """See Installer."""
        report = self.bench.scratch / "report.json"
        plain = [one.real for one in request.wanted if one.kind == "index" and not one.hashes]  # pip's complaints name these
        rest = self.bench.write("wanted.in", [one.real for one in request.wanted if one.kind != "index" or one.hashes])
        options = [*self.bench.sources.arguments(), *(["--pre"] if request.options.pre else [])]
        argv = [*self._pip, "install", "--dry-run", "--ignore-installed", "--report", report, *options, *plain, "-r", rest]
        log.run("resolve", argv, cwd=self.bench.scratch, env=self.bench.env)
        try:
            return read_report(json.loads(self._read("resolve", report, log)))
        except (ValueError, KeyError, TypeError) as error:
            raise log.failure("resolve", f"{self.label} answered in a way that this version can't read: {error!r}") from None

    def create(self, folder: Path, log: BuildLog) -> None:
        """See Installer."""
        argv: list[str | Path] = [self.bench.python.base, "-m", "venv", "--without-pip", folder]
        log.run("create", argv, cwd=self.bench.scratch, env=self.bench.env)

    def _install(self, folder: Path, arguments: Sequence[str | Path], log: BuildLog) -> None:
        argv = [*self._inside(folder), "install", "--no-deps", *self.bench.sources.arguments(), *arguments]
        log.run("install", argv, cwd=self.bench.scratch, env=self.bench.env)

    def check(self, folder: Path, log: BuildLog) -> None:
        """See Installer."""
        log.run("check", [*self._inside(folder), "check"], cwd=self.bench.scratch, env=self.bench.env, check=False)

    def _inside(self, folder: Path) -> list[str | Path]:
        return [*self._pip, "--python", folder / "bin" / "python"]


def choose(bench: Bench, log: BuildLog) -> Installer:
    """The tool to use: what HPCEST_INSTALLER names, else uv, else pip. Raises EnvironmentBuildError."""
    wanted = bench.variables.get(CHOICE, "")
    if wanted not in ("", "uv", "pip"):
        raise ConfigError(f"{CHOICE} is {wanted!r}, and must be uv or pip", hint=f"unset {CHOICE} to have one chosen")
    if wanted != "pip":
        program = find_uv(bench.variables)
        version = version_of_uv(program, bench) if program else ""
        if version and tuple(map(int, version.split(".")[:2])) >= OLDEST_UV:
            return Uv(bench, program, version)
        if wanted == "uv":
            reason = f"uv {version} is older than 0.5" if version else "there is no uv on PATH, nor beside hpcest"
            raise EnvironmentBuildError(f"{CHOICE} is uv, but {reason}", hint="pip install 'hpcest[fast]'")
    return Pip(bench, log)


def find_uv(variables: Mapping[str, str] = os.environ) -> str:
    """The path of uv, on PATH or installed beside hpcest; empty where there is none."""
    found = shutil.which("uv", path=variables.get("PATH", os.defpath))
    if found or find_spec("uv") is None:
        return found or ""
    try:
        return str(import_module("uv").find_uv_bin())
    except (FileNotFoundError, AttributeError):  # a package without its program, or something else of that name
        return ""


def version_of_uv(program: str, bench: Bench) -> str:
    """Such as ``0.9.11``; empty for a program that is no uv."""
    done = run([program, "--version"], env=bench.env, cwd=bench.scratch)
    found = re.match(r"uv (\d+\.\d+[\w.]*)", done.out)
    return found[1] if done.ok and found else ""
