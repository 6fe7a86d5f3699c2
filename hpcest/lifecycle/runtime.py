"""What travels with a run beside its source: a part of this package and a framework's helpers, in the workspace, named by content."""

from __future__ import annotations

import hashlib
import os
import shutil
import uuid
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from hpcest import __version__
from hpcest.errors import HpcestError
from hpcest.model.folders import WorkspaceFolder

#: What makes a distribution of what travels: MLflow finds our store by it, where a program uses MLflow.
_DISTRIBUTION = {
    "METADATA": f"Metadata-Version: 2.1\nName: hpcest\nVersion: {__version__}\n",
    "entry_points.txt": "[mlflow.tracking_store]\nhpcest = hpcest.onnode.mlflow.entry:tracking_store\n"
    "\n[mlflow.model_registry_store]\nhpcest = hpcest.onnode.mlflow.entry:registry_store\n"
    "\n[mlflow.artifact_repository]\nhpcest = hpcest.onnode.mlflow.entry:artifact_repository\n",
}

#: Files by their names.
Contents = tuple[tuple[Path, bytes], ...]


def travelling_runtime(workspace: WorkspaceFolder, modules: Mapping[str, str] | None = None) -> Path:
    """The directory to put on a program's PYTHONPATH; made once for each version of the package and of plugins' ``modules``, name → text.

    Several processes may make it at once: it is written beside and renamed. Raises HpcestError.
    """
    digest, contents = _package()
    if modules:
        contents += tuple((Path(name), text.encode()) for name, text in sorted(modules.items()))
        digest = _digest(contents)
    return _kept(workspace.runtime / digest, contents)


def kept_helpers(workspace: WorkspaceFolder, helpers: Mapping[str, str]) -> str:
    """The directory that holds a framework's ``helpers``, name → text; empty for none. Raises HpcestError."""
    if not helpers:
        return ""
    contents = tuple((Path(name), text.encode()) for name, text in sorted(helpers.items()))
    return str(_kept(workspace.runtime / f"helpers-{_digest(contents)}", contents))


def _kept(target: Path, contents: Contents) -> Path:
    if target.is_dir():
        return target
    beside = target.with_name(f".{uuid.uuid4().hex}")
    try:
        for name, content in contents:
            (beside / name).parent.mkdir(parents=True, exist_ok=True)
            (beside / name).write_bytes(content)
        os.rename(beside, target)
    except OSError as error:
        shutil.rmtree(beside, ignore_errors=True)
        if not target.is_dir():
            raise HpcestError(f"{target.parent} can't be written: {error.strerror}") from error
    return target


@cache
def _package() -> tuple[str, Contents]:
    """The digest of what travels, and its files by their names; read once, as the rest of this process's code was."""
    package = Path(__file__).parents[1]
    sources = [package / "__init__.py", *sorted((package / "onnode").rglob("*.py"))]
    contents = tuple((source.relative_to(package.parent), source.read_bytes()) for source in sources)
    contents += tuple((Path(f"hpcest-{__version__}.dist-info", name), text.encode()) for name, text in _DISTRIBUTION.items())
    return _digest(contents), contents


def _digest(contents: Contents) -> str:
    digest = hashlib.sha256()
    for name, content in contents:
        digest.update(f"{name}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()[:16]
