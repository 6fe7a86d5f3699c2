"""From a finished prefix to files: a layer that is bound over its base, or one SIF that holds both."""

from __future__ import annotations

import os
import platform
import shutil
import stat
from pathlib import Path

from hpcest.environments.apptainer.commands import PREFIX
from hpcest.environments.apptainer.program import Program
from hpcest.environments.apptainer.troubles import explained
from hpcest.environments.buildlog import BuildLog
from hpcest.errors import EnvironmentBuildError
from hpcest.kit.process import run

LAYER, SINGLE = "env.sqfs", "env.sif"
#: The same files make the same bytes: no times, no owners, no order of the disk.
_REPRODUCIBLE = ("-noappend", "-all-root", "-no-progress", "-quiet", "-mkfs-time", "0", "-all-time", "0")
_ZSTD = ("-comp", "zstd", "-Xcompression-level", "3")
_GZIP = ("-comp", "gzip", "-Xcompression-level", "1")
#: What a SIF calls a partition of its architecture.
_SIF_MACHINES = {"x86_64": "2", "i686": "1", "aarch64": "4", "ppc64le": "7", "s390x": "11"}


def squash(source: Path, target: Path, program: Program, log: BuildLog) -> None:
    """Pack the directory ``source`` into the squashfs file ``target``. Raises EnvironmentBuildError."""
    packer = program.mksquashfs
    if not packer:
        raise EnvironmentBuildError(
            "mksquashfs is neither on PATH nor in Apptainer's own folder", hint="install squashfs-tools, or use layout: flat"
        )
    with log.phase("squash") as done:
        before = _size(source)
        _even_out(source)
        known = run([packer, "-help"])  # an older one may not have zstd; newer ones list it elsewhere
        compression = _GZIP if "gzip" in known.out + known.err and "zstd" not in known.out + known.err else _ZSTD
        log.run("squash", [packer, source, target, *_REPRODUCIBLE, *compression], cwd=target.parent, env=dict(os.environ))
        done.append(f"{before / 1e6:.0f} MB to {target.stat().st_size / 1e6:.0f} MB")


def join(base: str, prefix: Path, target: Path, program: Program, log: BuildLog) -> None:
    """Make one SIF of a base and a prefix; any Apptainer starts it as it is. Raises EnvironmentBuildError."""
    overlay = target.with_suffix(".overlay")
    tree = _in_place(prefix)
    squash(tree, overlay, program, log)
    with log.phase("join") as done:
        shutil.copyfile(base, target)
        os.chmod(target, 0o644)
        # An overlay partition (datatype 4) of a squashfs (partfs 1), which is mounted over the system (parttype 4).
        facts = ["--datatype", "4", "--partfs", "1", "--parttype", "4", "--partarch", _SIF_MACHINES.get(platform.machine(), "2")]
        argv: list[str | Path] = [program.path, "sif", "add", *facts, "--groupid", "1", target, overlay]
        log.run("join", argv, cwd=target.parent, env=dict(os.environ))
        done.append(f"{target.stat().st_size / 1e6:.0f} MB")
    overlay.unlink()


def flatten(base: str, prefix: Path, target: Path, program: Program, log: BuildLog, env: dict[str, str]) -> None:
    """Have Apptainer build one SIF the classic way. Needs what its builds need (ranges in /etc/subuid). Raises EnvironmentBuildError."""
    recipe = target.with_suffix(".def")
    recipe.write_text(f"Bootstrap: localimage\nFrom: {base}\n\n%files\n    {prefix} {PREFIX}\n", encoding="utf-8")
    with log.phase("build") as done:
        with explained():
            log.run("build", [program.path, "build", "--force", target, recipe], cwd=target.parent, env=env)
        done.append(f"{target.stat().st_size / 1e6:.0f} MB")
    recipe.unlink()


def _in_place(prefix: Path) -> Path:
    """A directory in which the prefix lies where containers have it."""
    root = prefix.with_name(f"{prefix.name}.root")
    place = root / PREFIX.lstrip("/")
    place.parent.mkdir(parents=True, exist_ok=True)
    prefix.rename(place)
    return root


def _even_out(folder: Path) -> None:
    """Give everything the modes that a umask of 022 gives: an image is the same whoever builds it, and readable for all."""
    for parent, _, names in os.walk(folder):
        os.chmod(parent, 0o755)  # noqa: S103 - in the image all files are root's, and it is the image's own mode that protects it
        for name in names:
            path = os.path.join(parent, name)
            mode = os.lstat(path).st_mode
            if stat.S_ISREG(mode):
                os.chmod(path, 0o755 if mode & 0o111 else 0o644)


def _size(folder: Path) -> int:
    """Bytes of all files below a folder."""
    return sum(os.lstat(os.path.join(parent, name)).st_size for parent, _, names in os.walk(folder) for name in names)
