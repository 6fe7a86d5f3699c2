"""Several processes and killed ones: one build, nothing half-built to be seen, and the next one goes well."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path

import pytest

from tests.environments.apptainer.conftest import Offline, Site
from tests.environments.conftest import MakeWheel

HOUSE = Path(__file__).parents[3]
BUILDER = """
import json, sys
from pathlib import Path
from hpcest.environments.apptainer.kind import Apptainer
from hpcest.errors import HpcestError
from hpcest.model.folders import WorkspaceFolder
from hpcest.model.settings import EnvironmentSettings
from hpcest.model.spec import EnvironmentSpec
root, settings, pip = json.loads(sys.argv[1])
settings = {name: tuple(value) if isinstance(value, list) else value for name, value in settings.items()}
def say(line):
    print(line, flush=True)
try:
    lock = Apptainer(EnvironmentSettings(**settings)).prepare(EnvironmentSpec(pip=tuple(pip)), WorkspaceFolder(Path(root)), say)
    print("key", lock.key, lock.facts["sha256"])
except HpcestError as error:
    print("error", error, "hint", error.hint)
    sys.exit(1)
"""
Child = subprocess.Popen[str]


def begin(site: Site, *pip: str, largest_file: int = 0) -> Child:
    """A process that builds; what it says comes on its stdout."""
    text = json.dumps([str(site.workspace.root), asdict(site.settings), pip])

    def limit() -> None:
        if largest_file:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, largest_file))

    env = {**os.environ, "PYTHONPATH": str(HOUSE)}
    return subprocess.Popen([sys.executable, "-c", BUILDER, text], stdout=subprocess.PIPE, text=True, env=env, preexec_fn=limit)  # noqa: PLW1509


def until(child: Child, start: str) -> None:
    """Read what the child says up to a line that begins so."""
    assert child.stdout
    for line in child.stdout:
        if line.startswith(start):
            return
    pytest.fail(f"it ended before it said {start}")


def test_eight_at_once_build_once(site: Site, offline: Offline) -> None:
    """All have the same image, and one of them has built it."""
    children = [begin(site, *offline, "alpha") for _ in range(8)]
    said = [child.communicate(timeout=120)[0] for child in children]
    assert [child.returncode for child in children] == [0] * 8
    assert len({text.splitlines()[-1] for text in said}) == 1
    assert sum("squash:" in text for text in said) == 1
    assert sum("resolve:" in text for text in said) == 1
    site.nothing_left()


@pytest.mark.parametrize("phase", ["resolve", "create", "install", "compile", "check", "squash"])
def test_a_builder_that_is_killed_leaves_nothing_in_the_way(site: Site, offline: Offline, phase: str) -> None:
    """Killed after any phase: no image is there, the next build needs no waiting, and it clears the remains away."""
    with begin(site, *offline, "alpha") as child:
        until(child, f"{phase}:")
        child.kill()
    began = time.monotonic()
    lock = site.build(*offline, "alpha")
    assert time.monotonic() - began < 30
    assert site.run(lock, "say-alpha").stdout == "hello from alpha\n"
    site.nothing_left(leases=False)


@pytest.mark.parametrize("phase", ["resolve", "install", "check"])
def test_an_interrupted_build_leaves_nothing(site: Site, offline: Offline, phase: str) -> None:
    """Ctrl-C ends the tools with everything that they started, and removes what was begun."""
    with begin(site, *offline, "alpha") as child:
        until(child, f"{phase}:")
        child.send_signal(signal.SIGINT)
        assert child.wait(30) != 0
    assert not list(site.store.images())
    site.nothing_left()


def test_a_full_disk_ends_the_build_with_advice(site: Site, offline: Offline, wheels: Path, make_wheel: MakeWheel) -> None:
    """Nothing half-built is kept, and the build goes well once there is room."""
    make_wheel(wheels, "large", "1.0", code=f"X = {os.urandom(4 << 20).hex()!r}\n")
    site.build(image=site.settings.image)  # the base is there before the disk is full
    with begin(site, *offline, "large", largest_file=2 << 20) as child:
        assert child.stdout
        said = child.stdout.read()
    assert child.returncode == 1, said
    assert "error " in said
    assert not list(site.store.images())
    site.nothing_left()
    assert site.python(site.build(*offline, "large"), "import large; print(len(large.X))") == str(8 << 20)
