"""The images that the tests start from, built once by root and kept: a small Debian with Python, the same with MPI, and a busybox."""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path

from tests.cluster.apptainer import PREFIX, codename, mirror, step
from tests.cluster.commands import call
from tests.cluster.install import PATH

IMAGES = PREFIX / "images"
DEBIAN = IMAGES / "debian.sif"
"""Debian with /usr/bin/python3, venv, the usual certificates and the machine's mirror."""

MPI = IMAGES / "mpi.sif"
"""The same with Open MPI and mpi4py."""

BUSYBOX = IMAGES / "busybox"
"""One static program that is a shell and the usual tools, 2 MB: the whole content of the smallest image."""

INCLUDE = ["python3", "python3-venv", "ca-certificates"]
INCLUDE_MPI = ["openmpi-bin", "python3-mpi4py"]
USELESS = ["usr/share/doc", "usr/share/man", "usr/share/locale", "var/cache/apt", "var/lib/apt/lists"]
SQUASHING = "-comp zstd -Xcompression-level 3"


def ensure_bases(apptainer: Path) -> bool:
    """Build what is missing, or was built from another recipe than today's; whether that was so.

    :raises ClusterError: The message names the step and ends with its output.
    """
    stamp = IMAGES / "recipe.json"
    wanted = json.dumps({"include": INCLUDE, "mpi": INCLUDE_MPI, "useless": USELESS, "squashing": SQUASHING, "release": codename()})
    if all(path.exists() for path in (DEBIAN, MPI, BUSYBOX)) and stamp.exists() and stamp.read_text() == wanted:
        return False
    IMAGES.mkdir(mode=0o755, parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=IMAGES, prefix=".build-") as name:
        work = Path(name)
        _busybox(work)
        _debian(work / "root")
        _image(work / "root", DEBIAN, apptainer)
        _add_mpi(work / "root")
        _image(work / "root", MPI, apptainer)
    stamp.write_text(wanted)
    return True


def _busybox(work: Path) -> None:
    with step("fetching busybox"):
        call(["env", "-C", str(work), "apt-get", "-q", "-oAPT::Sandbox::User=root", "download", "busybox-static"], timeout=120)
        (package,) = work.glob("busybox-static*.deb")
        call(["dpkg-deb", "-x", str(package), str(work / "busybox")])
        (program,) = (path for path in (work / "busybox").rglob("bin/busybox") if path.is_file())
        program.chmod(0o755)
        program.rename(BUSYBOX)


def _debian(root: Path) -> None:
    with step("debootstrap"):
        what = ["debootstrap", "--variant=minbase", f"--include={','.join(INCLUDE)}", codename(), str(root), mirror()]
        call(what, timeout=900)
        root.chmod(0o755)


def _add_mpi(root: Path) -> None:
    """By the apt of the image: its own release, whatever this machine has."""
    with step("installing MPI in its base image"):
        inside = ["chroot", str(root), "env", "-i", f"PATH={PATH}", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-q"]
        for folder in ("var/cache/apt/archives/partial", "var/lib/apt/lists/partial", "var/log/apt"):
            (root / folder).mkdir(parents=True, exist_ok=True)
        shutil.copy("/etc/resolv.conf", root / "etc/resolv.conf")
        call([*inside, "update"], timeout=300)
        call([*inside, "install", "-y", "--no-install-recommends", *INCLUDE_MPI], timeout=900)


def _image(root: Path, image: Path, apptainer: Path) -> None:
    with step(f"building {image.name}"):
        for folder in USELESS:
            shutil.rmtree(root / folder, ignore_errors=True)
            (root / folder).mkdir(parents=True)
        beside = root.parent / image.name
        call([str(apptainer), "build", "--mksquashfs-args", SQUASHING, str(beside), str(root)], timeout=600)
        beside.chmod(0o644)
        beside.rename(image)
