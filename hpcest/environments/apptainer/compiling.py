"""Byte-compiling a prefix, which takes longer than all else: what an earlier image has compiled already is taken from there."""

from __future__ import annotations

import os
from pathlib import Path

from hpcest.environments.apptainer.commands import PREFIX, Mount
from hpcest.environments.apptainer.containeruv import ContainerUv
from hpcest.environments.buildlog import BuildLog
from hpcest.environments.store.store import Store
from hpcest.environments.wish import Packages

#: Where the earlier image lies in the container that compiles.
_BEFORE = "/opt/hpcest/before"
#: Runs in the container. What is compiled carries the hash of its source, so that it can be told whether it is of the same one.
#: What can't be compiled (a template, code of another Python) can't be imported either.
_PROGRAM = """
import importlib.util, os, py_compile, sys
from concurrent.futures import ProcessPoolExecutor

new, old, jobs = sys.argv[1], sys.argv[2], int(sys.argv[3])
HASHED = importlib.util.MAGIC_NUMBER + (1).to_bytes(4, "little")

def compile_one(path):
    target = importlib.util.cache_from_source(path)
    try:
        with open(importlib.util.cache_from_source(old + path[len(new):]), "rb") as stream:
            before = stream.read()
        with open(path, "rb") as stream:
            same = before[:16] == HASHED + importlib.util.source_hash(stream.read())
        if same:
            os.makedirs(os.path.dirname(target), exist_ok=True)
            with open(target, "wb") as stream:
                stream.write(before)
            return 0
    except OSError:
        pass
    try:
        py_compile.compile(path, target, doraise=True, invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH)
    except Exception:
        pass
    return 1

def sources():
    for parent, folders, names in os.walk(os.path.join(new, "lib")):
        folders[:] = sorted(name for name in folders if name != "__pycache__")
        for name in sorted(names):
            if name.endswith(".py"):
                yield os.path.join(parent, name)

if __name__ == "__main__":
    with ProcessPoolExecutor(jobs) as pool:
        done = list(pool.map(compile_one, sources(), chunksize=64))
    print(len(done), sum(done))
"""


def compile_prefix(uv: ContainerUv, packages: Packages, store: Store, log: BuildLog) -> None:
    """Compile all that is in the prefix, on all the cores that there are. Images are read-only: Python could never keep it."""
    earlier = _earlier(store, packages)
    script = uv.bench.scratch / "compiling.py"
    script.write_text(_PROGRAM, encoding="utf-8")
    mounts = [Mount(str(earlier), _BEFORE, image=True)] if earlier else []
    jobs = str(len(os.sched_getaffinity(0)))
    with log.phase("compile") as done:
        said = uv.inside("compile", [f"{PREFIX}/bin/python", script, PREFIX, _BEFORE, jobs], log, more=mounts)
        files, compiled = (int(word) for word in said.split()[-2:])
        done.append(f"{compiled} of {files} files" if compiled < files else f"{files} files")


def _earlier(store: Store, packages: Packages) -> Path | None:
    """The layer of the image with the same Python that was built last in this workspace."""
    images = [image for image in store.images() if not image.site and image.manifest.get("layout") == "split"]
    same = [image for image in images if image.manifest.get("python") == packages.python]
    return max(same, key=lambda image: image.created).file("env.sqfs") if same else None
