"""``environment.python`` and ``environment.docker``: the fields of an Environment in Azure ML's spelling."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar
from urllib.parse import quote

from hpcest.errors import SpecError
from hpcest.sdk import azure
from hpcest.sdk.dependencies import CondaDependencies

if TYPE_CHECKING:
    from hpcest.sdk.environment import Environment

#: What the docker section has for Azure ML's sake, as it is there by default → what to do instead.
_DOCKER: dict[str, tuple[Any, str]] = {
    "enabled": (False, "a kind of environment decides whether there is a container"),
    "gpu_support": (True, "GPUs are there where a run asks for them"),
    "shared_volumes": (True, "environment: {binds: […]} in the configuration says what containers see"),
    "arguments": ([], "environment: {binds: […]} in the configuration says what containers see"),
    "shm_size": (None, "a program here uses the machine's own /dev/shm"),
    "build_context": (None, "give a Dockerfile"),
    "platform": (None, "an image is built for the machine that builds it"),
}


class PythonSection:
    """Packages and interpreter; it reads and writes the fields of its environment, or stands alone until it is given to one."""

    def __init__(self, environment: Environment | None = None, **given: Any) -> None:
        self.__dict__["_environment"] = environment or _Alone()
        for name, value in given.items():
            setattr(self, name, value)

    def __setattr__(self, name: str, value: Any) -> None:
        """A misspelt attribute would silently change nothing: refuse it."""
        _set(self, name, value, {})

    @property
    def conda_dependencies(self) -> CondaDependencies:
        """The packages; changing them changes the environment."""
        owner = self.__dict__["_environment"]
        return CondaDependencies.over(owner.pip_packages, owner.conda_packages, owner.channels)

    @conda_dependencies.setter
    def conda_dependencies(self, given: CondaDependencies) -> None:
        owner = self.__dict__["_environment"]
        if not isinstance(given, CondaDependencies):
            raise SpecError(f"conda_dependencies must be CondaDependencies, not {given!r}", hint="make them: CondaDependencies.create(…)")
        owner.pip_packages = [*given.pip_options, *given.pip_packages]
        owner.conda_packages, owner.channels = given.conda_packages, given.conda_channels

    @property
    def user_managed_dependencies(self) -> bool:
        """Whether the Python that is there is used, and nothing installed."""
        return bool(self.__dict__["_environment"].user_managed)

    @user_managed_dependencies.setter
    def user_managed_dependencies(self, given: bool) -> None:
        self.__dict__["_environment"].user_managed = bool(given)

    @property
    def interpreter_path(self) -> str:
        """The Python to use; Azure's ``python`` stands for the one that is there."""
        return self.__dict__["_environment"].interpreter or "python"

    @interpreter_path.setter
    def interpreter_path(self, given: str | None) -> None:
        self.__dict__["_environment"].interpreter = "" if given in (None, "python") else str(given)

    @property
    def base_conda_environment(self) -> str | None:
        """The name or path of an environment that exists, to be used as it is."""
        return self.__dict__["_environment"].prefix or None

    @base_conda_environment.setter
    def base_conda_environment(self, given: str | None) -> None:
        self.__dict__["_environment"].prefix = given or ""

    def give(self, owner: Environment) -> None:
        """Have ``owner`` be as this says."""
        other = PythonSection(owner)
        for name in ("conda_dependencies", "user_managed_dependencies", "interpreter_path", "base_conda_environment"):
            setattr(other, name, getattr(self, name))


class DockerSection:
    """The image; it reads and writes the field of its environment, or stands alone: ``DockerSection(base_image='…')``.

    What Azure ML's has beside ``base_image``, ``base_dockerfile`` and ``base_image_registry`` is accepted with a warning.
    """

    enabled: bool
    gpu_support: bool
    shared_volumes: bool
    arguments: list[str]
    shm_size: str | None
    build_context: Any
    platform: Any

    def __init__(self, environment: Environment | None = None, **given: Any) -> None:
        self.__dict__["_environment"] = environment or _Alone()
        for name, value in given.items():
            setattr(self, name, value)

    def __setattr__(self, name: str, value: Any) -> None:
        """Accept Azure's with a warning; a misspelt attribute would silently change nothing: refuse it."""
        _set(self, name, value, _DOCKER)

    def __getattr__(self, name: str) -> Any:
        if name not in _DOCKER:
            raise AttributeError(f"DockerSection has no attribute {name!r}")
        owner, default = self.__dict__["_environment"], _DOCKER[name][0]
        if name == "enabled":
            default = bool(owner.image)
        value = owner.__dict__.get("_docker", {}).get(name, default)
        return _Told(value) if name == "arguments" else value

    @property
    def base_image(self) -> str | None:
        """The image: a file, or a reference such as ``docker://debian:12``."""
        image = self.__dict__["_environment"].image
        return image if image and not is_dockerfile(image) else None

    @base_image.setter
    def base_image(self, given: str | None) -> None:
        if given is None and self.base_dockerfile:
            return  # programs set the other of the two to None
        self.__dict__["_environment"].image = given or ""

    @property
    def base_dockerfile(self) -> str | None:
        """The path of the Dockerfile that makes the image; its text may be given instead."""
        image = self.__dict__["_environment"].image
        return image if image and is_dockerfile(image) else None

    @base_dockerfile.setter
    def base_dockerfile(self, given: str | Path | None) -> None:
        if given is not None:
            self.__dict__["_environment"].image = dockerfile_of(given)
        elif self.base_dockerfile:
            self.__dict__["_environment"].image = ""

    @property
    def base_image_registry(self) -> ContainerRegistry:
        """The registry of the base image; its fields may be set."""
        registry: ContainerRegistry = self.__dict__["_environment"].registry
        return registry

    @base_image_registry.setter
    def base_image_registry(self, given: ContainerRegistry | None) -> None:
        self.__dict__["_environment"].registry = checked_registry("base_image_registry", given)

    def give(self, owner: Environment) -> None:
        """Have ``owner`` be as this says."""
        owner.image, owner.registry = self.__dict__["_environment"].image, self.base_image_registry


class _Alone:
    """What a section reads and writes that belongs to no environment yet."""

    def __init__(self) -> None:
        self.image, self.interpreter, self.prefix, self.user_managed = "", "", "", False
        self.pip_packages: list[str] = []
        self.conda_packages: list[str] = []
        self.channels: list[str] = []
        self.registry = ContainerRegistry()


class _Told(list[str]):
    """Docker's arguments, which have no effect here: more of them are told as the first ones were."""

    def append(self, item: str) -> None:
        """Tell it."""
        self.extend([item])

    def extend(self, items: Iterable[str]) -> None:
        """Tell them."""
        azure.warn("DockerSection", {f"arguments {' '.join(map(str, items))}": _DOCKER["arguments"][1]})


def _without_effect(name: str, why: str, *, is_section: bool = True) -> Any:
    """A property for what is taken and has no effect; whatever is set, it or one of its fields, is told."""

    def told(owner: WithoutEffect) -> CloudSettings | None:
        return CloudSettings(owner._SHOWN_AS, name, why) if is_section else None

    def tell(owner: WithoutEffect, value: Any) -> None:
        if value is not None:
            azure.warn(owner._SHOWN_AS, {name: why})

    return property(told, tell, doc=f"Azure's, without effect here: {why}.")


class WithoutEffect:
    """What an environment has for Azure ML's sake."""

    #: What messages call it.
    _SHOWN_AS: ClassVar[str] = "Environment"

    spark = _without_effect("spark", "start Spark in the script")
    r = _without_effect("r", "list R's packages as conda packages, such as r-base")
    databricks = _without_effect("databricks", "list packages as pip or conda packages")
    inferencing_stack_version = _without_effect("inferencing_stack_version", "hpcest does not deploy models", is_section=False)


class CloudSettings:
    """A section that only a cloud can do something with: it has whatever is asked for, and each change is told."""

    def __init__(self, where: str, section: str, why: str) -> None:
        self.__dict__.update(_where=where, _section=section, _why=why)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return {} if name == "configuration" else None

    def __setattr__(self, name: str, value: Any) -> None:
        """Tell it."""
        azure.warn(self.__dict__["_where"], {f"{self.__dict__['_section']}.{name}": self.__dict__["_why"]})


@dataclass
class ContainerRegistry:
    """A registry of images: the host (``address``), and a login where it needs one.

    The login is used when the image is fetched, and is kept nowhere: whoever gets the environment from a record, a file or the
    workspace logs in by ``apptainer registry login``. ``registry_identity`` is Azure's and has no effect.
    """

    address: str | None = None
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    registry_identity: Any = None

    def __setattr__(self, name: str, value: Any) -> None:
        """A misspelt attribute would silently change nothing: refuse it."""
        if name not in ContainerRegistry.__dataclass_fields__:
            raise azure.unknown_keyword("ContainerRegistry", name, ContainerRegistry.__dataclass_fields__)
        self.__dict__[name] = value


def checked_registry(name: str, given: Any) -> ContainerRegistry:
    """``given``, or one without an address for None. Raises SpecError."""
    if given is not None and not isinstance(given, ContainerRegistry):
        raise SpecError(
            f"{name} must be a ContainerRegistry, not {given!r}", hint="make one: ContainerRegistry(address, username, password)"
        )
    return given or ContainerRegistry()


def located(image: str, registry: ContainerRegistry | None) -> str:
    """``image`` as its ``registry`` has it, with the login; a file, or an image of another kind, is what it is. Raises SpecError."""
    given = checked_registry("the registry", registry)
    scheme, mark, name = image.rpartition("://")
    host = str(given.address or "").rpartition("://")[2].strip("/")
    if not host or not image or scheme not in ("", "docker") or "@" in name.partition("/")[0]:
        return image
    if not mark and (is_dockerfile(image) or Path(image).exists()):
        return image
    login = f"{quote(given.username, safe='')}:{quote(given.password, safe='')}@" if given.username and given.password else ""
    return f"docker://{login}{host}/{name.removeprefix(f'{host}/')}"


def _set(section: Any, name: str, value: Any, ignored: Mapping[str, tuple[Any, str]]) -> None:
    if name in ignored:
        default, why = ignored[name]
        if value not in (None, False, default) and not (name == "enabled" and value is True):
            azure.warn(type(section).__name__, {name: why})
        section.__dict__["_environment"].__dict__.setdefault("_docker", {})[name] = value
        return
    known = [one for one in dir(type(section)) if not one.startswith("_") and isinstance(getattr(type(section), one), property)]
    if name not in known:
        raise azure.unknown_keyword(type(section).__name__, name, [*known, *ignored])
    object.__setattr__(section, name, value)


def is_azures(image: object) -> bool:
    """Whether an image is Azure ML's own, which stands in all that its SDK writes, also where nothing is to run in a container."""
    return str(image or "").startswith("mcr.microsoft.com/azureml/")


def is_dockerfile(image: str) -> bool:
    """Whether an image is named by its Dockerfile."""
    name = Path(image).name.lower()
    return "://" not in image and (name.startswith("dockerfile") or name.endswith(".dockerfile"))


def dockerfile_of(given: str | Path) -> str:
    """The path of a Dockerfile that is given as a path, or as its text. Raises SpecError.

    A text is kept in the user's cache folder, under the digest of what it says.
    """
    from hpcest.kit.files import write_text
    from hpcest.kit.userdirs import user_folder

    text = str(given)
    if "\n" not in text and not text.lstrip().upper().startswith("FROM "):
        path = Path(text).expanduser().absolute()
        if not path.is_file():
            raise SpecError(f"there is no Dockerfile {text!r}", hint="give its path, or its text, which begins with FROM")
        if not is_dockerfile(str(path)):
            text = path.read_text(encoding="utf-8")  # under another name nobody would know it for one
        else:
            return str(path)
    import os

    folder = user_folder("XDG_CACHE_HOME", os.environ) / "dockerfiles"
    path = folder / f"{hashlib.sha256(text.encode()).hexdigest()[:32]}.dockerfile"
    folder.mkdir(parents=True, exist_ok=True)
    write_text(path, text)
    return str(path)
