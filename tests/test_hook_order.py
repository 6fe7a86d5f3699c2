"""A plugin that implements every hook, installed as a stranger's would be, sees them in their documented order."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from hpcest import hookspecs

PLUGIN = '''
import os
import click
import hpcest
from hpcest.backends.local import Local
from hpcest.contracts import Framework
from hpcest.environments.host import Host
from hpcest.model.plan import Program


def note(line):
    with open(os.environ["NOTES"], "a") as notes:
        notes.write(line + "\\n")


class Shout(Framework):
    name = "shout"

    def program(self, spec, activation):
        return Program((activation.python, spec.command.script, "SHOUT"))


class ShoutRun(hpcest.Run):
    """What a run of the framework is."""

    def loud(self):
        return self.id.upper()


class Room(Host):
    name = "room"


class Here(Local):
    name = "here"


@hpcest.hookimpl
def hpcest_register_frameworks():
    note("hpcest_register_frameworks")
    return [Shout]


@hpcest.hookimpl
def hpcest_register_environments():
    note("hpcest_register_environments")
    return [Room]


@hpcest.hookimpl
def hpcest_register_backends():
    note("hpcest_register_backends")
    return [Here]


@hpcest.hookimpl
def hpcest_run_types():
    note("hpcest_run_types")
    return {"shout": ShoutRun}



@hpcest.hookimpl
def hpcest_register_commands(cli):
    @cli.command()
    def greet():
        """Greet."""
        click.echo("hello from a plugin")


@hpcest.hookimpl
def hpcest_before_submit(run, plan):
    note(f"hpcest_before_submit {plan.backend} {plan.launch['argv'][-1]}")
    if os.environ.get("REFUSE"):
        raise RuntimeError("not today")


@hpcest.hookimpl
def hpcest_after_submit(run):
    note("hpcest_after_submit")
    if os.environ.get("BREAK"):
        raise RuntimeError("a listener broke")


@hpcest.hookimpl
def hpcest_status_changed(run, before, after):
    note(f"hpcest_status_changed {after}")


@hpcest.hookimpl
def hpcest_after_collect(run):
    note("hpcest_after_collect")
'''
JOB = "experiment_name: hooks\nscript: train.py\nframework: shout\ncompute: there\nenvironment: room\n"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A workspace with a job for the plugin's framework, environment and backend, and the plugin installed beside it."""
    site = tmp_path / "site"
    info = site / "hpcest_shout-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: hpcest-shout\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[hpcest]\nshout = hpcest_shout\n")
    (site / "hpcest_shout.py").write_text(PLUGIN)
    made = tmp_path / "project"
    (made / ".hpcest").mkdir(parents=True)
    (made / "train.py").write_text("import sys; print(sys.argv)\n")
    (made / "hpcest.yaml").write_text(JOB)
    hpcest(made, "init")
    (made / ".hpcest" / "config.yaml").write_text("compute: {there: {backend: here}}\n")
    return made


def hpcest(project: Path, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return python(project, "-m", "hpcest", *words, **variables)


def python(project: Path, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join([str(project.parent / "site"), str(Path(hookspecs.__file__).parents[1])])
    env = {**os.environ, "PYTHONPATH": path, "NOTES": str(project.parent / "notes"), **variables}
    return subprocess.run([sys.executable, *words], cwd=project, env=env, capture_output=True, text=True, check=False)


def test_all_hooks_in_their_order(project: Path) -> None:
    """hpcest_register_* when their kind is needed, then the listeners along the run's life."""
    done = hpcest(project, "submit", ".", "-f")
    assert done.returncode == 0, done.stderr
    assert "['train.py', 'SHOUT']" in done.stdout

    notes = (project.parent / "notes").read_text().splitlines()
    listeners = [line for line in notes if "register" not in line]
    assert listeners[:2] == ["hpcest_before_submit here SHOUT", "hpcest_after_submit"]
    assert listeners[-2:] == ["hpcest_status_changed Completed", "hpcest_after_collect"]
    registered = set(notes[: notes.index(listeners[0])])
    assert registered == {f"hpcest_register_{kind}" for kind in ("frameworks", "environments", "backends")}


def test_hpcest_register_commands_adds_commands(project: Path) -> None:
    assert hpcest(project, "greet").stdout == "hello from a plugin\n"
    assert "greet" in hpcest(project, "--help").stdout


def test_hpcest_run_types_open_runs(project: Path) -> None:
    """Wherever the SDK returns one; nobody is asked for runs of our own frameworks."""
    program = """
import sys
from hpcest import Experiment, Run, ScriptRunConfig, Workspace
workspace = Workspace.from_config()
plain = Experiment(workspace, "hooks").submit(ScriptRunConfig(".", "train.py"))
asked = "hpcest_run_types" in open("../notes").read()
found = [*Experiment(workspace, "hooks").get_runs()]
print(asked, [type(run).__name__ for run in found], Run.get(workspace, found[1].id).loud() == found[1].id.upper())
plain.wait_for_completion()
"""
    assert hpcest(project, "submit", ".", "-f").returncode == 0
    (project / "program.py").write_text(program)
    assert python(project, "program.py").stdout == "False ['Run', 'ShoutRun'] True\n"


def test_a_plugin_that_the_configuration_disables_has_no_commands(project: Path) -> None:
    """By the workspace around the current directory, or the one of -w; a broken configuration keeps nobody from help."""
    settings = project / ".hpcest" / "config.yaml"
    settings.write_text("plugins: {disable: [shout]}\n")
    assert "no command 'greet'" in hpcest(project, "greet").stderr
    assert "greet" not in hpcest(project, "--help").stdout
    elsewhere = project.parent / "elsewhere"
    elsewhere.mkdir()
    assert "no command 'greet'" in hpcest(elsewhere, "-w", str(project), "greet", HPCEST_WORKSPACE=str(elsewhere)).stderr
    settings.write_text("plugins: [\n")
    assert "greet" in hpcest(project, "--help").stdout


def test_hpcest_before_submit_may_refuse(project: Path) -> None:
    """The run is recorded as failed, with the plugin's words; nothing was started."""
    done = hpcest(project, "submit", ".", REFUSE="1")
    assert done.returncode == 1
    assert "not today" in done.stderr
    shown = hpcest(project, "show", "@latest", REFUSE="1").stdout
    assert "Failed (LaunchFailed)" in shown
    assert "not today" in shown


def test_hpcest_after_submit_can_not_stop_a_run(project: Path) -> None:
    """A listener that breaks is a warning."""
    done = hpcest(project, "submit", ".", "-f", BREAK="1")
    assert done.returncode == 0
    assert "warning: " in done.stderr
    assert "a listener broke" in done.stderr
