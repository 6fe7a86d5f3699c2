"""The command run in this process, in a workspace, with runs that cost no process and with real ones."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from click.testing import CliRunner

from hpcest.cli.main import cli
from hpcest.lifecycle.workspace import create_workspace
from hpcest.model.folders import RunFolder, WorkspaceFolder
from hpcest.onnode.ids import new_run_id
from hpcest.onnode.record import EventWriter, put_json

MakeRun = Callable[..., RunFolder]


class Said(NamedTuple):
    """What a command printed, and how it ended."""

    out: str
    err: str
    code: int

    @property
    def json(self) -> Any:
        """Its stdout as the one JSON document that it must be, without words that JSON has not."""
        return json.loads(self.out, parse_constant=lambda word: pytest.fail(f"{word} is not JSON"))

    @property
    def error(self) -> str:
        """What follows ``Error: ``."""
        return self.err.partition("Error: ")[2].rstrip("\n")


Hpcest = Callable[..., Said]


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> WorkspaceFolder:
    """The current directory: a workspace, with a small script in it."""
    made = create_workspace(tmp_path / "l é'b", name="lab")
    (made.root / "hello.py").write_text("print('hello')\n")
    monkeypatch.chdir(made.root)
    return made


@pytest.fixture
def hpcest() -> Hpcest:
    """``hpcest("runs", "--json")`` runs the command in this process."""

    def run(*words: object, stdin: str | None = None) -> Said:
        result = CliRunner().invoke(cli, [str(word) for word in words], input=stdin, prog_name="hpcest")
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return Said(result.stdout, result.stderr, result.exit_code)

    return run


@pytest.fixture
def made_run(workspace: WorkspaceFolder) -> MakeRun:
    """``made_run(status="Failed", files={"outputs/a": "text"}, …)``: a run as its writers would have left it."""

    def make(
        *,
        run_id: str = "",
        experiment: str = "iris",
        status: str = "Completed",
        ended: Mapping[str, Any] | None = None,
        files: Mapping[str, str] | None = None,
        events: Iterable[Mapping[str, Any]] = (),
        created: float = 0.0,
        **spec: Any,
    ) -> RunFolder:
        folder = workspace.run(run_id or new_run_id())
        for part in (folder.events, folder.state, folder.outputs, folder.logs, folder.user_logs, folder.system_logs):
            part.mkdir(parents=True)
        header = {"schema": 1, "id": folder.id, "kind": "run", "created": created or time.time(), "user": "me", "host": "login1"}
        put_json(str(folder.header), {**header, "spec": {"experiment": experiment, "command": {"script": "train.py"}, **spec}})
        writer = EventWriter(folder.path, "rank0.a0")
        for event in events:
            fields = dict(event)
            writer.event(fields.pop("e"), **fields)
        writer.event("status", v=status, by="controller", **({"rc": 0 if status == "Completed" else 3} if ended is None else ended))
        writer.event("collected")
        writer.close()
        for name, text in (files or {}).items():
            (folder.path / name).parent.mkdir(parents=True, exist_ok=True)
            (folder.path / name).write_text(text)
        return folder

    return make
