"""The examples of the documentation work as they stand there, in a fresh folder, by the real command."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
import textwrap
import venv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hpcest.kit.process import Finished, run
from hpcest.model.folders import RunFolder, WorkspaceFolder

ROOT = Path(__file__).parents[1]
_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(page: str, language: str = "") -> list[str]:
    """The code blocks of a page, those of one language."""
    return [body for found, body in _BLOCK.findall((ROOT / page).read_text(encoding="utf-8")) if language in ("", found)]


def files(page: str) -> dict[str, str]:
    """The blocks of a page that start with ``# file: NAME``, by that name."""
    return {name: body for body in blocks(page) if (name := file_of(body))}


def file_of(body: str) -> str:
    """The name that a block starts with; empty for one that is no file."""
    found = re.match(r"# file: (\S+)\n", body)
    return found[1] if found else ""


class Shell:
    """A folder in which the command ``hpcest`` is on PATH."""

    def __init__(self, folder: Path, interpreter: str | Path = sys.executable) -> None:
        self.folder, self.site = folder, folder / "site"
        programs = folder / "bin"
        programs.mkdir()
        self.site.mkdir()
        for name in ("hpcest", "python", "pip", "pytest", "uv"):
            words = "" if name == "python" else f"-m {name} "
            (programs / name).write_text(f'#!/bin/sh\nexec "{interpreter}" {words}"$@"\n')
            (programs / name).chmod(0o755)
        self.env = {
            **os.environ,
            "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": os.pathsep.join([str(self.site), str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]),
            "PYTHONDONTWRITEBYTECODE": "1",
        }

    def write(self, found: dict[str, str]) -> None:
        for name, text in found.items():
            (self.folder / name).parent.mkdir(parents=True, exist_ok=True)
            (self.folder / name).write_text(text, encoding="utf-8")

    def install(self, module: str, code: str, entry_points: str) -> None:
        """An installed distribution with one module, as pip would leave it."""
        (self.site / f"{module}.py").write_text(code, encoding="utf-8")
        info = self.site / f"{module}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module.replace('_', '-')}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(entry_points)

    def __call__(self, line: str, *, code: int = 0, below: str = ".") -> Finished:
        """Run a line in bash; it must end with ``code``."""
        done = run(["bash", "-eu", "-o", "pipefail", "-c", line], cwd=self.folder / below, env=self.env, timeout=120)
        assert done.code == code, f"{line}\n{done.out}\n{done.err}"
        return done

    def json(self, line: str, below: str = ".") -> Any:
        return json.loads(self(f"{line} --json", below=below).out)


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    return Shell(tmp_path)


def test_the_first_run_of_the_readme(shell: Shell) -> None:
    """The script, the estimator, the same by command line, and the same as a job file."""
    shell.write(files("README.md"))
    printed = shell("python submit.py").out
    expected = next(body for body in blocks("README.md", "text") if body.startswith("weight"))
    assert re.sub(r"\n\w{8} ", "\nID ", printed) == re.sub(r"\n\w{8} ", "\nID ", expected)
    by_command = next(body for body in blocks("README.md", "bash") if "hpcest submit ../src/train.py" in body)
    assert "parabola:2" in shell(by_command).out
    assert shell("hpcest submit ../src --follow", below="workspace").out == "weight 2.635\n"
    latest = shell.json("hpcest show @latest", below="workspace")
    assert (latest["status"], latest["display_name"], latest["tags"]) == ("Completed", "smaller steps", {"team": "docs"})
    runs = shell.json("hpcest runs --experiment parabola", below="workspace")
    assert [one["params"].get("lr") for one in runs] == ["0.05", "0.3", "0.3", "0.2"]
    assert len(runs[0]["metrics"]) == 1


def test_the_configuration_of_the_readme(shell: Shell) -> None:
    shell("hpcest init")
    settings = next(body for body in blocks("README.md", "yaml") if "default_compute" in body)
    shell.write({".hpcest/config.yaml": settings})
    assert [one["name"] for one in shell.json("hpcest compute list")] == ["local", "night"]
    assert shell.json("hpcest compute show night")["options"][0]["value"] == 1


def test_the_configuration_of_its_own_page(shell: Shell) -> None:
    shell("hpcest init")
    shell.write(files("docs/configuration.md"))
    options = {one["option"]: one["value"] for one in shell.json("hpcest compute show long")["options"]}
    assert options == {"slots": 1, "grace": 60.0, "time": "2-00:00:00", "queue": "long"}
    wrong = next(body for body in blocks("docs/configuration.md", "text") if body.startswith("Error: "))
    shell.write({".hpcest/config.yaml": "# a\nsnapshot:\n  max_file: 1\n"})
    said = shell("hpcest config show", code=2).err
    assert said.replace(str(shell.folder), "/home/me/ws") == wrong


def test_programs_in_other_languages_log(shell: Shell) -> None:
    """What bash writes is a series and a tag; R's example too, where there is R."""
    shell("hpcest init")
    shell.write(files("docs/run-folder.md"))
    shell("hpcest submit train.sh --follow")
    found = shell.json("hpcest show @latest")
    assert (found["metrics"], found["tags"]) == ({"loss": [3, 2, 1]}, {"language": "bash"})
    assert "outputs/result.txt" in found["artifacts"]
    points = [line.split(",") for line in shell("hpcest metrics @latest --csv").out.splitlines()[1:]]
    assert [(step, value) for _, _, step, _, value in points] == [("0", "3"), ("1", "2"), ("2", "1")]
    if shutil.which("Rscript"):
        shell("hpcest submit train.R --follow")
        assert shell.json("hpcest show @latest")["metrics"] == {"loss": [1, 0.5, pytest.approx(1 / 3)]}


EVERYTHING = """
    import os, sys, time
    from hpcest import Run
    run = Run.get_context()
    run.log("loss", 1.5, step=0)
    run.log_list("scores", [1, 2])
    run.log_row("confusion", actual="cat")
    run.log_table("curve", {"x": [1, 2]})
    run.log_image("errors", path="plot.png")
    run.tag("a", "b")
    run.remove_tags("a")
    run.add_properties({"c": "d"})
    run.display_name, run.description = "name", "description"
    run.upload_file("notes/note.txt", "plot.png")
    if os.environ["RANK"] == "0":
        with run.child_run("child") as child:
            child.log("inner", 1)
        open("outputs/result", "w").close()
    while not os.path.exists("outputs/result"):  # the rank that fails ends the other one
        time.sleep(0.01)
    sys.exit(int(os.environ["RANK"]))
"""


def documented_paths() -> list[re.Pattern[str]]:
    """The paths of the tables of docs/run-folder.md, as patterns."""
    text = (ROOT / "docs/run-folder.md").read_text(encoding="utf-8")
    names = {name for line in text.splitlines() if line.startswith("|") for name in re.findall(r"`([^`|]+)`", line.split("|")[1])}
    names |= {f"state/{name}" for name in names} | {"user_logs/std_log_RANK.txt"}
    shapes = {"RANK": r"\d+", ".N.": r"\.\d+\.", r"\*": r"[\w.-]+"}
    patterns = []
    for name in names:
        pattern = re.escape(name)
        for word, shape in shapes.items():
            pattern = pattern.replace(re.escape(word) if word == ".N." else word, shape)
        patterns.append(re.compile(pattern + (".*" if name.endswith("/") and name != "state/" else "")))
    return patterns


def test_a_real_run_has_nothing_that_is_not_documented(shell: Shell) -> None:
    """Every file, every key of the JSON files, every kind of event with every field."""
    shell("hpcest init")
    shell.write({"train.py": textwrap.dedent(EVERYTHING), "plot.png": "no image"})
    shell("hpcest submit train.py -p 2 --env-var API_TOKEN=x --tag k=v --follow", code=1)
    text = _BLOCK.sub("", (ROOT / "docs/run-folder.md").read_text(encoding="utf-8"))
    known = set(re.findall(r"\w+", " ".join(re.findall(r"`([^`]+)`", text))))
    patterns = documented_paths()
    for folder in (RunFolder(path) for path in WorkspaceFolder(shell.folder).runs.iterdir()):
        for path in folder.path.rglob("*"):
            name = str(path.relative_to(folder.path))
            assert not path.is_file() or any(pattern.fullmatch(name) for pattern in patterns), name
        for path in (folder.header, folder.launch, folder.lock, folder.claim(0), folder.sentinel(0)):
            assert set(json.loads(path.read_text()) if path.exists() else {}) <= known, path.name
        for event in events(folder):
            assert {event["e"], *event} <= known, event
            assert event["e"] == "property" or "API_TOKEN" not in json.dumps(event)
    assert len(list(WorkspaceFolder(shell.folder).runs.iterdir())) == 2


def events(folder: RunFolder) -> Iterator[dict[str, Any]]:
    for path in folder.events.iterdir():
        yield from map(json.loads, path.read_text().splitlines())


# ---------------------------------------------------------------------- plugins
@pytest.fixture
def plugged(shell: Shell) -> Shell:
    """The plugins of one file in docs/plugins.md, installed; and a workspace with a target of each backend."""
    for file, code in files("docs/plugins.md").items():
        stem = file.removesuffix(".py")
        if re.fullmatch(r"hpcest_\w+", stem):
            shell.install(stem, code, f"[hpcest]\n{stem.removeprefix('hpcest_')} = {stem}\n")
    shell("hpcest init")
    targets = "compute:\n  direct: {backend: direct, grace: 1}\n  through: {backend: direct, via: env THROUGH=yes}\n"
    shell.write({".hpcest/config.yaml": targets, "src/train.py": "import os\nprint(os.environ.get('THROUGH'))\n"})
    return shell


def test_all_plugins_are_listed_and_none_has_a_problem(plugged: Shell) -> None:
    found = plugged.json("hpcest plugins")
    strangers = {(one["kind"], one["name"]): one["problem"] for one in found if one["origin"] != "built in"}
    assert strangers == {("environment", "prefix"): "", ("backend", "direct"): "", ("", "endlog"): "", ("", "rules"): ""}


def test_they_keep_their_contracts(plugged: Shell) -> None:
    """By the tests that the page has for them."""
    plugged.write({name: body for name, body in files("docs/plugins.md").items() if name.startswith("tests/")})
    done = plugged("pytest -q -p no:cacheprovider --import-mode=importlib tests")
    assert re.search(r"^(=+ )?\d+ passed in ", done.out, re.MULTILINE), done.out  # and none was skipped


def test_the_environment_uses_a_prefix(plugged: Shell) -> None:
    plugged(f"hpcest submit --env prefix --image '{sys.prefix}' --follow src/train.py")
    found = plugged.json("hpcest show @latest")
    assert (found["environment"]["kind"], found["environment"]["facts"]) == ("prefix", {"prefix": sys.prefix})
    assert "has no bin/python3" in plugged("hpcest submit --env prefix --image /nowhere src/train.py", code=1).err
    assert plugged.json("hpcest show @latest")["reason"] == "BuildFailed"


def test_the_backend_starts_runs_and_ends_them(plugged: Shell) -> None:
    assert plugged("hpcest submit -c through --follow src/train.py").out == "yes\n"
    assert "ssh node7" in plugged("hpcest compute show through").out
    assert "onnode/boot.py controller" in plugged("hpcest submit -c direct --dry-run src/train.py").out
    plugged.write({"src/sleep.py": "import time\nprint('up', flush=True)\ntime.sleep(60)\n"})
    started = plugged("hpcest submit -c direct src/sleep.py").out.strip()
    plugged(f"until hpcest logs {started} | grep -q up; do sleep 0.1; done; hpcest cancel {started}; hpcest wait {started}", code=143)
    assert plugged.json(f"hpcest show {started}")["status"] == "Canceled"


def test_the_end_of_every_run_is_noted(plugged: Shell) -> None:
    """Of one that completes, of one whose environment can't be built, and of one that a plugin refuses."""
    plugged("hpcest submit --follow src/train.py")
    plugged("hpcest submit --env prefix --image /nowhere src/train.py", code=1)
    plugged("hpcest submit --nodes 5 src/train.py", code=1)
    runs = {one["id"]: one["reason"] for one in plugged.json("hpcest runs")}
    noted = dict(line.split(" ", 1) for line in (plugged.folder / "endlog.txt").read_text().splitlines())
    assert sorted((runs[key], *text.split(" ", 1)) for key, text in noted.items()) == [
        ("", "Completed", ""),
        ("BuildFailed", "Failed", "'/nowhere' has no bin/python3"),
        ("LaunchFailed", "Failed", "a run may have 4 nodes here, not 5"),
    ]


def test_the_listeners_hear_of_a_run_and_the_command_prints_it(plugged: Shell) -> None:
    refused = plugged("hpcest submit --nodes 5 src/train.py", code=1)
    assert refused.err.endswith("a run may have 4 nodes here, not 5\nHint: submit it with --nodes 4\n")
    first = plugged.json("hpcest runs")[0]
    assert (first["status"], first["reason"]) == ("Failed", "LaunchFailed")
    assert first["message"] == "a run may have 4 nodes here, not 5"
    second = plugged("hpcest submit src/train.py").out.strip()
    plugged(f"hpcest wait {second}")
    lines = plugged("hpcest ended .").out.splitlines()
    assert f"{first['id']} submitted" not in lines
    assert [line.removeprefix(second + " ") for line in lines if line.startswith(second)] == [
        "submitted",
        "Running -> Completed",
        "collected",
    ]
    assert "ended" in plugged("hpcest --help").out


# ---------------------------------------------------------------------- the tutorial
def chapter(page: str, heading: str) -> str:
    """What stands below a heading of the second level."""
    return (ROOT / page).read_text(encoding="utf-8").partition(f"\n## {heading}\n")[2].partition("\n## ")[0]


@pytest.fixture
def newcomer(tmp_path: Path) -> Shell:
    """An environment of its own into which packages can be installed, without a network, and that has all of this one."""
    venv.create(tmp_path / "venv")
    interpreter = tmp_path / "venv" / "bin" / "python"
    (found,) = (tmp_path / "venv" / "lib").glob("python*/site-packages")
    ours = [entry for entry in sys.path if entry.endswith("site-packages")]
    (found / "ours.pth").write_text("".join(f"import site; site.addsitedir({entry!r})\n" for entry in ours))
    shell = Shell(tmp_path, interpreter)
    offline = {"PIP_NO_DEPS": "1", "PIP_NO_INDEX": "1", "PIP_NO_BUILD_ISOLATION": "0", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    shell.env |= {**offline, "UV_OFFLINE": "1", "UV_NO_BUILD_ISOLATION": "1", "UV_PYTHON": str(interpreter)}
    return shell


@pytest.mark.slow
def test_the_tutorial_leads_from_an_empty_folder_to_a_package(newcomer: Shell) -> None:
    """Every file, every command and everything that is said to be printed, from top to bottom; the code is short."""
    page = "docs/plugins.md"
    told = _BLOCK.findall(chapter(page, "A framework from an empty folder")) + _BLOCK.findall(chapter(page, "Publishing"))[:2]
    out, place = "", ""
    for language, body in told:
        if name := file_of(body):
            newcomer.write({name: body})
        elif language == "bash":
            done = newcomer(body)
            out, place = done.out, place + done.out
        elif language == "text":
            rows = [re.sub(r"\s+", " ", line).strip() for line in out.splitlines()]
            assert [line for line in body.splitlines() if re.sub(r"\s+", " ", line).strip() not in rows] == [], out
    assert {"outputs/rank0.prof", "outputs/rank1.prof"} <= set(place.split())
    assert re.search(r"^(=+ )?\d+ passed in ", place, re.MULTILINE), place
    code = [body for name, body in files(page).items() if name.startswith("hpcest-profile/hpcest_profile/") and name.endswith(".py")]
    assert sum(len(body.splitlines()) for body in code) < 70


@pytest.fixture
def tracked(shell: Shell) -> Shell:
    """The frameworks of both tutorials, as installed distributions, and a workspace."""
    shell.write({f"site/{name.partition('/')[2]}": body for name, body in files("docs/plugins.md").items() if name.startswith("hpcest-")})
    shell.write({name: body for name, body in files("docs/plugins.md").items() if name == "quiet.py"})
    for name in ("profile", "tracked"):
        shell.write({f"site/hpcest_{name}/__init__.py": ""})
        shell.install(f"{name}_plugin", "", f"[hpcest]\n{name} = hpcest_{name}.framework\n")
    shell("hpcest init")
    return shell


def test_ranks_meet_at_a_tracker_of_their_own(tracked: Shell) -> None:
    """The contract with the tests of the tutorial: two ranks, two on two nodes, and a rank that fails."""
    done = tracked("pytest -q -p no:cacheprovider --import-mode=importlib tests/test_tracked.py", below="site")
    assert re.search(r"^(=+ )?\d+ passed in ", done.out, re.MULTILINE), done.out
    assert "test_all_ranks_get_the_sum" in files("docs/plugins.md")["hpcest-tracked/tests/test_tracked.py"]


TRACKED = """
    from hpcest import Experiment, Workspace
    from hpcest_tracked.estimator import Tracked, Tracker
    from quiet import QuietProfile

    workspace = Workspace.from_config(".")
    for estimator in (
        Tracked("src", entry_script="train.py", distributed_training=Tracker(2), user_managed=True),
        QuietProfile("src", entry_script="quiet.py", folder="outputs", quiet=True, user_managed=True),
    ):
        run = Experiment(workspace, "tracked").submit(estimator)
        run.wait_for_completion()
        print(run.get_status(), run.get_metrics())
"""


def test_users_ask_for_a_distribution_of_a_plugin(tracked: Shell) -> None:
    """By the SDK, by the command line and by a job file."""
    train = re.search(r'TRAIN = """\\\n(.*?)"""', files("docs/plugins.md")["hpcest-tracked/tests/test_tracked.py"], re.DOTALL)
    assert train
    more = "import os\nfrom hpcest import Run\nRun.get_context().log('warnings', os.environ['PYTHONWARNINGS'])\n"
    ranks = "distribution: {type: tracked, process_count_per_instance: 2}\n"
    job = f"script: train.py\nframework: tracked\nenvironment: host\n{ranks}"
    tracked.write({"src/train.py": train[1], "src/quiet.py": more, "job/train.py": train[1], "job/hpcest.yaml": job})
    tracked.write({"submit.py": textwrap.dedent(TRACKED)})
    assert tracked("python submit.py").out.splitlines() == ["Completed {}", "Completed {'warnings': 'ignore'}"]
    tracked("hpcest submit --framework tracked --distribution tracked -p 2 --env host --follow src/train.py")
    assert tracked("hpcest submit job --follow").out.count("sum 10.0") == 2


def test_the_reference_names_every_field() -> None:
    """Of the classes that plugins are given."""
    from dataclasses import fields as fields_of

    from hpcest.model import plan, spec

    text = chapter("docs/plugins.md", "What plugins are given")
    rows = {row.split("|")[1].strip(" `"): re.sub(r"\W+", " ", row).split() for row in text.splitlines() if row.startswith("| `")}
    folder, workspace = vars(RunFolder("x")), vars(WorkspaceFolder("x"))
    known = {kind.__name__: {one.name for one in fields_of(kind)} for kind in (
        spec.RunSpec, spec.Command, spec.Resources, spec.Distribution, spec.EnvironmentSpec, plan.Activation, plan.Plan,
    )}  # fmt: skip
    known["RunFolder"] = {*folder, *(name for name in vars(RunFolder) if name[0] != "_")}
    known["WorkspaceFolder"] = {*workspace, *(name for name in vars(WorkspaceFolder) if name[0] != "_")} - {"MARKER"}
    assert {kind: names - {*rows[kind]} for kind, names in known.items()} == {kind: set() for kind in known}


@pytest.mark.slow
def test_the_template_can_be_copied_as_it_says(newcomer: Shell) -> None:
    """The commands of its README, which rename it, install the copy and run its tests."""
    ignored = shutil.ignore_patterns("__pycache__", ".*", "dist", "*.egg-info")
    shutil.copytree(ROOT / "plugins/hpcest-template", newcomer.folder / "plugins/hpcest-template", ignore=ignored)
    (commands,) = blocks("plugins/hpcest-template/README.md", "bash")
    out = newcomer(commands).out
    assert re.search(r"^(=+ )?\d+ passed in ", out, re.MULTILINE), out
    assert re.search(r"^framework +mine +hpcest-mine", out, re.MULTILINE), out
    assert "emplate" not in "".join(path.read_text() for path in (newcomer.folder / "hpcest-mine/hpcest_mine").glob("*.py"))
