"""Four levels of settings, each value with its origin, and every mistake with its file and line."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from textwrap import dedent

import pytest

from hpcest.config import VARIABLES, ComputeTarget, Config, IndexPlace, config_paths, load_config
from hpcest.errors import ConfigError, UnknownNameError
from hpcest.kit.process import run
from hpcest.model.folders import WorkspaceFolder

HOUSE = Path(__file__).parents[1]
Levels = Callable[..., Config]


class Places:
    """The three files of a test, and the environment that leads to them."""

    def __init__(self, root: Path) -> None:
        self.workspace = WorkspaceFolder(root / "a workspace")
        self.site, self.user = root / "site.yaml", root / "home" / ".config" / "hpcest" / "config.yaml"
        self.environ = {"HPCEST_SITE_CONFIG": str(self.site), "HOME": str(root / "home")}

    def write(self, **texts: str) -> None:
        for level, text in texts.items():
            path: Path = {"site": self.site, "user": self.user, "workspace": self.workspace.config}[level]
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(dedent(text))

    def load(self, variables: Mapping[str, str] | None = None) -> Config:
        return load_config(self.workspace, {**self.environ, **(variables or {})})

    def complaint(self, variables: Mapping[str, str] | None = None) -> tuple[str, str]:
        """The message and the hint of a configuration that must be refused."""
        with pytest.raises(ConfigError) as caught:
            self.load(variables)
        return caught.value.message, caught.value.hint


@pytest.fixture
def places(tmp_path: Path) -> Places:
    return Places(tmp_path)


ENVIRONMENT = [
    ("environment.kind", "auto", "default"),
    ("environment.interpreter", "", "default"),
    ("environment.image", "", "default"),
    ("environment.channels", ["conda-forge"], "default"),
    ("environment.layout", "split", "default"),
    ("environment.stores", [], "default"),
    ("environment.trusted", [], "default"),
    ("environment.binds", [], "default"),
    ("environment.scratch", "", "default"),
    ("environment.build_on", "", "default"),
    ("environment.sharens", False, "default"),
    ("environment.cuda", "", "default"),
]
DEFAULTS = [
    ("default_compute", "local", "default"),
    ("compute.local.backend", "local", "default"),
    *ENVIRONMENT,
    ("snapshot.max_files", 50_000, "default"),
    ("snapshot.max_bytes", 5 * 1024**3, "default"),
    ("snapshot.ignore", [], "default"),
    ("history.index", "auto", "default"),
    ("plugins.disable", [], "default"),
]


def test_without_files_everything_has_its_default(places: Places) -> None:
    config = places.load()
    assert list(config.items()) == DEFAULTS
    assert config == Config()
    assert config.target() == config.compute["local"] == ComputeTarget("local", "local")


@pytest.mark.parametrize("text", ["", "# nothing yet\n", "compute:\n", "snapshot: {}\ncompute: {}\n"])
def test_an_empty_file_changes_nothing(places: Places, text: str) -> None:
    places.write(site=text, user=text, workspace=text)
    assert list(places.load().items()) == DEFAULTS


def test_levels_are_merged_key_by_key_and_every_value_has_its_origin(places: Places) -> None:
    places.write(
        site="""\
            default_compute: gpu
            compute:
              local: {slots: 4}
              gpu:
                backend: slurm
                partition: a100
                sbatch: {nice: 10, qos: low}
            snapshot:
              ignore: ["*.ckpt", "*.pt"]
              max_files: 500
            """,
        user="""\
            compute:
              gpu:
                sbatch:
                  qos: high
                  account: me
              mine: {backend: local, environment: venv}
            snapshot: {ignore: [data]}
            """,
        workspace="default_compute: mine\nhistory: {index: workspace}\n",
    )
    site, user, workspace = places.site, places.user, places.workspace.config
    assert list(places.load({"HPCEST_HISTORY_INDEX": "node"}).items()) == [
        ("default_compute", "mine", f"{workspace}:1"),
        ("compute.local.backend", "local", "default"),
        ("compute.local.slots", 4, f"{site}:3"),
        ("compute.gpu.backend", "slurm", f"{site}:5"),
        ("compute.gpu.partition", "a100", f"{site}:6"),
        ("compute.gpu.sbatch.nice", 10, f"{site}:7"),
        ("compute.gpu.sbatch.qos", "high", f"{user}:4"),
        ("compute.gpu.sbatch.account", "me", f"{user}:5"),
        ("compute.mine.backend", "local", f"{user}:6"),
        ("compute.mine.environment", "venv", f"{user}:6"),
        *ENVIRONMENT,
        ("snapshot.max_files", 500, f"{site}:10"),
        ("snapshot.max_bytes", 5 * 1024**3, "default"),
        ("snapshot.ignore", ["data"], f"{user}:7"),
        ("history.index", "node", "environment variable HPCEST_HISTORY_INDEX"),
        ("plugins.disable", [], "default"),
    ]
    config = places.load()
    assert config.snapshot.ignore == ("data",)
    assert config.history.index is IndexPlace.WORKSPACE
    assert config.target() == ComputeTarget("mine", "local", "venv")
    assert config.target("gpu").options == {"partition": "a100", "sbatch": {"nice": 10, "qos": "high", "account": "me"}}
    assert config.origin("compute.gpu") == f"{user}:2"
    assert config.origin("snapshot.ignore[0]") == f"{user}:7"
    assert config.origin("compute.gpu.nothing") == "default"


def test_an_empty_value_takes_a_lower_level_back(places: Places) -> None:
    places.write(
        site="compute:\n  gpu: {backend: slurm, time: 1:00:00}\n  old: {backend: slurm}\nsnapshot: {max_files: 5}\n",
        workspace="compute:\n  gpu: {time: }\n  old: ~\n  local: null\nsnapshot: {max_files: null}\n",
    )
    config = places.load()
    assert config.compute == {"local": ComputeTarget("local", "local"), "gpu": ComputeTarget("gpu", "slurm")}
    assert (config.snapshot.max_files, config.origin("snapshot.max_files")) == (50_000, "default")


def test_a_target_that_names_another_backend_inherits_no_options(places: Places) -> None:
    places.write(
        site="compute:\n  gpu: {backend: slurm, partition: a100}\n  local: {slots: 2}\n",
        user="compute:\n  gpu: {backend: local, slots: 3}\n  local: {backend: local, grace: 1}\n",
    )
    config = places.load()
    assert config.compute["gpu"] == ComputeTarget("gpu", "local", options={"slots": 3})
    assert config.compute["local"] == ComputeTarget("local", "local", options={"slots": 2, "grace": 1})
    assert config.origin("compute.gpu.partition") == "default"


def test_local_may_be_another_backend(places: Places) -> None:
    places.write(workspace="compute: {local: {backend: slurm, partition: debug}}")
    assert places.load().compute == {"local": ComputeTarget("local", "slurm", options={"partition": "debug"})}


@pytest.mark.parametrize(
    ("variable", "text", "key", "value"),
    [
        ("HPCEST_DEFAULT_COMPUTE", "gpu", "default_compute", "gpu"),
        ("HPCEST_ENVIRONMENT_KIND", "venv", "environment.kind", "venv"),
        ("HPCEST_ENVIRONMENT_INTERPRETER", "3.10", "environment.interpreter", "3.10"),
        ("HPCEST_SNAPSHOT_MAX_FILES", "7", "snapshot.max_files", 7),
        ("HPCEST_SNAPSHOT_MAX_BYTES", "1000", "snapshot.max_bytes", 1000),
        ("HPCEST_HISTORY_INDEX", "node", "history.index", "node"),
    ],
)
def test_a_variable_is_above_all_files(places: Places, variable: str, text: str, key: str, value: object) -> None:
    places.write(workspace="default_compute: file\nenvironment: {kind: file, interpreter: file}\nsnapshot: {max_files: 1, max_bytes: 1}\n")
    rows = {row[0]: row[1:] for row in places.load({variable: text}).items()}
    assert rows[key] == (value, f"environment variable {variable}")
    assert {row[0]: row[1:] for row in places.load({variable: ""}).items()}[key] != rows[key]


def test_every_variable_sets_a_setting() -> None:
    assert set(VARIABLES.values()) <= {key for key, _, _ in DEFAULTS}


def test_the_files_are_where_the_user_says(places: Places, tmp_path: Path) -> None:
    here = [("site", places.site), ("user", places.user), ("workspace", places.workspace.config)]
    assert config_paths(places.workspace, places.environ) == here
    assert config_paths(None, {"HOME": "/h"}) == [
        ("site", Path("/etc/hpcest/config.yaml")),
        ("user", Path("/h/.config/hpcest/config.yaml")),
    ]
    assert config_paths(None, {"HOME": "/h", "XDG_CONFIG_HOME": "/x"})[1] == ("user", Path("/x/hpcest/config.yaml"))
    assert config_paths(None, {"HOME": "/h", "XDG_CONFIG_HOME": "x"})[1] == ("user", Path("/h/.config/hpcest/config.yaml"))
    places.write(user="default_compute: mine")
    assert load_config(None, places.environ).default_compute == "mine"


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("defualt_compute: x", "1: key 'defualt_compute' is not known", "did you mean 'default_compute'?"),
        ("\nsnapshot:\n  max_file: 3", "3: key in snapshot 'max_file' is not known", "did you mean 'max_files'?"),
        ("snapshot:\n  max_files: lots", "2: snapshot.max_files must be a whole number, not 'lots'", ""),
        ("snapshot:\n  max_files: 0", "2: snapshot.max_files must be at least 1, not 0", ""),
        ("snapshot:\n  ignore: '*.pt'", "2: snapshot.ignore must be a list, not '*.pt'", ""),
        ("snapshot:\n  ignore:\n  - a\n  - [b]", "4: snapshot.ignore[1] must be a text, not ['b']", ""),
        ("history: {index: there}", "1: history.index must be one of auto, workspace, node, not 'there'", ""),
        ("compute: gpu", "1: compute must be a mapping, not 'gpu'", ""),
        ("compute:\n  gpu: slurm", "2: compute.gpu must be a mapping, not 'slurm'", ""),
        ("compute:\n  gpu: {slots: 1}", "2: compute.gpu needs the key 'backend'", "such as 'backend: local'; 'hpcest plugins' lists them"),
        ("compute:\n  gpu:\n    backend: [x]", "3: compute.gpu.backend must be a text, not ['x']", ""),
        (
            "environment:\n  kind: no",
            "2: environment.kind must be a text, not False",
            "YAML reads no as false; put it in quotes if the text is meant",
        ),
        (
            "default_compute: 1\ndefault_compute: 2",
            "2: the key 'default_compute' is here a second time; the first is on line 1",
            "keep one of them",
        ),
    ],
)
@pytest.mark.parametrize("level", ["site", "user", "workspace"])
def test_a_mistake_is_named_with_file_and_line(places: Places, level: str, text: str, message: str, hint: str) -> None:
    places.write(**{"site": "default_compute: fine", level: text})
    path = {"site": places.site, "user": places.user, "workspace": places.workspace.config}[level]
    assert places.complaint() == (f"{path}:{message}", hint)


@pytest.mark.parametrize("text", ["just a text", "- a\n- list\n", "42"])
def test_a_file_must_hold_a_mapping(places: Places, text: str) -> None:
    places.write(user=text)
    assert places.complaint()[0].startswith(f"{places.user}:1: the value must be a mapping with some of the keys default_compute, compute,")


def test_a_wrong_variable_is_named(places: Places) -> None:
    places.write(site="snapshot: {max_files: 5}")
    message = "environment variable HPCEST_SNAPSHOT_MAX_FILES: snapshot.max_files must be a whole number, not 'lots'"
    assert places.complaint({"HPCEST_SNAPSHOT_MAX_FILES": "lots"}) == (message, "")
    assert places.complaint({"HPCEST_HISTORY_INDEX": "x"})[0].startswith(
        "environment variable HPCEST_HISTORY_INDEX: history.index must be one of"
    )


def test_a_file_that_can_not_be_read_is_an_error_that_names_it(places: Places) -> None:
    places.user.parent.mkdir(parents=True)
    places.user.symlink_to(places.user)
    assert places.complaint()[0] == f"{places.user}: can't be read: too many levels of symbolic links"
    places.user.unlink()
    places.user.mkdir()
    assert places.complaint()[0] == f"{places.user}: this is a directory, not a YAML file"


def test_a_file_that_others_closed_is_an_error_that_names_it(places: Places) -> None:
    """By a child that is nobody where this process is root, who may read everything."""
    places.write(site="default_compute: secret")
    closed = places.site.parent / "closed"
    closed.mkdir()
    (closed / "config.yaml").write_text("default_compute: secret")
    code = """if True:
        import os, yaml, encodings.idna
        from hpcest.config import load_config
        from hpcest.errors import ConfigError
        import hpcest.kit.yamlfile
        if os.geteuid() == 0:
            os.setgroups([]); os.setgid(65534); os.setuid(65534)
        for site in "site.yaml", "closed/config.yaml":
            try:
                print(load_config(None, {"HPCEST_SITE_CONFIG": site, "HOME": "/nonexistent"}))
            except ConfigError as error:
                print(error)
    """
    places.site.parent.chmod(0o755)
    places.site.chmod(0)
    closed.chmod(0)
    done = run([sys.executable, "-c", code], cwd=places.site.parent, env={**os.environ, "PYTHONPATH": str(HOUSE)})
    closed.chmod(0o700)
    assert done.err == ""
    assert done.out == "site.yaml: can't be read: permission denied\nclosed/config.yaml: can't be read: permission denied\n"


def test_an_unknown_target_is_named_with_the_nearest_one(places: Places) -> None:
    places.write(site="compute: {gpu-a100: {backend: slurm}}", user="\ndefault_compute: gpu-a10")
    config = places.load()
    with pytest.raises(UnknownNameError) as caught:
        config.target("gpu_a100")
    assert (caught.value.message, caught.value.hint) == ("compute target 'gpu_a100' is not known", "did you mean 'gpu-a100'?")
    with pytest.raises(UnknownNameError) as caught:
        config.target()
    assert caught.value.message == "compute target 'gpu-a10' is not known"
    assert caught.value.hint == f"did you mean 'gpu-a100'? (default_compute is set by {places.user}:2)"


@dataclass(frozen=True)
class Options:
    partition: str = ""
    slots: int = 1
    sbatch: dict[str, str] = field(default_factory=dict)


def test_a_backend_decodes_its_own_options(places: Places) -> None:
    places.write(
        site="compute:\n  gpu: {backend: slurm, environment: apptainer, partition: 10, slots: 2, sbatch: {version: 3.10, time: 2:00:00}}"
    )
    target = places.load().target("gpu")
    assert target.environment == "apptainer"
    assert target.decode(Options) == Options("10", 2, {"version": "3.10", "time": "2:00:00"})


@pytest.mark.parametrize(
    ("line", "message", "hint"),
    [
        ("partitoin: x", "key in compute.gpu 'partitoin' is not known", "did you mean 'partition'?"),
        ("slots: many", "compute.gpu.slots must be a whole number, not 'many'", ""),
        ("sbatch: {nice: [{a: [1]}]}", "compute.gpu.sbatch.nice must be a text, not [{'a': [1]}]", ""),
        ("sbatch: [a]", "compute.gpu.sbatch must be a mapping, not ['a']", ""),
        ("sbatch: {nice: [1]}", "compute.gpu.sbatch.nice must be a text, not [1]", ""),
        ("partition: on", "compute.gpu.partition must be a text, not True", "YAML reads on as true; put it in quotes if the text is meant"),
    ],
)
def test_a_wrong_option_of_a_backend_has_its_file_and_line(places: Places, line: str, message: str, hint: str) -> None:
    places.write(site="compute: {gpu: {backend: slurm, partition: x}}", workspace=f"compute:\n  gpu:\n    {line}\n")
    target = places.load().target("gpu")
    with pytest.raises(ConfigError) as caught:
        target.decode(Options)
    assert (caught.value.message, caught.value.hint) == (f"{places.workspace.config}:3: {message}", hint)


def test_a_target_of_no_file_says_default() -> None:
    with pytest.raises(ConfigError, match=r"default: compute\.t\.slots must be a whole number, not 'x'"):
        ComputeTarget("t", "local", options={"slots": "x"}).decode(Options)


def test_options_of_two_targets_are_not_shared(places: Places) -> None:
    places.write(site="compute:\n  a: &a {backend: slurm, tags: [1]}\n  b: *a\n")
    config = places.load()
    config.compute["a"].options["tags"].append(2)
    assert config.compute["b"].options == {"tags": [1]}


def test_no_yaml_is_imported_where_there_is_no_file(places: Places) -> None:
    code = """if True:
        import json, sys
        from hpcest.config import load_config
        load_config(None)
        before = "yaml" in sys.modules
        open(sys.argv[1], "w").write("default_compute: x")
        print(json.dumps([before, load_config(None).default_compute, "yaml" in sys.modules]))
    """
    env = {**places.environ, "PATH": os.environ["PATH"], "PYTHONPATH": str(HOUSE)}
    done = run([sys.executable, "-c", code, places.site], env=env)
    assert (done.err, json.loads(done.out)) == ("", [False, "x", True])
