"""Every path of a workspace and of a run, spelt once."""

from __future__ import annotations

from pathlib import Path


class WorkspaceFolder:
    """A workspace directory: ``root`` is the user's, everything of ours lies in ``root/.hpcest``."""

    MARKER = ".hpcest"

    def __init__(self, root: Path | str) -> None:
        self.root = Path(root)
        self.home = self.root / self.MARKER
        self.header = self.home / "workspace.json"
        self.config = self.home / "config.yaml"
        self.runs = self.home / "runs"
        self.trash = self.home / "trash"
        self.objects = self.home / "snapshots" / "objects"
        self.manifests = self.home / "snapshots" / "manifests"
        self.environments = self.home / "environments"
        self.models = self.home / "models"
        self.runtime = self.home / "runtime"
        self.index = self.home / "history.db"
        self.edits = self.home / "edits"
        self.arrays = self.home / "arrays"

    def run(self, run_id: str) -> RunFolder:
        """The folder of a run, whether or not it exists."""
        return RunFolder(self.runs / run_id)

    def manifest(self, snapshot: str) -> Path:
        """The list of a snapshot's files."""
        return self.manifests / f"{snapshot}.json"

    def object(self, digest: str) -> Path:
        """A file's content, by its sha256."""
        return self.objects / digest[:2] / digest[2:]

    def __repr__(self) -> str:
        return f"WorkspaceFolder({str(self.root)!r})"


class _Below:
    """A path below a run folder, put together when it is asked for: thousands of folders are made at once."""

    def __init__(self, *parts: str) -> None:
        self._parts = parts

    def __get__(self, folder: RunFolder, owner: type[RunFolder]) -> Path:
        return folder.path.joinpath(*self._parts)


class RunFolder:
    """A run's directory: the truth about the run."""

    header = _Below("run.json")
    launch = _Below("launch.json")
    script = _Below("job.sbatch")
    lock = _Below("environment.lock")
    events = _Below("events")
    state = _Below("state")
    outputs = _Below("outputs")
    logs = _Below("logs")
    user_logs = _Below("user_logs")
    system_logs = _Below("system_logs")
    artifacts = _Below("artifacts")
    work = _Below("work")
    controller_log = _Below("system_logs", "controller.log")
    build_log = _Below("system_logs", "environment.log")
    cancel = _Below("state", "cancel")
    secrets = _Below("state", "secrets.json")

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self.id = self.path.name

    def claim(self, attempt: int) -> Path:
        """Who runs the attempt: made exclusively by its controller, touched as its heartbeat."""
        return self.state / f"claim.{attempt}.json"

    def sentinel(self, attempt: int) -> Path:
        """How the attempt ended, written by rename by its controller."""
        return self.state / f"exit.{attempt}.json"

    def rank_log(self, rank: int, attempt: int = 0, *, ranks: int = 1) -> Path:
        """What a rank printed in an attempt; Azure ML's name where there is one rank."""
        name = "std_log" if ranks == 1 else f"std_log_{rank}"
        return self.user_logs / (f"{name}.txt" if attempt == 0 else f"{name}.attempt{attempt}.txt")

    def __repr__(self) -> str:
        return f"RunFolder({str(self.path)!r})"
