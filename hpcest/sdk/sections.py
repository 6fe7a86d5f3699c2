"""``environment.python`` and ``environment.docker``: the fields of an Environment in Azure ML's spelling."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hpcest.errors import SpecError
from hpcest.sdk import azure
from hpcest.sdk.dependencies import CondaDependencies

if TYPE_CHECKING:
    from hpcest.sdk.environment import Environment

#: What sections have for Azure ML's sake → what to do instead.
_DOCKER = {
    "enabled": "a kind of environment decides whether there is a container",
    "gpu_support": "GPUs are there where a run asks for them",
    "shared_volumes": "environment: {binds: […]} in the configuration says what containers see",
    "arguments": "environment: {binds: […]} in the configuration says what containers see",
    "shm_size": "a program here uses the machine's own /dev/shm",
    "build_context": "give a Dockerfile",
    "base_image_registry": "log in first: apptainer registry login --username NAME docker://REGISTRY",
    "platform": "an image is built for the machine that builds it",
}


class PythonSection:
    """Packages and interpreter; it reads and writes the fields of its environment."""

    def __init__(self, environment: Environment) -> None:
        self.__dict__["_environment"] = environment

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


class DockerSection:
    """The image; it reads and writes the field of its environment, or stands alone: ``DockerSection(base_image='…')``.

    What Azure ML's has beside ``base_image`` and ``base_dockerfile`` is accepted with a warning.
    """

    def __init__(self, environment: Environment | None = None, **given: Any) -> None:
        self.__dict__.update(_environment=environment or _Alone(), _others={})
        for name, value in given.items():
            setattr(self, name, value)

    def __setattr__(self, name: str, value: Any) -> None:
        """Accept Azure's with a warning; a misspelt attribute would silently change nothing: refuse it."""
        _set(self, name, value, _DOCKER)

    def __getattr__(self, name: str) -> Any:
        if name in _DOCKER:
            return self.__dict__["_others"].get(name, name == "enabled" and bool(self.__dict__["_environment"].image))
        raise AttributeError(f"DockerSection has no attribute {name!r}")

    @property
    def base_image(self) -> str | None:
        """The image: a file, or a reference such as ``docker://debian:12``."""
        image = self.__dict__["_environment"].image
        return image if image and not _is_dockerfile(image) else None

    @base_image.setter
    def base_image(self, given: str | None) -> None:
        if given is None and self.base_dockerfile:
            return  # programs set the other of the two to None
        self.__dict__["_environment"].image = given or ""

    @property
    def base_dockerfile(self) -> str | None:
        """The path of the Dockerfile that makes the image; its text may be given instead."""
        image = self.__dict__["_environment"].image
        return image if image and _is_dockerfile(image) else None

    @base_dockerfile.setter
    def base_dockerfile(self, given: str | Path | None) -> None:
        if given is not None:
            self.__dict__["_environment"].image = dockerfile_of(given)
        elif self.base_dockerfile:
            self.__dict__["_environment"].image = ""


class _Alone:
    """What a section reads and writes that belongs to no environment yet."""

    image = ""


def _set(section: Any, name: str, value: Any, ignored: Mapping[str, str]) -> None:
    if name in ignored:
        section.__dict__["_others"][name] = value
        harmless = name == "enabled" and value is True
        if value not in (None, False, [], {}) and not harmless:
            azure.warn_ignored("DockerSection", {name: value}, ignored)
        return
    known = [one for one in dir(type(section)) if not one.startswith("_")]
    if name not in known:
        raise azure.unknown_keyword(type(section).__name__, name, [*known, *ignored])
    object.__setattr__(section, name, value)


def _is_dockerfile(image: str) -> bool:
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
        if not _is_dockerfile(str(path)):
            text = path.read_text(encoding="utf-8")  # under another name nobody would know it for one
        else:
            return str(path)
    import os

    folder = user_folder("XDG_CACHE_HOME", os.environ) / "dockerfiles"
    path = folder / f"{hashlib.sha256(text.encode()).hexdigest()[:32]}.dockerfile"
    folder.mkdir(parents=True, exist_ok=True)
    write_text(path, text)
    return str(path)
