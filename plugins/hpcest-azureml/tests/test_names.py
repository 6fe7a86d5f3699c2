"""Azure ML's names answer, each in a Python of its own, as programs have them."""

from __future__ import annotations

import ast
import importlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from hpcest_azureml.conflict import SHIM, another

import hpcest
from hpcest.sdk.migration.names import NAMES, REFUSED, WITHOUT, counterpart

PLUGIN = Path(SHIM).parents[1]
FILES = sorted(Path(SHIM, "azureml").glob("*.py"))


def python(code: str, *, path: tuple[str, ...] = (), **variables: str) -> subprocess.CompletedProcess[str]:
    """A program that finds the plugin as an installed one, after ``path``."""
    there = [*path, SHIM, str(PLUGIN), str(Path(hpcest.__file__).parents[1])]
    env = {name: value for name, value in os.environ.items() if name != "HPCEST_RUN_DIR"}
    env.update(variables, PYTHONPATH=os.pathsep.join(there))
    return subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=60, check=False)


def said(code: str) -> Any:
    """What a program prints as JSON; it says nothing else."""
    done = python(f"import json\n{code}")
    assert done.stderr == "", done.stderr
    return json.loads(done.stdout)


def error(code: str) -> tuple[str, str]:
    """The error that ends a program: its type and its words."""
    *_, last = python(code).stderr.strip().splitlines()
    kind, _, words = last.partition(": ")
    return kind, words


@pytest.mark.parametrize("module", NAMES)
def test_each_name_is_hpcests(module: str) -> None:
    """The very object; names of other plugins only where those are installed."""
    if not module.startswith("azureml"):
        return
    names = [name for name in NAMES[module] if not counterpart(module, name)[0].startswith("hpcest_")]
    code = f"import importlib; m = importlib.import_module({module!r})\n"
    for name in names:
        where, called = counterpart(module, name)
        code += f"from {module} import {name}\nassert {name} is importlib.import_module({where!r}).{called}, {name!r}\n"
    assert set(said(code + "print(json.dumps(dir(m)))")) >= set(names)


def test_they_are_imported_fast() -> None:
    """Less than 100 ms more than Python's own start, the fastest of several tries of each."""

    def took(code: str) -> float:
        best = 60.0
        for _ in range(5):
            began = time.perf_counter()
            assert python(code).returncode == 0
            best = min(best, time.perf_counter() - began)
        return best

    names = "import azureml.core, azureml.train.dnn, azureml.widgets\nfrom azureml.core.authentication import MsiAuthentication"
    assert took(names) - took("pass") < 0.1


def test_nothing_is_imported_before_it_is_used() -> None:
    """But the table."""
    code = (
        "import sys, azureml.core, azureml.train.dnn, azureml.data\nprint(json.dumps([n for n in sys.modules if n.startswith('hpcest.')]))"
    )
    assert said(code) == ["hpcest.sdk", "hpcest.sdk.migration", "hpcest.sdk.migration.names"]


@pytest.mark.parametrize(
    ("code", "kind", "words"),
    [
        ("from azureml.core import Workspce", "ModuleNotFoundError", "no name 'Workspce' in azureml.core: did you mean 'Workspace'?"),
        ("import azureml.core; azureml.core.Exprmnt", "AttributeError", "no name 'Exprmnt' in azureml.core: did you mean 'Experiment'?"),
        ("import azureml.core.runconfg", "ModuleNotFoundError", "no name 'runconfg' in azureml.core: did you mean 'runconfig'?"),
        ("from azureml.core import Webservice", "ModuleNotFoundError", "no name 'Webservice' in azureml.core: hpcest does not deploy"),
        ("import azureml.pipeline.core", "ModuleNotFoundError", "no module 'azureml.pipeline': hpcest has no pipelines yet"),
        ("from azureml import pipeline", "ModuleNotFoundError", "no module 'azureml.pipeline': hpcest has no pipelines yet"),
        ("from azureml.train import hyperdrive", "ModuleNotFoundError", "no module 'azureml.train.hyperdrive': hpcest has no sweeps"),
        ("from azureml.train.automl import AutoMLConfig", "ModuleNotFoundError", "no module 'azureml.train.automl': hpcest does not"),
        ("import azureml; azureml.Run", "AttributeError", "no name 'Run' in azureml: it is in azureml.core"),
    ],
)
def test_what_is_not_there_says_what_to_do(code: str, kind: str, words: str) -> None:
    """A wrong name with the nearest one, a module that hpcest has not with what to do instead."""
    found = error(code)
    assert found[0] == kind
    assert found[1].startswith(f"hpcest has {words}")


def test_whoever_asks_whether_it_is_there_is_told() -> None:
    """``except ImportError``, ``hasattr`` and ``find_spec`` work as they are used to."""
    code = """
import sys
from importlib.util import find_spec
found = [find_spec("azureml") is not None, find_spec("azureml.core.run") is not None, "azureml.core.run" in sys.modules]
import azureml.core
try:
    import azureml.train.automl
except ImportError as error:
    has = [hasattr(azureml.core, name) for name in ("Webservice", "Run", "__wrapped__")]
    print(json.dumps([found, has]))
"""
    assert said(code) == [[True, True, False], [False, True, False]]


def test_a_plugin_of_hpcests_that_is_missing_is_named() -> None:
    """Reinforcement learning comes with one."""
    code = "import sys; sys.modules['hpcest_rllib'] = None\nfrom azureml.contrib.train.rl import Ray"
    assert error(code) == ("ImportError", "azureml.contrib.train.rl.Ray comes with the plugin hpcest-rllib: pip install hpcest-rllib")


def test_a_star_imports_what_is_public() -> None:
    """Without names that begin with an underscore."""
    assert {"Run", "Workspace"} <= set(said("from azureml.core import *\nprint(json.dumps(sorted(globals())))"))
    assert "run" not in said("import azureml.core.run\nfrom azureml.core import *\nprint(json.dumps(sorted(globals())))")
    assert "DEFAULT_CPU_IMAGE" in said("from azureml.core.runconfig import *\nprint(json.dumps(sorted(globals())))")
    there = said("import sys; sys.modules['hpcest_chainer'] = None\nfrom azureml.train.dnn import *\nprint(json.dumps(sorted(globals())))")
    assert {"PyTorch", "Mpi"} <= set(there)
    assert "Chainer" not in there  # it comes with another plugin
    assert "_OfflineRun" not in said("from azureml.core.run import *\nprint(json.dumps(sorted(globals())))")


def test_logins_do_nothing_and_say_so_once() -> None:
    """Whatever they are given."""
    code = """if True:
        import warnings
        from azureml.core.authentication import *
        from azureml.core.authentication import InteractiveLoginAuthentication, ServicePrincipalAuthentication
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            InteractiveLoginAuthentication(tenant_id="x"), ServicePrincipalAuthentication("a", "b", "secret")
        print(json.dumps([str(one.message) for one in caught]))
    """
    assert said("\n" + code) == ["InteractiveLoginAuthentication does nothing: files' permissions are the only authentication of hpcest"]


def test_nothing_is_reported_to_anybody() -> None:
    """Programs switch that on or off, and go on."""
    code = "from azureml.telemetry import set_diagnostics_collection as switch\nprint(json.dumps(switch(send_diagnostics=True)))"
    assert said(code) is None


def test_default_images_are_none() -> None:
    """For then hpcest makes the environment from its packages."""
    code = """
from azureml.core.runconfig import DEFAULT_CPU_IMAGE, DEFAULT_GPU_IMAGE
from azureml.core import Environment, VERSION
environment = Environment("a")
environment.docker.base_image = DEFAULT_GPU_IMAGE
print(json.dumps([DEFAULT_CPU_IMAGE, environment.docker.base_image, VERSION]))
"""
    assert said(code) == [None, None, hpcest.__version__]


def test_exceptions_are_those_that_hpcest_raises(tmp_path: Path) -> None:
    """Programs catch them by Azure's names."""
    code = """
from azureml.core import Workspace, Model
from azureml.exceptions import WorkspaceException, WebserviceException, UserErrorException, AzureMLException
caught = []
try:
    Workspace.from_config(PLACE + "/nowhere")
except WorkspaceException as error:
    caught.append("workspace")
try:
    Model(Workspace.create("lab", path=PLACE + "/ws"), "nothing")
except WebserviceException as error:
    caught.append("model")
    assert isinstance(error, UserErrorException) and isinstance(error, AzureMLException)
print(json.dumps(caught))
"""
    assert said(f"PLACE = {str(tmp_path)!r}\n{code}") == ["workspace", "model"]


def test_it_gives_way_to_azure_mls_own(tmp_path: Path) -> None:
    """Where those are found first they are used; where they are found later both are named. In a run it is hpcest's."""
    (tmp_path / "azureml" / "core").mkdir(parents=True)
    (tmp_path / "azureml" / "__init__.py").touch()
    (tmp_path / "azureml" / "core" / "__init__.py").write_text("VERSION = 'theirs'\n")
    assert python("import azureml.core as a; print(a.VERSION)", path=(str(tmp_path),)).stdout == "theirs\n"
    later = f"import sys; sys.path.append({str(tmp_path)!r})\nfrom azureml.core import VERSION; print(VERSION)"
    assert (
        python(later)
        .stderr.splitlines()[-1]
        .startswith(f"ImportError: Azure ML's own packages are installed too, in {tmp_path}, and hpcest-azureml")
    )
    assert python(later, HPCEST_RUN_DIR=str(tmp_path)).stdout == f"{hpcest.__version__}\n"


def test_hpcest_plugins_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The plugin is refused with the reason, and so sends nothing along with runs."""
    assert another() == ""
    (tmp_path / "azureml" / "core").mkdir(parents=True)
    (tmp_path / "azureml" / "core" / "__init__.py").touch()
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "hpcest_azureml.plugin", raising=False)
    with pytest.raises(hpcest.HpcestError, match="pip uninstall azureml-core, or pip uninstall hpcest-azureml"):
        importlib.import_module("hpcest_azureml.plugin")


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.name))
def test_the_names_need_only_an_old_python(path: Path) -> None:
    """They lie beside programs in any environment: Python 3.8, the standard library, and hpcest's own table."""
    tree = ast.parse(path.read_text(encoding="utf-8"), feature_version=(3, 8))
    found = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    found |= {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    tops = {str(name).partition(".")[0] for name in found}
    assert tops <= set(sys.stdlib_module_names) | {"azureml", "hpcest", "hpcest_azureml"}


def test_no_two_packages_install_the_same_file() -> None:
    """The names lie in a folder of this package's, which a path file adds to Python's path."""
    (line,) = (PLUGIN / "hpcest_azureml.pth").read_text().splitlines()
    assert os.path.samefile(PLUGIN / line, SHIM)
    assert not (PLUGIN / "azureml").exists()


def test_what_is_its_own_has_no_counterpart() -> None:
    """What hpcest itself has for a name is used; only harmless things stand in for what it has not."""
    own: dict[str, dict[str, str]] = said("from azureml._standin import OWN; print(json.dumps(OWN))")
    for module, names in own.items():
        assert set(names) <= set(WITHOUT[module])
        assert module not in REFUSED
