"""What Azure ML's SDK v2 calls entities: data, models and environments as they are given to ``MLClient`` and come from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hpcest.errors import SpecError
from hpcest.kit.yamlfile import Document
from hpcest.model.spec import EnvironmentSpec


@dataclass
class Data:
    """Data with a name: ``Data(name='mnist', path='./data')``. ``version`` and ``id`` are given when it is registered."""

    path: str | Path
    name: str | None = None
    version: str | None = None
    type: str = "uri_folder"
    description: str | None = None
    tags: Mapping[str, Any] = field(default_factory=dict)
    properties: Mapping[str, Any] = field(default_factory=dict)

    @property
    def id(self) -> str:
        """What an Input takes as its path."""
        return f"azureml:{self.name}:{self.version}"


@dataclass
class Model:
    """A model to register: ``Model(name='iris', path='azureml://jobs/JOB/outputs/artifacts/paths/outputs/model')``.

    ``path`` is a file or folder here, or one of a job.
    """

    path: str | Path
    name: str | None = None
    version: str | None = None
    type: str = "custom_model"
    description: str | None = None
    tags: Mapping[str, Any] = field(default_factory=dict)
    properties: Mapping[str, Any] = field(default_factory=dict)


@dataclass
class BuildContext:
    """A folder with a Dockerfile."""

    path: str | Path
    dockerfile_path: str = "Dockerfile"


@dataclass
class Environment:
    """What a job's program needs: an ``image``, or what makes one, with the packages of ``conda_file`` (a path or a dict).

    ``hpcest.Environment`` says more, and does everywhere that this one does.
    """

    name: str | None = None
    version: str | None = None
    description: str | None = None
    image: str | None = None
    build: BuildContext | None = None
    conda_file: str | Path | Mapping[str, Any] | None = None
    tags: Mapping[str, Any] = field(default_factory=dict)
    properties: Mapping[str, Any] = field(default_factory=dict)

    def to_spec(self) -> EnvironmentSpec:
        """The environment spec; files are relative to the current directory. Raises ConfigError, SpecError."""
        from hpcest.kit.yamlfile import decode_document
        from hpcest.sdk.jobs.environment import JobEnvironment, environment_of

        if not (self.image or self.build or self.conda_file):
            raise SpecError(
                "an Environment needs an image, a build or a conda_file", hint="name a registered one by a text: 'NAME:VERSION'"
            )
        build = {"path": str(self.build.path), "dockerfile_path": self.build.dockerfile_path} if self.build else None
        conda = str(self.conda_file) if isinstance(self.conda_file, Path) else self.conda_file
        given = {"name": self.name, "image": self.image, "build": build, "conda_file": conda}
        document = _Entity(Path.cwd() / "Environment()", {key: value for key, value in given.items() if value is not None})
        return environment_of(document, decode_document(JobEnvironment, document))


class _Entity(Document):
    """The place of what was said in Python: its keyword."""

    def where(self, key: str = "") -> str:
        """``Environment(): image``"""
        return f"Environment(): {key}" if key else "Environment()"
