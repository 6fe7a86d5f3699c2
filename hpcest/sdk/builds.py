"""Builds and what there is of them: what ``Environment.build`` and ``get_image_details`` give, and wheels of one's own."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hpcest.contracts import Lock
from hpcest.errors import SpecError
from hpcest.kit.files import written_beside
from hpcest.model.spec import EnvironmentSpec
from hpcest.sdk.sections import is_dockerfile

if TYPE_CHECKING:
    from hpcest.sdk.workspace import Workspace


class ImageBuildDetails:
    """A build that has ended well. ``key`` names the environment, ``kind`` what it was built as, ``lock`` every package in it."""

    #: Always ``Succeeded``: a build that fails raises an error.
    status = "Succeeded"

    def __init__(self, lock: Lock, log: Path | None) -> None:
        self.kind, self.key, self.lock = lock.kind, lock.key, lock.text
        self._log = log

    def get_log(self) -> str:
        """The log of the build, from its first second; empty where nothing had to be built."""
        try:
            return self._log.read_text(encoding="utf-8", errors="replace") if self._log else ""
        except OSError:
            return ""

    def wait_for_completion(self, show_output: bool = True) -> ImageBuildDetails:
        """Itself: ``build`` has waited already."""
        return self

    def __repr__(self) -> str:
        return f"ImageBuildDetails(status={self.status!r}, kind={self.kind!r}, key={self.key[:12]!r})"


class ImageDetails(dict[str, Any]):
    """What there is of an environment; its items are attributes too.

    ``image_exist`` says whether it is built, ``key`` and ``kind`` name it, ``image`` is where it lies, ``size`` its bytes (0 where
    nobody counted them), ``interpreter_path`` and ``environment_path`` are as programs in it see them, ``packages`` is the text of
    its lock, ``dockerfile`` that of the Dockerfile that it was made by, if any. ``registry`` and ``repository`` are empty: an
    image lies in the workspace.
    """

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(f"image details have no {name!r}, but {', '.join(self)}") from None


def details(workspace: Workspace, spec: EnvironmentSpec) -> ImageDetails:
    """What a workspace has of ``spec``. Raises SpecError, EnvironmentBuildError."""
    from hpcest.lifecycle.environments import listed, lock

    made = lock(workspace.context, spec, lambda line: None)
    row = next((row for row in listed(workspace.context) if row.key == made.key and row.state == "ready"), None)
    inside = "/opt/hpcest/env" if made.kind == "apptainer" else str(row.folder) if row else ""
    return ImageDetails(
        image_exist=row is not None,
        kind=made.kind,
        key=made.key,
        image=str(row.folder) if row else "",
        size=(row.size or 0) if row else 0,
        interpreter_path=f"{inside}/bin/python" if inside else "",
        environment_path=inside,
        packages=made.text,
        dockerfile=_text(spec.image) if is_dockerfile(spec.image) else "",
        registry="",
        repository="",
    )


def _text(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def keep_wheel(workspace: Workspace, path: Path, *, exist_ok: bool) -> str:
    """Copy a wheel into the workspace; returns a requirement line for it. Raises SpecError."""
    from packaging.utils import InvalidWheelFilename, parse_wheel_filename

    try:
        name = parse_wheel_filename(path.name)[0]
    except InvalidWheelFilename:
        raise SpecError(f"{path} is no wheel", hint="its file's name must be like name-1.0-py3-none-any.whl") from None
    if not path.is_file():
        raise SpecError(f"there is no wheel {str(path)!r}", hint="a path counts from the current directory")
    target = workspace.folder.environments / "wheels" / path.name
    try:
        if not exist_ok and target.exists():
            raise SpecError(f"the wheel {path.name} is in the workspace already", hint="give exist_ok=True to replace it")
        target.parent.mkdir(parents=True, exist_ok=True)
        with written_beside(target) as beside:
            shutil.copyfile(path, beside)
    except OSError as error:
        raise SpecError(f"the wheel {path} can't be kept in {target.parent}: {error.strerror or error}") from error
    return f"{name} @ {target.as_uri()}"


def build(workspace: Workspace, spec: EnvironmentSpec, *, show_output: bool, on: str = "") -> ImageBuildDetails:
    """Build ``spec`` in the workspace, on a compute target if ``on`` names one. Raises SpecError, EnvironmentBuildError."""
    from hpcest.lifecycle.environments import build as build_now
    from hpcest.lifecycle.environments import listed

    def say(line: str) -> None:
        if show_output:
            sys.stderr.write(line + "\n")

    lock = build_now(workspace.context, spec, say, on=on)
    rows = [row for row in listed(workspace.context) if row.key == lock.key]
    return ImageBuildDetails(lock, Path(rows[0].log) if rows and rows[0].log else None)
