"""What Azure ML's users wait for: a script's imports, the first of many runs, the registration of a large model, many metrics.

    python -m benchmarks.bench_azureml [--python .venv/bin/python] [--runs 10000] [--megabytes 2048] [--points 1000000] [--json]

``--python`` is an interpreter with hpcest installed, by default this one; the plugin hpcest-azureml need not be. Models are
registered as the user who calls it: root can't be kept from writing to a file, so root's are copied where the file system
has no clones.
"""

from __future__ import annotations

import importlib
import json
import os
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from statistics import median

from benchmarks.common import ROOT, Table, make_run, options, own_environment, program, side_by_side
from hpcest import Experiment, Model, Run, Workspace
from hpcest.history import ingest
from hpcest.history.location import index_location
from hpcest.lifecycle.runtime import travelling_runtime
from hpcest.onnode.record import encode, put_json

PLUGIN = ROOT / "plugins" / "hpcest-azureml"
SHIM = PLUGIN / "hpcest_azureml" / "shim"
OURS = "import hpcest; hpcest.Run.get_context()"
AZURES = "from azureml.core import Run; Run.get_context()"
MANY = "many"
FIRST = f"""\
import time
from hpcest import Experiment, Workspace
began = time.perf_counter()
next(Experiment(Workspace.from_config(), {MANY!r}).get_runs())
print(1e3 * (time.perf_counter() - began))
"""
MEGABYTE = 1 << 20


# ---------------------------------------------------------------------- a script's first lines
def bench_imports(table: Table, folder: Path, python: Path, rounds: int) -> None:
    """What a script pays to find its run, in its own words and in Azure ML's, over Python's own start."""
    env = own_environment(folder)
    workspace = Workspace.create(path=folder / "imports")
    run = _made_run(workspace, "r0")
    travelling = str(travelling_runtime(workspace.folder, _travelling_names()))
    inside = {**env, "HPCEST_RUN_DIR": str(run)}
    ways: dict[str, tuple[str, tuple[str, ...], dict[str, str]]] = {
        "import hpcest; Run.get_context(), installed": (OURS, (), inside),
        "from azureml.core import Run; get_context(), installed": (AZURES, (), {**inside, "PYTHONPATH": str(SHIM)}),
        "import hpcest; Run.get_context(), as it travels": (OURS, ("-S",), {**inside, "PYTHONPATH": travelling}),
        "from azureml.core import Run; get_context(), as it travels": (AZURES, ("-S",), {**inside, "PYTHONPATH": travelling}),
    }
    for what, (code, isolated, its) in ways.items():
        bare = program((str(python), *isolated, "-c", "pass"), its, folder)
        full = program((str(python), *isolated, "-c", code), its, folder)
        took = side_by_side({"bare": bare, "full": full}, rounds)
        target = 60 if code == OURS else 100
        table.add(what, took["full"] - took["bare"], beside=f"after python -c pass, {took['bare']:.0f} ms", target=target)


def _travelling_names() -> Mapping[str, str]:
    """What the plugin sends along with a run."""
    sys.path.insert(0, str(PLUGIN))
    found: Mapping[str, str] = importlib.import_module("hpcest_azureml.plugin").hpcest_travelling_modules()
    return found


def _made_run(workspace: Workspace, run_id: str) -> Path:
    """The folder of a run that programs can log to."""
    folder = workspace.folder.run(run_id)
    os.makedirs(folder.events)
    os.makedirs(folder.outputs)
    put_json(str(folder.header), {"schema": 1, "id": run_id, "kind": "run", "created": time.time(), "spec": {"experiment": MANY}})
    return folder.path


# ---------------------------------------------------------------------- the first of many runs
def bench_listing(table: Table, folder: Path, python: Path, runs: int, rounds: int) -> None:
    """``get_runs``: until the first run is there, warm and from a new process, with filters; and all of them."""
    workspace = Workspace.create(path=folder / "many")
    _make_runs(workspace, runs)
    ingest.refresh(workspace.folder)
    experiment = Experiment(workspace, MANY)
    cold = program((str(python), "-c", FIRST), own_environment(folder), workspace.root)
    asked: dict[str, Callable[[], Iterator[Run]]] = {
        "get_runs()": experiment.get_runs,
        "get_runs(tags={'fold': '1'})": lambda: experiment.get_runs(tags={"fold": "1"}),
        "get_runs(properties={'site': 's3'})": lambda: experiment.get_runs(properties={"site": "s3"}),
        "get_runs(tags, properties, status)": lambda: experiment.get_runs(
            tags={"fold": "1"}, properties={"site": "s3"}, status="Completed"
        ),
    }
    table.add(f"first of {runs:,} runs, just indexed", _first(experiment.get_runs), target=20)
    table.add("the same in a new process, imports of hpcest aside", median(float(cold()) for _ in range(5)), target=20)
    time.sleep(ingest.STAMP_TRUSTED_S + 1)  # from then on time stamps are believed, and no folder is listed
    next(experiment.get_runs())
    for what, listing in asked.items():
        took = side_by_side({"runs": partial(_first, listing), "sqlite": partial(_bare, workspace)}, rounds)
        table.add(f"first of {runs:,} runs, {what}", took["runs"], beside=f"sqlite3, one row {took['sqlite']:.1f} ms", target=20)
    table.add("first of them in a new process, imports of hpcest aside", median(float(cold()) for _ in range(rounds)), target=20)
    began = time.perf_counter()
    found = sum(1 for _ in experiment.get_runs())
    table.add("all of them, one after the other", found / (time.perf_counter() - began), "/s", beside=f"{found:,} runs")


def _make_runs(workspace: Workspace, runs: int) -> None:
    """All in one experiment, each with a property."""
    now = time.time()
    for number in range(runs):
        make_run(workspace.folder, number, now=now)
        folder = workspace.folder.run(f"r{number:07d}")
        header = json.loads(folder.header.read_text())
        header["spec"]["experiment"] = MANY
        folder.header.write_text(json.dumps(header))
        events = folder.events / "submit-login1-1.jsonl"
        with open(events, "ab") as stream:
            stream.write(encode({"t": now, "e": "property", "k": "site", "v": f"s{number % 7}"}))
        os.utime(events, (now - 3600, now - 3600))


def _first(listing: Callable[[], Iterator[Run]]) -> float:
    """How long the first run takes, in milliseconds."""
    began = time.perf_counter()
    next(listing())
    return 1e3 * (time.perf_counter() - began)


def _bare(workspace: Workspace) -> None:
    """The reference: open the index and read its newest row, by nothing but SQLite."""
    connection = sqlite3.connect(f"file:{index_location(workspace.folder)}?mode=ro", uri=True)
    connection.execute("SELECT id FROM run ORDER BY created DESC LIMIT 1").fetchone()
    connection.close()


# ---------------------------------------------------------------------- a large model
def bench_model(table: Table, folder: Path, megabytes: int, rounds: int = 3) -> None:
    """Registering a large file of a run beside ``cp``: time, new bytes, and what a write to the run's file does to the version."""
    workspace = Workspace.create(path=folder / "models")
    for ended, target in (True, 0.1), (False, None):
        took: dict[str, list[float]] = {"register": [], "cp": []}
        for number in range(rounds):
            run = _run_with_model(workspace, f"{number}{ended:d}", megabytes, ended=ended)
            file = Path(run.folder, "outputs", "model.bin")
            took["cp"].append(_copied(file, folder / "copy.bin"))
            free = _free(folder)
            began = time.perf_counter()
            model = run.register_model("large", "outputs/model.bin")
            took["register"].append(1e3 * (time.perf_counter() - began))
            new = (free - _free(folder)) / MEGABYTE
            if number + 1 < rounds:
                model.delete()
                file.unlink()
        how = "linked" if model.path.samefile(file) else "sharing its blocks" if new < megabytes / 2 else "copied"
        what = f"{megabytes:,} MB of a run that {'has ended' if ended else 'goes on'}, registered"
        table.add(f"{what}: {how}", median(took["register"]), beside=("cp", median(took["cp"])), target=target)
        table.add("   new on the file system", new, "MB", beside="by statvfs", target=megabytes / 20 if ended else None)
        _try_to_change(table, model, file)
        model.delete()
        file.unlink()


def _run_with_model(workspace: Workspace, run_id: str, megabytes: int, *, ended: bool) -> Run:
    """A run with a large file that lies on the disk, without holes."""
    folder = _made_run(workspace, run_id)
    block = os.urandom(MEGABYTE)
    with open(folder / "outputs" / "model.bin", "wb") as stream:
        for _ in range(megabytes):
            stream.write(block)
        stream.flush()
        os.fsync(stream.fileno())
    status = "Completed" if ended else "Running"
    (folder / "events" / "controller-n1-2.jsonl").write_bytes(encode({"t": time.time(), "e": "status", "v": status, "by": "controller"}))
    return Run.get(workspace, run_id)


def _copied(file: Path, copy: Path) -> float:
    """What ``cp`` takes in milliseconds; the copy is removed."""
    began = time.perf_counter()
    subprocess.run(["cp", "--reflink=never", file, copy], check=True)
    took = 1e3 * (time.perf_counter() - began)
    copy.unlink()
    return took


def _try_to_change(table: Table, model: Model, file: Path) -> None:
    """Write to the run's file in the ways that programs do, and see whether the version has changed."""
    start = _head(model.path)

    def overwrite() -> None:
        with open(file, "r+b") as stream:
            stream.write(b"x" * len(start))

    def replace() -> None:
        beside = file.with_name("new")
        beside.write_bytes(b"x" * len(start))
        os.replace(beside, file)

    for what, action in {"written to": overwrite, "replaced": replace}.items():
        said = "it was allowed"
        try:
            action()
        except OSError as error:
            said = f"refused: {error.strerror}"
        changed = sum(old != new for old, new in zip(start, _head(model.path), strict=True))
        table.add(f"   bytes that differ after the run's file is {what}", changed, "", beside=said, target=0)


def _head(path: Path) -> bytes:
    with open(path, "rb") as stream:
        return stream.read(16)


def _free(folder: Path) -> int:
    """The bytes that are free on the file system."""
    os.sync()
    found = os.statvfs(folder)
    return found.f_bfree * found.f_frsize


# ---------------------------------------------------------------------- many metrics
def bench_points(table: Table, folder: Path, python: Path, points: int) -> None:
    """Metrics logged by a script in Azure ML's words, and read back."""
    workspace = Workspace.create(path=folder / "points")
    run_folder = _made_run(workspace, "r0")
    env = {**own_environment(folder), "HPCEST_RUN_DIR": str(run_folder), "PYTHONPATH": str(SHIM)}
    code = f"from azureml.core import Run\nlog = Run.get_context().log\nfor step in range({points}): log('loss', 1 / (1 + 0.37 * step))\n"
    began = time.perf_counter()
    program((str(python), "-c", code), env, folder)()
    table.add(f"{points:,} metric points logged", 1e3 * (time.perf_counter() - began))
    lines = [line for path in (run_folder / "events").iterdir() for line in path.read_bytes().splitlines()]
    run = Run.get(workspace, "r0")
    took = side_by_side({"read": run.get_metrics, "json": lambda: [json.loads(line) for line in lines]}, 1)
    table.add("and read back by get_metrics()", took["read"], beside=("json.loads alone", took["json"]))
    values = run.get_metrics()["loss"]
    wrong = sum(value != 1 / (1 + 0.37 * step) for step, value in enumerate(values)) + abs(points - len(values))
    table.add("points that are not what was logged", wrong, "", target=0)


def main() -> None:
    """Measure and print."""
    parser = options(__doc__ or "")
    parser.add_argument("--python", type=Path, default=Path(sys.executable), help="an interpreter with hpcest (default: this one)")
    parser.add_argument("--runs", type=int, default=10_000, help="how many runs there are (default: 10,000)")
    parser.add_argument("--megabytes", type=int, default=2048, help="size of the model; 0: leave it out (default: 2048)")
    parser.add_argument("--points", type=int, default=1_000_000, help="metric points; 0: leave them out (default: 1,000,000)")
    given = parser.parse_args()
    table = Table("Azure ML's surface", as_json=given.as_json)
    python = given.python.absolute()
    with tempfile.TemporaryDirectory(prefix="hpcest-bench-") as name:
        folder = Path(name)
        os.environ.update(own_environment(folder))
        bench_imports(table, folder, python, given.rounds)
        bench_listing(table, folder, python, given.runs, given.rounds)
        if given.megabytes:
            bench_model(table, folder, given.megabytes)
        if given.points:
            bench_points(table, folder, python, given.points)
    table.end()


if __name__ == "__main__":
    main()
