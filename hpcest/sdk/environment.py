"""A named description of what a program needs around it."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from hpcest.errors import SpecError, UnknownNameError
from hpcest.kit.codec import decode, encode
from hpcest.model.spec import EnvironmentSpec
from hpcest.sdk import azure
from hpcest.sdk.requirements import of_conda_file, read_requirements
from hpcest.sdk.sections import (
    ContainerRegistry,
    DockerSection,
    PythonSection,
    WithoutEffect,
    checked_registry,
    dockerfile_of,
    is_azures,
    located,
)

if TYPE_CHECKING:
    from hpcest.sdk.builds import ImageBuildDetails, ImageDetails
    from hpcest.sdk.workspace import Workspace

FILE_NAME = "azureml_environment.json"
#: Fields of a spec that go by another name here, as on an estimator.
_CALLED = {"pip": "pip_packages", "conda": "conda_packages", "variables": "environment_variables"}


class Environment(WithoutEffect):
    """What a run's program needs; give it to an estimator as ``environment_definition``.

    ``kind`` names an environment plugin or is ``auto``; ``pip_packages`` are requirement lines, ``conda_packages``
    conda specifications from ``channels``, ``interpreter`` a Python version or path, ``image`` an image to build on or
    run in, ``system`` shell lines that root runs in it, ``steps`` those that run when the packages are there, ``prefix``
    an environment that exists, ``modules`` what ``module load`` gets, ``layout`` how an image is stored,
    ``environment_variables`` are set for the program. All may be changed until a run is submitted; a misspelt attribute is
    refused with the nearest. ``python`` and ``docker`` are the same fields in Azure ML's spelling, and may be given as
    ``python=PythonSection(…)``. ``registry`` is where ``image`` is. ``version`` is None until it is registered.
    """

    name: str
    version: int | None
    kind: str
    interpreter: str
    pip_packages: list[str]
    conda_packages: list[str]
    channels: list[str]
    image: str
    registry: ContainerRegistry
    system: list[str]
    steps: list[str]
    prefix: str
    modules: list[str]
    layout: str
    environment_variables: dict[str, Any]
    #: Whether the Python that is there is used, and nothing installed.
    user_managed: bool

    def __init__(  # all by keyword, as attributes have
        self,
        name: str,
        *,
        kind: str = "auto",
        interpreter: str = "",
        pip_packages: Sequence[str] = (),
        conda_packages: Sequence[str] = (),
        channels: Sequence[str] = (),
        image: str = "",
        system: Sequence[str] = (),
        steps: Sequence[str] = (),
        prefix: str = "",
        modules: Sequence[str] = (),
        layout: str = "",
        environment_variables: Mapping[str, object] | None = None,
        **sections: Any,
    ) -> None:
        self.name, self.kind, self.interpreter, self.image = name, kind, interpreter, image
        self.prefix, self.layout = prefix, layout
        self.pip_packages = list(lines("pip_packages", pip_packages))
        self.conda_packages = list(lines("conda_packages", conda_packages))
        self.channels = list(lines("channels", channels))
        self.system, self.steps = list(lines("system", system)), list(lines("steps", steps))
        self.modules = list(lines("modules", modules))
        self.environment_variables = dict(environment_variables or {})
        self.user_managed, self.version, self.registry = False, None, ContainerRegistry()
        for section, value in sections.items():
            setattr(self, section, value)

    def __setattr__(self, name: str, value: Any) -> None:
        """A misspelt attribute would silently change nothing: refuse it."""
        known = [*Environment.__annotations__, "python", "docker"]
        if name not in known and not isinstance(getattr(type(self), name, None), property):
            raise azure.unknown_keyword(type(self).__name__, name, known)
        object.__setattr__(self, name, value)

    @property
    def python(self) -> PythonSection:
        """Packages and interpreter, as Azure ML spells them."""
        return PythonSection(self)

    @python.setter
    def python(self, section: PythonSection) -> None:
        section.give(self)

    @property
    def docker(self) -> DockerSection:
        """The image, as Azure ML spells it."""
        return DockerSection(self)

    @docker.setter
    def docker(self, section: DockerSection) -> None:
        section.give(self)

    # ------------------------------------------------------------------ from what there is
    @classmethod
    def from_pip_requirements(cls, name: str, file_path: str | Path, pip_version: str | None = None) -> Environment:
        """An environment with the packages of a requirements file. ``pip_version`` is Azure's and has no effect. Raises SpecError."""
        return cls(name, pip_packages=read_requirements(Path(file_path)))

    @classmethod
    def from_conda_specification(cls, name: str, file_path: str | Path) -> Environment:
        """An environment with what a conda YAML asks for: channels, packages, variables. Raises ConfigError, SpecError."""
        return cls._called(name, of_conda_file(Path(file_path)))

    @classmethod
    def from_existing_conda_environment(cls, name: str, conda_environment_name: str) -> Environment:
        """The user's conda environment (by its name or path), used as it is; it must be there on the compute target too."""
        return cls(name, kind="existing", prefix=conda_environment_name)

    @classmethod
    def from_docker_image(
        cls,
        name: str,
        image: str,
        container_registry: ContainerRegistry | None = None,
        conda_specification: str | Path | None = None,
        pip_requirements: str | Path | None = None,
    ) -> Environment:
        """An environment that is an image, as it is or with the packages of a conda YAML or a requirements file on top.

        ``image`` is a file or a reference (docker://, oras://, …); a ``container_registry`` says where it is and how to log in.
        Raises ConfigError, SpecError.
        """
        made = cls._with_packages(name, image, conda_specification, pip_requirements)
        made.registry = checked_registry("container_registry", container_registry)
        return made

    @classmethod
    def from_dockerfile(
        cls,
        name: str,
        dockerfile: str | Path,
        conda_specification: str | Path | None = None,
        pip_requirements: str | Path | None = None,
    ) -> Environment:
        """An environment whose image is built by a Dockerfile: its path, or its text. Packages go on top. Raises SpecError."""
        return cls._with_packages(name, dockerfile_of(dockerfile), conda_specification, pip_requirements)

    @staticmethod
    def from_docker_build_context(name: str, docker_build_context: Any) -> NoReturn:
        """Refused: files that a Dockerfile copies lie on this machine, beside it. Raises SpecError."""
        raise SpecError(
            "a build context is kept on Azure",
            hint="name the Dockerfile, which copies files of its own folder: Environment.from_dockerfile('name', 'Dockerfile')",
        )

    @classmethod
    def _with_packages(cls, name: str, image: str, conda: str | Path | None, pip: str | Path | None) -> Environment:
        spec = EnvironmentSpec(image=image)
        if conda is not None:
            spec = spec.merged(of_conda_file(Path(conda)))
        if pip is not None:
            spec = spec.merged(EnvironmentSpec(pip=tuple(read_requirements(Path(pip)))))
        return cls._called(name, spec)

    @classmethod
    def from_spec(cls, spec: EnvironmentSpec) -> Environment:
        """The environment that a recorded run asked for."""
        return cls._called(spec.name, spec)

    @classmethod
    def _called(cls, name: str, spec: EnvironmentSpec) -> Environment:
        names = [field.name for field in fields(spec) if field.name != "name"]
        return cls(name, **{_CALLED.get(one, one): getattr(spec, one) for one in names})

    def clone(self, new_name: str) -> Environment:
        """A copy under another name, with lists of its own, that is not registered."""
        made = copy.deepcopy(self)
        made.name, made.version = new_name, None
        return made

    def to_spec(self) -> EnvironmentSpec:
        """The environment spec as it is now, with the login of its registry. Raises SpecError."""
        return replace(self._recorded(), image=located(self.image, self.registry))

    def _recorded(self) -> EnvironmentSpec:
        """The same without that login, as it may be kept. Raises SpecError."""
        found: dict[str, Any] = {}
        for field in fields(EnvironmentSpec):
            name = _CALLED.get(field.name, field.name)
            value = getattr(self, name)
            found[field.name] = lines(name, value) if isinstance(field.default, tuple) else value
        found["image"] = located(self.image, ContainerRegistry(self.registry.address))
        found["variables"] = {str(key): str(value) for key, value in self.environment_variables.items()}
        if self.user_managed:  # what is there is used, and nothing installed
            found["pip"] = found["conda"] = ()
            if self.kind == "auto" and not (self.image or self.prefix or self.modules):
                found["kind"] = "host"
        return EnvironmentSpec(**found)

    # ------------------------------------------------------------------ in a workspace
    def register(self, workspace: Workspace) -> Environment:
        """Keep it in the workspace as the next version of its name, and return that; equal content gives no new version.

        Raises SpecError for a name that can't be used and for passwords, HpcestError.
        """
        from hpcest.sdk import registered

        if self.name in (*workspace.context.plugins.names("environment"), "auto"):
            raise SpecError(f"{self.name!r} is a kind of environment, so none can be registered under it", hint="choose another name")
        kept = registered.register(workspace.folder, self.name, self._recorded())
        self.version = kept.version
        return self._registered(kept.name, kept.spec, kept.version)

    @classmethod
    def get(cls, workspace: Workspace, name: str, version: int | str | None = None, label: str | None = None) -> Environment:
        """A registered environment: the latest, or the ``version``, or the one with the ``label``. Raises UnknownNameError."""
        from hpcest.sdk import registered

        known = registered.names(workspace.folder)
        if str(name).lower().startswith("azureml-") and name not in known:
            hint = f"Azure's own are not here; register one under that name: Environment({name!r}, pip_packages=[…]).register(workspace)"
            raise UnknownNameError("registered environment", name, known, hint=hint)
        found = registered.read(workspace.folder, name, version if version is not None else label)
        return cls._registered(found.name, found.spec, found.version)

    @classmethod
    def _registered(cls, name: str, spec: EnvironmentSpec, version: int) -> Environment:
        made = cls._called(name, spec)
        made.version = version
        return made

    @classmethod
    def list(cls, workspace: Workspace) -> dict[str, Environment]:
        """The latest version of each registered environment, by name."""
        from hpcest.sdk import registered

        return {name: cls.get(workspace, name) for name in registered.names(workspace.folder)}

    @staticmethod
    def versions(workspace: Workspace, name: str) -> Sequence[int]:
        """The versions of a registered environment, lowest first. Raises UnknownNameError."""
        from hpcest.sdk import registered

        registered.read(workspace.folder, name)
        return registered.versions(workspace.folder, name)

    @staticmethod
    def label(workspace: Workspace, name: str, version: int | str, labels: Iterable[str]) -> None:
        """Put labels on a version; a label is on one version at a time. Raises UnknownNameError, SpecError."""
        from hpcest.sdk import registered

        registered.label(workspace.folder, name, version, [*lines("labels", tuple(labels))])

    def build(self, workspace: Workspace, image_build_compute: Any = None, show_output: bool = True) -> ImageBuildDetails:
        """Have it built in the workspace, if it is not there yet, and wait for that; progress goes to stderr.

        ``image_build_compute`` is the compute target (or its name) whose job builds it; without it the configuration says.
        Raises SpecError, EnvironmentBuildError, UnknownNameError.
        """
        from hpcest.sdk.builds import build

        target = getattr(image_build_compute, "name", image_build_compute) or ""
        return build(workspace, self.to_spec(), show_output=show_output, on=str(target))

    def build_local(self, workspace: Workspace, platform: Any = None, show_output: bool = True, **off_azure: Any) -> ImageBuildDetails:
        """Have it built by this process, whatever the configuration says. ``platform`` and Docker's options have no effect here.

        Raises SpecError, EnvironmentBuildError.
        """
        from hpcest.sdk.builds import build

        azure.warn_ignored(
            "Environment.build_local", {"platform": platform, **off_azure}, dict.fromkeys(("platform", *off_azure), _NO_DOCKER)
        )
        return build(workspace, self.to_spec(), show_output=show_output, on="here")

    def get_image_details(self, workspace: Workspace) -> ImageDetails:
        """What the workspace, or a site's store, has of it. Its versions are chosen if they never were.

        No image is built for that; a kind without images can only say what is there when it is there.

        Raises SpecError, EnvironmentBuildError.
        """
        from hpcest.sdk.builds import details

        return details(workspace, self.to_spec())

    @staticmethod
    def add_private_pip_wheel(workspace: Workspace, file_path: str | Path, exist_ok: bool = False) -> str:
        """Keep a wheel in the workspace; returns the requirement line that installs it, for ``add_pip_package``.

        Raises SpecError for what is no wheel, and for one that is there already, without ``exist_ok``.
        """
        from hpcest.sdk.builds import keep_wheel

        return keep_wheel(workspace, Path(file_path), exist_ok=exist_ok)

    # ------------------------------------------------------------------ in a directory
    def save_to_directory(self, path: str | Path, overwrite: bool = False) -> None:
        """Write azureml_environment.json and conda_dependencies.yml into a directory, which is made. Raises SpecError."""
        from hpcest.kit.files import write_json

        folder, spec = Path(path), encode(self._recorded())
        if (folder / FILE_NAME).exists() and not overwrite:
            raise SpecError(f"{folder / FILE_NAME} is there already", hint="give overwrite=True to replace it")
        python = {"userManagedDependencies": self.user_managed, "interpreterPath": self.interpreter or "python"}
        others = {"environmentVariables": spec.get("variables", {}), "python": python, "docker": {"baseImage": spec.get("image")}}
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self.python.conda_dependencies.save_to_file(folder)
            write_json(folder / FILE_NAME, {"name": self.name, "version": self.version, **others, "hpcest": spec})
        except OSError as error:
            raise SpecError(f"the environment {self.name!r} can't be saved in {folder}: {error.strerror or error}") from error

    @classmethod
    def load_from_directory(cls, path: str | Path) -> Environment:
        """The environment that was saved in a directory, by hpcest or by Azure ML's SDK. Raises SpecError.

        Azure ML's own image, which that SDK writes there unasked, counts only with Docker ``enabled``.
        """
        from hpcest.sdk.dependencies import FILE_NAME as CONDA
        from hpcest.sdk.dependencies import CondaDependencies

        file = Path(path) / FILE_NAME
        try:
            data = json.loads(file.read_text(encoding="utf-8"))
            name, python, docker = str(data["name"]), data.get("python") or {}, data.get("docker") or {}
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise SpecError(f"no environment can be read from {file}: {error}", hint="save_to_directory writes one") from error
        if "hpcest" in data:
            made = cls._called(name, decode(EnvironmentSpec, data["hpcest"]))
        else:
            image = "" if is_azures(docker.get("baseImage")) and not docker.get("enabled") else docker.get("baseImage") or ""
            image = image or (dockerfile_of(docker["baseDockerfile"]) if docker.get("baseDockerfile") else "")
            made = cls(name, image=image, environment_variables=data.get("environmentVariables"))
            made.python.interpreter_path = python.get("interpreterPath") or ""
            registry = docker.get("baseImageRegistry") or {}
            made.registry = ContainerRegistry(*(registry.get(key) for key in ("address", "username", "password")))
        if (Path(path) / CONDA).exists():
            made.python.conda_dependencies = CondaDependencies(Path(path) / CONDA)
        made.user_managed = bool(python.get("userManagedDependencies"))
        return made

    def __repr__(self) -> str:
        version = f", version={self.version}" if self.version is not None else ""
        return f"Environment(name={self.name!r}, kind={self.kind!r}{version})"


_NO_DOCKER = "environments are built without Docker"


def lines(name: str, given: Sequence[str] | None) -> tuple[str, ...]:
    """A list of packages as it is now. Raises SpecError for a single text, whose letters would count as packages."""
    if isinstance(given, (str, bytes, Mapping)):
        raise SpecError(
            f"{name} must be a list of texts, not {given!r}", hint=f"write {name}=[{given!r}]" if isinstance(given, str) else ""
        )
    return tuple(str(line) for line in given or ())
