"""What goes wrong while a container's environment is built or started: one clear message, nothing half-built."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from hpcest.errors import EnvironmentBuildError, HpcestError
from tests.cluster.fixtures import Apptainer
from tests.environments.apptainer.conftest import Offline, Site
from tests.environments.conftest import RUN

SECRET = "geheimnis-17"


def test_conda_packages_that_exclude_each_other(site: Site) -> None:
    """The solver's own tree, and where the log is."""
    error = site.refusal(conda=("hp-conflict",))
    assert "hp-lib >=2, which can be installed" in error.message
    assert isinstance(error, EnvironmentBuildError)
    assert "failed: the conda packages" in Path(error.log).read_text()
    site.nothing_left()


@pytest.mark.parametrize(
    ("conda", "message", "hint"),
    [("hp-lbi", "conda package 'hp-lbi' is in none of the channels", "did you mean 'hp-lib'?"), ("hp-cuda", "__cuda", "CUDA")],
)
def test_conda_packages_that_cannot_be_had(site: Site, conda: str, message: str, hint: str) -> None:
    """The nearest names, or what the compute nodes would need."""
    error = site.refusal(conda=(conda,))
    assert message in error.message
    assert hint in error.hint


def test_a_channel_that_is_not_there(site: Site) -> None:
    """Its URL is named."""
    error = site.refusal(conda=("hp-lib",), channels=("file:///nowhere/channel",))
    assert "file:///nowhere/channel" in error.message
    assert "check its name" in error.hint


@pytest.mark.parametrize(("wanted", "hint"), [(("alhpa",), "spelling"), (("gamma", "delta"), "loosen")])
def test_pip_packages_that_cannot_be_had(site: Site, offline: Offline, wanted: tuple[str, ...], hint: str) -> None:
    """The resolver's words, and the log that has them all."""
    error = site.refusal(*offline, *wanted)
    assert wanted[0] in error.message
    assert hint in error.hint
    site.nothing_left()


def test_secrets_of_indexes_channels_and_images_are_shown_nowhere(site: Site, offline: Offline, wheels: Path) -> None:
    """Neither in an error, nor in a log, a lock or a manifest, nor to the user."""
    url = f"http://user:{SECRET}@127.0.0.1:1"
    errors = [
        site.refusal("alpha", f"--index-url {url}/simple", "--no-binary :none:"),
        site.refusal(conda=("hp-lib",), channels=(f"{url}/t/{SECRET}/channel",)),
        site.refusal(image=f"docker://user:{SECRET}@127.0.0.1:1/some/image:1"),
    ]
    site.build(f"--find-links {wheels.as_uri()}", f"--extra-index-url {url}/simple", "--no-index", "alpha")
    assert not [error for error in errors if SECRET in f"{error} {error.hint}"]
    assert SECRET not in "\n".join(site.said)
    files = [path for path in site.workspace.home.rglob("*") if path.is_file() and path.suffix != ".sif"]
    assert not [path for path in files if SECRET.encode() in path.read_bytes()]


def test_a_package_that_needs_a_compiler(site: Site, tmp_path: Path) -> None:
    """The base has none, so the advice is about the image, not about this machine."""
    source = tmp_path / "source"
    source.mkdir()
    (source / "pyproject.toml").write_text('[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n')
    (source / "backend.py").write_text(NEEDS_COMPILER)
    error = site.refusal("--no-index", str(source))
    assert "the base image has no compiler" in error.hint
    site.nothing_left()


NEEDS_COMPILER = """
import os, subprocess
def prepare_metadata_for_build_wheel(directory, settings=None):
    os.mkdir(os.path.join(directory, "fast-1.0.dist-info"))
    with open(os.path.join(directory, "fast-1.0.dist-info", "METADATA"), "w") as stream:
        stream.write("Metadata-Version: 2.1\\nName: fast\\nVersion: 1.0\\n")
    return "fast-1.0.dist-info"
def build_wheel(directory, settings=None, metadata_directory=None):
    subprocess.run(["gcc", "-c", "fast.c"], check=True)
"""


def test_a_step_that_fails(site: Site, offline: Offline) -> None:
    """The step is named with its last lines, and the image is not there."""
    error = site.refusal(*offline, "beta", steps=("echo begun", "echo one; echo two >&2; exit 3"))
    assert "step 'echo one; echo two >&2; exit 3' failed" in error.message
    assert error.message.endswith("two")
    assert not list(site.store.images())
    site.nothing_left()


def test_steps_change_the_environment(site: Site, offline: Offline) -> None:
    """They run where the packages are, and write nowhere else."""
    lock = site.build(*offline, "alpha", steps=("say-alpha > /opt/hpcest/env/said", "echo $HOME > /opt/hpcest/env/home"))
    assert site.run(lock, "cat", "/opt/hpcest/env/said", "/opt/hpcest/env/home").stdout == "hello from alpha\n/tmp\n"


def test_a_base_that_is_none(site: Site, tmp_path: Path, offline: Offline) -> None:
    """Nonsense and half an image are named, and are not kept."""
    (tmp_path / "bad.sif").write_bytes(b"nonsense" * 1000)
    data = Path(site.settings.image).read_bytes()
    (tmp_path / "cut.sif").write_bytes(data[: len(data) // 2])
    for name in ("bad.sif", "cut.sif"):
        error = site.refusal(*offline, "beta", image=str(tmp_path / name))
        assert f"the image {tmp_path / name} can't be started" in error.message
        assert "damaged" in error.hint
    assert not list(site.store.layout.bases.glob("*"))


def test_a_base_without_the_python(site: Site, apptainer: Apptainer, tmp_path: Path, offline: Offline) -> None:
    """None at all, or not the version that was asked for; both times the way out is said."""
    error = site.refusal(*offline, "beta", image=f"docker-archive:{apptainer.docker_archive(tmp_path / 'tiny.tar')}")
    assert "has no Python (it has none)" in error.message
    error = site.refusal(*offline, "beta", interpreter="3.7")
    assert "has no Python 3.7 (it has 3.11.2)" in error.message
    assert "python=3.7" in error.hint


def test_no_apptainer(site: Site, offline: Offline, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing on PATH, or a choice that is nonsense."""
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    if not shutil.which("apptainer") and not shutil.which("singularity"):
        assert "neither apptainer nor singularity is on PATH" in site.kind.missing()
    for nonsense in ("/bin/true", "no-such-program"):
        monkeypatch.setenv("HPCEST_APPTAINER", nonsense)
        assert f"HPCEST_APPTAINER is '{nonsense}', which is no Apptainer" in site.refusal(*offline, "beta").message


def test_the_answer_about_a_program_is_remembered(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Asked once; asked again when the file is another one."""
    from hpcest.environments.apptainer import program

    fake = tmp_path / "apptainer"
    for number in (1, 22):
        fake.write_text(f"#!/bin/sh\necho x >> '{tmp_path}/asked'\necho apptainer version {number}.0\n")
        fake.chmod(0o755)
        monkeypatch.setenv("HPCEST_APPTAINER", str(fake))
        for _ in range(2):
            program._version.cache_clear()
            found = program.find()
            assert found
            assert found.version == f"apptainer {number}.0"
    assert (tmp_path / "asked").read_text() == "x\nx\n"


def test_scratch_that_is_not_there(site: Site, offline: Offline) -> None:
    """The configuration's own name for it is in the hint."""
    error = site.beside("elsewhere", scratch="/nowhere").refusal(*offline, "beta")
    assert "nothing can be built in /nowhere" in error.message
    assert "scratch: DIR" in error.hint


def test_an_image_that_was_changed_is_not_started(site: Site, offline: Offline) -> None:
    """Its size or its time tells; it is built again the next time."""
    lock = site.build(*offline, "beta")
    file = site.image(lock).file("env.sqfs")
    file.chmod(0o644)
    with open(file, "ab") as stream:
        stream.write(b"more")
    with pytest.raises(HpcestError, match=r"can't be used: its env.sqfs has .* bytes instead of"):
        site.kind.activate(lock, site.workspace, RUN)
    site.said.clear()
    assert site.build(*offline, "beta").facts["sha256"] == lock.facts["sha256"]
    assert "is built again: its env.sqfs has" in site.said[0]
    assert site.python(lock, "import beta; print(beta.X)") == "1"


def test_a_base_that_has_gone_is_taken_again(site: Site, offline: Offline) -> None:
    """A run is refused with the reason; a submission mends it."""
    lock = site.build(*offline, "beta")
    os.unlink(site.store.layout.base(lock.facts["base"]))
    with pytest.raises(HpcestError, match=r"its base image .* is gone"):
        site.kind.activate(lock, site.workspace, RUN)
    assert site.build(*offline, "beta").key == lock.key
    site.kind.activate(lock, site.workspace, RUN)
