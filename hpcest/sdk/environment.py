"""A named description of what a program needs around it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from hpcest.errors import SpecError
from hpcest.model.spec import EnvironmentSpec
from hpcest.sdk.requirements import read_conda_file, read_requirements


class Environment:
    """What a run's program needs; give it to an estimator as ``environment_definition``.

    ``kind`` names an environment plugin or is ``auto``; ``pip_packages`` are requirement lines,
    ``conda_packages`` conda specifications, ``interpreter`` a Python version or path, ``image`` an image to
    run in, ``environment_variables`` are set for the program. All may be changed until a run is submitted.
    """

    def __init__(
        self,
        name: str,
        *,
        kind: str = "auto",
        interpreter: str = "",
        pip_packages: Sequence[str] = (),
        conda_packages: Sequence[str] = (),
        image: str = "",
        environment_variables: Mapping[str, object] | None = None,
    ) -> None:
        self.name, self.kind, self.interpreter, self.image = name, kind, interpreter, image
        self.pip_packages = list(lines("pip_packages", pip_packages))
        self.conda_packages = list(lines("conda_packages", conda_packages))
        self.environment_variables = dict(environment_variables or {})

    @classmethod
    def from_pip_requirements(cls, name: str, file_path: str | Path) -> Environment:
        """An environment with the packages of a requirements file. Raises SpecError if it can't be read."""
        return cls(name, pip_packages=read_requirements(Path(file_path)))

    @classmethod
    def from_conda_specification(cls, name: str, file_path: str | Path) -> Environment:
        """An environment with the packages of a conda YAML. Raises ConfigError or SpecError if it can't be read."""
        conda, pip = read_conda_file(Path(file_path))
        return cls(name, pip_packages=pip, conda_packages=conda)

    @classmethod
    def from_docker_image(cls, name: str, image: str) -> Environment:
        """An environment that is an image of a registry, as it is."""
        return cls(name, image=image)

    @classmethod
    def from_spec(cls, spec: EnvironmentSpec) -> Environment:
        """The environment that a recorded run asked for."""
        return cls(
            spec.name,
            kind=spec.kind,
            interpreter=spec.interpreter,
            pip_packages=spec.pip,
            conda_packages=spec.conda,
            image=spec.image,
            environment_variables=spec.variables,
        )

    def to_spec(self) -> EnvironmentSpec:
        """The environment spec as it is now. Raises SpecError."""
        return EnvironmentSpec(
            kind=self.kind,
            name=self.name,
            interpreter=self.interpreter,
            pip=lines("pip_packages", self.pip_packages),
            conda=lines("conda_packages", self.conda_packages),
            image=self.image,
            variables={str(key): str(value) for key, value in self.environment_variables.items()},
        )

    def __repr__(self) -> str:
        return f"Environment(name={self.name!r}, kind={self.kind!r})"


def lines(name: str, given: Sequence[str] | None) -> tuple[str, ...]:
    """A list of packages as it is now. Raises SpecError for a single text, whose letters would count as packages."""
    if isinstance(given, (str, bytes, Mapping)):
        raise SpecError(
            f"{name} must be a list of texts, not {given!r}", hint=f"write {name}=[{given!r}]" if isinstance(given, str) else ""
        )
    return tuple(str(line) for line in given or ())
