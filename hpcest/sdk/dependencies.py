"""``estimator.conda_dependencies``: Azure ML's way to add packages to an estimator that exists already."""

from __future__ import annotations


class Dependencies:
    """Adds packages to two lists, and takes them out again; what is there already is not added twice.

    Made for ``estimator.conda_dependencies`` and working on the estimator's own lists.
    """

    def __init__(self, pip_packages: list[str], conda_packages: list[str]) -> None:
        self._pip, self._conda = pip_packages, conda_packages

    @property
    def pip_packages(self) -> list[str]:
        """The requirement lines, as a list of its own."""
        return list(self._pip)

    @property
    def conda_packages(self) -> list[str]:
        """The conda packages, as a list of its own."""
        return list(self._conda)

    def add_pip_package(self, pip_package: str) -> None:
        """Add a requirement line such as ``numpy>=2``."""
        _add(self._pip, pip_package)

    def remove_pip_package(self, pip_package: str) -> None:
        """Take a requirement line out; one that is not there is no error."""
        self._pip[:] = [line for line in self._pip if line != pip_package]

    def add_conda_package(self, conda_package: str) -> None:
        """Add a conda package specification such as ``numpy=2``."""
        _add(self._conda, conda_package)

    def remove_conda_package(self, conda_package: str) -> None:
        """Take a conda package out; one that is not there is no error."""
        self._conda[:] = [line for line in self._conda if line != conda_package]


def _add(packages: list[str], package: str) -> None:
    if package not in packages:
        packages.append(package)
