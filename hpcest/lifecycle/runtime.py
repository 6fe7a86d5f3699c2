"""The part of this package that travels with a run: a copy in the workspace, named by its content."""

from __future__ import annotations

import hashlib
import os
import shutil
import uuid
from functools import cache
from pathlib import Path

from hpcest.errors import HpcestError
from hpcest.model.folders import WorkspaceFolder


def travelling_runtime(workspace: WorkspaceFolder) -> Path:
    """The directory to put on a program's PYTHONPATH; made once for each version of the package.

    Several processes may make it at once: it is written beside and renamed. Raises HpcestError.
    """
    digest, contents = _package()
    target = workspace.runtime / digest
    if target.is_dir():
        return target
    beside = workspace.runtime / f".{uuid.uuid4().hex}"
    try:
        for name, content in contents:
            (beside / name).parent.mkdir(parents=True, exist_ok=True)
            (beside / name).write_bytes(content)
        os.rename(beside, target)
    except OSError as error:
        shutil.rmtree(beside, ignore_errors=True)
        if not target.is_dir():
            raise HpcestError(f"{workspace.runtime} can't be written: {error.strerror}") from error
    return target


@cache
def _package() -> tuple[str, tuple[tuple[Path, bytes], ...]]:
    """The digest of what travels, and its files by their names; read once, as the rest of this process's code was."""
    package = Path(__file__).parents[1]
    sources = [package / "__init__.py", *sorted((package / "onnode").glob("*.py"))]
    contents = tuple((source.relative_to(package.parent), source.read_bytes()) for source in sources)
    digest = hashlib.sha256()
    for name, content in contents:
        digest.update(f"{name}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()[:16], contents
