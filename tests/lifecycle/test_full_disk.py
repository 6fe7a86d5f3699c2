"""A disk that is full, at any moment of a run's life: one message, no half-made run, and a true record of what happened."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.lifecycle.conftest import Site  # only for its type: pytest finds the fixture

# Submits one run for each amount of room, and prints what became of it. The workspace is prepared with room enough.
SWEEP = """
import json, os, resource, signal, subprocess, sys
root, ticks, way, *levels = sys.argv[1:]
if way == "tmpfs":
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m,mode=0700", "none", root], check=True)
source = os.path.join(root, "source")

def cli(*words, room=None):
    def shrink():
        if room is not None:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (room, resource.RLIM_INFINITY))
    argv = [sys.executable, "-m", "hpcest", *words]
    return subprocess.run(argv, cwd=source, capture_output=True, text=True, timeout=60, preexec_fn=shrink)

def names():
    return set(os.listdir(os.path.join(root, ".hpcest", "runs")))

def write(level):
    with open(os.path.join(source, "train.py"), "w") as stream:
        stream.write(f"import os; os.write(os.open({ticks!r}, os.O_WRONLY | os.O_APPEND | os.O_CREAT), b'{level} ')\\n")
        stream.write("from hpcest import Run\\nRun.get_context().log('x', 1)\\n")

os.makedirs(source, exist_ok=True)
write("first")
for words in (["init", root], ["submit", "train.py"], ["wait", "@latest"], ["runs"]):
    cli(*words).check_returncode()
report, known = [], names()
for level in levels:
    write(level)
    filler = os.path.join(root, "filler")
    if way == "tmpfs":
        facts = os.statvfs(root)
        with open(filler, "wb") as stream:
            stream.write(bytes(facts.f_bavail * facts.f_bsize - int(level)))
    submitted = cli("submit", "train.py", room=None if way == "tmpfs" else int(level))
    while_full = cli("runs", room=None if way == "tmpfs" else int(level))
    if way == "tmpfs":
        os.unlink(filler)
    new, known = names() - known, names()
    shown = []
    for run in new:
        cli("wait", "--timeout", "30", run)
        shown.append(json.loads(cli("show", "--json", run).stdout))
    report.append({
        "level": level, "code": submitted.returncode, "err": submitted.stderr, "new": sorted(new), "while_full": while_full.stderr,
        "shown": [[one["id"], one["status"], one["reason"], one["message"]] for one in shown],
    })
listed = json.loads(cli("runs", "--json", "--limit", "0").stdout)
json.dump({"report": report, "listed": {one["id"]: one["status"] for one in listed}}, sys.stdout)
"""


def sweep(root: Path, way: str, levels: list[int]) -> None:
    """Submit with each amount of room, and compare what was said, what is recorded and what ran."""
    ticks = root.parent / "ticks"
    unshare = ["unshare", "--map-root-user", "--mount"] if way == "tmpfs" else []
    argv = [*unshare, sys.executable, "-c", SWEEP, str(root), str(ticks), way, *map(str, levels)]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)

    ran = ticks.read_text().split()
    codes = set()
    for one in found["report"]:
        codes.add((one["code"], len(one["new"])))
        assert "Traceback" not in one["err"] + one["while_full"], one
        assert one["err"].count("Error: ") == (one["code"] != 0), one
        assert not any(name.startswith(".") for name in one["new"]), one
        statuses = {status for _, status, _, _ in one["shown"]}
        assert len(one["new"]) <= 1, one
        assert statuses <= {"Completed", "Failed"}, one
        assert one["code"] == 1 or one["new"], one
        assert one["code"] == 0 or all(reason == "LaunchFailed" for _, _, reason, _ in one["shown"]), one
        assert ran.count(one["level"]) <= 1
        assert "Completed" not in statuses or one["level"] in ran
        assert one["level"] not in ran or one["code"] == 0
        assert all(found["listed"][run] == status for run, status, _, _ in one["shown"])
    assert {(1, 0), (1, 1), (0, 1)} <= codes, f"the levels of {way} should reach all stages, not {codes}"


def test_no_space_left(site: Site, tmp_path: Path) -> None:
    """On a file system of its own, at every page that a submission and a run take."""
    namespaces = subprocess.run(["unshare", "--map-root-user", "--mount", "true"], capture_output=True, check=False).returncode == 0
    root = tmp_path / "disk"
    root.mkdir()
    if namespaces:
        sweep(root, "tmpfs", [0, *range(8192, 53248, 4096)])
    else:  # another way to have writes refused
        sweep(root, "limit", [0, 200, 600, 1500, 3000, 5000])


def test_files_may_not_grow(site: Site, tmp_path: Path) -> None:
    """As with a quota: small files can be made, larger ones can't."""
    root = tmp_path / "disk"
    root.mkdir()
    sweep(root, "limit", [0, 100, 400, 800, 1200, 1600, 2500, 6000])


def test_the_queue_can_not_be_written(site: Site, tmp_path: Path) -> None:
    """Then a run can't be submitted, and its record says so."""
    local = Path(os.environ["HPCEST_LOCAL_DIR"])
    site.write("print('hello')\n")
    local.chmod(0o500)
    answer = site.cli("submit", "train.py", powerless=True)
    local.chmod(0o700)

    assert str(local) in answer.refusal
    assert "HPCEST_LOCAL_DIR" in answer.refusal
    assert {run["status"] for run in site.runs()} <= {"Failed"}
