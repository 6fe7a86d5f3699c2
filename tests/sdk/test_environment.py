"""An environment describes what a program needs, from any of the files that people have."""

from __future__ import annotations

import json
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from hpcest import Environment, Estimator, Experiment, Workspace
from hpcest.errors import HpcestError, SpecError, UnknownNameError
from hpcest.lifecycle.secrets import without_secrets
from hpcest.model.spec import EnvironmentSpec
from hpcest.sdk.azure import OffAzureWarning
from hpcest.sdk.dependencies import CondaDependencies
from hpcest.sdk.requirements import read_requirements
from hpcest.sdk.sections import ContainerRegistry, DockerSection, PythonSection
from tests.cluster.fixtures import Apptainer
from tests.environments.apptainer.registry_server import serving


def test_from_files(tmp_path: Path) -> None:
    (tmp_path / "req.txt").write_bytes(b"\xef\xbb\xbf# ours\na==1 # one\nb @ https://host/b#egg=b\n\nc \\\n  >=2\n--requirement=more.txt\n")
    (tmp_path / "more.txt").write_text("d\n-rlast.txt\n")
    (tmp_path / "last.txt").write_text("e")
    (tmp_path / "env.yml").write_text(
        "name: x\nchannels: [conda-forge]\ndependencies:\n- python=3.10\n- pip\n- pip:\n  - f\n  - -r last.txt\n"
    )
    (tmp_path / "bare.yml").write_text("dependencies:\n- numpy\n- pip:\n")
    assert Environment.from_pip_requirements("r", tmp_path / "req.txt").to_spec() == EnvironmentSpec(
        name="r", pip=("a==1", "b @ https://host/b#egg=b", "c    >=2", "d", "e")
    )
    assert Environment.from_conda_specification("c", tmp_path / "env.yml").to_spec() == EnvironmentSpec(
        name="c", conda=("python=3.10", "pip"), pip=("f", "e"), channels=("conda-forge",)
    )
    assert Environment.from_conda_specification("b", tmp_path / "bare.yml").to_spec() == EnvironmentSpec(name="b", conda=("numpy",))
    assert Environment.from_docker_image("i", "python:3.11").to_spec() == EnvironmentSpec(name="i", image="python:3.11")


def test_a_spec_and_back() -> None:
    spec = EnvironmentSpec(
        "venv", "n", "3.11", ("a",), ("b",), ("ch",), "c", ("sys",), ("step",), "/prefix", ("gcc",), "single", {"D": "1"}
    )
    assert Environment.from_spec(spec).to_spec() == spec
    assert repr(Environment.from_spec(spec)) == "Environment(name='n', kind='venv')"


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("loop.txt", "-r loop.txt", "includes itself"),
        ("none.txt", None, "can't be read: there is no such file"),
        ("latin.txt", "caf\xe9", "is not UTF-8 text"),
    ],
)
def test_requirements_that_can_not_be_read(name: str, text: str | None, message: str, tmp_path: Path) -> None:
    if text is not None:
        (tmp_path / name).write_text(text, encoding="latin-1")
    with pytest.raises(SpecError, match=message) as error:
        read_requirements(tmp_path / name)
    assert name in error.value.message


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1", "env.yml:1: key 'a' is not known"),
        ("- a", "is not a conda specification"),
        ("dependencies: [{npm: [a]}]", "env.yml:1: dependency {'npm': ['a']} is a mapping"),
        ("dependencies: [{pip: a}]", "env.yml:1: dependencies[0].pip must be a list, not 'a'"),
        ("dependencies: [", "env.yml:1"),
    ],
)
def test_conda_files_that_can_not_be_read(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "env.yml").write_text(text)
    with pytest.raises(HpcestError) as error:
        Environment.from_conda_specification("x", tmp_path / "env.yml")
    assert message in error.value.message


def test_a_text_is_no_list_of_packages() -> None:
    packages: Any = "numpy"
    with pytest.raises(SpecError) as error:
        Environment("x", pip_packages=packages)
    assert error.value.hint == "write pip_packages=['numpy']"
    environment = Environment("x")
    environment.pip_packages = packages
    with pytest.raises(SpecError):
        environment.to_spec()


def test_azure_mls_sections_read_and_write_the_same_fields(tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text("FROM debian:12\n")
    environment = Environment("x", pip_packages=["a"])
    environment.python.conda_dependencies.add_conda_package("numpy=2")
    environment.python.conda_dependencies.add_channel("bioconda")
    environment.python.interpreter_path = "3.11"
    environment.docker.enabled = True
    environment.docker.base_image = "debian:12"
    assert environment.to_spec() == EnvironmentSpec(
        name="x", interpreter="3.11", pip=("a",), conda=("numpy=2",), channels=("bioconda",), image="debian:12"
    )
    environment.docker.base_image = None
    environment.docker.base_dockerfile = str(tmp_path / "Dockerfile")
    assert (environment.image, environment.docker.base_image) == (str(tmp_path / "Dockerfile"), None)
    environment.docker.base_dockerfile = "FROM debian:12\nRUN true\n"
    assert Path(environment.image).read_text() == "FROM debian:12\nRUN true\n"
    environment.python.conda_dependencies = CondaDependencies.create(pip_packages=["b"], python_version="3.12")
    assert (environment.pip_packages, environment.conda_packages, environment.channels) == (["b"], ["python=3.12"], [])
    environment.docker = DockerSection(base_image="ubuntu:24.04")
    environment.python.user_managed_dependencies = True
    assert environment.to_spec() == EnvironmentSpec(name="x", interpreter="3.11", image="ubuntu:24.04")
    environment.docker.base_image = ""
    environment.python.base_conda_environment = "lab"
    assert (environment.to_spec().prefix, environment.to_spec().kind) == ("lab", "auto")
    environment.python.base_conda_environment = None
    assert environment.to_spec().kind == "host"
    with pytest.raises(SpecError, match="DockerSection has no keyword 'base_imgae'") as error:
        environment.docker.base_imgae = "x"
    assert error.value.hint == "did you mean 'base_image'?"
    with pytest.warns(OffAzureWarning, match="shm_size"):
        environment.docker.shm_size = "2g"


def test_a_misspelt_attribute_is_refused() -> None:
    """It would silently change nothing; what is misspelt where it is made is refused in the same way."""
    environment: Any = Environment("x")
    with pytest.raises(SpecError, match="Environment has no keyword 'environment_varables'") as error:
        environment.environment_varables = {"A": "1"}
    assert error.value.hint == "did you mean 'environment_variables'?"
    made: Any = Environment
    with pytest.raises(SpecError, match="Environment has no keyword 'piip_packages'"):
        made("x", piip_packages=["six"])


def test_sections_may_be_made_before_their_environment() -> None:
    """Alone, or as keywords."""
    python = PythonSection(interpreter_path="3.11", base_conda_environment="lab")
    python.conda_dependencies.add_pip_package("six")
    python.conda_dependencies.add_channel("bioconda")
    environment = Environment("x", python=python, docker=DockerSection(base_image="tool:1", base_image_registry=ContainerRegistry("r.io")))
    expected = EnvironmentSpec(
        name="x", interpreter="3.11", pip=("six",), channels=("bioconda",), image="docker://r.io/tool:1", prefix="lab"
    )
    assert environment.to_spec() == expected
    python.conda_dependencies.add_pip_package("numpy")
    assert environment.to_spec() == expected
    environment.python = PythonSection(user_managed_dependencies=True)
    assert environment.to_spec() == EnvironmentSpec(name="x", image="docker://r.io/tool:1")


def test_what_docker_alone_is_told_reads_as_it_was_set() -> None:
    """Before that as Azure ML has it."""
    docker = Environment("x").docker
    assert (docker.enabled, docker.gpu_support, docker.shared_volumes, docker.shm_size) == (False, True, True, None)
    assert (list(docker.arguments), docker.build_context) == ([], None)
    environment = Environment("x", image="debian:12")
    with pytest.warns(OffAzureWarning, match="shm_size"):
        environment.docker.shm_size = "4g"
    assert (environment.docker.shm_size, environment.docker.enabled) == ("4g", True)


@pytest.mark.parametrize(
    ("image", "registry", "found"),
    [
        ("tool:1", ContainerRegistry("r.io"), "docker://r.io/tool:1"),
        ("docker://r.io/lab/tool:1", ContainerRegistry("https://r.io/"), "docker://r.io/lab/tool:1"),
        ("lab/tool", ContainerRegistry("r.io:5000", "me", "a b@/c"), "docker://me:a%20b%40%2Fc@r.io:5000/lab/tool"),
        ("docker://you:word@other.io/tool", ContainerRegistry("r.io", "me", "x"), "docker://you:word@other.io/tool"),
        ("oras://r.io/tool", ContainerRegistry("other.io", "me", "x"), "oras://r.io/tool"),
        ("tool:1", ContainerRegistry(None, "me", "x"), "tool:1"),
        ("", ContainerRegistry("r.io"), ""),
    ],
)
def test_an_image_is_where_its_registry_is(image: str, registry: ContainerRegistry, found: str) -> None:
    """With the login; what says by itself where it is stays there."""
    assert Environment.from_docker_image("x", image, container_registry=registry).to_spec().image == found


def test_a_login_is_kept_nowhere(workspace: Workspace, project: Path) -> None:
    """Not in the workspace, in a folder, in a record or in a text; a file of this machine is no image of a registry."""
    environment = Environment("x", image="lab/tool:1")
    environment.docker.base_image_registry.address = "r.io"
    environment.docker.base_image_registry.username = "me"
    environment.docker.base_image_registry.password = "s3cret"
    assert environment.to_spec().image == "docker://me:s3cret@r.io/lab/tool:1"
    environment.save_to_directory("kept")
    estimator = Estimator(".", entry_script="train.py", environment_definition=environment)
    recorded = without_secrets(estimator.to_spec("iris", workspace)).environment.image
    assert (environment.register(workspace).image, recorded) == ("docker://r.io/lab/tool:1",) * 2
    assert Environment.load_from_directory("kept").image == "docker://r.io/lab/tool:1"
    files = [path for path in [*workspace.root.rglob("*"), *Path("kept").iterdir()] if path.is_file()]
    assert not [path for path in files if b"s3cret" in path.read_bytes()]
    assert "s3cret" not in repr(environment.registry)
    (project / "tool.sif").touch()
    environment.image = "tool.sif"
    assert environment.to_spec().image == "tool.sif"
    with pytest.raises(SpecError, match=r"base_image_registry must be a ContainerRegistry, not 'r\.io'"):
        environment.docker.base_image_registry = "r.io"  # type: ignore[assignment]  # that is the point
    with pytest.raises(SpecError, match="ContainerRegistry has no keyword 'adress'"):
        setattr(environment.registry, "adress", "r.io")  # noqa: B010  # mypy would refuse the plain form


def test_what_is_kept_on_azure_is_refused_by_name(workspace: Workspace) -> None:
    """A build context, and the environments that Azure ML brings along; methods of its oldest SDKs."""
    with pytest.raises(SpecError, match="a build context is kept on Azure") as error:
        Environment.from_docker_build_context("x", object())
    assert "from_dockerfile" in error.value.hint
    with pytest.raises(UnknownNameError, match="'AzureML-Minimal' is not known") as curated:
        Environment.get(workspace, "AzureML-Minimal")
    assert curated.value.hint.startswith("Azure's own are not here; register one under that name")
    Environment("AzureML-Minimal", pip_packages=["six"]).register(workspace)
    assert Environment.get(workspace, "AzureML-Minimal").pip_packages == ["six"]
    dependencies: Any = CondaDependencies()
    with pytest.raises(AttributeError, match=r"no add_tensorflow_pip_package: use add_pip_package\('tensorflow'\)"):
        dependencies.add_tensorflow_pip_package()
    assert not hasattr(dependencies, "nonsense")


def test_images_with_packages_on_top(tmp_path: Path) -> None:
    (tmp_path / "env.yml").write_text("name: y\nchannels: [c]\ndependencies: [numpy]\n")
    (tmp_path / "r.txt").write_text("a\n")
    made = Environment.from_docker_image("x", "debian:12", conda_specification=tmp_path / "env.yml", pip_requirements=tmp_path / "r.txt")
    assert made.to_spec() == EnvironmentSpec(name="x", image="debian:12", conda=("numpy",), channels=("c",), pip=("a",))
    (tmp_path / "recipe").write_text("FROM debian:12\n")
    assert Environment.from_dockerfile("x", tmp_path / "recipe").image.endswith(".dockerfile")
    with pytest.raises(SpecError, match="there is no Dockerfile 'none'"):
        Environment.from_dockerfile("x", "none")
    assert Environment.from_existing_conda_environment("x", "lab").to_spec() == EnvironmentSpec("existing", "x", prefix="lab")


def test_registered_versions(workspace: Workspace) -> None:
    """The same content makes no new version, another one does, and every version stays as it was."""
    environment = Environment("lab", pip_packages=["a"], environment_variables={"A": 1})
    first = environment.register(workspace)
    assert (first.version, environment.version, environment.register(workspace).version) == (1, 1, 1)
    environment.pip_packages.append("b")
    assert environment.register(workspace).version == 2
    assert Environment.versions(workspace, "lab") == [1, 2]
    assert Environment.get(workspace, "lab", 1).to_spec() == first.to_spec()
    Environment.label(workspace, "lab", 1, ["prod"])
    found = [Environment.get(workspace, "lab"), Environment.get(workspace, "lab", label="prod"), Environment.get(workspace, "lab", "2")]
    assert [one.version for one in found] == [2, 1, 2]
    assert repr(Environment.list(workspace)) == "{'lab': Environment(name='lab', kind='auto', version=2)}"
    copied = found[0].clone("other")
    copied.pip_packages.append("c")
    assert (copied.name, copied.version, found[0].pip_packages) == ("other", None, ["a", "b"])
    (workspace.folder.environments / "registered/lab/2.json").write_text("{")
    with pytest.raises(HpcestError, match="can't be read"):
        Environment.get(workspace, "lab")
    assert environment.register(workspace).version == 3


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"name": "host"}, "'host' is a kind of environment, so none can be registered under it"),
        ({"name": "a:1"}, "'a:1' can't be the name of an environment"),
        ({"name": "../x"}, "'../x' can't be the name of an environment"),
        ({"name": "x", "pip_packages": ["a @ https://u:pass-word@h/a.whl"]}, "with a password in 'a @ https://h/a.whl'"),
        ({"name": "x", "image": "docker://u:${PASSWORD}@h/a"}, "with a password in 'docker://h/a'"),  # images take no variables
        ({"name": "x", "environment_variables": {"API_TOKEN": "x"}}, "the variable API_TOKEN of the environment looks like a secret"),
    ],
)
def test_what_can_not_be_registered(given: dict[str, Any], message: str, workspace: Workspace) -> None:
    with pytest.raises(SpecError, match=re.escape(message)) as error:
        Environment(**given).register(workspace)
    assert error.value.hint
    assert Environment.list(workspace) == {}


def test_many_register_at_once(workspace: Workspace) -> None:
    """Each content gets one version, and none is lost."""
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda n: Environment("x", pip_packages=[f"p{n}"]).register(workspace), range(16)))
    assert sorted(one.version or 0 for one in made) == [*range(1, 17)]
    kept = {(*Environment.get(workspace, "x", number).pip_packages,) for number in range(1, 17)}
    assert kept == {(f"p{n}",) for n in range(16)}


def test_a_directory_and_back(tmp_path: Path) -> None:
    environment = Environment("x", kind="apptainer", pip_packages=["a"], conda_packages=["b"], channels=["c"], layout="single")
    environment.save_to_directory(tmp_path / "saved")
    assert (tmp_path / "saved/conda_dependencies.yml").read_text() == "channels:\n- c\ndependencies:\n- b\n- pip:\n  - a\n"
    assert Environment.load_from_directory(tmp_path / "saved").to_spec() == environment.to_spec()
    with pytest.raises(SpecError, match="is there already"):
        environment.save_to_directory(tmp_path / "saved")
    environment.save_to_directory(tmp_path / "saved", overwrite=True)
    azure = {"name": "az", "version": "7", "python": {"interpreterPath": "python"}, "docker": {"baseImage": "mcr/x"}}
    (tmp_path / "saved/azureml_environment.json").write_text(json.dumps(azure))
    assert Environment.load_from_directory(tmp_path / "saved").to_spec() == EnvironmentSpec(
        name="az", image="mcr/x", pip=("a",), conda=("b",), channels=("c",)
    )
    own = "mcr.microsoft.com/azureml/base:1"
    for docker, image in (
        ({"baseImage": own, "enabled": False}, ""),
        ({"baseImage": own, "enabled": True}, own),
        ({"baseImage": "x", "baseImageRegistry": {"address": "r.io", "username": None}}, "docker://r.io/x"),
    ):
        (tmp_path / "saved/azureml_environment.json").write_text(json.dumps({**azure, "docker": docker}))
        assert Environment.load_from_directory(tmp_path / "saved").to_spec().image == image


def test_build(workspace: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    details = Environment("x", kind="venv").build(workspace)
    assert (details.status, details.kind, details.wait_for_completion() is details) == ("Succeeded", "venv", True)
    assert "ready in" in details.get_log()
    assert "ready in" in capsys.readouterr().err
    assert Environment("y", kind="venv").build(workspace, show_output=False).key == details.key
    assert capsys.readouterr().err == ""


def test_what_there_is_of_an_image(workspace: Workspace, apptainer: Apptainer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before it is built, built by a job of a compute target, and by this process."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    asked = EnvironmentSpec("apptainer", image=str(apptainer.debian), steps=("echo hello > /opt/hpcest/env/word",))
    environment = Environment.from_spec(asked)
    before = environment.get_image_details(workspace)
    built = environment.build(workspace, image_build_compute="local", show_output=False)
    after = environment.get_image_details(workspace)

    assert (before.image_exist, before["key"], before.image) == (False, built.key, "")
    assert (after.image_exist, after.interpreter_path, after.environment_path) == (True, "/opt/hpcest/env/bin/python", "/opt/hpcest/env")
    assert (Path(after.image) / "manifest.json").is_file()
    assert environment.build_local(workspace, show_output=False).key == built.key
    assert (after.registry, after["repository"], after.dockerfile) == ("", "", "")
    with pytest.raises(AttributeError, match="no 'digest', but image_exist, kind, key"):
        after.digest  # noqa: B018  # to look is what raises


def test_wheels_of_ones_own(workspace: Workspace, tmp_path: Path) -> None:
    wheel = tmp_path / "my_tool-1.0-py3-none-any.whl"
    wheel.write_bytes(b"PK")
    line = Environment.add_private_pip_wheel(workspace, wheel)

    assert line == f"my-tool @ {(workspace.folder.environments / 'wheels' / wheel.name).as_uri()}"
    assert Environment.add_private_pip_wheel(workspace, wheel, exist_ok=True) == line
    with pytest.raises(SpecError, match="is in the workspace already"):
        Environment.add_private_pip_wheel(workspace, wheel)
    with pytest.raises(SpecError, match="is no wheel"):
        Environment.add_private_pip_wheel(workspace, tmp_path / "tool.zip")
    with pytest.raises(SpecError, match=r"there is no wheel '.*/other-1\.0-py3-none-any\.whl'"):
        Environment.add_private_pip_wheel(workspace, tmp_path / "other-1.0-py3-none-any.whl")


def test_conda_dependencies(tmp_path: Path) -> None:
    """Azure ML's methods, as they are spelt there."""
    made = CondaDependencies.create(pip_packages=["Scikit_Learn==1.5"], conda_packages=["numpy=2"], python_version="3.10", pip_indexurl="u")
    made.add_pip_package("pandas")
    made.add_pip_package("pandas")
    made.set_pip_option("--pre")
    made.set_pip_index_url("v")
    made.add_conda_package("conda-forge::zlib")
    made.add_channel("conda-forge")
    made.set_python_version("3.11")
    assert made.as_dict() == {
        "channels": ["conda-forge"],
        "dependencies": ["python=3.11", "numpy=2", "conda-forge::zlib",
                         {"pip": ["--index-url v", "Scikit_Learn==1.5", "pandas", "--pre"]}],
    }  # fmt: skip
    assert (made.get_python_version(), made.pip_options, made.pip_packages[1]) == ("3.11", ["--index-url v", "--pre"], "pandas")
    assert CondaDependencies(made.save(tmp_path / "c.yml")) == made
    made.remove_pip_package("scikit-learn")
    made.remove_conda_package("zlib")
    made.remove_conda_package("nothing")
    made.remove_channel("conda-forge")
    made.remove_pip_option("--index-url")
    assert made.save_to_file(tmp_path, "d.yml") == "d.yml"
    assert (tmp_path / "d.yml").read_text() == "dependencies:\n- python=3.11\n- numpy=2\n- pip:\n  - pandas\n  - --pre\n"
    made.set_pip_requirements(["x"])
    assert (made.pip_packages, made.conda_channels, made.conda_packages) == (["x"], [], ["python=3.11", "numpy=2"])
    assert CondaDependencies.merge_requirements(["a>=1", "b", "A<2", "a>=1", "./c"]) == ["a<2,>=1", "b", "./c"]
    with pytest.raises(SpecError, match="'pre' is no option of pip"):
        made.set_pip_option("pre")


def test_a_run_in_an_image_of_a_private_registry(
    workspace: Workspace, project: Path, apptainer: Apptainer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is fetched with the login, of which the workspace keeps nothing."""
    monkeypatch.setenv("APPTAINER_NOHTTPS", "1")
    with serving("me:a p@ssw0rd") as private:
        private.tag("lab/tiny", "1", apptainer.oci_layout(tmp_path / "layout", GREETING="hello"))
        environment = Environment.from_docker_image("x", "lab/tiny:1", ContainerRegistry(private.address, "me", "a p@ssw0rd"))
        estimator = Estimator(".", command="echo $GREETING", compute_target="local", environment_definition=environment)
        run = Experiment(workspace, "iris").submit(estimator, say=lambda line: None)
        run.wait_for_completion()
    log = run.get_details_with_logs()["logFiles"]["user_logs/std_log.txt"]
    assert log == "hello\n"
    files = [path for path in workspace.root.rglob("*") if path.is_file() and not path.is_symlink()]
    assert not [path for path in files if b"p@ssw0rd" in path.read_bytes() or b"p%40ssw0rd" in path.read_bytes()]
