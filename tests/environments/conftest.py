"""Packages made on the spot, so that building environments needs no network."""

from __future__ import annotations

import base64
import hashlib
import os
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from hpcest.model.folders import WorkspaceFolder
from hpcest.model.spec import Command, RunSpec

MakeWheel = Callable[..., Path]
#: A run that asks for nothing.
RUN = RunSpec("test", Command("train.py"))


@pytest.fixture(autouse=True)
def no_settings_of_the_user(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing that uv, pip or an active environment have been told reaches a test."""
    for name in [*os.environ]:
        if name.startswith(("PIP_", "UV_")) or name in ("VIRTUAL_ENV", "CONDA_PREFIX", "PYTHONPATH"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)


@pytest.fixture
def make_wheel() -> MakeWheel:
    """``make_wheel(folder, name, version)`` writes a small pure wheel by hand and returns its path."""

    def make(
        folder: Path, name: str, version: str, *, requires: Sequence[str] = (), scripts: Sequence[str] = (), code: str = "X = 1\n"
    ) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        info = f"{name}-{version}.dist-info"
        needs = "".join(f"Requires-Dist: {line}\n" for line in requires)
        files = {
            f"{name}/__init__.py": code,
            f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{needs}",
            f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: hand\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        }
        if scripts:
            files[f"{info}/entry_points.txt"] = "[console_scripts]\n" + "".join(f"{line}\n" for line in scripts)
        record = "".join(f"{path},sha256={_digest(text)},{len(text.encode())}\n" for path, text in files.items())
        files[f"{info}/RECORD"] = f"{record}{info}/RECORD,,\n"
        wheel = folder / f"{name}-{version}-py3-none-any.whl"
        with zipfile.ZipFile(wheel, "w") as archive:
            for path, text in files.items():
                archive.writestr(path, text)
        return wheel

    return make


def _digest(text: str) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()


@pytest.fixture
def wheels(tmp_path: Path, make_wheel: MakeWheel) -> Path:
    """A folder of packages: alpha needs beta; gamma and delta need different betas."""
    folder = tmp_path / "wheel house, of mine"
    hello = "def main():\n    print('hello from alpha')\n"
    make_wheel(folder, "alpha", "1.0", requires=["beta>=1"], scripts=["say-alpha = alpha:main"], code=hello)
    make_wheel(folder, "beta", "1.0")
    make_wheel(folder, "beta", "2.0")
    make_wheel(folder, "gamma", "1.0", requires=["beta<2"])
    make_wheel(folder, "delta", "1.0", requires=["beta>=2"])
    return folder


@pytest.fixture
def offline(wheels: Path) -> tuple[str, ...]:
    """Requirement lines after which only the folder of packages is used."""
    return ("--no-index", f"--find-links '{wheels}'")


@pytest.fixture(params=["uv", "pip"])
def installer(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Each of the two tools, chosen as a user would choose it."""
    monkeypatch.setenv("HPCEST_INSTALLER", request.param)
    return str(request.param)


@pytest.fixture
def workspace(tmp_path: Path) -> WorkspaceFolder:
    """A workspace whose path needs quoting."""
    folder = WorkspaceFolder(tmp_path / "work's space")
    folder.home.mkdir(parents=True)
    return folder


@pytest.fixture
def package_source(tmp_path: Path) -> Path:
    """The source of a package ``local`` that builds itself, without a build tool.

    A build appends a line to ``../builds`` and waits while ``../gate`` is there.
    """
    folder = tmp_path / "source of local"
    folder.mkdir()
    (folder / "pyproject.toml").write_text(
        '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n[project]\nname = "local"\nversion = "0.1"\n'
    )
    (folder / "local.py").write_text("VALUE = 1\n")
    (folder / "backend.py").write_text(BACKEND.replace("HERE", repr(str(tmp_path))))
    return folder


BACKEND = """
import os, time, zipfile
here = HERE
name, info = "local-0.1-py3-none-any.whl", "local-0.1.dist-info"
metadata = "Metadata-Version: 2.1\\nName: local\\nVersion: 0.1\\n"
wheel = "Wheel-Version: 1.0\\nGenerator: hand\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n"

def prepare_metadata_for_build_wheel(directory, settings=None):
    os.mkdir(os.path.join(directory, info))
    for file, text in (("METADATA", metadata), ("WHEEL", wheel)):
        with open(os.path.join(directory, info, file), "w") as stream:
            stream.write(text)
    return info

def build_wheel(directory, settings=None, metadata_directory=None):
    with open(os.path.join(here, "builds"), "a") as stream:
        stream.write("%d\\n" % os.getpid())
    while os.path.exists(os.path.join(here, "gate")):
        time.sleep(0.02)
    with zipfile.ZipFile(os.path.join(directory, name), "w") as archive:
        archive.write("local.py", "local.py")
        archive.writestr(info + "/METADATA", metadata)
        archive.writestr(info + "/WHEEL", wheel)
        archive.writestr(info + "/RECORD", "")
    return name
"""
