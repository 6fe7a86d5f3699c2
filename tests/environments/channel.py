"""A conda channel made on the spot: a handful of small packages, one of them a Python that runs.

The Python is a symbolic link to the one of the machine (or of a base image that has it at the same
path), with a ``pyvenv.cfg`` beside it: the prefix then has its own ``sys.prefix`` and site-packages.
The same packages give the same bytes every time.
"""

from __future__ import annotations

import bz2
import hashlib
import io
import json
import sys
import tarfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

PYTHON = f"{sys.version_info[0]}.{sys.version_info[1]}"
#: What text files carry in place of the prefix, and binary ones, where the rest is padded with NUL.
TEXT_PREFIX = "/opt/anaconda1anaconda2anaconda3"
BINARY_PREFIX = ("/" + "_h_env_placehold" * 20)[:255]
EPOCH_S = 1_700_000_000  # 2023-11-14 22:13:20 UTC
DAY_S = 86_400


@dataclass(frozen=True)
class File:
    """One file of a package. ``link`` makes it a symbolic link; ``placeholder`` is ``text`` or ``binary``."""

    content: bytes = b""
    mode: int = 0o644
    link: str = ""
    placeholder: str = ""

    def entry(self, path: str) -> dict[str, Any]:
        """Its line in ``info/paths.json``."""
        entry: dict[str, Any] = {"_path": path, "path_type": "softlink" if self.link else "hardlink"}
        entry.update(sha256=hashlib.sha256(self.content).hexdigest(), size_in_bytes=len(self.content))
        if self.placeholder:
            prefix = BINARY_PREFIX if self.placeholder == "binary" else TEXT_PREFIX
            entry.update(file_mode=self.placeholder, prefix_placeholder=prefix)
        return entry


@dataclass(frozen=True)
class Package:
    """A conda package. ``noarch`` is ``generic``, ``python``, or empty for one that is built for linux-64.

    ``day`` is when it was made, in days after EPOCH_S; ``extra`` are files beside the announced ones.
    """

    name: str
    version: str
    build: str = "0"
    noarch: str = "generic"
    depends: Sequence[str] = ()
    files: Mapping[str, File] = field(default_factory=dict)
    entry_points: Sequence[str] = ()
    day: int = 0
    extra: Mapping[str, File] = field(default_factory=dict)

    @property
    def subdir(self) -> str:
        """The folder of the channel that it stands in."""
        return "noarch" if self.noarch else "linux-64"

    @property
    def file_name(self) -> str:
        """The name of its archive."""
        return f"{self.name}-{self.version}-{self.build}.tar.bz2"

    def index(self) -> dict[str, Any]:
        """Its ``info/index.json``."""
        kind = {"noarch": self.noarch} if self.noarch else {"arch": "x86_64", "platform": "linux"}
        return {
            "name": self.name,
            "version": self.version,
            "build": self.build,
            "build_number": 0,
            "subdir": self.subdir,
            "depends": list(self.depends),
            "constrains": [],
            "license": "MIT",
            "timestamp": (EPOCH_S + self.day * DAY_S) * 1000,
            **kind,
        }

    def archive(self) -> bytes:
        """The ``.tar.bz2``, the same bytes each time."""
        members = {**self.files, **self._info(), **self.extra}
        raw = io.BytesIO()
        with tarfile.open(fileobj=raw, mode="w", format=tarfile.PAX_FORMAT) as tar:
            for path, file in sorted(members.items()):
                member = tarfile.TarInfo(path)
                member.mtime, member.mode, member.size = EPOCH_S, file.mode, len(file.content)
                if file.link:
                    member.type, member.linkname, member.mode = tarfile.SYMTYPE, file.link, 0o777
                tar.addfile(member, io.BytesIO(file.content))
        return bz2.compress(raw.getvalue())

    def _info(self) -> dict[str, File]:
        paths = [file.entry(path) for path, file in sorted(self.files.items())]
        info = {
            "info/index.json": self.index(),
            "info/paths.json": {"paths": paths, "paths_version": 1},
            "info/about.json": {"summary": "made for a test"},
        }
        if self.noarch == "python":
            link = {"type": "python", "entry_points": list(self.entry_points)}
            info["info/link.json"] = {"noarch": link, "package_metadata_version": 1}
        texts = {path: File(json.dumps(value, sort_keys=True).encode()) for path, value in info.items()}
        return {**texts, "info/files": File("".join(f"{path}\n" for path in sorted(self.files)).encode())}


def write_channel(folder: Path, packages: Iterable[Package]) -> str:
    """Write the archives and both ``repodata.json`` of a channel; returns its URL."""
    listed: dict[str, dict[str, Any]] = {"noarch": {}, "linux-64": {}}
    for package in packages:
        data = package.archive()
        path = folder / package.subdir / package.file_name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        hashes = {"md5": hashlib.md5(data).hexdigest(), "sha256": hashlib.sha256(data).hexdigest(), "size": len(data)}
        listed[package.subdir][package.file_name] = {**package.index(), **hashes}
    for subdir, records in listed.items():
        (folder / subdir).mkdir(parents=True, exist_ok=True)
        index = {"info": {"subdir": subdir}, "packages": records, "packages.conda": {}, "repodata_version": 1}
        (folder / subdir / "repodata.json").write_text(json.dumps(index, indent=1, sort_keys=True))
    return folder.resolve().as_uri()


def demo_packages(python: str = PYTHON) -> Iterator[Package]:
    """A Python, a library in two versions, data with placeholders, an application, and two that can't be had.

    ``hp-app`` needs ``hp-lib >=1,<3`` and ``hp-data``; ``hp-conflict`` contradicts itself; ``hp-cuda`` needs
    ``__cuda >=12``. ``hp-lib`` 1.0 and 2.0 are one and two days younger than the rest.
    """
    yield _python(python)
    yield _data()
    yield library("1.0", day=1)
    yield library("2.0", day=2)
    yield Package("hp-app", "0.1", depends=["hp-lib >=1,<3", "hp-data"], files={"share/hp/app": File(b"1\n")})
    contradiction = ["hp-lib >=1,<2", "hp-app", "hp-lib >=2"]
    yield Package("hp-conflict", "0.1", depends=contradiction, files={"share/hp/conflict": File(b"1\n")})
    yield Package("hp-cuda", "0.1", depends=["__cuda >=12"], files={"share/hp/cuda": File(b"1\n")})


def library(version: str, *, day: int = 0, word: str = "hp-lib") -> Package:
    """``hp-lib``: a Python library with a program of the same name, which prints ``word``, version and prefix."""
    main = f'__version__ = "{version}"\ndef main():\n    import sys\n    print("{word}", __version__, sys.prefix)\n'
    metadata = f"Metadata-Version: 2.1\nName: hp-lib\nVersion: {version}\n"
    info = f"site-packages/hp_lib-{version}.dist-info"
    files = {
        "site-packages/hp_lib/__init__.py": File(main.encode()),
        f"{info}/METADATA": File(metadata.encode()),
        f"{info}/INSTALLER": File(b"conda\n"),
        f"{info}/RECORD": File(),
    }
    needs = ["python >=3.8"]
    return Package("hp-lib", version, "pyh0_0", "python", needs, files, ["hp-lib = hp_lib:main"], day)


def _python(version: str) -> Package:
    home = f"home = /usr/bin\ninclude-system-site-packages = false\nversion = {version}.2\n"
    files = {
        f"bin/python{version}": File(link=f"/usr/bin/python{version}"),
        "bin/python3": File(link=f"python{version}"),
        "bin/python": File(link=f"python{version}"),
        "pyvenv.cfg": File(home.encode()),
        f"lib/python{version}/site-packages/README.txt": File(b"made for a test\n"),
    }
    return Package("python", f"{version}.2", "0_cpython", "", files=files)


def _data() -> Package:
    blob = b"\x7fFAKE\0" + BINARY_PREFIX.encode() + b"/share/hp\0tail\0"
    settings = f"[hp]\nprefix = {TEXT_PREFIX}\ndata = {TEXT_PREFIX}/share/hp\n"
    files = {
        "share/hp/config.ini": File(settings.encode(), placeholder="text"),
        "lib/hp/blob.bin": File(blob, placeholder="binary"),
        "bin/hp-where": File(f"#!/bin/sh\n. {TEXT_PREFIX}/share/hp/where.sh\n".encode(), 0o755, placeholder="text"),
        "share/hp/where.sh": File(f'echo "prefix={TEXT_PREFIX}"\n'.encode(), placeholder="text"),
        "etc/conda/activate.d/hp-data.sh": File(b'export HP_DATA_HOME="$CONDA_PREFIX/share/hp"\n'),
        "etc/conda/env_vars.d/hp-data.json": File(b'{"HP_DATA_LEVEL": "3"}\n'),
    }
    return Package("hp-data", "1.0", files=files)
