"""How long ``hpcest`` takes to answer, beside ``python -c "import click"``, and what a program pays to find its run.

    python -m benchmarks.bench_start [--python .venv/bin/python] [--runs 10000] [--json]

``--python`` is the interpreter of an environment in which hpcest is installed, by default this one; its
``hpcest`` is measured as pip installed it. The history's runs and an external plugin are made for it.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from benchmarks.common import ROOT, Table, make_run, options, own_environment, program, side_by_side
from hpcest.history import ingest
from hpcest.lifecycle.workspace import create_workspace
from hpcest.model.folders import WorkspaceFolder

HEAVY = ("submitit", "sqlite_utils", "spython", "rich", "yaml")
UNFINISHED = 20
CONTEXT = "import hpcest; from hpcest import Run; Run.get_context()"
PLUGIN = """\
import hpcest

@hpcest.hookimpl
def hpcest_after_collect(run):
    pass
"""


class Bench:
    """One environment to measure, and a folder for all that is made on the way."""

    def __init__(self, python: Path, folder: Path, table: Table, rounds: int) -> None:
        self.python, self.hpcest = python, python.parent / "hpcest"
        self.folder, self.table, self.rounds = folder, table, rounds
        self.env = own_environment(folder)
        if not self.hpcest.is_file():
            raise SystemExit(f"there is no {self.hpcest}: pass --python, the interpreter of an environment with hpcest installed")

    def times_click(self, commands: Mapping[str, tuple[str, ...]], *, target: float | None = None, **where: Path | dict[str, str]) -> None:
        """Measure commands of hpcest beside ``import click``; ``env`` and ``cwd`` are where they run."""
        env, cwd = where.get("env", self.env), where.get("cwd")
        assert isinstance(env, dict)
        assert not isinstance(cwd, dict)
        click = program((str(self.python), "-c", "import click"), env, cwd)
        named = {what: program((str(self.hpcest), *words), env, cwd) for what, words in commands.items()}
        took = side_by_side({"click": click, **named}, self.rounds)
        for what in commands:
            self.table.add(what, took[what], beside=("import click", took["click"]), target=target)

    # ------------------------------------------------------------------ the command alone
    def answers(self) -> None:
        """--version and --help, without and with an external plugin."""
        self.times_click({"hpcest --version": ("--version",), "hpcest --help": ("--help",)}, target=1.5)
        loaded = program((str(self.python), "-c", f"{_SEE}print(*(name for name in {HEAVY} if name in sys.modules))"), self.env)().split()
        self.table.add(f"of {', '.join(HEAVY)}: imported by --version", len(loaded), "", beside=" ".join(loaded), target=0)
        with_plugin = {**self.env, "PYTHONPATH": str(self._plugin())}
        words = {"hpcest --version, with a plugin": ("--version",), "hpcest --help, with a plugin": ("--help",)}
        self.times_click(words, env=with_plugin)

    def _plugin(self) -> Path:
        """A directory for PYTHONPATH in which a distribution is installed, as pip does it: one module, compiled, one entry point."""
        folder = self.folder / "plugin"
        facts = folder / "hpcest_bench_plugin-1.0.dist-info"
        facts.mkdir(parents=True)
        (folder / "hpcest_bench_plugin.py").write_text(PLUGIN)
        (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: hpcest-bench-plugin\nVersion: 1.0\n")
        (facts / "entry_points.txt").write_text("[hpcest]\nbench = hpcest_bench_plugin\n")
        program((str(self.python), "-m", "compileall", "-q", str(folder)), self.env)()
        os.utime(folder, (time.time() - 60, time.time() - 60))  # what changed within seconds is not remembered: kit.entrypoints
        return folder

    # ------------------------------------------------------------------ listings
    def listings(self, runs: int) -> None:
        """``hpcest runs`` and what else looks at the history."""
        workspace = create_workspace(self.folder / "work")
        now = time.time()
        for number in range(runs):
            make_run(workspace, number, now=now)
        before = f", {runs:,} runs"
        listing = program((str(self.hpcest), "runs"), self.env, workspace.root)
        listing()  # builds the index
        self.times_click({f"hpcest runs{before}, just indexed": ("runs",)}, cwd=workspace.root, target=4.0)
        time.sleep(ingest.STAMP_TRUSTED_S + 1)  # from then on time stamps are believed, and no folder is listed
        listing()
        where = ("runs", "--where", "metrics.acc > 0.9 and tags.fold != '1'", "--sort", "-metrics.acc")
        listings = {
            f"hpcest runs{before}": ("runs",),
            f"hpcest runs --json{before}": ("runs", "--json"),
            f"with --where and --sort{before}": where,
        }
        self.times_click(listings, cwd=workspace.root, target=4.0)
        show = {f"hpcest show RUN{before}": ("show", "r0000001"), f"hpcest show @latest{before}": ("show", "@latest")}
        self.times_click(show, cwd=workspace.root)
        (self.folder / "source").mkdir()
        script = self.folder / "source" / "nap.py"
        script.write_text("import time; time.sleep(3600)\n")
        self.times_click({"hpcest submit --dry-run SCRIPT": ("submit", "--dry-run", str(script))}, cwd=workspace.root)
        with self._unfinished(workspace, script):
            self.times_click({f"hpcest runs{before}, {UNFINISHED} unfinished": ("runs",)}, cwd=workspace.root, target=4.0)
            with_plugin = {**self.env, "PYTHONPATH": str(self.folder / "plugin")}
            self.times_click({"the same with a plugin": ("runs",)}, cwd=workspace.root, env=with_plugin)

    @contextmanager
    def _unfinished(self, workspace: WorkspaceFolder, script: Path) -> Iterator[None]:
        """Local runs that are under way or wait for a slot; canceled at the end."""
        submit = program((str(self.hpcest), "submit", str(script)), self.env, workspace.root)
        listing = program((str(self.hpcest), "runs"), self.env, workspace.root)
        ids = [submit().strip() for _ in range(UNFINISHED)]
        try:
            listed = listing()
            if not all(run in listed for run in ids) or listed.count("Queued") + listed.count("Running") != UNFINISHED:
                raise SystemExit(f"{UNFINISHED} runs should go on, but hpcest runs says:\n{listed}")
            yield
        finally:
            program((str(self.hpcest), "cancel", *reversed(ids)), self.env, workspace.root)()  # the waiting ones first
            until = time.monotonic() + 30.0  # their processes must not outlive the folder
            while any(word in listing() for word in ("Queued", "Running", "Requested", "Finalizing")) and time.monotonic() < until:
                time.sleep(0.2)

    # ------------------------------------------------------------------ in a program
    def context(self) -> None:
        """What ``Run.get_context()`` adds to a program's start: with what travels with a run alone, and fully installed."""
        run = self.folder / "run"
        run.mkdir()
        (run / "run.json").write_text('{"id": "run", "spec": {}}')
        runtime = self.folder / "runtime"
        shutil.copytree(ROOT / "hpcest" / "onnode", runtime / "hpcest" / "onnode", ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(ROOT / "hpcest" / "__init__.py", runtime / "hpcest")
        inside = {**self.env, "HPCEST_RUN_DIR": str(run)}
        travelling = {**inside, "PYTHONPATH": str(runtime)}
        for what, isolated, env in (("as it travels", ("-S",), travelling), ("fully installed", (), inside)):
            bare = program((str(self.python), *isolated, "-c", "pass"), env, self.folder)
            full = program((str(self.python), *isolated, "-c", CONTEXT), env, self.folder)
            took = side_by_side({"bare": bare, "full": full}, self.rounds)
            self.table.add(
                f"import hpcest, Run.get_context(), {what}",
                took["full"] - took["bare"],
                beside=f"after python -c pass, {took['bare']:.0f} ms",
                target=60,
            )


_SEE = """\
import contextlib, io, sys
from hpcest.cli.main import main
sys.argv = ["hpcest", "--version"]
with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit): main()
"""


def main() -> None:
    """Measure and print."""
    parser = options(__doc__ or "", rounds=21)
    parser.add_argument(
        "--python", type=Path, default=Path(sys.executable), help="an interpreter with hpcest installed (default: this one)"
    )
    parser.add_argument("--runs", type=int, default=10_000, help="how many runs the history has (default: 10,000)")
    given = parser.parse_args()
    table = Table("Start-up", as_json=given.as_json)
    with tempfile.TemporaryDirectory(prefix="hpcest-bench-") as name:
        bench = Bench(given.python.absolute(), Path(name), table, given.rounds)
        bench.answers()
        bench.context()
        bench.listings(given.runs)
    table.end()


if __name__ == "__main__":
    main()
