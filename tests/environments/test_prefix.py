"""The kind ``conda``: a prefix in the workspace, chosen once, linked at its final place, with pip packages on top."""

from __future__ import annotations

import os
import re
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from hpcest.environments.images import places
from hpcest.environments.prefix import CondaPrefix
from hpcest.environments.store.entries import LAST_USED
from hpcest.environments.store.installed import verify_place
from hpcest.environments.store.store import Store
from hpcest.environments.store.sweeping import collect_garbage
from hpcest.errors import EnvironmentBuildError, SpecError
from hpcest.model.folders import WorkspaceFolder
from hpcest.model.plan import Activation
from hpcest.model.settings import EnvironmentSettings
from hpcest.model.spec import EnvironmentSpec
from tests.environments.channel import demo_packages, write_channel
from tests.environments.conftest import RUN, MakeWheel

#: The fabricated Python leads to this one.
MACHINES_OWN = Path("/usr/bin/python3")


@pytest.fixture
def kind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CondaPrefix:
    """The kind, with a fabricated channel as the configured one."""
    if not MACHINES_OWN.exists():
        pytest.skip(f"the fabricated conda Python needs {MACHINES_OWN}")
    said = subprocess.run([MACHINES_OWN, "--version"], capture_output=True, text=True, check=True).stdout
    version = ".".join(re.findall(r"\d+", said)[:2])
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return CondaPrefix(EnvironmentSettings(channels=(write_channel(tmp_path / "channel", demo_packages(version)),)))


def built(kind: CondaPrefix, workspace: WorkspaceFolder, spec: EnvironmentSpec) -> tuple[Activation, list[str]]:
    """How a program is started in it, and what was said."""
    said: list[str] = []
    return kind.activate(kind.prepare(spec, workspace, said.append), workspace, RUN), said


def test_a_prefix_runs_where_it_lies(kind: CondaPrefix, workspace: WorkspaceFolder) -> None:
    """Its programs have its own path in them, its packages' variables are set, and nothing is built the second time."""
    spec = EnvironmentSpec("conda", conda=("python", "hp-app"))
    activation, said = built(kind, workspace, spec)
    folder = activation.variables["CONDA_PREFIX"]
    out = subprocess.run([f"{folder}/bin/hp-lib"], capture_output=True, text=True, check=True).stdout
    _, again = built(kind, workspace, spec)

    assert out == f"hp-lib 2.0 {folder}\n"
    assert activation.variables["HP_DATA_HOME"] == f"{folder}/share/hp"
    assert said[-1].endswith(" s")
    assert again[0].endswith("cached, resolved 0 s ago")
    assert len(again) == 1


def test_a_prefix_needs_no_python(kind: CondaPrefix, workspace: WorkspaceFolder) -> None:
    """Conda has programs of all languages: such a prefix is used again as any other, and is not taken for a damaged one."""
    activation, _ = built(kind, workspace, EnvironmentSpec("conda", conda=("hp-data",)))
    _, again = built(kind, workspace, EnvironmentSpec("conda", conda=("hp-data",)))
    (place,) = places(workspace.environments)

    assert not os.path.exists(activation.python)
    assert again[0].endswith("cached, resolved 0 s ago")
    assert verify_place(place).problems == ()


def test_pip_packages_are_locked_too(kind: CondaPrefix, workspace: WorkspaceFolder, make_wheel: MakeWheel, tmp_path: Path) -> None:
    make_wheel(tmp_path / "wheels", "extra", "1.0")
    spec = EnvironmentSpec("conda", conda=("python", "hp-lib"), pip=("extra", "--no-index", f"--find-links {tmp_path / 'wheels'}"))
    lock = kind.prepare(spec, workspace, print)
    python = kind.activate(lock, workspace, RUN).python
    code = "import extra, hp_lib, sys; print(sys.prefix)"
    out = subprocess.run([python, "-c", code], capture_output=True, text=True, check=True).stdout

    assert out.strip() == str(Path(python).parent.parent)
    assert re.search(r"^extra==1.0 --hash=sha256:", lock.text, re.MULTILINE)
    assert "hp-lib-2.0" in lock.text


def test_it_is_built_where_the_configuration_says(
    kind: CondaPrefix, workspace: WorkspaceFolder, make_wheel: MakeWheel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not where TMPDIR says; and what is no directory is named."""
    make_wheel(tmp_path / "wheels", "extra", "1.0")
    monkeypatch.setenv("TMPDIR", "/proc/nowhere")
    spec = EnvironmentSpec("conda", conda=("python",), pip=("extra", "--no-index", f"--find-links {tmp_path / 'wheels'}"))
    with pytest.raises(EnvironmentBuildError, match="/proc/nowhere") as caught:
        kind.prepare(spec, workspace, print)
    assert "scratch: DIR" in caught.value.hint
    (tmp_path / "scratch").mkdir()
    assert CondaPrefix(replace(kind.settings, scratch=str(tmp_path / "scratch"))).prepare(spec, workspace, print).key


def test_the_same_request_in_other_words(kind: CondaPrefix, workspace: WorkspaceFolder) -> None:
    """A name, another order, and spaces make no difference."""
    one = kind.prepare(EnvironmentSpec("conda", name="a", conda=("python", "hp-lib >=1,<3")), workspace, print)
    said: list[str] = []
    two = kind.prepare(EnvironmentSpec("conda", name="b", conda=("hp-lib>=1,<3", "Python")), workspace, said.append)
    assert one.key == two.key
    assert "cached" in said[0]


def test_one_that_is_gone_is_built_again(kind: CondaPrefix, workspace: WorkspaceFolder) -> None:
    spec = EnvironmentSpec("conda", conda=("python", "hp-lib"))
    activation, _ = built(kind, workspace, spec)
    Path(activation.python).unlink()
    activation, said = built(kind, workspace, spec)
    assert "is built again: its Python is gone" in said[0]
    assert Path(activation.python).exists()


@pytest.mark.parametrize(
    ("spec", "error", "message"),
    [
        (EnvironmentSpec("conda"), SpecError, "names no conda packages"),
        (EnvironmentSpec("conda", conda=("hp-conflict",)), EnvironmentBuildError, "hp-lib"),
        (EnvironmentSpec("conda", conda=("hp-libb",)), EnvironmentBuildError, "hp-libb"),
    ],
)
def test_what_can_not_be(
    kind: CondaPrefix, workspace: WorkspaceFolder, spec: EnvironmentSpec, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        kind.prepare(spec, workspace, print)
    assert not [*workspace.environments.glob("conda/*/*")]


def test_what_conda_and_pip_recorded_is_compared(
    kind: CondaPrefix, workspace: WorkspaceFolder, make_wheel: MakeWheel, tmp_path: Path
) -> None:
    """Also of files that conda changed when it linked them; what was damaged is built again, and as it was."""
    make_wheel(tmp_path / "wheels", "extra", "1.0")
    pip = ("extra", "--no-index", f"--find-links {tmp_path / 'wheels'}")
    spec = EnvironmentSpec("conda", name="lab", conda=("python", "hp-app"), pip=pip)
    lock = kind.prepare(spec, workspace, print)
    (place,) = places(workspace.environments)
    assert verify_place(place).problems == ()
    image = place.ready()
    assert image
    (site,) = image.folder.glob("lib/python3*/site-packages")
    (site / "hp_lib" / "__init__.py").unlink()
    (image.folder / "bin" / "hp-lib").write_text("#!/bin/sh\n")
    (image.folder / "conda-meta" / "hp-data-1.0-0.json").rename(image.folder / "elsewhere")
    (site / "hp_lib-2.0.dist-info" / "METADATA").write_text("")
    assert [one.partition(": ")[2] for one in verify_place(place).problems] == [
        "its package hp-data==1.0 is gone",
        "its bin/hp-lib has another content than was installed",
        f"its {(site / 'hp_lib').relative_to(image.folder)}-2.0.dist-info/METADATA has another content than was installed",
        f"its {(site / 'hp_lib').relative_to(image.folder)}/__init__.py is gone",
    ]
    assert kind.prepare(spec, workspace, print).key == lock.key
    assert verify_place(place).problems == ()


def test_a_prefix_that_nobody_used_for_long_is_swept(kind: CondaPrefix, workspace: WorkspaceFolder) -> None:
    """Its memo stays, so the next run has the same packages."""
    spec = EnvironmentSpec("conda", conda=("python", "hp-lib"))
    lock = kind.prepare(spec, workspace, print)
    (place,) = places(workspace.environments)
    for path in (place.pointer, place.folder / LAST_USED):
        os.utime(path, (1, 1))
    assert [one.label for one in collect_garbage(Store(workspace.environments), keep=0).gone] == [f"environment {lock.key[:12]} (conda)"]
    with pytest.raises(EnvironmentBuildError, match="was not built here"):
        kind.activate(lock, workspace, RUN)
    assert kind.prepare(spec, workspace, print).key == lock.key
    for path in (place.pointer, place.folder / LAST_USED):
        os.utime(path, (1, 1))
    assert kind.activate(lock, workspace, RUN).python
    assert collect_garbage(Store(workspace.environments), keep=0).gone == ()
