"""What a build takes from a network, fetched before it: kept in caches that a job on another machine sees, and needs no more."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from hpcest.environments.apptainer.building import compiler_missed, link_conda
from hpcest.environments.apptainer.commands import PREFIX
from hpcest.environments.apptainer.containeruv import ContainerUv, uv_cache
from hpcest.environments.apptainer.works import Works
from hpcest.environments.choosing import conda_cache
from hpcest.environments.wish import Packages, Wish
from hpcest.errors import EnvironmentBuildError
from hpcest.kit.userdirs import user_folder


def caches(variables: Mapping[str, str], folder: Path) -> dict[str, str]:
    """The variables that name the caches to fetch into: the user's own, as absolute paths, or in ``folder`` (in the workspace).

    Nobody can tell from here what another machine sees; that it sees the workspace is sure. So a cache is used where it
    lies on the workspace's file system, and what lies elsewhere, such as on a local disk, is replaced for this build.
    """
    own = {"UV_CACHE_DIR": uv_cache(variables), "XDG_CACHE_HOME": user_folder("XDG_CACHE_HOME", variables).parent}
    return {name: str(path if _is_beside(path, folder) else folder / name.lower()) for name, path in own.items()}


def _is_beside(path: Path, folder: Path) -> bool:
    try:
        path.mkdir(parents=True, exist_ok=True)
        return path.stat().st_dev == folder.stat().st_dev
    except OSError:  # such as a home that can't be written
        return False


def fetch(works: Works, wish: Wish, packages: Packages, uv: ContainerUv | None, *, compiler: bool) -> None:
    """Have archives and wheels in the caches, each checked against the lock. Raises EnvironmentBuildError.

    uv downloads nothing without installing it, and builds what has no wheel: so it installs into the scratch folder, with
    the Python that the packages are for.
    """
    if packages.conda and not packages.pip:
        _fetch_archives(works, wish, packages)
    if uv is None:
        return
    if packages.conda:
        link_conda(works, wish, packages)
    uv.link_mode = "symlink"  # nothing is copied: this prefix is thrown away
    with works.log.phase("fetch") as done, compiler_missed(compiler):
        if not packages.conda:
            uv.create(Path(PREFIX), works.log)
        uv.install(Path(PREFIX), packages.pip, works.log)
        done.append(f"{len(packages.pip)} pip package{'' if len(packages.pip) == 1 else 's'}")


def _fetch_archives(works: Works, wish: Wish, packages: Packages) -> None:
    from hpcest.environments.conda.archives import Archives
    from hpcest.environments.conda.channels import fetched, hide
    from hpcest.environments.conda.extra import require, wait
    from hpcest.environments.conda.solving import advice

    require()
    archives = Archives(conda_cache(works.variables) / "archives")
    with works.log.phase("fetch") as done:
        try:
            size = wait(archives.fetch([(one, fetched(one.url, wish.channels)) for one in packages.conda]))
        except EnvironmentBuildError:
            raise
        except Exception as error:  # py-rattler's own, which have no class of theirs
            words = hide(str(error), wish.channels)
            raise EnvironmentBuildError(f"fetching the conda packages failed: {words}", hint=advice(words)) from error
        done.append(f"{len(packages.conda)} conda package{'' if len(packages.conda) == 1 else 's'}, {size / 1e6:.1f} MB new")
