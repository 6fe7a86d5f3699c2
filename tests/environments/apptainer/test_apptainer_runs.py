"""What a program finds in its container: its variables, its files, its signals, and nothing of the submitter's packages."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import time
from dataclasses import replace
from pathlib import Path

import pytest

from hpcest.model.spec import DataInput, DataOutput
from tests.cluster.fixtures import Apptainer
from tests.environments.apptainer.conftest import Offline, Site
from tests.environments.conftest import RUN, MakeWheel

ODD = {
    "ODD": "a'b\"c $HOME `id` $(id) \\ \n x;y,z=1 \u00fc",
    "COMMA": "a,b",
    "EMPTY": "",
    "WITH.DOT": "1",
    "TMPDIR": "/tmp",
    "LD_PRELOAD": "",
}
SHOW = "import os, json; print(json.dumps(dict(os.environ)))"


def test_variables_reach_the_program_as_they_are(site: Site, offline: Offline) -> None:
    """Quotes, dollars and line ends included."""
    lock = site.build(*offline, "beta")
    found = json.loads(site.python(lock, SHOW, spec=replace(RUN, environment_variables=ODD)))
    assert {name: found.get(name) for name in ODD} == ODD


def test_paths_that_the_user_sets_hold_in_the_container(site: Site, offline: Offline) -> None:
    """PATH and LD_LIBRARY_PATH of a run, which Apptainer takes from the image otherwise."""
    lock = site.build(*offline, "beta")
    asked = {"PATH": "/tools/bin:/usr/bin:/bin", "LD_LIBRARY_PATH": "/my/lib"}
    found = json.loads(site.python(lock, SHOW, spec=replace(RUN, environment_variables=asked)))
    assert found["PATH"] == "/opt/hpcest/env/bin:/tools/bin:/usr/bin:/bin"
    assert "/my/lib" in found["LD_LIBRARY_PATH"].split(":")


def test_nothing_of_the_submitters_python_leaks_in(site: Site, offline: Offline, own_home: Path, make_wheel: MakeWheel) -> None:
    """PYTHONPATH, user site, an active environment, library paths."""
    lock = site.build(*offline, "beta")
    names = ["PYTHONPATH", "PYTHONHOME", "PYTHONSTARTUP", "PYTHONUSERBASE", "VIRTUAL_ENV", "CONDA_PREFIX", "LD_LIBRARY_PATH"]
    leaks = dict.fromkeys(names, "/leak")
    found = json.loads(site.python(lock, SHOW, env=leaks))
    assert not [name for name in names if found.get(name) == "/leak"]
    paths = site.python(lock, "import sys, site; print(sys.path, site.ENABLE_USER_SITE)", env=leaks)
    assert "leak" not in paths
    assert ".local" not in paths


@pytest.mark.parametrize(("code", "ends"), [("sys.exit(7)", (7,)), ("os.kill(os.getpid(), 15)", (-15, 143)), ("os.abort()", (-6, 134))])
def test_ends_pass_through(site: Site, offline: Offline, code: str, ends: tuple[int, ...]) -> None:
    """Exit codes, and deaths by a signal."""
    lock = site.build(*offline, "beta")
    assert site.run(lock, "PYTHON", "-c", f"import os, sys; {code}").returncode in ends


@pytest.mark.parametrize("name", ["TERM", "USR1", "INT"])
def test_signals_reach_the_program(site: Site, offline: Offline, name: str) -> None:
    """The program in the container gets what the starter is sent."""
    lock = site.build(*offline, "beta")
    activation = site.kind.activate(lock, site.workspace, RUN)
    code = f"import signal, sys, time; signal.signal(signal.SIG{name}, lambda *_: sys.exit(42)); print('ready', flush=True); time.sleep(60)"
    words = [*activation.prefix, activation.python, "-c", code]
    with subprocess.Popen(words, env={**os.environ, **activation.variables}, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout
        assert child.stdout.readline() == "ready\n"
        time.sleep(1)  # Apptainer drops what comes before its own process is ready, some tenths of a second after the program's start
        child.send_signal(getattr(signal, f"SIG{name}"))
        assert child.wait(30) == 42


def test_inputs_outside_the_workspace_are_there(site: Site, offline: Offline, own_home: Path) -> None:
    """Also with commas, colons, blanks and quotes in their path; so is the working directory."""
    lock = site.build(*offline, "beta")
    place = Path(f"/var/tmp/in, put:'\"{os.getpid()}")
    place.mkdir()
    try:
        (place / "data").write_text("content")
        done = site.run(lock, "cat", str(place / "data"), spec=replace(RUN, inputs={"data": str(place)}), cwd=site.workspace.root)
    finally:
        (place / "data").unlink()
        place.rmdir()
    assert (done.stdout, done.stderr) == ("content", "")
    assert site.run(lock, "pwd", cwd=site.workspace.root).stdout.strip() == str(site.workspace.root)


@pytest.mark.parametrize("name", ["with blank", "a,b", "a:b", "it's", 'double"quote', 'all, of: it\'s "odd"'])
def test_workspaces_with_odd_names(site: Site, offline: Offline, name: str) -> None:
    """Both the layer and the workspace are mounted from there."""
    beside = site.beside(name)
    lock = beside.build(*offline, "beta")
    (beside.workspace.root / "here").write_text("seen")
    assert beside.run(lock, "PYTHON", "-c", "import beta; print(open('here').read())", cwd=beside.workspace.root).stdout == "seen\n"


def test_outputs_that_a_run_resumes_from_stay_as_they_were(site: Site, apptainer: Apptainer) -> None:
    """They can be read and not be written, and the workspace around them is as it always is."""
    outputs = site.workspace.run("2old0run").outputs
    outputs.mkdir(parents=True)
    (outputs / "model.pt").write_text("trained")
    lock = site.build(image=str(apptainer.debian))
    model, beside = shlex.quote(f"{outputs}/model.pt"), shlex.quote(f"{site.workspace.root}/beside")
    line = f"cat {model}; (echo no > {model}); rm {model}; echo yes > {beside}"
    done = site.run(lock, "sh", "-c", line, spec=replace(RUN, resume_from="2old0run"))
    assert done.stdout == "trained"
    assert done.stderr.count("Read-only file system") == 2
    assert (outputs / "model.pt").read_text() == "trained"
    assert (site.workspace.root / "beside").read_text() == "yes\n"


def test_data_that_is_mounted_can_not_be_written_and_outputs_can(site: Site, apptainer: Apptainer) -> None:
    """In the workspace's own datastore too, where an output may lie in an input or beside it; a reference may be written to."""
    store = site.workspace.root / "store"
    for name in ("in", "ref"):
        (store / name).mkdir(parents=True)
        (store / name / "x").write_text("data")
    data = {"d": DataInput((str(store / "in"),), mode="mount"), "r": DataInput((str(store / "ref"),), mode="direct")}
    outputs = {"inside": DataOutput(str(store / "in" / "made")), "beside": DataOutput(str(store / "new" / "made"))}
    (store / "in" / "made").mkdir()
    lock = site.build(image=str(apptainer.debian))
    quoted = [shlex.quote(str(place)) for place in (store / "in", store / "ref", store / "in" / "made", store / "new" / "made")]
    words = [f"cat {place}/x; (echo new > {place}/y)" for place in quoted[:2]]
    words += [f"mkdir -p {place}; (echo new > {place}/y)" for place in quoted[2:]]
    done = site.run(lock, "sh", "-c", "; ".join(words), spec=replace(RUN, data=data, outputs=outputs))
    assert (done.stdout, done.stderr.count("Read-only file system")) == ("datadata", 1)
    assert sorted(str(path.relative_to(store)) for path in store.rglob("y")) == ["in/made/y", "new/made/y", "ref/y"]


def test_data_that_holds_the_workspace_does_not_lock_the_run_out(site: Site, apptainer: Apptainer) -> None:
    data = {"d": DataInput((str(site.workspace.root),), mode="mount")}
    done = site.run(
        site.build(image=str(apptainer.debian)), "sh", "-c", "echo x > there", spec=replace(RUN, data=data), cwd=site.workspace.home
    )
    assert (done.stderr, (site.workspace.home / "there").exists()) == ("", True)
