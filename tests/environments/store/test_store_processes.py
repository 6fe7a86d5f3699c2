"""Many processes that want one image at once, and builders that are killed at every step."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

from hpcest.kit.process import run
from tests.environments.store.helpers import HOUSE

START = """
import json, os, signal, sys, time
from pathlib import Path
from hpcest.environments.store import builds
from hpcest.environments.store.store import Store
from hpcest.environments.store.verify import problems_of, problems_of_base, verify
KEY, ROOT = "a" * 64, Path(sys.argv[1])

def build(store, content):
    with store.begin(KEY, name="sk") as one:
        (one.folder / "env.sqfs").write_bytes(content)
        one.log.write_text("log")
        gate()
        return one.publish({"name": "sk"})

def gate():
    pass

def at_once(work):
    for number in range(8):
        if os.fork() == 0:
            try:
                work(number)
                os._exit(0)
            finally:
                os._exit(1)
    return [os.waitstatus_to_exitcode(os.wait()[1]) for _ in range(8)]
"""
WITHOUT_LEASE = """
def gate():
    (ROOT / f"ready.{os.getpid()}").touch()
    while len([*ROOT.glob("ready.*")]) < 8:
        time.sleep(0.005)

def work(number):
    image = build(Store(ROOT), bytes([number]) * 1_000_000)
    (ROOT / f"used.{number}").write_text(json.dumps([image.manifest["build"], problems_of(image)]))

ROOT.mkdir()
codes = at_once(work)
used = [json.loads(path.read_text()) for path in ROOT.glob("used.*")]
print(json.dumps([codes, len(used), len({one[0] for one in used}), sum([one[1] for one in used], [])]))
"""
WITH_LEASE = """
def work(number):
    store = Store(ROOT)
    with store.turn(KEY, lambda line: None) as mine:
        if mine:
            time.sleep(0.3)
            build(store, bytes([number]) * 1000)
            (ROOT / f"built.{number}").touch()
    (ROOT / f"used.{number}").write_text(store.look(KEY).image.manifest["build"])

ROOT.mkdir()
codes = at_once(work)
used = [path.read_text() for path in ROOT.glob("used.*")]
print(json.dumps([codes, len(used), len({*used}), len([*ROOT.glob("built.*")])]))
"""
# An audit hook is called before every change of the file system: the builder is killed before each in turn.
KILLED = """
CHANGES = ("open", "os.rename", "os.mkdir", "os.chmod", "os.utime", "os.link", "os.remove", "os.rmdir", "os.truncate")

def kill_before(number):
    left = [number]
    def hook(event, arguments):
        if event in CHANGES:
            left[0] -= 1
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)
    sys.addaudithook(hook)

def all_of_it(store, content):
    base = store.publish_base(sif, {"reference": "x"})
    with store.begin(KEY, name="sk", base=base.digest) as one:
        (one.folder / "env.sqfs").write_bytes(content)
        one.log.write_text("log")
        return one.publish({"name": "sk", "base": base.digest})

ROOT.mkdir()
sif = ROOT / "base.sif"
sif.write_bytes(b"base")
problems, before, after, number, code = [], 0, 0, 0, -9
while code == -9:
    number += 1
    store = Store(ROOT / str(number))
    pid = os.fork()
    if pid == 0:
        kill_before(number)
        all_of_it(store, b"first")
        os._exit(0)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    found = store.look(KEY)
    if found.image:
        after += 1
        problems += verify(store, KEY).problems
    else:
        before += 1
        problems += [found.wrong] if found.wrong else []
    image = all_of_it(store, b"again")
    problems += verify(store, KEY).problems
    for path in store.layout.building.iterdir():  # a mark that was not written to the end: its age tells
        os.utime(path, (0, 0))
    builds.sweep_abandoned(store.layout)
    problems += [str(path) for folder in (store.layout.building, store.layout.trash) for path in folder.iterdir()]
    problems += [str(path) for path in store.layout.bad.iterdir()]
print(json.dumps([code, number, before, after, problems]))
"""


def told(code: str, root: Path) -> Any:
    """What a program of several processes prints at its end."""
    done = run([sys.executable, "-c", START + code, root], env={**os.environ, "PYTHONPATH": str(HOUSE)}, timeout=120)
    assert done.err == ""
    return json.loads(done.out)


def test_of_eight_builders_without_a_lease_one_wins_and_eight_use_its_image(tmp_path: Path) -> None:
    root = tmp_path / "envs"
    assert told(WITHOUT_LEASE, root) == [[0] * 8, 8, 1, []]
    assert [path.name for path in (root / "v1" / "images").iterdir()] == ["a" * 64]
    assert [*(root / "v1" / ".tmp").iterdir()] == []


def test_with_the_lease_eight_processes_build_once(tmp_path: Path) -> None:
    assert told(WITH_LEASE, tmp_path / "envs") == [[0] * 8, 8, 1, 1]


def test_a_builder_killed_at_any_step_leaves_nothing_that_is_seen_and_is_swept(tmp_path: Path) -> None:
    """What is seen is whole, in the end it is built, and what the dead one left is gone."""
    code, steps, before, after, problems = told(KILLED, tmp_path / "envs")
    assert problems == []
    assert code == 0
    assert steps > 30
    assert before > 20
    assert after >= 2  # killed between the rename and the end of the program
