"""A workspace with an awkward path, a project to submit from, and finished runs that cost no process."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest

from hpcest import Run, Workspace
from hpcest.onnode.ids import new_run_id
from hpcest.onnode.record import EventWriter, put_json

MakeRun = Callable[..., Run]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current directory, with a small training script."""
    folder = tmp_path / "pro ject"
    folder.mkdir()
    (folder / "train.py").write_text("print('trained')\n")
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def workspace(tmp_path: Path, project: Path) -> Workspace:
    """A workspace beside the project."""
    return Workspace.create("lab", path=tmp_path / "w s'é")


@pytest.fixture
def made_run(workspace: Workspace) -> MakeRun:
    """``made_run(status="Failed", files={"outputs/a": "text"}, …)``: a run as its writers would have left it."""

    def make(
        *,
        experiment: str = "iris",
        status: str = "Completed",
        files: Mapping[str, str] | None = None,
        events: Iterable[Mapping[str, Any]] = (),
        kind: str = "run",
        **spec: Any,
    ) -> Run:
        folder = workspace.folder.run(new_run_id())
        for part in (folder.events, folder.state, folder.outputs, folder.logs, folder.user_logs, folder.system_logs):
            part.mkdir(parents=True)
        header = {"schema": 1, "id": folder.id, "kind": kind, "created": time.time(), "user": "me", "host": "login1"}
        put_json(str(folder.header), {**header, "spec": {"experiment": experiment, "command": {"script": "train.py"}, **spec}})
        writer = EventWriter(folder.path, "rank0.a0")
        for event in events:
            fields = dict(event)
            writer.event(fields.pop("e"), **fields)
        writer.event("status", v=status, by="controller", rc=0 if status == "Completed" else 3)
        writer.event("collected")
        writer.close()
        for name, text in (files or {}).items():
            (folder.path / name).parent.mkdir(parents=True, exist_ok=True)
            (folder.path / name).write_text(text)
        return Run.get(workspace, folder.id)

    return make
