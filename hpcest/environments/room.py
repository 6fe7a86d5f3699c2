"""Where is built: a folder on a disk with room, not on the network."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path

from hpcest.errors import EnvironmentBuildError
from hpcest.kit import process
from hpcest.kit.files import read_json, write_json
from hpcest.kit.lease import Holder
from hpcest.kit.units import format_memory

#: What a build needs beside what it makes: archives, wheels, the folders of the tools.
SPARE_BYTES = 512 << 20
_PREFIX, _MARK = "hpcest-build-", "builder.json"


def place_of(wanted: str, variables: Mapping[str, str] = os.environ) -> str:
    """The directory to build in: ``wanted`` (the configuration's), else where TMPDIR says, else /tmp."""
    return wanted or variables.get("TMPDIR") or tempfile.gettempdir()


@contextlib.contextmanager
def scratch(wanted: str, variables: Mapping[str, str] = os.environ) -> Iterator[Path]:
    """A private folder to build in, removed at the end: in ``place_of(wanted)``. Raises EnvironmentBuildError."""
    place = place_of(wanted, variables)
    try:
        sweep(Path(place))
        folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=place))
        write_json(folder / _MARK, asdict(Holder.me()))
    except OSError as error:
        hint = "set environment: {scratch: DIR} in the configuration, or TMPDIR, to a directory that you can write to"
        raise EnvironmentBuildError(f"nothing can be built in {place}: {error.strerror}", hint=hint) from None
    try:
        yield folder
    finally:
        _discard(folder)


def sweep(place: Path) -> None:
    """Remove what builds left there that were killed: those of this user whose process ran on this host and has gone."""
    for folder in place.glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError, ValueError, TypeError):
            if folder.lstat().st_uid == os.getuid() and Holder(**read_json(folder / _MARK)).is_dead:
                _remove(folder)


def _discard(folder: Path) -> None:
    """Have a folder removed without waiting for it: ten thousand small files can take longer than the build did."""
    _make_writable(folder)
    done = process.run(["sh", "-c", 'rm -rf -- "$0" </dev/null >/dev/null 2>&1 &', folder])
    if not done.ok:
        _remove(folder)


def _remove(folder: Path) -> None:
    """Remove also what was made read-only."""
    _make_writable(folder)
    shutil.rmtree(folder, ignore_errors=True)


def _make_writable(folder: Path) -> None:
    for parent, _, _ in os.walk(folder):
        with contextlib.suppress(OSError):
            os.chmod(parent, 0o700)


def check_room(folder: Path, needed: int, what: str) -> None:
    """Refuse to begin what can't end well; ``needed`` is in bytes. Raises EnvironmentBuildError."""
    free = shutil.disk_usage(folder).free
    if free < needed + SPARE_BYTES:
        raise EnvironmentBuildError(
            f"{what} needs {format_memory((needed + SPARE_BYTES) >> 20)} in {folder}, where {format_memory(free >> 20)} are free",
            hint="free some space, or set environment: {scratch: DIR} in the configuration to a directory with room",
        )
