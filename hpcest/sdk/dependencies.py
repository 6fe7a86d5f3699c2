"""``CondaDependencies``: Azure ML's editable list of conda and pip packages."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from hpcest.errors import SpecError

FILE_NAME = "conda_dependencies.yml"
_INDEX = ("--index-url", "-i")
#: Methods of Azure ML's oldest SDKs → what to call.
_LEGACY = {
    "add_cntk_package": "add_pip_package('cntk')",
    "add_tensorflow_conda_package": "add_conda_package('tensorflow')",
    "add_tensorflow_pip_package": "add_pip_package('tensorflow')",
    "remove_tensorflow_package": "remove_pip_package('tensorflow')",
}
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


class CondaDependencies:
    """Conda packages, their channels, and requirement lines for pip; read from a conda file, or empty.

    What is there already is not added twice, and taking out what is not there is no error. ``environment.python``
    and ``estimator.conda_dependencies`` give one that works on their own lists. Raises SpecError for a file that
    can't be read.
    """

    def __init__(self, conda_dependencies_file_path: str | Path | None = None) -> None:
        self._pip: list[str] = []
        self._conda: list[str] = []
        self._channels: list[str] = []
        if conda_dependencies_file_path is not None:
            from hpcest.sdk.requirements import of_conda_file

            found = of_conda_file(Path(conda_dependencies_file_path))
            self._pip, self._conda, self._channels = list(found.pip), list(found.conda), list(found.channels)

    @classmethod
    def over(cls, pip: list[str], conda: list[str], channels: list[str] | None = None) -> CondaDependencies:
        """One that reads and changes the lists that are given."""
        made = cls()
        made._pip, made._conda, made._channels = pip, conda, [] if channels is None else channels
        return made

    @classmethod
    def create(
        cls,
        pip_indexurl: str | None = None,
        pip_packages: Sequence[str] | None = None,
        conda_packages: Sequence[str] | None = None,
        python_version: str | None = None,
        pin_sdk_version: bool = True,
    ) -> CondaDependencies:
        """One with these packages. Without ``python_version`` the Python of the environment is chosen when it is built.

        ``pin_sdk_version`` is Azure's: nothing is added to what is asked for here.
        """
        from hpcest.sdk.environment import lines

        made = cls()
        if pip_indexurl:
            made.set_pip_index_url(pip_indexurl)
        made._pip += lines("pip_packages", pip_packages)
        made._conda += lines("conda_packages", conda_packages)
        if python_version:
            made.set_python_version(python_version)
        return made

    @property
    def conda_channels(self) -> list[str]:
        """The channels, as a list of its own."""
        return list(self._channels)

    @property
    def conda_packages(self) -> list[str]:
        """The conda packages, as a list of its own."""
        return list(self._conda)

    @property
    def pip_packages(self) -> list[str]:
        """The requirement lines, as a list of its own, without options."""
        return [line for line in self._pip if not line.startswith("-")]

    @property
    def pip_options(self) -> list[str]:
        """The options among the requirement lines, such as ``--index-url …``, as a list of its own."""
        return [line for line in self._pip if line.startswith("-")]

    def add_pip_package(self, pip_package: str) -> None:
        """Add a requirement line such as ``numpy>=2``."""
        _add(self._pip, pip_package)

    def remove_pip_package(self, pip_package: str) -> None:
        """Take a requirement out: this very line, or all lines of the package that it names."""
        _remove(self._pip, pip_package)

    def add_conda_package(self, conda_package: str) -> None:
        """Add a conda package specification such as ``numpy=2``."""
        _add(self._conda, conda_package)

    def remove_conda_package(self, conda_package: str) -> None:
        """Take a conda package out: this very specification, or all of the package that it names."""
        _remove(self._conda, conda_package)

    def add_channel(self, channel: str) -> None:
        """Add a channel after the others; the first that has a package gives it."""
        _add(self._channels, channel)

    def remove_channel(self, channel: str) -> None:
        """Take a channel out."""
        _remove(self._channels, channel, exactly=True)

    def set_pip_option(self, pip_option: str) -> None:
        """Add an option of pip such as ``--pre`` or ``--extra-index-url URL``."""
        if not pip_option.startswith("-"):
            raise SpecError(f"{pip_option!r} is no option of pip", hint="an option begins with '-'; packages go to add_pip_package")
        _add(self._pip, pip_option)

    def remove_pip_option(self, pip_option: str) -> None:
        """Take an option out: this very line, or all lines with the option that it names."""
        self._pip[:] = [line for line in self._pip if line != pip_option and _option(line) != pip_option]

    def set_pip_index_url(self, index_url: str) -> None:
        """Have pip packages come from this index, instead of any that was set before."""
        self._pip[:] = [f"--index-url {index_url}", *(line for line in self._pip if _option(line) not in _INDEX)]

    def set_pip_requirements(self, pip_requirements: Sequence[str]) -> None:
        """Replace all requirement lines, options too."""
        from hpcest.sdk.environment import lines

        self._pip[:] = lines("pip_requirements", pip_requirements)

    def set_python_version(self, version: str) -> None:
        """Ask for this Python, instead of any other."""
        self._conda[:] = [f"python={version}", *(spec for spec in self._conda if package_of(spec) != "python")]

    def get_python_version(self) -> str | None:
        """The version of Python that is asked for, as it is written; None where none is."""
        specs = [spec for spec in self._conda if package_of(spec) == "python"]
        return re.sub(r"^\S*?python[\s=]*", "", specs[0]) or None if specs else None

    def as_dict(self) -> dict[str, Any]:
        """What the conda file would hold."""
        found: dict[str, Any] = {"channels": list(self._channels)} if self._channels else {}
        return {**found, "dependencies": [*self._conda, *([{"pip": list(self._pip)}] if self._pip else [])]}

    def serialize_to_string(self) -> str:
        """The text of the conda file."""
        import yaml

        text: str = yaml.safe_dump(self.as_dict(), sort_keys=False, allow_unicode=True)
        return text

    def save(self, path: str | Path | None = None) -> str:
        """Write the conda file to ``path``, by default conda_dependencies.yml here; returns the path."""
        from hpcest.kit.files import write_text

        target = Path(path or FILE_NAME)
        try:
            write_text(target, self.serialize_to_string())
        except OSError as error:
            raise SpecError(
                f"{target} can't be written: {error.strerror}", hint="name a file in a directory that you can write to"
            ) from None
        return str(target)

    def save_to_file(self, base_directory: str | Path, conda_file_path: str | Path | None = None) -> str:
        """Write the conda file into a directory; returns its name there."""
        name = str(conda_file_path or FILE_NAME)
        self.save(Path(base_directory) / name)
        return name

    @staticmethod
    def merge_requirements(requirements: Iterable[str]) -> list[str]:
        """Requirements of which those for one package are put together: ``a>=1`` and ``a<2`` become ``a<2,>=1``."""
        from packaging.requirements import InvalidRequirement, Requirement
        from packaging.utils import canonicalize_name

        merged: dict[str, Requirement] = {}
        others: list[str] = []
        for line in dict.fromkeys(requirements):
            try:
                one = Requirement(line)
            except InvalidRequirement:
                others.append(line)
                continue
            key = f"{canonicalize_name(one.name)};{one.marker or ''}"
            if one.url or (key in merged and merged[key].url):
                others.append(line)
            elif key in merged:
                merged[key].specifier &= one.specifier
                merged[key].extras |= one.extras
            else:
                merged[key] = one
        return [*map(str, merged.values()), *others]

    def __getattr__(self, name: str) -> Any:
        if name in _LEGACY:
            raise AttributeError(f"CondaDependencies has no {name}: use {_LEGACY[name]}")
        raise AttributeError(f"CondaDependencies has no attribute {name!r}")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, CondaDependencies) and self.as_dict() == other.as_dict()

    __hash__ = None  # type: ignore[assignment]  # it can be changed

    def __repr__(self) -> str:
        from hpcest.environments.secrets import strip

        return f"CondaDependencies({strip(str(self.as_dict()))})"


def _add(packages: list[str], package: str) -> None:
    if package not in packages:
        packages.append(package)


def _remove(packages: list[str], package: str, *, exactly: bool = False) -> None:
    by_name = not exactly and _NAME.fullmatch(package) is not None
    packages[:] = [line for line in packages if line != package and not (by_name and package_of(line) == _canonical(package))]


def package_of(line: str) -> str:
    """The name of the package that a requirement or a match spec asks for."""
    found = _NAME.match(line.rpartition("::")[2])
    return _canonical(found[0]) if found and not line.startswith("-") else ""


def _canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _option(line: str) -> str:
    return re.split(r"[\s=]", line, maxsplit=1)[0] if line.startswith("-") else ""
