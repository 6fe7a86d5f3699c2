"""Run folders as the login side makes them, without the login side."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hpcest.lifecycle.runtime import travelling_runtime
from hpcest.model.folders import RunFolder, WorkspaceFolder
from hpcest.onnode.ids import new_run_id
from hpcest.onnode.record import put_json
from hpcest.onnode.run import Run


class Bench:
    """A workspace to start controllers in: ``run(program)`` does it and returns the run's folder."""

    def __init__(self, root: Path) -> None:
        self.workspace = WorkspaceFolder(root)
        for folder in (self.workspace.runs, self.workspace.manifests, self.workspace.objects):
            folder.mkdir(parents=True)

    def snapshot(self, program: str) -> dict[str, Any]:
        """Store ``program`` as the one file train.py of a snapshot."""
        content = program.encode()
        digest = hashlib.sha256(content).hexdigest()
        target = self.workspace.object(digest)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
        manifest = json.dumps({"format": 1, "files": [["train.py", False, len(content), digest]], "links": [], "dirs": []})
        path = self.workspace.manifest(hashlib.sha256(manifest.encode()).hexdigest())
        path.write_text(manifest)
        return {"manifest": str(path), "objects": str(self.workspace.objects), "stamp": int(time.time())}

    def prepare(self, program: str, **changes: Any) -> RunFolder:
        """A run folder with a launch manifest, ready for a controller."""
        folder = self.workspace.run(new_run_id())
        for part in (folder.events, folder.state, folder.system_logs, folder.outputs, folder.logs):
            part.mkdir(parents=True)
        spec = {"experiment": "bench"}
        folder.header.write_text(json.dumps({"schema": 1, "id": folder.id, "kind": "run", "created": time.time(), "spec": spec}))
        launch = {
            "run": folder.id, "folder": str(folder.path), "workspace": str(self.workspace.root), "experiment": "bench",
            "runtime": str(travelling_runtime(self.workspace)), "python": sys.executable, "snapshot": self.snapshot(program),
            "nodes": 1, "procs_per_node": 1, "per": "process", "prefix": [], "argv": [sys.executable, "train.py"],
            "variables": {}, "path": [], "unset": [], "time": None, "grace": 2.0, "queue": None,
        }  # fmt: skip
        folder.launch.write_text(json.dumps({**launch, **changes}))
        return folder

    @staticmethod
    def argv(folder: RunFolder) -> list[str]:
        """How the run's controller is started."""
        launch = json.loads(folder.launch.read_text())
        boot = launch["runtime"] + "/hpcest/onnode/boot.py"
        return [sys.executable, "-I", "-S", "-X", "utf8", boot, "controller", str(folder.launch)]

    def start(self, folder: RunFolder) -> subprocess.Popen[bytes]:
        """Start the run's controller and return at once."""
        with open(folder.controller_log, "wb") as log:
            return subprocess.Popen(self.argv(folder), cwd=folder.path, stdout=log, stderr=log, start_new_session=True)

    def run(self, program: str, **changes: Any) -> RunFolder:
        """Run a program under a controller to its end."""
        folder = self.prepare(program, **changes)
        self.start(folder).wait(60)
        return folder


MakeBench = Callable[[], Bench]


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    """A workspace whose path has a space and quotes in it."""
    return Bench(tmp_path / "work space 'x\"")


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """A run that this process logs to."""
    monkeypatch.delenv("HPCEST_STRICT_LOGGING", raising=False)
    folder = tmp_path / "runs" / "abc12345"
    folder.mkdir(parents=True)
    put_json(str(folder / "run.json"), {"id": "abc12345", "spec": {"experiment": "iris"}})
    return Run(folder)
