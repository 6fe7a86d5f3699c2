"""The command lines that start something in a container: strict ones to build with, open ones to run in."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

#: Where the packages lie in every container. Short, since conda packages have room for so many letters only, and always the same.
PREFIX = "/opt/hpcest/env"
#: How an image can be stored.
LAYOUTS = ("split", "single", "flat")
#: Open MPI copies between processes in a way that user namespaces forbid: messages above some kilobytes would hang for ever.
MPI_VARIABLES = {"OMPI_MCA_btl_vader_single_copy_mechanism": "none", "UCX_POSIX_USE_PROC_LINK": "n"}


@dataclass(frozen=True)
class Mount:
    """Something of the host in a container: a directory, a file, or the root of a squashfs ``image``."""

    source: str
    target: str
    writable: bool = False
    image: bool = False

    @property
    def words(self) -> list[str]:
        """For Apptainer's command line; in the form that takes every path, also one with a colon or a comma."""
        fields = ["type=bind", f"source={self.source}", f"destination={self.target}"]
        fields += [] if self.writable else ["ro"]
        fields += ["image-src=/"] if self.image else []
        line = io.StringIO()
        csv.writer(line, lineterminator="").writerow(fields)
        return ["--mount", line.getvalue()]


def same(path: str | Path, *, writable: bool = True) -> Mount:
    """A directory of the host, at its own place."""
    return Mount(os.fspath(path), os.fspath(path), writable)


def to_build(program: str, base: str, mounts: Iterable[Mount], variables: dict[str, str] | None = None) -> list[str]:
    """Start something that sees nothing of the host but ``mounts``, and nothing of its environment."""
    words = [program, "-q", "exec", "--contain", "--cleanenv", "--no-home", "--pwd", "/"]
    for mount in mounts:
        words += mount.words
    for name, value in (variables or {}).items():
        words += ["--env", f"{name}={value}"]
    return [*words, base]


def to_run(program: str, base: str, mounts: Iterable[Mount], *, gpus: str = "", sharens: bool = False) -> tuple[str, ...]:
    """Start a rank: the home, /tmp, /dev/shm and the environment of the host are there, so that MPI finds its peers.

    ``gpus`` is ``nv``, ``rocm`` or empty; ``sharens`` has the ranks of a node share their mounts.
    """
    words = [program, "-q", "exec", *([f"--{gpus}"] if gpus else []), *(["--sharens"] if sharens else [])]
    for mount in mounts:
        words += mount.words
    return (*words, base)


def run_variables(paths: Iterable[str], more: dict[str, str]) -> dict[str, str]:
    """What is set for a run in a container. Apptainer takes PATH from the image: ``paths`` go before that."""
    found = {**MPI_VARIABLES, "PYTHONNOUSERSITE": "1", **more}
    if path := os.pathsep.join(paths):
        found["APPTAINERENV_PREPEND_PATH"] = path
    return found
