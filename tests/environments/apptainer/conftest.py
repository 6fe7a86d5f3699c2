"""What the tests of container environments share: small sources of packages, and a way to build and to run."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from hpcest.contracts import Lock
from hpcest.environments.apptainer.kind import Apptainer as Kind
from hpcest.environments.store.entries import StoredImage
from hpcest.environments.store.store import Store
from hpcest.errors import HpcestError
from hpcest.model.folders import WorkspaceFolder
from hpcest.model.settings import EnvironmentSettings
from hpcest.model.spec import EnvironmentSpec, RunSpec
from hpcest.onnode.rank import environment
from tests.cluster.fixtures import Apptainer
from tests.environments.channel import demo_packages, write_channel
from tests.environments.conftest import RUN

Done = subprocess.CompletedProcess[str]


@dataclass
class Site:
    """A workspace with a small base image. ``said`` is all that a user was told."""

    workspace: WorkspaceFolder
    settings: EnvironmentSettings
    folder: Path
    said: list[str] = field(default_factory=list)

    @property
    def kind(self) -> Kind:
        """The environment plugin under test."""
        return Kind(self.settings)

    @property
    def store(self) -> Store:
        """Where images end up."""
        return Store(self.workspace.environments, [Path(site) for site in self.settings.stores])

    def beside(self, name: str, **settings: Any) -> Site:
        """Another workspace, with other settings where given."""
        workspace = WorkspaceFolder(self.workspace.root.with_name(name))
        workspace.home.mkdir(parents=True)
        return Site(workspace, replace(self.settings, **settings), self.folder)

    def build(self, *pip: str, locked: str = "", **more: Any) -> Lock:
        """Build an environment of pip packages and what else a spec can name."""
        return self.kind.rebuild(EnvironmentSpec(pip=pip, **more), self.workspace, self.said.append, locked)

    def refusal(self, *pip: str, **more: Any) -> HpcestError:
        """The error of a build that must fail."""
        with pytest.raises(HpcestError) as caught:
            self.build(*pip, **more)
        return caught.value

    def image(self, lock: Lock) -> StoredImage:
        """The image of a lock, which must be there."""
        found = self.store.look(lock.key)
        assert found.image, found.wrong
        return found.image

    def run(self, lock: Lock, *argv: str, spec: RunSpec = RUN, env: dict[str, str] | None = None, cwd: Path | None = None) -> Done:
        """Run a program in an environment as a rank would, its environment made by the code that runs on nodes."""
        activation = self.kind.activate(lock, self.workspace, spec)
        variables = {**activation.variables, **spec.environment.variables, **spec.environment_variables}
        launch = {"run": "r", "folder": str(self.folder), "runtime": "/nowhere", "unset": activation.unset, "variables": variables}
        launch.update(path=list(activation.path), prefix=list(activation.prefix))
        whole = environment(launch, 0, {"RANK": "0"}, {**os.environ, **(env or {})})
        words = [*activation.prefix, *(activation.python if word == "PYTHON" else word for word in argv)]
        return subprocess.run(
            words, env=whole, cwd=cwd or self.folder, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=120, check=False
        )

    def python(self, lock: Lock, code: str, **more: Any) -> str:
        """What a Python program prints in an environment."""
        done = self.run(lock, "PYTHON", "-c", code, **more)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def nothing_left(self, *, leases: bool = True) -> None:
        """Nobody builds, nobody waits, and nothing half-built lies about; a killed process's lease may, it stops nobody."""
        layout = self.store.layout
        for folder in (layout.building, *([layout.leases] if leases else [])):
            assert not folder.exists() or not list(folder.iterdir()), folder
        end = time.monotonic() + 20
        while list(Path(self.settings.scratch).iterdir()):  # nobody waits for its removal
            assert time.monotonic() < end, list(Path(self.settings.scratch).iterdir())
            time.sleep(0.05)


@pytest.fixture
def site(apptainer: Apptainer, workspace: WorkspaceFolder, tmp_path: Path) -> Site:
    """A workspace whose environments are built on the Debian image, in a scratch folder of its own."""
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    channel = write_channel(tmp_path / "channel", demo_packages("3.11"))
    return Site(workspace, EnvironmentSettings(image=str(apptainer.debian), channels=(channel,), scratch=str(scratch)), tmp_path)


Offline = tuple[str, ...]
Make = Callable[..., Path]
