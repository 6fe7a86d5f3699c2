"""Which packages a wish comes to: conda's solver first, then pip's resolver, which takes conda's packages as they are."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from hpcest.environments.brought import Brought, named_in, write_stubs
from hpcest.environments.buildlog import BuildLog
from hpcest.environments.conda.lockfile import CondaPackage
from hpcest.environments.installers import Bench, Uv, find_uv, version_of_uv
from hpcest.environments.locked import Pinned, cleared, restricted
from hpcest.environments.wish import Wish
from hpcest.errors import EnvironmentBuildError
from hpcest.kit.userdirs import user_folder

_NO_UV = "pip packages of this kind of environment are installed with uv, which is not there"


class VersionedUv(Uv):
    """uv that chooses packages for a Python of some version on a Linux with some glibc (such as ``2.36``), wherever it runs."""

    glibc = ""

    def __init__(self, bench: Bench) -> None:
        program = find_uv(bench.variables)
        version = version_of_uv(program, bench) if program else ""
        if not version:
            raise EnvironmentBuildError(_NO_UV, hint="pip install 'hpcest[fast]'")
        super().__init__(bench, program, version)
        self._kept: list[str | Path] = []
        self._stubs = ""

    def keep(self, packages: Sequence[Brought]) -> None:
        """Resolve so that these packages, which are there already, are used as they are."""
        if packages:
            self._kept = ["--constraint", self.bench.write("constraints.txt", [one.pin for one in packages])]
            stubs = self.bench.scratch / "stubs"
            write_stubs(stubs, packages)
            self._stubs = stubs.as_uri()

    def _target(self) -> list[str | Path]:
        python = self.bench.python
        machine = python.platform.partition("-")[2] or os.uname().machine
        libc = f"manylinux_{self.glibc.replace('.', '_')}" if self.glibc else "unknown-linux-musl"
        return ["--python-version", python.version, "--python-platform", f"{machine}-{libc}", *self._kept]

    def _run(self, step: str, words: Sequence[str | Path], log: BuildLog, *, check: bool = True) -> None:
        links = ",".join(filter(None, [self.bench.env.get("UV_FIND_LINKS"), self._stubs])) if step == "resolve" else ""
        env = {**self.bench.env, **({"UV_FIND_LINKS": links} if links else {})}
        log.run(step, [self.program, *words], cwd=self.bench.scratch, env=env, check=check)


def conda_cache(variables: Mapping[str, str]) -> Path:
    """Where archives of conda packages and indexes of channels are kept."""
    return user_folder("XDG_CACHE_HOME", variables) / "conda"


def choose_conda(wish: Wish, platform: str, virtual: Sequence[str], log: BuildLog) -> tuple[CondaPackage, ...]:
    """The conda packages for a machine with these virtual packages; none where none are wished for. Raises EnvironmentBuildError."""
    from hpcest.environments.conda.solving import CondaRequest, solve

    if not wish.conda:
        return ()
    request = CondaRequest(wish.channels, wish.conda, platform, tuple(virtual))
    return solve(request, conda_cache(wish.variables) / "repodata", log.say)


def choose_pip(wish: Wish, uv: VersionedUv, brought: Sequence[Brought], log: BuildLog) -> tuple[Pinned, ...]:
    """The pip packages beside what conda has ``brought``. Raises EnvironmentBuildError."""
    uv.keep(brought)
    with log.phase("resolve") as done:
        try:
            found = restricted(uv.resolve(wish.pip, log), wish.hashes)
        except ValueError as error:
            raise log.failure("resolve", str(error)) from None
        except EnvironmentBuildError as error:
            raise _with_conda(error, brought) from None
        names = {one.name for one in brought}
        chosen = [one for one in cleared(found, wish.veil, wish.contents) if one.name not in names]
        done.append(f"{len(chosen)} pip package{'' if len(chosen) == 1 else 's'}")
    return tuple(chosen)


def _with_conda(error: EnvironmentBuildError, brought: Sequence[Brought]) -> EnvironmentBuildError:
    """The error, where it is about a package that conda brings with words to that effect."""
    named = named_in(error.message, brought)
    if not named:
        return error
    hint = "loosen the pip requirement, or ask conda for the version that pip needs"
    return EnvironmentBuildError(f"{error.message}\nconda brings {named}, which pip leaves as it is", hint=hint, log=error.log)
