"""What a run needs on a machine that does not share the workspace: which files, and its manifest with the paths there."""

from __future__ import annotations

import io
import json
import os
import tarfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from hpcest.errors import SpecError
from hpcest.model.folders import RunFolder, WorkspaceFolder
from hpcest.model.plan import Plan

#: What runs write there, and what of the record only this side reads.
_STAYS = {"events", "outputs", "logs", "user_logs", "system_logs", "artifacts", "work", "launch.json", "state"}
#: Kinds of environment whose programs may be there too.
SENT = ("host", "existing")


def refuse_built(launch: Mapping[str, Any], kind: str, host: str) -> None:
    """Refuse an environment that was built here. Raises SpecError."""
    built = str(WorkspaceFolder(launch["workspace"]).environments)
    if kind not in SENT or any(text.startswith(built) for text in _texts(launch)):
        raise SpecError(
            f"the environment kind {kind!r} is built here, and {host} does not share this workspace",
            hint="use --env host (its own Python) or --env existing (a folder that is at the same path there)",
        )


def with_own_python(launch: Mapping[str, Any], python: str) -> dict[str, Any]:
    """The manifest of a run in the environment ``host``: with the machine's Python in place of the submitter's."""
    old = launch.get("interpreter") or ""
    variables = {name: value for name, value in launch["variables"].items() if name not in ("VIRTUAL_ENV", "CONDA_PREFIX")}
    path = [folder for folder in launch["path"] if folder != os.path.dirname(old)]
    argv = [python if old and word == old else word for word in launch["argv"]]
    return {**launch, "argv": argv, "path": path, "variables": variables, "interpreter": python}


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, (dict, list)):
        for one in value.values() if isinstance(value, dict) else value:
            yield from _texts(one)


class Parcel:
    """What some runs of one workspace need: paths below ``root``."""

    def __init__(self, plans: Sequence[tuple[Plan, RunFolder]]) -> None:
        self.plans = plans
        self.workspace = WorkspaceFolder(plans[0][0].launch["workspace"])
        self.root = self.workspace.root

    def names(self) -> list[str]:
        """What does not change once it is there: the runtime, manifests and objects, the outputs of earlier runs."""
        paths: dict[Path, None] = {}
        for snapshot in {plan.launch["snapshot"]["manifest"] for plan, _ in self.plans if plan.launch.get("snapshot")}:
            listed = json.loads(Path(snapshot).read_text(encoding="utf-8"))
            paths |= dict.fromkeys([Path(snapshot), *(self.workspace.object(digest) for *_, digest in listed["files"])])
        own = {folder.path for _, folder in self.plans}
        for text in {text for plan, _ in self.plans for text in _texts(plan.launch) if text.startswith(f"{self.workspace.home}/")}:
            path = Path(text)
            if path != self.workspace.objects and not own & {path, *path.parents} and path.exists():
                paths |= dict.fromkeys(_files(path))
        return [str(path.relative_to(self.root)) for path in paths]

    def pack(self, root: str, names: Iterable[str], out: IO[bytes]) -> None:
        """Write the files ``names`` and the runs' own as a tar stream, for a workspace that is ``root`` there."""
        with tarfile.open(fileobj=out, mode="w|") as archive:
            _add(archive, self.root, (self.root / name for name in [str(self.workspace.header.relative_to(self.root)), *names]))
            for plan, folder in self.plans:
                mine = [path for part in sorted(os.listdir(folder.path)) if part not in _STAYS for path in _files(folder.path / part)]
                _add(archive, self.root, [*mine, *([folder.secrets] if folder.secrets.exists() else [])])
                text = json.dumps(_moved(plan.launch, str(self.root), root), indent=1).encode()
                facts = tarfile.TarInfo(str(folder.launch.relative_to(self.root)))  # last: with it the run is complete
                facts.size, facts.mode = len(text), 0o600
                archive.addfile(facts, io.BytesIO(text))


def _moved(value: Any, old: str, new: str) -> Any:
    """``value`` with the paths of the workspace as they are there."""
    if isinstance(value, dict):
        return {name: _moved(one, old, new) for name, one in value.items()}
    if isinstance(value, list):
        return [_moved(one, old, new) for one in value]
    ours = isinstance(value, str) and (value == old or value.startswith(f"{old}/{WorkspaceFolder.MARKER}/"))
    return new + value[len(old) :] if ours else value


def _files(path: Path) -> Iterator[Path]:
    if path.is_dir() and not path.is_symlink():
        for name in sorted(os.listdir(path)):
            if name != "__pycache__":
                yield from _files(path / name)
    else:
        yield path


def _add(archive: tarfile.TarFile, root: Path, paths: Iterable[Path]) -> None:
    for path in paths:
        archive.add(path, str(path.relative_to(root)), recursive=False)
