"""Environments that are built by jobs, on nodes that reach nothing: what they are made of was fetched before."""

from __future__ import annotations

import io
import subprocess
import tarfile
import tempfile
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.cluster.fixtures import Apptainer
from tests.environments.channel import demo_packages, write_channel
from tests.environments.conftest import BACKEND, MakeWheel, make_wheel
from tests.slurm.conftest import CONFIGURATION, ClusterSite, verdict

__all__ = ["make_wheel"]

TARGET = "  big: {backend: slurm, cpus: 2, memory: 1000M, time: 10, poll: 0.2}\n"
PROJECT = '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n[project]\nname = "local"\nversion = "0.1"\n'


@pytest.fixture
def served(tmp_path: Path, make_wheel: MakeWheel) -> Iterator[str]:
    """An index ``/simple`` with a wheel (alpha) and a source archive (local), and a conda channel ``/channel``: on this host alone."""
    root = tmp_path / "served"
    make_wheel(root / "simple" / "alpha", "alpha", "1.0")
    (root / "simple" / "local").mkdir()
    write_source(root / "simple" / "local" / "local-0.1.tar.gz")
    write_channel(root / "channel", demo_packages("3.11"))
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(root))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


class Quiet(SimpleHTTPRequestHandler):
    """Lists folders, which is what an index is, and doesn't say so."""

    def log_message(self, format: str, *args: object) -> None:
        """Nothing."""


def write_source(path: Path) -> None:
    """A source archive of the package ``local``, which builds itself without a build tool."""
    files = {"pyproject.toml": PROJECT, "local.py": "VALUE = 1\n", "backend.py": BACKEND.replace("HERE", "'/tmp'")}
    files["PKG-INFO"] = "Metadata-Version: 2.1\nName: local\nVersion: 0.1\n"
    with tarfile.open(path, "w:gz") as archive:
        for name, text in files.items():
            member = tarfile.TarInfo(f"local-0.1/{name}")
            member.size = len(text.encode())
            archive.addfile(member, io.BytesIO(text.encode()))


@pytest.fixture
def builder(cluster: ClusterSite, apptainer: Apptainer, served: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ClusterSite:
    """The cluster's workspace, whose environments are built by jobs, from what only this host can fetch."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("UV_DEFAULT_INDEX", f"{served}/simple")
    for name in ("PIP_FIND_LINKS", "UV_FIND_LINKS", "UV_INDEX", "UV_CACHE_DIR"):
        monkeypatch.delenv(name, raising=False)
    of_all = f"kind: apptainer, image: '{apptainer.debian}', build_on: big, channels: ['{served}/channel']"
    cluster.configure(f"{CONFIGURATION}{TARGET}environment: {{{of_all}}}\n")
    return cluster


def asked(site: ClusterSite) -> list[Path]:
    """What is kept of requests, which may hold passwords."""
    return list((site.workspace.environments / "asked").iterdir())


def test_the_nodes_reach_nothing(builder: ClusterSite, served: str) -> None:
    """Else this file would show nothing."""
    look = f"import urllib.request as web; web.urlopen('{served}/simple/', timeout=5)"
    here = subprocess.run(["python3", "-c", look], capture_output=True, text=True, check=False)
    there = subprocess.run(["srun", "--mem=100M", "python3", "-c", look], capture_output=True, text=True, check=False)

    assert (here.returncode, there.returncode) == (0, 1)
    assert "Connection refused" in there.stderr


def test_pip_packages(builder: ClusterSite) -> None:
    """A wheel, and a source archive, which is built where it is fetched."""
    program = "import alpha, local, socket; print(socket.gethostname(), alpha.X, local.VALUE, local.__file__)\n"
    run = builder.send(program, "--pip", "alpha", "--pip", "local")

    assert verdict(builder.ended(run)) == ("Completed", "", 0), builder.logs()
    host, *rest = builder.log(run).split()
    assert host in builder.slurm.nodes
    assert rest == ["1", "1", "/opt/hpcest/env/lib/python3.11/site-packages/local.py"]
    assert asked(builder) == []


def test_conda_and_pip_packages(builder: ClusterSite) -> None:
    """Archives come from the cache, and so do wheels for the Python that is among them."""
    said = builder.cli("env", "build", "--conda", "hp-app", "--conda", "python=3.11").ok().err
    mixed = builder.cli("env", "build", "--conda", "hp-app", "--conda", "python=3.11", "--pip", "alpha").ok().err

    assert "fetch: 4 conda packages" in said
    assert "download: 4 packages, all in the cache" in said
    assert "fetch: 1 pip package" in mixed
    assert [run["status"] for run in builder.runs()] == ["Completed"] * 2
    assert {run["compute"] for run in builder.runs()} == {"big"}


def test_caches_on_another_disk(builder: ClusterSite, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nodes may not see it: what is needed comes into the workspace, and is gone when it was built."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as local:  # which is never the disk of a workspace
        monkeypatch.setenv("UV_CACHE_DIR", f"{local}/uv")
        monkeypatch.setenv("XDG_CACHE_HOME", f"{local}/xdg")
        builder.cli("env", "build", "--pip", "local").ok()
        builder.cli("env", "build", "--conda", "hp-app").ok()
        assert [path.name for path in Path(local, "xdg", "hpcest", "conda").iterdir()] == ["repodata"]  # what choosing needs, no archives
    assert asked(builder) == []


def test_a_step_that_needs_a_network(builder: ClusterSite, served: str) -> None:
    """Nobody can fetch it before; the failure says why it is not to be had."""
    step = f"python -c 'import urllib.request as web; web.urlopen(\"{served}/simple/\", timeout=5)'"
    job = builder.write("script: train.py\nenvironment:\n  pip: [alpha]\n  steps:\n  - >-\n    " + step + "\n", "job.yaml")
    said = builder.cli("env", "build", job)

    assert said.code == 1
    assert "Connection refused" in said.err
    assert "has no network, it seems: " in said.err
    assert asked(builder) == []


def test_what_was_asked_is_gone_in_the_end(builder: ClusterSite) -> None:
    """Also where the job is canceled while nobody waits for it: then the next build removes it."""
    job = builder.write("script: train.py\nenvironment: {pip: [alpha], steps: ['sleep 60']}\n", "job.yaml")
    waiting = builder.start("env", "build", job, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    builder.until(lambda: [run for run in builder.runs() if run["status"] == "Running"])
    waiting.kill()
    waiting.wait()
    (kept,) = asked(builder)
    assert kept.stat().st_mode & 0o077 == 0
    (run,) = builder.runs()
    builder.cli("cancel", run["id"]).ok()
    builder.cli("wait", "--timeout", "40", run["id"])
    builder.cli("env", "build", "--pip", "local").ok()
    assert asked(builder) == []
