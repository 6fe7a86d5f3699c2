"""Conda environment files (``environment.yml``): which packages, from which channels, and the pip section."""

from __future__ import annotations

import platform as machine
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any, NoReturn

from hpcest.environments.conda.matchspecs import parse
from hpcest.environments.conda.piplines import gathered
from hpcest.environments.conda.selectors import UnreadableSelectorError, select
from hpcest.environments.secrets import strip
from hpcest.errors import SpecError
from hpcest.kit import yamlfile

_KEYS = ("name", "channels", "dependencies", "prefix", "variables")
_SUBDIRS = {"x86_64": "linux-64", "amd64": "linux-64", "aarch64": "linux-aarch64", "arm64": "linux-aarch64", "ppc64le": "linux-ppc64le"}


@dataclass(frozen=True)
class CondaFile:
    """What a conda file says. ``channels`` and ``pip`` are as written, and may hold credentials: never show them.

    ``dependencies`` are match specs, ``pip`` requirement lines, ``variables`` are for run time. ``name`` and
    ``prefix`` are labels: two files that differ in them ask for the same environment.
    """

    name: str = ""
    channels: tuple[str, ...] = field(default=(), repr=False)
    dependencies: tuple[str, ...] = ()
    pip: tuple[str, ...] = field(default=(), repr=False)
    variables: Mapping[str, str] = field(default_factory=dict)
    prefix: str = ""


def this_platform() -> str:
    """conda's name for the machine's platform: ``linux-64``. Raises SpecError for one that conda has none for."""
    kind = machine.machine().lower()
    if kind not in _SUBDIRS:
        raise SpecError(f"the machine {kind!r} has no conda packages", hint=f"known: {', '.join(sorted(_SUBDIRS))}; use pip packages")
    return _SUBDIRS[kind]


def read_file(path: Path, *, platform: str = "") -> CondaFile:
    """The conda file ``path``, with the lines that its selectors keep for ``platform`` (this machine's by default).

    Raises ConfigError for what is not YAML, and SpecError for the rest, both with ``file:line:``.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError):
        yamlfile.load(path)  # says what is wrong with it
        raise
    return read_text(text, path, platform=platform)


def read_text(text: str, path: Path, *, platform: str = "") -> CondaFile:
    """As ``read_file``, for a text; ``path`` is what messages call it, and where its relative paths count from."""
    try:
        document = yamlfile.parse(select(text, platform or this_platform()), path)
    except UnreadableSelectorError as error:
        raise SpecError(f"{path}:{error.line}: {error}", hint=error.hint) from None
    return _Reader(document).read()


def read_mapping(value: Mapping[str, Any], folder: Path, label: str = "the conda specification") -> CondaFile:
    """As ``read_file``, for values that were read already; relative paths count from ``folder``. No selectors."""
    return _Reader(yamlfile.Document(folder / "environment.yml", value), label).read()


class _Reader:
    """Checks the values of one document; knows where each of them stands."""

    def __init__(self, document: yamlfile.Document, label: str = "") -> None:
        self._document, self._label = document, label

    def read(self) -> CondaFile:
        value = self._document.value
        if not isinstance(value, Mapping):
            self._refuse("", "is not a conda specification", "it needs a list 'dependencies'")
        for key in value:
            if key not in _KEYS:
                near = get_close_matches(str(key), _KEYS, n=1)
                self._refuse(str(key), f"key {key!r} is not known", f"did you mean {near[0]!r}?" if near else f"known: {', '.join(_KEYS)}")
        if "dependencies" not in value:
            self._refuse("", "has no key 'dependencies'", "list the packages there; an empty list is dependencies: []")
        conda, pip = self._dependencies(value["dependencies"])
        return CondaFile(
            name=self._text(value.get("name"), "name"),
            channels=tuple(
                self._text(one, f"channels[{number}]") for number, one in enumerate(self._list(value.get("channels"), "channels"))
            ),
            dependencies=conda,
            pip=pip,
            variables=self._variables(value.get("variables")),
            prefix=self._text(value.get("prefix"), "prefix"),
        )

    def _refuse(self, key: str, problem: str, hint: str = "") -> NoReturn:
        where = self._label or self._document.where(key)
        raise SpecError(f"{where}{'' if self._label and not key else ':'} {strip(problem)}", hint=hint)

    def _text(self, value: Any, key: str) -> str:
        if value is None and key in ("name", "prefix"):
            return ""
        if isinstance(value, bool) or not isinstance(value, (str, int, float)):
            what = "empty" if value is None else f"a {'list' if isinstance(value, list) else 'mapping'}"
            what = f"read as {str(value).lower()}" if isinstance(value, bool) else what
            self._refuse(key, f"{key} must be a text, and is {what}", "write a text, in quotes where YAML takes it for something else")
        return str(value).strip()

    def _list(self, value: Any, key: str) -> Sequence[Any]:
        if value is None:
            return ()
        if not isinstance(value, (list, tuple)):
            self._refuse(key, f"{key} must be a list, not {value!r}", "write each on a line of its own, after '- '")
        return value

    def _dependencies(self, value: Any) -> tuple[tuple[str, ...], tuple[str, ...]]:
        conda: list[str] = []
        pip: list[str] = []
        for number, item in enumerate(self._list(value, "dependencies")):
            key = f"dependencies[{number}]"
            if isinstance(item, Mapping):
                pip += self._pip(item, key)
                continue
            spec = self._text(item, key)
            try:
                parse(spec)
            except SpecError as error:
                self._refuse(key, error.message, error.hint)
            conda.append(spec)
        return tuple(conda), tuple(pip)

    def _pip(self, item: Mapping[str, Any], key: str) -> list[str]:
        if set(item) != {"pip"}:
            name = next((str(one) for one in item if one != "pip"), "")
            self._refuse(f"{key}.{name}", f"dependency {dict(item)!r} is a mapping", f"write {name}=1.2, or 'pip:' with a list below it")
        lines: list[str] = []
        for number, line in enumerate(self._list(item["pip"], f"{key}.pip")):
            place = f"{key}.pip[{number}]"
            try:
                lines += gathered(self._text(line, place), self._document.path.parent)
            except SpecError as error:
                if error.message.startswith(self._label or str(self._document.path)):
                    raise
                self._refuse(place, error.message, error.hint)
        return lines

    def _variables(self, value: Any) -> dict[str, str]:
        if value is None:
            return {}
        if not isinstance(value, Mapping):
            self._refuse("variables", f"variables must be a mapping, not {value!r}", "write NAME: value lines below it")
        return {str(name): self._text(one, f"variables.{name}") for name, one in value.items()}
