"""Apptainer in the tests is what users have: it runs and builds without root, on the Slurm nodes too, from forms that need no registry."""

from __future__ import annotations

import gzip
import json
import subprocess
import tarfile
from pathlib import Path

from tests.cluster.fixtures import Apptainer, Slurm
from tests.cluster.shape import ROOT

PING_PONG = """\
import socket
from mpi4py import MPI

world = MPI.COMM_WORLD
message, answer = bytearray(b"x" * (4 << 20)), bytearray(4 << 20)
other = world.rank ^ 1
for _ in range(3):
    world.Sendrecv(message, other, recvbuf=answer, source=other)
    assert answer == message
print(socket.gethostname(), world.allreduce(world.rank))
"""


def test_programs_run_in_an_image(apptainer: Apptainer) -> None:
    """With the image's Python, not the machine's."""
    done = apptainer.exec(
        apptainer.debian, "python3", "-c", "import os, ssl, venv, sys; print(sys.version_info[:2], os.environ['APPTAINER_NAME'])"
    )
    assert (done.stdout, done.stderr) == ("(3, 11) debian.sif\n", "")


def test_exit_codes_pass_through(apptainer: Apptainer) -> None:
    assert [apptainer.exec(apptainer.debian, "sh", "-c", f"exit {code}").returncode for code in (0, 7, 143)] == [0, 7, 143]


def test_it_is_on_path(apptainer: Apptainer) -> None:
    assert subprocess.run(["apptainer", "--version"], capture_output=True, text=True, check=True).stdout.startswith("apptainer version 1.")


def test_a_squashed_folder_is_bound_over_the_image(apptainer: Apptainer, tmp_path: Path) -> None:
    """The split layout: compressed with zstd, read-only."""
    (tmp_path / "layer").mkdir()
    (tmp_path / "layer/greeting").write_text("hello")
    squash = [
        "mksquashfs",
        f"{tmp_path}/layer",
        f"{tmp_path}/layer.sqfs",
        "-comp",
        "zstd",
        "-Xcompression-level",
        "3",
        "-quiet",
        "-no-progress",
    ]
    subprocess.run(squash, check=True, capture_output=True)
    bind = ["-B", f"{tmp_path}/layer.sqfs:/opt/layer:image-src=/,ro"]
    done = apptainer.exec(apptainer.debian, "sh", "-c", "cat /opt/layer/greeting; touch /opt/layer/new", options=bind)
    assert done.stdout == "hello"
    assert "Read-only file system" in done.stderr


def test_a_docker_archive_becomes_an_image(apptainer: Apptainer, tmp_path: Path) -> None:
    archive = apptainer.docker_archive(tmp_path / "tiny.tar", GREETING="hello")
    image = apptainer.build(tmp_path / "tiny.sif", f"docker-archive:{archive}")
    assert apptainer.exec(image, "sh", "-c", "echo $GREETING").stdout == "hello\n"


def test_an_oci_layout_becomes_an_image(apptainer: Apptainer, tmp_path: Path) -> None:
    layout = apptainer.oci_layout(tmp_path / "layout", GREETING="hello")
    image = apptainer.build(tmp_path / "tiny.sif", f"oci:{layout}")
    assert apptainer.exec(image, "sh", "-c", "echo $GREETING").stdout == "hello\n"


def test_an_archive_runs_without_a_build(apptainer: Apptainer, tmp_path: Path) -> None:
    archive, layout = apptainer.docker_archive(tmp_path / "tiny.tar"), apptainer.oci_layout(tmp_path / "layout")
    assert apptainer.exec(f"docker-archive:{archive}", "true").returncode == 0
    assert apptainer.exec(f"oci:{layout}", "true").returncode == 0


def test_an_archive_holds_the_folder_it_is_made_of(apptainer: Apptainer, tmp_path: Path) -> None:
    """Byte for byte the same each time, with digests that are true."""
    (tmp_path / "root/etc").mkdir(parents=True)
    (tmp_path / "root/etc/motd").write_text("welcome")
    one, two = (apptainer.docker_archive(tmp_path / f"{name}.tar", tmp_path / "root").read_bytes() for name in "ab")
    assert one == two
    with tarfile.open(tmp_path / "a.tar") as tar:
        (entry,) = json.loads(tar.extractfile("manifest.json").read())  # type: ignore[union-attr]
        with tarfile.open(fileobj=tar.extractfile(entry["Layers"][0])) as layer:
            assert layer.getnames() == ["etc", "etc/motd"]
    layout = apptainer.oci_layout(tmp_path / "layout", tmp_path / "root")
    (blob,) = (path for path in (layout / "blobs/sha256").iterdir() if path.read_bytes()[:2] == b"\x1f\x8b")
    assert b"welcome" in gzip.decompress(blob.read_bytes())


def test_every_node_runs_it(apptainer: Apptainer, slurm: Slurm) -> None:
    argv = ("srun", "-N2", "apptainer", "-q", "exec", str(apptainer.debian), "hostname")
    assert len(set(slurm.run(*argv).split()) & set(slurm.nodes)) == 2


def test_mpi_ranks_in_containers_exchange_large_messages(apptainer: Apptainer, slurm: Slurm, tmp_path: Path, own_home: Path) -> None:
    """On two nodes, two ranks each: without the setting they hang, and without the folders of Slurm's PMIx they don't start."""
    (tmp_path / "pingpong.py").write_text(PING_PONG)
    folders = f"{ROOT}/full/pmix,{ROOT}/full/spool"
    container = ["apptainer", "-q", "exec", "--env", "OMPI_MCA_btl_vader_single_copy_mechanism=none", "-B", folders, str(apptainer.mpi)]
    lines = slurm.run(
        "srun", "-N2", "-n4", "--ntasks-per-node=2", "--mpi=pmix", *container, "python3", f"{tmp_path}/pingpong.py"
    ).splitlines()
    assert {line.split()[1] for line in lines} == {"6"}
    assert sorted(len([line for line in lines if line.split()[0] == node]) for node in {line.split()[0] for line in lines}) == [2, 2]
