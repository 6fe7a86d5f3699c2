"""Several processes that want one environment, and processes that die while they build it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hpcest.environments.venv import Venv
from hpcest.model.folders import WorkspaceFolder
from hpcest.model.spec import EnvironmentSpec

WaitUntil = Callable[..., None]
PREPARE = """
import sys
from hpcest.environments.venv import Venv
from hpcest.model.folders import WorkspaceFolder
from hpcest.model.spec import EnvironmentSpec
lock = Venv().prepare(EnvironmentSpec(pip=tuple(sys.argv[2:])), WorkspaceFolder(sys.argv[1]), lambda line: print(line, flush=True))
print("key", lock.key, flush=True)
"""


class Builder:
    """A process that prepares an environment with the package whose build waits at the gate."""

    def __init__(self, workspace: WorkspaceFolder, lines: tuple[str, ...]) -> None:
        argv = [sys.executable, "-c", PREPARE, str(workspace.root), *lines]
        self.process = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def end(self) -> tuple[list[str], str]:
        out, err = self.process.communicate(timeout=60)
        return out.splitlines(), err


class Site:
    """A workspace, the package, its gate and the processes that were started."""

    def __init__(self, workspace: WorkspaceFolder, source: Path, wait_until: WaitUntil) -> None:
        self.workspace, self.source, self._wait_until = workspace, source, wait_until
        self.gate, self.log = source.parent / "gate", source.parent / "builds"
        self.lines = ("--no-index", f"local @ {source.as_uri()}")
        self.builders: list[Builder] = []
        self.gate.touch()

    @property
    def built_by(self) -> list[int]:
        """The processes of the tool that built the package, in their order."""
        return [int(line) for line in self.log.read_text().split()] if self.log.exists() else []

    @property
    def folders(self) -> list[Path]:
        return [path for path in self.workspace.environments.glob("venv/*/*") if path.is_dir()]

    @property
    def leases(self) -> list[Path]:
        return [path for path in self.workspace.environments.rglob("*") if path.name == "lease" or path.suffix == ".lease"]

    def start(self) -> Builder:
        self.builders.append(Builder(self.workspace, self.lines))
        return self.builders[-1]

    def wait_for_builds(self, count: int) -> None:
        self._wait_until(lambda: len(self.built_by) >= count, f"{count} builds")


@pytest.fixture
def site(workspace: WorkspaceFolder, package_source: Path, wait_until: WaitUntil) -> Iterator[Site]:
    site = Site(workspace, package_source, wait_until)
    yield site
    site.gate.unlink(missing_ok=True)
    for builder in site.builders:
        builder.process.kill()
        builder.process.communicate()


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.usefixtures("installer")
def test_two_at_once_build_once(site: Site, wait_until: WaitUntil) -> None:
    first, second = site.start(), site.start()
    site.wait_for_builds(1)
    wait_until(lambda: len(site.leases) == 1)
    site.gate.unlink()
    one, two = first.end(), second.end()
    assert one[1] == two[1] == ""
    assert one[0][-1] == two[0][-1]
    assert one[0][-1].startswith("key ")
    assert len(site.built_by) == 1
    assert len(site.folders) == 1
    said = [*one[0], *two[0]]
    assert sum(" ready in " in line for line in said) == 1
    assert sum("waiting for " in line for line in said) >= 1
    assert sum("was built by another process" in line for line in said) == 1
    assert site.leases == []


@pytest.mark.usefixtures("installer")
def test_a_killed_builder_is_taken_over(site: Site) -> None:
    first = site.start()
    site.wait_for_builds(1)
    first.process.send_signal(signal.SIGKILL)
    first.process.wait()
    (half,) = site.folders
    assert len(site.leases) == 1
    second = site.start()
    site.wait_for_builds(2)
    assert not half.exists()
    site.gate.unlink()
    said, err = second.end()
    assert err == ""
    assert " ready in " in said[-2]
    (whole,) = site.folders
    assert whole != half
    assert site.leases == []


@pytest.mark.usefixtures("installer")
def test_ctrl_c_leaves_nothing_behind_but_the_log(site: Site, wait_until: WaitUntil) -> None:
    builder = site.start()
    site.wait_for_builds(1)
    builder.process.send_signal(signal.SIGINT)
    _, err = builder.end()
    assert err.rstrip().endswith("KeyboardInterrupt")
    assert site.folders == []
    assert site.leases == []
    wait_until(lambda: not is_alive(site.built_by[0]), "the end of the build")
    assert list(site.workspace.environments.glob("venv/*/build-*.log"))
    assert not list(site.workspace.environments.glob("venv/*/image.json"))


def test_a_build_that_lives_elsewhere_is_not_swept_away(site: Site) -> None:
    """A folder of which nothing is known is left alone while its log is young."""
    site.gate.unlink()
    spec = EnvironmentSpec(pip=site.lines)
    lock = Venv().prepare(spec, site.workspace, lambda line: None)
    (image,) = site.folders
    young, old, foreign = (image.parent / name for name in ("0000000a", "0000000b", "notes"))
    for folder in (young, old, foreign):
        folder.mkdir()
    os.utime(old, (1, 1))
    (image / "bin" / "python").unlink()
    assert Venv().prepare(spec, site.workspace, lambda line: None) == lock
    assert young.exists()
    assert foreign.exists()
    assert not old.exists()
