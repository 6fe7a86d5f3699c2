"""Plugins of strangers, as really installed distributions: found, refused with a reason, never in the way."""

from __future__ import annotations

import importlib.util
import json
import os
import sys
import time
from importlib import import_module
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from hpcest import contracts
from hpcest.errors import UnknownNameError
from hpcest.kit.process import Finished, run
from hpcest.pluginmanager import BUILTIN, KINDS, PluginRow, load_plugins

HOUSE = Path(__file__).parents[1]
#: The frameworks that hpcest brings along.
OURS = [name for kind, name, _ in BUILTIN if kind == "framework"]

FRAMEWORK = """
    import hpcest
    from hpcest.contracts import Framework
    from hpcest.model.plan import Program

    class Julia(Framework):
        name = "julia"

        def program(self, spec, activation):
            return Program(("julia", spec.command.script))

    @hpcest.hookimpl
    def hpcest_register_frameworks():
        return [Julia]
    """


class Site:
    """A directory of installed distributions, and an interpreter that has these and no others."""

    def __init__(self, root: Path) -> None:
        self.root, self.folder, self.libraries = root, root / "site", root / "libraries"
        self.folder.mkdir()
        self.libraries.mkdir()
        for name in ("pluggy", "click", "packaging"):
            spec = importlib.util.find_spec(name)
            assert spec is not None
            assert spec.origin is not None
            (self.libraries / name).symlink_to(Path(spec.origin).parent)

    def install(self, name: str, code: str, *, version: str = "1.0", points: str = "") -> None:
        """Put a module and the metadata of its distribution there. ``points`` are lines; else the module is the plugin."""
        module = name.replace("-", "_")
        (self.folder / f"{module}.py").write_text(dedent(code))
        info = self.folder / f"{module}-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        (info / "entry_points.txt").write_text(f"[hpcest]\n{points or f'{name} = {module}'}\n")
        old = time.time() - 3600
        os.utime(self.folder, (old, old))

    def python(self, code: str, **variables: str) -> Finished:
        """Run ``code`` after ``plugins = load_plugins()``, with warnings as errors."""
        start = "import json, sys\nfrom hpcest.errors import *\nfrom hpcest.pluginmanager import *\nplugins = load_plugins()\n"
        env = {
            "HOME": str(self.root / "home"),
            "PYTHONPATH": os.pathsep.join([str(HOUSE), str(self.folder), str(self.libraries)]),
            "HPCEST_CACHE_DIR": str(self.root / "cache"),
            "PYTHONDONTWRITEBYTECODE": "1",
            **variables,
        }
        return run([sys.executable, "-S", "-W", "error", "-c", start + dedent(code)], cwd=self.root, env=env)

    def answer(self, expression: str, before: str = "", **variables: str) -> Any:
        """The value of ``expression`` there, through JSON."""
        done = self.python(f"{dedent(before)}\nprint(json.dumps({expression}))", **variables)
        assert done.err == ""
        return json.loads(done.out.splitlines()[-1])


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


@pytest.mark.parametrize(("kind", "name", "module"), BUILTIN)
def test_the_table_of_built_ins_says_what_their_modules_register(kind: str, name: str, module: str) -> None:
    hook, contract = KINDS[kind]
    registered = {one.name: one for one in getattr(import_module(module), hook)()}
    assert set(registered) == {known for of, known, where in BUILTIN if (of, where) == (kind, module)}
    assert getattr(load_plugins(external=False), kind)(name) is registered[name]
    assert issubclass(registered[name], getattr(contracts, contract))


def test_a_built_in_is_imported_when_it_is_asked_for_and_no_other(site: Site) -> None:
    rooms = "sorted(n for n in sys.modules if n.startswith(('hpcest.frameworks.', 'hpcest.environments.', 'hpcest.backends.')))"
    assert site.answer(rooms, "plugins.names('backend'), plugins.add_commands(None), plugins.notify('hpcest_after_submit')") == []
    assert site.answer(rooms, "plugins.backend('local')") == ["hpcest.backends.local", "hpcest.backends.starting"]
    assert site.answer(rooms, "plugins.framework('script')") == ["hpcest.frameworks.script"]


def test_without_plugins_nothing_is_imported_to_say_so(site: Site) -> None:
    """``hpcest --help`` asks, each time."""
    before = "plugins.add_commands(None)\nplugins.notify('hpcest_after_collect')\nplugins.names('framework')"
    heavy = "[n for n in ('pluggy', 'importlib.metadata', 'hpcest.contracts', 'hpcest.config', 'dataclasses') if n in sys.modules]"
    assert site.answer(heavy, before) == []


def test_a_plugin_is_found_by_its_entry_point(site: Site) -> None:
    site.install("hpcest-julia", FRAMEWORK, version="1.2", points="julia = hpcest_julia")
    assert site.answer("plugins.framework('julia').name") == "julia"
    assert site.answer("plugins.names('framework')") == [*OURS, "julia"]
    assert ["framework", "julia", "hpcest-julia 1.2", "hpcest_julia", ""] in site.answer("plugins.listing()")
    assert site.answer("load_plugins(external=False).names('framework')") == OURS


def test_a_plugin_may_be_an_object_with_methods(site: Site) -> None:
    code = FRAMEWORK.replace("@hpcest.hookimpl", "class Plugin:\n        @hpcest.hookimpl").replace("def hpcest_reg", "    def hpcest_reg")
    code = code.replace("frameworks():", "frameworks(self):").replace("return [Julia]", "    return [Julia]") + "\n    plugin = Plugin()\n"
    site.install("thing", code, points="thing = thing:plugin")
    assert site.answer("[plugins.framework('julia').name, plugins.problems]") == ["julia", []]


GOOD = {"hpcest-julia": FRAMEWORK}
HOOK = "import hpcest\n@hpcest.hookimpl\n"
BROKEN = {
    "missing-module": ("import a_module_that_nobody_has", "ModuleNotFoundError: No module named 'a_module_that_nobody_has'"),
    "syntax": ("def (:", "SyntaxError: invalid syntax (syntax.py, line 1)"),
    "raises": ("raise RuntimeError('not today')", "RuntimeError: not today"),
    "exits": ("import sys; sys.exit(3)", "SystemExit: 3"),
    "warns": ("import warnings; warnings.warn('old', DeprecationWarning)", "DeprecationWarning: old"),
    "misspelt": (
        f"{HOOK}def hpcest_register_framework(): return []",
        "unknown hook 'hpcest_register_framework'; did you mean hpcest_register_frameworks?",
    ),
    "wrong-argument": (
        f"{HOOK}def hpcest_after_submit(job): pass",
        "PluginValidationError: Plugin 'wrong-argument:wrong-argument' for hook 'hpcest_after_submit'\n"
        "hookimpl definition: hpcest_after_submit(job)\n"
        "Argument(s) {'job'} are declared in the hookimpl but can not be found in the hookspec",
    ),
    "newer": (
        f"HPCEST_INTERFACE = 99\n{HOOK}def hpcest_after_submit(run): pass",
        "it was made for plugin interface 99, this hpcest has 1; upgrade hpcest",
    ),
    "odd-interface": (
        f"HPCEST_INTERFACE = '1'\n{HOOK}def hpcest_after_submit(run): pass",
        "it was made for plugin interface '1', this hpcest has 1; upgrade hpcest",
    ),
    "hookless": ("x = 1", "it has no hooks: mark its functions with hpcest.hookimpl"),
    "wrapper": (
        "import pluggy\n@pluggy.HookimplMarker('hpcest')(wrapper=True)\ndef hpcest_after_submit(run):\n    return (yield)",
        "it wraps a hook, which hpcest does not support: each plugin is called alone",
    ),
    "no-list": (
        f"{HOOK}def hpcest_register_frameworks(): pass",
        "hpcest_register_frameworks must return a list of classes, not None",
    ),
    "hook-raises": (f"{HOOK}def hpcest_register_backends(): 1/0", "hpcest_register_backends: ZeroDivisionError: division by zero"),
    "no-class": (
        f"{HOOK}def hpcest_register_frameworks(): return ['julia']",
        "hpcest_register_frameworks: 'julia' is not a subclass of hpcest.contracts.Framework",
    ),
    "wrong-kind": (
        f"from hpcest.contracts import Environment\nclass E(Environment): name = 'e'\n{HOOK}def hpcest_register_frameworks(): return [E]",
        "hpcest_register_frameworks: <class 'wrong_kind.E'> is not a subclass of hpcest.contracts.Framework",
    ),
    "nameless": (
        "from hpcest.contracts import Framework\nclass F(Framework):\n    def program(self, spec, activation): pass\n"
        f"{HOOK}def hpcest_register_frameworks(): return [F]",
        "hpcest_register_frameworks: F has no name: set name = '…' in the class",
    ),
    "abstract": (
        f"from hpcest.contracts import Environment\nclass E(Environment): name = 'e'\n{HOOK}def hpcest_register_environments(): return [E]",
        "hpcest_register_environments: E lacks activate, prepare",
    ),
    "no-options": (
        "from hpcest.contracts import Backend\nclass B(Backend):\n    name = 'b'\n    plan = submit = look = cancel = lambda self: None\n"
        f"{HOOK}def hpcest_register_backends(): return [B]",
        "hpcest_register_backends: B has no Options: set it to a dataclass of its settings",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_plugin_is_listed_with_its_reason_and_is_in_nobodys_way(site: Site, name: str) -> None:
    code, reason = BROKEN[name]
    site.install(name, code)
    site.install("hpcest-julia", FRAMEWORK)
    expected = [name, name.replace("-", "_"), reason.replace("SITE", str(site.folder))]
    found = site.answer(
        "[plugins.framework('script').name, plugins.framework('julia').name, plugins.backend('local').name,"
        " plugins.notify('hpcest_after_submit', run=None), plugins.names('framework'), plugins.problems]",
        "plugins.add_commands(None)",
    )
    assert found == ["script", "julia", "local", [], [*OURS, "julia"], [expected]]
    assert ["", name, f"{name} 1.0", expected[1], expected[2]] in site.answer("plugins.listing()")


@pytest.mark.parametrize("name", ["missing-module", "misspelt", "hook-raises", "nameless"])
def test_strict_means_that_a_broken_plugin_is_an_error(site: Site, name: str) -> None:
    site.install(name, BROKEN[name][0])
    done = site.python("plugins.listing()", HPCEST_STRICT_PLUGINS="1")
    start = f"hpcest.errors.PluginError: plugin {name!r} of {name} 1.0 can't be used: {BROKEN[name][1]}".replace("SITE", str(site.folder))
    assert start in done.err
    assert site.python("plugins.listing()", HPCEST_STRICT_PLUGINS="0").err == ""


def test_all_that_is_wrong_is_listed(site: Site) -> None:
    for name, (code, _) in BROKEN.items():
        site.install(name, code)
    assert sorted(problem[0] for problem in site.answer("plugins.problems")) == sorted(BROKEN)


def test_an_entry_point_must_name_something_that_can_be_a_plugin(site: Site) -> None:
    points = "a class = hpcest_julia:Julia\nnothing = hpcest_julia:nothing\ntwice = hpcest_julia\nonce = hpcest_julia"
    site.install("hpcest-julia", FRAMEWORK, points=points)
    problems = {name: reason for name, _, reason in site.answer("plugins.problems")}
    assert problems.pop("twice").startswith("ValueError: Plugin")
    assert problems == {
        "a class": "its entry point names a class; it must name a module or an object",
        "nothing": "AttributeError: module 'hpcest_julia' has no attribute 'nothing'",
    }
    assert site.answer("plugins.names('framework')") == [*OURS, "julia"]


def test_a_plugin_can_be_disabled_by_its_entry_points_name(site: Site) -> None:
    site.install("hpcest-julia", FRAMEWORK, points="jl = hpcest_julia")
    site.install("missing-module", BROKEN["missing-module"][0])
    for before, variables in [
        ("", {"HPCEST_DISABLE_PLUGINS": "other, jl ,missing-module"}),
        ("plugins = load_plugins(disabled=['jl', 'missing-module'])", {}),
        ("plugins = load_plugins(disabled=['jl'])", {"HPCEST_DISABLE_PLUGINS": "missing-module"}),
    ]:
        found = site.answer("[plugins.names('framework'), plugins.problems, plugins.listing()]", before, **variables)
        assert found[:2] == [OURS, []]
        assert ["", "jl", "hpcest-julia 1.0", "hpcest_julia", "disabled"] in found[2]
        assert ["", "missing-module", "missing-module 1.0", "missing_module", "disabled"] in found[2]


def test_two_plugins_with_one_name_are_an_error_for_who_asks_for_it(site: Site) -> None:
    site.install("hpcest-julia", FRAMEWORK)
    site.install("other-julia", FRAMEWORK, version="2.5")
    assert site.answer("[plugins.framework('script').name, plugins.names('framework')]") == ["script", [*OURS, "julia"]]
    caught = "try:\n    plugins.framework('julia')\nexcept PluginError as error:\n    caught = [error.message, error.hint]"
    message, hint = site.answer("caught", caught)
    assert message.startswith("the framework 'julia' is registered by ")
    assert set(message.removeprefix("the framework 'julia' is registered by ").split(" and by ")) == {
        "hpcest-julia 1.0 (hpcest_julia)",
        "other-julia 2.5 (other_julia)",
    }
    assert hint == "uninstall one of them, or name its entry point in HPCEST_DISABLE_PLUGINS"
    rows = [PluginRow(*row) for row in site.answer("plugins.listing()")]
    assert [(row.name, row.origin, row.problem) for row in rows if row.name == "julia"] == [
        ("julia", "hpcest-julia 1.0", "the name is also registered by other-julia 2.5 (other_julia)"),
        ("julia", "other-julia 2.5", "the name is also registered by hpcest-julia 1.0 (hpcest_julia)"),
    ]
    assert site.answer("plugins.framework('julia').__module__", HPCEST_DISABLE_PLUGINS="other-julia") == "hpcest_julia"


def test_a_plugin_can_not_take_a_built_ins_name_unseen(site: Site) -> None:
    site.install("hpcest-mine", FRAMEWORK.replace('"julia"\n', '"script"\n'))
    caught = "try:\n    plugins.framework('script')\nexcept PluginError as error:\n    caught = error.message"
    assert site.answer("caught", caught) == (
        "the framework 'script' is registered by hpcest itself (hpcest.frameworks.script) and by hpcest-mine 1.0 (hpcest_mine)"
    )
    assert site.answer("plugins.backend('local').name") == "local"
    assert [
        "framework",
        "script",
        "built in",
        "hpcest.frameworks.script",
        "the name is also registered by hpcest-mine 1.0 (hpcest_mine)",
    ] in (site.answer("plugins.listing()"))


def test_an_unknown_name_is_answered_with_the_nearest_one() -> None:
    plugins = load_plugins(external=False)
    with pytest.raises(UnknownNameError) as caught:
        plugins.framework("scrip")
    assert (caught.value.message, caught.value.hint) == ("framework 'scrip' is not known", "did you mean 'script'?")
    with pytest.raises(UnknownNameError) as caught:
        plugins.backend("pbs")
    assert (caught.value.message, caught.value.known) == ("backend 'pbs' is not known", plugins.names("backend"))


def test_an_unknown_name_is_answered_with_the_plugin_that_failed(site: Site) -> None:
    site.install("hpcest-julia", "import a_module_that_nobody_has")
    caught = "try:\n    plugins.framework('julia')\nexcept UnknownNameError as error:\n    caught = [error.message, error.hint]"
    reason = "ModuleNotFoundError: No module named 'a_module_that_nobody_has'"
    assert site.answer("caught", caught) == [
        "framework 'julia' is not known",
        f"the plugin 'hpcest-julia' of hpcest-julia 1.0 could not be used: {reason}",
    ]
    assert site.answer("caught", caught, HPCEST_DISABLE_PLUGINS="hpcest-julia")[1] == (
        "the plugin 'hpcest-julia' of hpcest-julia 1.0 is disabled, by HPCEST_DISABLE_PLUGINS or by plugins.disable"
    )
    assert site.answer("caught", caught.replace("julia", "srcipt"))[1] == "did you mean 'script'?"


def test_a_built_in_that_can_not_be_imported_is_an_error_for_who_asks_for_it(tmp_path: Path, site: Site) -> None:
    """A copy of the package with a module missing, as a broken installation has it."""
    copy = tmp_path / "copy" / "hpcest"
    copy.mkdir(parents=True)
    for entry in (HOUSE / "hpcest").iterdir():
        if entry.name not in ("backends", "__pycache__"):
            (copy / entry.name).symlink_to(entry)
    (copy / "backends").mkdir()
    (copy / "backends" / "__init__.py").write_text("")
    caught = (
        "try:\n    plugins.backend('local')\nexcept PluginError as error:\n    caught = [error.message, plugins.framework('script').name]"
    )
    path = os.pathsep.join([str(copy.parent), str(site.libraries)])
    assert site.answer("caught", caught, PYTHONPATH=path) == [
        "the built-in backend 'local' can't be loaded: No module named 'hpcest.backends.local'",
        "script",
    ]
    row = ["backend", "local", "built in", "hpcest.backends.local", "ModuleNotFoundError: No module named 'hpcest.backends.local'"]
    assert row in site.answer("plugins.listing()", PYTHONPATH=path)


def test_what_was_found_is_remembered_in_the_cache_directory(site: Site) -> None:
    site.install("hpcest-julia", FRAMEWORK)
    assert site.answer("plugins.names('framework')") == [*OURS, "julia"]
    assert str(site.folder) in (site.root / "cache" / "plugins.json").read_text()
    assert site.answer("plugins.names('framework')") == [*OURS, "julia"]
    assert site.answer("plugins.names('framework')", HPCEST_CACHE_DIR="/proc/none") == [*OURS, "julia"]
    assert site.answer("plugins.names('framework')", HPCEST_CACHE_DIR="", XDG_CACHE_HOME=str(site.root / "xdg")) == [*OURS, "julia"]
    assert (site.root / "xdg" / "hpcest" / "plugins.json").exists()


def recorder(name: str, hooks: dict[str, str], module: str = "hpcest") -> str:
    """A plugin that notes each call of its hooks: ``hooks`` maps a hook with its arguments to what it does."""
    functions = "".join(
        f"@{module}.hookimpl\ndef {hook}:\n    calls.append('{name} {hook}')\n    {body}\n\n" for hook, body in hooks.items()
    )
    return f"import hpcest\nfrom builtins import calls\n{functions}"


CALLS = "import builtins\nbuiltins.calls = []\n"


def test_hpcest_register_frameworks_is_called_once_when_a_framework_is_needed(site: Site) -> None:
    site.install("one", recorder("one", {"hpcest_register_frameworks()": "return []", "hpcest_register_backends()": "return []"}))
    before = f"{CALLS}plugins.names('environment')\nfirst = list(calls)\n" + "plugins.framework('script')\nplugins.names('framework')\n" * 2
    assert site.answer("[first, calls]", before) == [[], ["one hpcest_register_frameworks()"]]


def test_hpcest_register_environments_adds_a_kind_of_environment(site: Site) -> None:
    code = """
        import hpcest
        from hpcest.contracts import Environment

        class Spack(Environment):
            name = "spack"
            prepare = activate = lambda self: None

        @hpcest.hookimpl
        def hpcest_register_environments():
            return (Spack,)
        """
    site.install("hpcest-spack", code)
    assert site.answer("[plugins.environment('spack').name, 'spack' in plugins.names('environment')]") == ["spack", True]


def test_hpcest_register_backends_adds_a_backend(site: Site) -> None:
    code = """
        import hpcest
        from dataclasses import dataclass
        from hpcest.contracts import Backend

        class Pbs(Backend):
            name = "pbs"
            Options = dataclass(type("Options", (), {}))
            plan = submit = look = cancel = lambda self: None

        @hpcest.hookimpl
        def hpcest_register_backends():
            return [Pbs]
        """
    site.install("hpcest-pbs", code)
    assert site.answer("[plugins.backend('pbs').name, plugins.names('backend')[-1]]") == ["pbs", "pbs"]


def test_hpcest_register_commands_adds_a_command_and_a_failing_one_stops_no_other(site: Site) -> None:
    adds = "cli.add_command(__import__('click').Command('hello'))"
    site.install("good", recorder("good", {"hpcest_register_commands(cli)": adds}))
    site.install("bad", recorder("bad", {"hpcest_register_commands(cli)": "cli.no_such_thing()"}))
    before = f"{CALLS}import click\ngroup = click.Group()\nplugins.add_commands(group)"
    commands, problems = site.answer("[sorted(group.commands), plugins.problems]", before)
    assert commands == ["hello"]
    assert problems == [["bad", "bad", "hpcest_register_commands: AttributeError: 'Group' object has no attribute 'no_such_thing'"]]


def test_hpcest_travelling_modules_are_files_for_programs(site: Site) -> None:
    """Of all plugins together, asked for once."""
    site.install("aaa", recorder("aaa", {"hpcest_travelling_modules()": "return {'one/__init__.py': '', 'one/two.py': 'x = 1'}"}))
    site.install("bbb", recorder("bbb", {"hpcest_travelling_modules()": "return {'three.py': ''}"}))
    modules, calls = site.answer("[plugins.modules(), calls]", f"{CALLS}plugins.modules()")
    assert modules == {"one/__init__.py": "", "one/two.py": "x = 1", "three.py": ""}
    assert sorted(calls) == ["aaa hpcest_travelling_modules()", "bbb hpcest_travelling_modules()"]
    assert site.answer("plugins.problems", CALLS) == []


def test_hpcest_run_types_say_what_opens_runs(site: Site) -> None:
    """Of all plugins together; one with something else is left out, with its reason."""
    site.install("aaa", recorder("aaa", {"hpcest_run_types()": "return {'sweep': print}"}))
    site.install("bbb", recorder("bbb", {"hpcest_run_types()": "return {'graph': 3}"}))
    types, problems = site.answer("[sorted(plugins.run_types()), plugins.problems]", CALLS)
    assert types == ["sweep"]
    assert problems == [["bbb", "bbb", "hpcest_run_types: 'graph' must be a framework with a function"]]


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("return {'../x.py': ''}", "'../x.py' must be a relative path, without '..', and not in hpcest/"),
        ("return {'/x.py': ''}", "'/x.py' must be a relative path, without '..', and not in hpcest/"),
        ("return {'hpcest/x.py': ''}", "'hpcest/x.py' must be a relative path, without '..', and not in hpcest/"),
        ("return {'x.py': b''}", "'x.py' must be a name with a text"),
        ("return {'good.py': ''}", "another plugin has 'good.py'"),
        ("return None", "TypeError: 'NoneType' object is not iterable"),
        ("raise OSError('lost')", "OSError: lost"),
    ],
)
def test_modules_that_can_not_travel_are_left_behind(site: Site, body: str, reason: str) -> None:
    """The plugin's own alone, and the listing says why."""
    site.install("aaa", recorder("aaa", {"hpcest_travelling_modules()": body}))
    site.install("zzz", recorder("zzz", {"hpcest_travelling_modules()": "return {'good.py': ''}"}))
    modules, problems, listing = site.answer("[plugins.modules(), plugins.problems, plugins.listing()]", CALLS)
    assert modules == {"good.py": ""}
    assert problems == [["aaa", "aaa", f"hpcest_travelling_modules: {reason}"]]
    assert ["", "aaa", "aaa 1.0", "aaa", f"hpcest_travelling_modules: {reason}"] in listing


def test_hpcest_before_submit_stops_a_run_with_the_plugins_own_words(site: Site) -> None:
    site.install("guard", recorder("guard", {"hpcest_before_submit(plan)": "raise PermissionError(f'no {plan} today')"}))
    done = site.python(f"{CALLS}plugins.notify('hpcest_before_submit', run=None, plan='big plan')")
    assert done.err.splitlines()[-1] == "PermissionError: no big plan today"


@pytest.mark.parametrize("hook", ["hpcest_after_submit(run)", "hpcest_status_changed(run, before, after)", "hpcest_after_collect(run)"])
def test_hpcest_after_submit_hpcest_status_changed_and_hpcest_after_collect_tell_every_listener(site: Site, hook: str) -> None:
    """One that raises is a text for the user, and the next one is called all the same; each gets what it asks for."""
    name = hook.partition("(")[0]
    site.install("aaa", recorder("aaa", {hook: "calls.append(run)"}))
    site.install("bad", recorder("bad", {hook: "raise SystemExit('tired')"}))
    site.install("ccc", recorder("ccc", {f"{name}()": "pass"}))
    arguments = "before='Queued', after='Running'" if "before" in hook else ""
    calls, problems = site.answer("[calls, said]", f"{CALLS}said = plugins.notify('{name}', run='the run', {arguments})")
    assert calls == [f"ccc {name}()", f"bad {hook}", f"aaa {hook}", "the run"]
    assert problems == [f"plugin 'bad' of bad 1.0 failed in {name}: SystemExit: tired"]


def test_all_listeners_can_be_called_the_pluggy_way(site: Site) -> None:
    site.install("aaa", recorder("aaa", {"hpcest_after_submit(run)": "return run"}))
    assert site.answer("plugins.hook.hpcest_after_submit(run=7)", CALLS) == [7]


def test_a_failed_plugin_is_no_listener(site: Site) -> None:
    code = recorder("bad", {"hpcest_after_submit(run)": "pass"}) + "@hpcest.hookimpl\ndef hpcest_no_such_hook(): pass\n"
    site.install("bad", code)
    assert site.answer("[plugins.notify('hpcest_after_submit', run=1), calls, len(plugins.problems)]", CALLS) == [[], [], 1]
