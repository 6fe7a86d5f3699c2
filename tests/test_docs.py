"""The documentation says what the code does: names, keys, options, hooks, events and links are compared with it."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import json
import re
import runpy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import hpcest
from hpcest import contracts, hookspecs
from hpcest.backends.slurm import states
from hpcest.config import VARIABLES, ComputeTarget, FrameworkSettings, load_config
from hpcest.kit.process import run
from hpcest.model import spec
from hpcest.model.folders import RunFolder, WorkspaceFolder
from hpcest.model.plan import Activation
from hpcest.model.status import Reason, Status
from hpcest.onnode import controller, cores, metrics, rank, roles, state
from hpcest.pluginmanager import BUILTIN, load_plugins
from hpcest.sdk.jobs import file as jobfile

ROOT = Path(__file__).parents[1]
HOUSE = ROOT / "hpcest"
PAGES = [page for page in sorted(ROOT.rglob("*.md")) if not any(part.startswith(".") for part in page.relative_to(ROOT).parts)]
#: The pages that this file holds to more than sound links.
OURS = [page for page in PAGES if page.parent in (ROOT, ROOT / "docs", ROOT / "examples")]
SOURCES = {path: path.read_text(encoding="utf-8") for path in sorted(HOUSE.rglob("*.py"))}
LANGUAGES = {"bash", "console", "json", "python", "r", "text", "toml", "yaml"}

_FENCE = re.compile(r"^(?P<fence>```+)(?P<language>\w*)\n(?P<body>.*?)^(?P=fence)$", re.MULTILINE | re.DOTALL)


def page(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def prose(text: str) -> str:
    """A page with its code blocks blotted out."""
    return _FENCE.sub(lambda block: re.sub(r"[^\n]", " ", block[0]), text)


def section(text: str, heading: str) -> str:
    """What stands below a heading, down to the next one of its level or above."""
    level = heading.partition(" ")[0]
    start = text.index(f"\n{heading}\n") + len(heading) + 2
    end = re.compile(rf"^#{{1,{len(level)}}} ", re.MULTILINE).search(prose(text), start)
    return text[start : end.start() if end else len(text)]


def rows(text: str) -> list[list[str]]:
    """The rows of all tables, without the lines below headings."""
    lines = [line.strip() for line in text.splitlines() if line.strip().startswith("|")]
    return [[cell.strip() for cell in line[1:-1].split("|")] for line in lines if not re.fullmatch(r"[|\- ]+", line)]


def coded(text: str) -> list[str]:
    """What stands in backquotes."""
    return re.findall(r"`([^`]+)`", prose(text))


def table(text: str) -> dict[str, list[str]]:
    """The rows of all tables by what their first cell has in backquotes: several names there share the row."""
    return {name: row for row in rows(text) for name in coded(row[0])}


def fields(*classes: type[Any]) -> set[str]:
    return {field.name for one in classes for field in dataclasses.fields(one)}


# ---------------------------------------------------------------------- the command line and the SDK
def test_every_commands_help_stands_in_the_readme() -> None:
    made = runpy.run_path(str(Path(__file__).with_name("readme_cli.py")))
    assert made["recorded"]() == made["reference"](), "run: make docs"


@pytest.mark.parametrize("name", hpcest.__all__)
def test_every_public_name_is_documented(name: str) -> None:
    assert any(re.search(rf"`(hpcest\.)?{name}\b", page(file)) for file in ("README.md", "docs/plugins.md"))


@pytest.mark.parametrize("name", ["Workspace", "Experiment", "Environment", "Run", "Model"])
def test_everything_that_a_public_class_can_do_is_in_the_readme(name: str) -> None:
    public = getattr(hpcest, name)
    mentioned = set(re.findall(r"\w+", " ".join(coded(page("README.md")))))
    inside = [one for one in public.__mro__ if one.__module__.startswith("hpcest.")]
    assert {known for one in inside for known in vars(one) if not known.startswith("_")} - mentioned == set()


def test_every_key_of_a_job_file_is_in_the_readme() -> None:
    text = section(page("README.md"), "## Job files")
    main, environment, resources = re.split(r"^\| in .*$", text, flags=re.MULTILINE)
    assert set(table(main)) == fields(jobfile.JobFile)
    assert set(table(environment)) == fields(jobfile.JobEnvironment)
    assert set(table(resources)) == fields(jobfile.JobResources)
    assert fields(jobfile.JobDistribution) < set(coded(" ".join(table(main)["distribution"])))
    assert fields(jobfile.JobLimits) < set(coded(" ".join(table(main)["limits"])))


def test_the_variables_of_a_rank_are_in_the_readme() -> None:
    launch = {"run": "r", "folder": "/f", "runtime": "/r", "nodes": 1, "procs_per_node": 1}
    found = set(rank.environment(launch, 0, rank.rank_variables(launch, 0), {})) - {"PATH", "PYTHONPATH"}
    found |= {"MASTER_ADDR", "MASTER_PORT", *cores.variables(launch, rank.rank_variables(launch, 0), {})}
    documented = {name for name in table(section(page("README.md"), "## In the training script")) if name.isupper()}
    assert documented == found | {"HPCEST_ARRAY_INDEX", "HPCEST_RESUME_FROM", "HPCEST_CHECKPOINT", "AZURE_ML_INPUT_NAME"}


def test_what_ranks_are_told_of_each_other_is_in_the_page_on_frameworks() -> None:
    """Their numbers, what meeting adds, what the frameworks set, and what a run sets that resumes another."""
    told = rank.rank_variables({"nodes": 1, "procs_per_node": 1}, 0)
    told |= cores.variables({"procs_per_node": 1}, told, {})
    set_here = set(re.findall(r'"([A-Z_]{4,})"', inspect.getsource(roles.meet))) - {"RANK", "WORLD_SIZE", "MASTER_ADDR"}
    for kind in map(load_plugins(external=False).framework, (name for kind, name, _ in BUILTIN if kind == "framework")):
        command, many = spec.Command(script="train.py"), spec.Resources(nodes=1 if kind.name == "sklearn" else 2)
        made = kind(kind.Options()).program(spec.RunSpec("e", command, resources=many), Activation("python"))
        set_here |= (set(made.variables) | set(made.rank_variables)) - {"PYTHONUNBUFFERED"}
    documented = set(table(section(page("docs/frameworks.md"), "## What every rank is told")))
    assert {name for name in documented if name.isupper()} == set(told) | set_here | {
        "MASTER_ADDR", "MASTER_PORT", "HPCEST_RESUME_FROM", "HPCEST_CHECKPOINT", "HPCEST_HELPERS"
    }  # fmt: skip


@pytest.mark.parametrize("name", [name for kind, name, _ in BUILTIN if kind == "framework"])
def test_every_option_of_a_framework_is_documented_in_its_own_words(name: str) -> None:
    kind = load_plugins(external=False).framework(name)
    assert [name] == [row for row in table(section(page("docs/frameworks.md"), "## Choosing a framework")) if row == name]
    options = [[f"`{one.name}`", f"`{one.default}`", one.metadata["help"]] for one in dataclasses.fields(kind.Options)]
    heading = f"### Options of the framework `{name}`"
    assert options == (rows(section(page("docs/frameworks.md"), heading))[1:] if options else [])


def test_every_room_is_in_the_picture_of_the_house() -> None:
    picture = section(page("README.md"), "## The house")
    rooms = {path.name + "/" * path.is_dir() for path in HOUSE.iterdir() if path.name[0] not in "._" and path.name != "py.typed"}
    assert {room for room in rooms if room not in picture} == set()


# ---------------------------------------------------------------------- configuration
def test_every_setting_is_documented_with_its_default(tmp_path: Path) -> None:
    config = load_config(None, {"HOME": str(tmp_path), "HPCEST_SITE_CONFIG": str(tmp_path / "none")})
    known = {key: value for key, value, _ in config.items() if not key.startswith("compute.")}
    documented = {
        name: row[1].strip("`") for name, row in table(section(page("docs/configuration.md"), "## Keys")).items() if name in row[0]
    }
    assert {"compute": "{}", **{key: str(value) for key, value in known.items()}} == {
        name: default for name, default in documented.items() if name in known or name == "compute"
    }
    assert set(documented) - set(known) == {"compute", "frameworks"}  # both empty, so that no value has a name
    assert documented["frameworks"] == "{}"
    assert {f"frameworks.NAME.{name}" for name in fields(FrameworkSettings)} <= set(coded(page("docs/configuration.md")))


def test_every_key_of_a_compute_target_is_documented() -> None:
    text = section(page("docs/configuration.md"), "## Compute targets").partition("### ")[0]
    assert set(table(text)) == {name for name in fields(ComputeTarget) if name not in ("name", "options") and name[0] != "_"}


@pytest.mark.parametrize("name", [name for kind, name, _ in BUILTIN if kind == "backend"])
def test_every_option_of_a_backend_is_documented_in_its_own_words(name: str) -> None:
    options = dataclasses.fields(load_plugins(external=False).backend(name).Options)
    found = rows(section(page("docs/configuration.md"), f"### Options of the backend `{name}`"))[1:]
    defaults = [one.default_factory() if callable(one.default_factory) else one.default for one in options]
    expected = [
        [f"`{one.name}`", f"`{value}`" if value != "" else "", one.metadata["help"]] for one, value in zip(options, defaults, strict=True)
    ]
    assert found == expected


def test_every_variable_that_overrides_a_setting_is_documented() -> None:
    found = rows(section(page("docs/configuration.md"), "## Variables that override a setting"))[1:]
    assert found == [[f"`{variable}`", f"`{key}`"] for variable, key in VARIABLES.items()]


def test_every_variable_of_ours_is_documented_and_no_other() -> None:
    pattern = r"\bHPCEST_[A-Z_]*[A-Z]\b"
    in_code = {name for text in SOURCES.values() for name in re.findall(pattern, text)}
    in_docs = set(re.findall(pattern, page("docs/configuration.md")))
    assert in_code - in_docs == set()
    assert in_docs - in_code == {"HPCEST_GIT_BRANCH", "HPCEST_GIT_REMOTE", "HPCEST_GIT_DIRTY"}  # made of pieces in the code


# ---------------------------------------------------------------------- plugins
def hooks() -> list[str]:
    """Every hook with its exact arguments, in the order of the file."""
    tree = ast.parse(SOURCES[HOUSE / "hookspecs.py"])
    names = [node.name for node in tree.body if isinstance(node, ast.FunctionDef) and node.name.startswith("hpcest_")]
    return [f"{name}({', '.join(inspect.signature(getattr(hookspecs, name)).parameters)})" for name in names]


def test_every_hook_is_documented_with_its_exact_arguments() -> None:
    assert list(table(section(page("docs/plugins.md"), "## Hooks"))) == hooks()


@pytest.mark.parametrize("name", ["Framework", "Environment", "Backend"])
def test_everything_that_a_plugins_class_has_is_documented_with_its_exact_arguments(name: str) -> None:
    contract = getattr(contracts, name)
    found = {known for known in contract.__annotations__ if not known.startswith("_")}
    for known, value in vars(contract).items():
        function = value.__func__ if isinstance(value, classmethod) else value
        if inspect.isfunction(function) and not known.startswith("_"):
            found.add(f"{known}({', '.join(list(inspect.signature(function).parameters)[1:])})")
    assert set(table(section(page("docs/plugins.md"), f"## {name}s"))) == found


@pytest.mark.parametrize("name", ["Lock", "Evidence"])
def test_the_fields_of_what_a_plugin_returns_are_documented(name: str) -> None:
    assert fields(getattr(contracts, name)) <= set(coded(page("docs/plugins.md")))


# ---------------------------------------------------------------------- the run folder
RUN_FOLDER = page("docs/run-folder.md")


def kinds() -> dict[str, list[str]]:
    """Kind of event → its row."""
    return {
        row[0].strip("`"): row
        for part in ("### The life of a run", "### What a program logs")
        for row in rows(section(RUN_FOLDER, part))[1:]
    }


def calls() -> Iterator[tuple[str, set[str]]]:
    """Every place that makes an event: its kind and the fields that are named there."""
    through = {"_say": "status", "_end": "status", "event": ""}
    for node in (node for text in SOURCES.values() for node in ast.walk(ast.parse(text))):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in through:
            first = node.args[0] if node.args else None
            kind = through[node.func.attr] or (first.value if isinstance(first, ast.Constant) else "")
            if kind:
                yield str(kind), {word.arg for word in node.keywords if word.arg}
        elif isinstance(node, ast.Dict):
            named = {key.value: value for key, value in zip(node.keys, node.values, strict=True) if isinstance(key, ast.Constant)}
            if isinstance(made := named.get("e"), ast.Constant) and "A" not in named:  # sbatch's letters are no event
                yield str(made.value), set(map(str, named))


def test_every_made_event_that_is_written_or_read_is_documented() -> None:
    read = {name.removeprefix("_on_") for name in vars(state.RunState) if name.startswith("_on_")} | metrics.KINDS
    assert {kind for kind, _ in calls()} | read == set(kinds())


def test_every_field_of_an_event_that_is_written_is_documented() -> None:
    documented = {kind: {"t", "e", *coded(" ".join(row))} for kind, row in kinds().items()}
    for kind, names in calls():
        assert names - documented[kind] == set(), f"docs/run-folder.md: {kind}"


def test_every_made_event_has_an_example_that_a_reader_takes() -> None:
    lines = [line for block in _FENCE.finditer(section(RUN_FOLDER, "## Events")) for line in block["body"].splitlines()]
    events = [json.loads(line) for line in lines]
    for event in events:
        assert set(event) <= {"t", "e", *coded(" ".join(kinds()[event["e"]]))}
        assert metrics.Metrics().apply(event) == (event["e"] in metrics.KINDS)
        if hasattr(state.RunState, f"_on_{event['e']}") and event["e"] != "untag":
            after = state.RunState()
            after.apply(event)
            assert after.to_json() != state.RunState().to_json()
    assert {event["e"] for event in events} == set(kinds())


def test_how_a_status_is_decided_is_documented() -> None:
    text = section(RUN_FOLDER, "## How a status is decided")
    found = {name: row[1] for name, row in table(text).items()}
    assert {name: found[name] for name in state.ORDER} == {name: str(order) for name, order in state.ORDER.items()}
    assert {name: found[name] for name in state.WEIGHT} == {name: str(weight) for name, weight in state.WEIGHT.items()}
    assert {status.value for status in Status} <= set(coded(text))
    assert {reason.value for reason in Reason if reason.value} <= set(table(text))


def test_every_field_of_a_run_spec_is_documented() -> None:
    found = table(section(RUN_FOLDER, "## run.json"))
    assert fields(spec.RunSpec) <= set(found)
    inner = {"command": spec.Command, "resources": spec.Resources, "distribution": spec.Distribution}
    inner |= {"environment": spec.EnvironmentSpec, "git": spec.GitFacts}
    for name, one in inner.items():
        assert fields(one) <= set(coded(" ".join(found[name]))), name


def test_every_key_of_a_launch_manifest_is_documented() -> None:
    """Those that the controller's docstring explains."""
    listed = re.findall(r"^ {4}(\w+(?:, \w+)*)(?: \{([\w, ]+)\})?  ", controller.__doc__ or "", re.MULTILINE)
    keys = {name for names in listed for part in names for name in part.split(", ") if name}
    assert {"run", "rank_variables", "servers", "here"} <= keys
    assert keys - set(coded(section(RUN_FOLDER, "## The folder of a run"))) - {"manifest", "objects", "stamp"} == set()


def test_every_state_of_slurm_is_documented() -> None:
    text = section(page("docs/slurm.md"), "## Slurm's states")
    assert set(states.STATES) == {name for name in table(text) if name.isupper()}
    for name, row in table(text).items():
        if name in states.STATES and (status := states.STATES[name].status):
            assert f"`{status.value}`" in row[1]
            assert not states.STATES[name].reason or f"`{states.STATES[name].reason.value}`" in row[2]


def test_every_path_is_documented() -> None:
    workspace, folder = WorkspaceFolder("/w"), RunFolder("/w/.hpcest/runs/ID")
    own = [path for name in {*vars(folder), *vars(RunFolder)} if isinstance(path := getattr(folder, name), Path) and path != folder.path]
    assert len(own) > 10
    own += [folder.rank_log(0), Path(str(folder.rank_log(0, ranks=2)).replace("_0", "_RANK")), folder.build_log]
    own += [Path(str(path).replace(".0.", ".N.")) for path in (folder.claim(0), folder.sentinel(0))]
    places = [path for path in vars(workspace).values() if isinstance(path, Path) and path not in (workspace.root, workspace.home)]
    named = [str(path.relative_to(folder.path)) for path in own] + [str(path.relative_to(workspace.home)) for path in places]
    assert [name for name in named if f"`{name}" not in RUN_FOLDER and f"`{Path(name).name}" not in RUN_FOLDER] == []


def test_what_is_said_when_something_breaks_stands_in_the_code() -> None:
    """Each sentence that docs/faults.md quotes, up to what is filled in."""
    code = re.sub(r'"\s*\n\s*f?"', "", "\n".join(SOURCES.values()))
    quoted = [
        part.strip() for row in rows(page("docs/faults.md")) for text in re.findall(r'"([^"]+)"', " ".join(row)) for part in text.split("…")
    ]
    assert [part for part in quoted if part and part not in code] == []
    assert len(quoted) > 10


# ---------------------------------------------------------------------- all pages
def anchors(text: str) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    found: list[str] = []
    for heading in re.findall(r"^#+ (.+)$", prose(text), re.MULTILINE):
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower()
        slug = re.sub(r"[^\w\- ]", "", plain).strip().replace(" ", "-")
        found.append(f"{slug}-{found.count(slug)}" if slug in found else slug)
    return set(found)


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_link_leads_somewhere(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    for link in re.findall(r"\]\(([^)\s]+)\)", prose(text)):
        if "://" in link:
            continue
        name, _, anchor = link.partition("#")
        target = (path.parent / name).resolve() if name else path
        assert target.exists(), f"{link}: there is no such file"
        assert target.is_relative_to(ROOT), f"{link}: leads out of the repository"
        if anchor:
            assert anchor in anchors(target.read_text(encoding="utf-8")), f"{link}: there is no such heading"


@pytest.mark.parametrize("path", OURS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_code_block_names_its_language_and_is_sound(path: Path) -> None:
    import yaml

    text = path.read_text(encoding="utf-8")
    assert len(re.findall(r"^```", text, re.MULTILINE)) == 2 * len(_FENCE.findall(text))
    for block in _FENCE.finditer(text):
        language, body = block["language"], block["body"]
        assert language in LANGUAGES, body
        if language == "python":
            compile(body, str(path), "exec")
        elif language == "json":
            assert all(json.loads(line) for line in body.splitlines())
        elif language == "yaml":
            yaml.safe_load(body)
        elif language == "bash":
            done = run(["bash", "-n", "-c", body])
            assert done.ok, done.err


@pytest.mark.parametrize("path", OURS, ids=lambda path: str(path.relative_to(ROOT)))
def test_pages_are_plain(path: Path) -> None:
    """No pictures among the letters, and lines that a terminal can show (tables and links apart)."""
    text = path.read_text(encoding="utf-8")
    assert not re.search("[\U0001f000-\U0001faff\u2600-\u27bf\ufe0f]", text)
    assert [
        line for line in text.splitlines() if len(line) > 140 and not line.startswith("|") and "](" not in line and "{" not in line
    ] == []
