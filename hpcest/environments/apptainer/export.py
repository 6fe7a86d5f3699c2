"""One SIF for others: an environment and its base in a file that runs with plain Apptainer, its programs on PATH."""

from __future__ import annotations

import os
import shlex
import shutil
from collections.abc import Mapping
from pathlib import Path

from hpcest.contracts import Say
from hpcest.environments.apptainer.commands import PREFIX, Mount, to_build
from hpcest.environments.apptainer.packing import join
from hpcest.environments.apptainer.program import find, missing
from hpcest.environments.apptainer.works import Works
from hpcest.environments.room import check_room
from hpcest.environments.store.bases import StoredBase
from hpcest.environments.store.entries import StoredImage
from hpcest.environments.store.store import Store
from hpcest.errors import EnvironmentBuildError
from hpcest.kit.files import written_beside
from hpcest.model.settings import EnvironmentSettings

#: Apptainer reads the files of this folder when a container starts, in the order of their names; the image's own come before.
SCRIPT = ".singularity.d/env/90-hpcest.sh"


def export(image: StoredImage, target: Path, store: Store, settings: EnvironmentSettings, say: Say) -> Path:
    """Write the image as the SIF ``target``, in place of what is there; returns its path. Raises EnvironmentBuildError."""
    program = find()
    if program is None:
        raise EnvironmentBuildError(f"{image.label} can't be exported here: {missing()}", hint="it takes Apptainer to put one SIF together")
    with Works(program, store, settings, say) as works, written_beside(target.absolute()) as beside:
        try:
            layout = image.manifest.get("layout", "split")
            tree = works.scratch / "env.root"
            _write_script(tree / SCRIPT, image)
            if layout == "split":
                base = store.base_of(image)
                assert base is not None  # a look at the image has seen it
                check_room(works.scratch, 4 * image.size, f"exporting {image.label}")
                _unpack(works, image, base)
                join(str(base.path), works.scratch / "env", beside, program, works.log)
            else:
                _with_script(works, image.file(str(image.manifest["file"])), tree, beside)
            os.chmod(beside, 0o755 & ~_umask())
        except OSError as error:
            where, hint = error.filename or target, "name a file in a directory that has room, and that you can write to"
            raise EnvironmentBuildError(f"{image.label} can't be exported to {where}: {error.strerror or error}", hint=hint) from error
        finally:
            beside.with_suffix(".overlay").unlink(missing_ok=True)  # what ``join`` was making of the packages when it was stopped
        works.log.path.unlink(missing_ok=True)
    return target


def export_base(base: StoredBase, target: Path) -> Path:
    """Copy an image that is used as it is. Raises EnvironmentBuildError."""
    try:
        with written_beside(target.absolute()) as beside:
            shutil.copyfile(base.path, beside)
            os.chmod(beside, 0o755 & ~_umask())
    except OSError as error:
        raise EnvironmentBuildError(f"{base.label} can't be exported to {target}: {error.strerror or error}") from error
    return target


def _unpack(works: Works, image: StoredImage, base: StoredBase) -> None:
    """Have the layer's files in the scratch folder. The base's own ``cp`` copies them: a host may have no unsquashfs."""
    folder = works.scratch / "env"
    folder.mkdir()
    layer = Mount(str(image.file(str(image.manifest["file"]))), PREFIX, image=True)
    start = to_build(works.program.path, str(base.path), [layer, Mount(str(folder), "/mnt/hpcest-export", writable=True)])
    with works.log.phase("unpack") as done:
        argv = [*start, "/bin/sh", "-c", f"cp -a {PREFIX}/. /mnt/hpcest-export/"]
        works.log.run("unpack", argv, cwd=works.scratch, env=works.variables)
        done.append(f"{image.size / 1e6:.0f} MB")


def _with_script(works: Works, file: Path, tree: Path, target: Path) -> None:
    """A copy of a SIF that has the packages already, with the script laid over it."""
    # ``join`` puts a prefix into the tree; here that is an empty folder, which an overlay joins with the one that is there.
    prefix = works.scratch / "env"
    prefix.mkdir()
    join(str(file), prefix, target, works.program, works.log)


def _write_script(path: Path, image: StoredImage) -> None:
    path.parent.mkdir(parents=True)
    lines = [f"export {name}={shlex.quote(value)}" for name, value in _variables(image).items()]
    path.write_text(f'# {image.key}\nexport PATH="{PREFIX}/bin:$PATH"\n' + "".join(f"{line}\n" for line in lines), encoding="utf-8")
    path.chmod(0o755)


def _variables(image: StoredImage) -> Mapping[str, str]:
    own = {"PYTHONNOUSERSITE": "1"}
    is_conda = bool(image.manifest.get("variables")) or (image.folder / "packages.lock").read_text(encoding="utf-8").startswith("# conda")
    return {**own, "CONDA_PREFIX" if is_conda else "VIRTUAL_ENV": PREFIX, **dict(image.manifest.get("variables") or {})}


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask
