"""Linking with the real linker: a prefix for another path, equal bytes for all, and nothing that isn't as locked."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import stat
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from hpcest.environments.conda.channels import channels_of
from hpcest.environments.conda.linking import link
from hpcest.environments.conda.lockfile import CondaPackage, read_text, text_of
from hpcest.errors import EnvironmentBuildError
from tests.environments.channel import PYTHON, File, Package, library, write_channel
from tests.environments.conda.conftest import PASSWORD, TOKEN, USER, Channels

TARGET = "/opt/hpcest/env"


def silent(line: str) -> None:
    """Nobody listens."""


def linked(packages: Sequence[CondaPackage], folder: Path, cache: Path, target: str = TARGET) -> Path:
    link(packages, folder, target_prefix=target, cache=cache, say=silent)
    return folder


def tree(folder: Path) -> dict[str, tuple[str, str]]:
    """Mode and content, or target, of all that is in a folder."""
    found = {}
    for path in sorted(folder.rglob("*")):
        mode = stat.filemode(path.lstat().st_mode)
        content = os.readlink(path) if path.is_symlink() else hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
        found[str(path.relative_to(folder))] = (mode, content)
    return found


def test_a_prefix_is_valid_at_its_target_path(channels: Channels, tmp_path: Path) -> None:
    prefix = linked(channels.solve("hp-app"), tmp_path / "env", tmp_path / "cache")
    assert (prefix / "bin" / "hp-lib").read_text().splitlines()[0] == f"#!{TARGET}/bin/python{PYTHON}"
    assert f"prefix = {TARGET}\n" in (prefix / "share/hp/config.ini").read_text()
    blob = (prefix / "lib/hp/blob.bin").read_bytes()
    assert len(blob) == 276
    assert f"{TARGET}/share/hp\0".encode() in blob
    assert os.readlink(prefix / "bin" / "python") == f"python{PYTHON}"
    assert os.readlink(prefix / "bin" / f"python{PYTHON}") == f"/usr/bin/python{PYTHON}"


def test_a_prefix_in_place_runs(channels: Channels, tmp_path: Path) -> None:
    """The link in the fabricated Python leads to the machine's, if it has one there."""
    prefix = tmp_path / "env"
    linked(channels.solve("hp-app"), prefix, tmp_path / "cache", str(prefix))
    (prefix / "bin" / f"python{PYTHON}").unlink()
    (prefix / "bin" / f"python{PYTHON}").symlink_to(Path(os.path.realpath(sys.executable)))
    done = subprocess.run([prefix / "bin" / "hp-lib"], capture_output=True, text=True, check=False)
    assert done.stdout == f"hp-lib 2.0 {prefix}\n", done.stderr
    where = subprocess.run([prefix / "bin" / "hp-where"], capture_output=True, text=True, check=True)
    assert where.stdout == f"prefix={prefix}\n"


def test_each_phase_is_said_with_counts_sizes_and_seconds(channels: Channels, tmp_path: Path) -> None:
    packages, said = channels.solve("hp-app"), list[str]()
    for name in ("a", "b"):
        link(packages, tmp_path / name, target_prefix=TARGET, cache=tmp_path / "cache", say=said.append)
    assert [line.rpartition(", ")[0] for line in said] == [
        "download: 4 packages, 3.5 kB",
        "link: 4 packages",
        "download: 4 packages, all in the cache",
        "link: 4 packages",
    ]
    assert all(line.endswith(" s") for line in said)


def test_two_people_get_the_same_bytes(channels: Channels, tmp_path: Path) -> None:
    """Other caches, other folders, another umask."""
    packages = channels.solve("hp-app")
    mine = tree(linked(packages, tmp_path / "mine", tmp_path / "my cache"))
    before = os.umask(0o077)
    try:
        theirs = tree(linked(read_text(text_of(packages, "linux-64")), tmp_path / "theirs", tmp_path / "their cache"))
    finally:
        os.umask(before)
    assert mine == theirs
    assert {mode for mode, _ in mine.values()} == {"drwxr-xr-x", "-rw-r--r--", "-rwxr-xr-x", "lrwxrwxrwx"}
    assert not [path for path in (tmp_path / "mine").rglob("*") if path.is_file() and b"my cache" in path.read_bytes()]


def test_nothing_is_shared_with_the_cache(channels: Channels, tmp_path: Path) -> None:
    """Whoever edits the prefix must not edit the cache."""
    prefix = linked(channels.solve("hp-app"), tmp_path / "env", tmp_path / "cache")
    files = [path for path in prefix.rglob("*") if not path.is_dir()]
    assert {path.lstat().st_nlink for path in files} == {1}
    assert not [path for path in files if path.is_symlink() and str(tmp_path) in os.readlink(path)]


def test_a_damaged_cache_is_mended(channels: Channels, tmp_path: Path) -> None:
    packages = channels.solve("hp-app")
    whole = tree(linked(packages, tmp_path / "a", tmp_path / "cache"))
    (settings,) = (tmp_path / "cache" / "packages").glob("hp-data*/share/hp/config.ini")
    settings.write_text("[hp]\nprefix = evil\n")
    (archive,) = (tmp_path / "cache" / "archives").glob("*/hp-app*")
    archive.write_bytes(b"torn")
    assert tree(linked(packages, tmp_path / "b", tmp_path / "cache")) == whole


def test_packages_of_one_name_and_two_contents_share_a_cache(channels: Channels, tmp_path: Path) -> None:
    python = list(channels.solve("python"))
    for word in ("one", "two", "one"):
        url = write_channel(channels.folder / word, [library("2.0", word=word)])
        library_alone = channels.solve(f"{word}::hp-lib", channels=[url, channels.url])
        prefix = linked(
            [*python, *(one for one in library_alone if one.name == "hp-lib")], tmp_path / os.urandom(4).hex(), tmp_path / "cache"
        )
        assert f'print("{word}"' in next(prefix.rglob("hp_lib/__init__.py")).read_text()


@pytest.mark.parametrize("over", ["file", "http"])
@pytest.mark.parametrize("harm", ["another package", "one byte", "empty"])
def test_an_archive_that_is_not_as_locked_is_refused(channels: Channels, server: str, tmp_path: Path, over: str, harm: str) -> None:
    url = channels.url if over == "file" else f"http://{server}/demo"
    packages = channels.solve("hp-app", channels=[url])
    archive = channels.folder / "demo" / "noarch" / "hp-data-1.0-0.tar.bz2"
    good = archive.read_bytes()
    bad = {"another package": library("2.0").archive(), "one byte": good[:-1] + bytes([good[-1] ^ 1]), "empty": b""}
    archive.write_bytes(bad[harm])
    with pytest.raises(EnvironmentBuildError, match="another SHA-256 than the lock") as caught:
        linked(packages, tmp_path / "env", tmp_path / "cache")
    assert "hp-data-1.0-0.tar.bz2" in caught.value.message
    assert "find out who changed it" in caught.value.hint
    assert not (tmp_path / "env").exists()
    archive.write_bytes(good)
    linked(packages, tmp_path / "env", tmp_path / "cache")


def test_a_lock_of_another_package_is_refused(channels: Channels, tmp_path: Path) -> None:
    (package,) = channels.solve("hp-data")
    with pytest.raises(EnvironmentBuildError, match=r"holds hp-data 1\.0 0, not hp-data 2\.0 0"):
        linked([replace(package, version="2.0")], tmp_path / "env", tmp_path / "cache")


@pytest.mark.parametrize("over", ["file", "http"])
def test_an_archive_that_is_gone_is_named(channels: Channels, server: str, tmp_path: Path, over: str) -> None:
    packages = channels.solve("hp-data", channels=[channels.url if over == "file" else f"http://{server}/demo"])
    (channels.folder / "demo" / "noarch" / "hp-data-1.0-0.tar.bz2").unlink()
    with pytest.raises(EnvironmentBuildError, match=r"hp-data-1\.0-0\.tar\.bz2"):
        linked(packages, tmp_path / "env", tmp_path / "cache")


@pytest.mark.parametrize("place", [f"{USER}:{PASSWORD}@{{}}/private/demo", f"{{}}/t/{TOKEN}/demo"])
def test_credentials_fetch_the_archives_and_stay_out_of_the_prefix(channels: Channels, server: str, tmp_path: Path, place: str) -> None:
    url = f"http://{place.format(server)}"
    packages = channels.solve("hp-app", channels=[url])
    link(packages, tmp_path / "env", target_prefix=TARGET, cache=tmp_path / "cache", say=silent, channels=channels_of([url], {}))
    words = [PASSWORD.encode(), TOKEN.encode(), USER.encode() + b":"]
    everything = [
        path for folder in ("env", "cache") for path in (tmp_path / folder).rglob("*") if path.is_file() and not path.is_symlink()
    ]
    assert not [path for path in everything if any(word in path.read_bytes() for word in words)]
    record = json.loads((tmp_path / "env/conda-meta/hp-app-0.1-0.json").read_text())
    assert record["channel"] == packages[0].channel
    assert record["url"] == packages[0].url


def test_a_missing_password_is_answered_with_how_to_give_it(channels: Channels, server: str, tmp_path: Path) -> None:
    packages = channels.solve("hp-app", channels=[f"http://{USER}:{PASSWORD}@{server}/private/demo"])
    with pytest.raises(EnvironmentBuildError) as caught:
        linked(packages, tmp_path / "env", tmp_path / "cache")
    assert "wants credentials" in caught.value.hint
    assert PASSWORD not in caught.value.message


def hostile(package: Package, listed: str) -> Package:
    """``package`` with one more announced path, which no member of its archive has."""

    class Hostile(Package):
        def _info(self) -> dict[str, File]:
            info = super()._info()
            paths = json.loads(info["info/paths.json"].content)
            paths["paths"].append(File(b"evil").entry(listed))
            return {**info, "info/paths.json": File(json.dumps(paths).encode())}

    return Hostile(package.name, package.version, files=package.files)


PLAIN = Package("hp-evil", "1", files={"share/evil": File(b"evil")})
HOSTILE = {
    "a member": [replace(PLAIN, extra={"../../evil": File(b"evil")})],
    "a path": [hostile(PLAIN, "../hp-evil-1-0/share/evil")],
    "a deep path": [hostile(PLAIN, "share/../../../evil")],
    "an absolute path": [hostile(PLAIN, "{out}/evil")],
    "a link in one package": [Package("hp-evil", "1", files={"d": File(link="{out}"), "d/evil": File(b"evil")})],
    "a link in another": [
        Package("hp-link", "1", files={"d": File(link="{out}")}),
        Package("hp-evil", "1", files={"d/evil": File(b"evil")}),
    ],
    "a relative link": [Package("hp-link", "1", files={"d": File(link="../..")}), Package("hp-evil", "1", files={"d/evil": File(b"evil")})],
    "a program": [Package("hp-evil", "1", noarch="python", files={"site-packages/e.py": File()}, entry_points=["../../evil = e:f"])],
}


def aimed(package: Package, out: Path) -> Package:
    files = {
        path.replace("{out}", str(out)): replace(file, link=file.link.replace("{out}", str(out))) for path, file in package.files.items()
    }
    if type(package) is not Package:
        return hostile(PLAIN, f"{out}/evil") if "{out}" in package._info()["info/paths.json"].content.decode() else package
    return replace(package, files=files)


@pytest.mark.parametrize("way", HOSTILE)
def test_nothing_is_written_outside_of_the_prefix(channels: Channels, tmp_path: Path, way: str) -> None:
    (tmp_path / "out").mkdir()
    made = [aimed(package, tmp_path / "out") for package in HOSTILE[way]]
    url = write_channel(channels.folder / "hostile", made)
    python = channels.solve("python")
    packages = [
        *python,
        *(one for one in channels.solve(*(one.name for one in made), channels=[url, channels.url]) if one.name != "python"),
    ]
    with pytest.raises(EnvironmentBuildError) as caught:
        linked(packages, tmp_path / "deep" / "er" / "env", tmp_path / "deep" / "cache")
    assert "hp-evil" in caught.value.message
    assert not [path for path in tmp_path.rglob("evil*") if "packages" not in path.parts]
    assert not [*(tmp_path / "out").iterdir()]


def test_packages_that_disagree_on_a_folder_are_refused_rather_than_linked_by_chance(channels: Channels, tmp_path: Path) -> None:
    made = [
        Package("hp-a", "1", files={"lib64": File(link="lib"), "lib/x": File(b"x")}),
        Package("hp-b", "1", files={"lib64/y": File(b"y")}),
    ]
    url = write_channel(channels.folder / "inside", made)
    with pytest.raises(EnvironmentBuildError, match=r"hp-a 1 0 and hp-b 1 0 can't be linked together: 'lib64' is a symbolic link"):
        linked(channels.solve("hp-a", "hp-b", channels=[url]), tmp_path / "env", tmp_path / "cache")
    prefix = linked(channels.solve("hp-a", channels=[url]), tmp_path / "env", tmp_path / "cache")
    assert os.readlink(prefix / "lib64") == "lib"


def test_post_link_scripts_are_not_run_and_that_is_said(channels: Channels, tmp_path: Path) -> None:
    script = File(f"#!/bin/sh\ntouch '{tmp_path}/ran'\n".encode(), 0o755)
    url = write_channel(channels.folder / "scripts", [Package("hp-script", "1", files={"bin/.hp-script-post-link.sh": script})])
    said: list[str] = []
    link(channels.solve("hp-script", channels=[url]), tmp_path / "env", target_prefix=TARGET, cache=tmp_path / "cache", say=said.append)
    assert said[-1] == "warning: the conda package hp-script has a post-link script, which is not run"
    assert not (tmp_path / "ran").exists()


def test_a_path_that_is_too_long_for_binaries_is_explained(channels: Channels, tmp_path: Path) -> None:
    with pytest.raises(EnvironmentBuildError, match="placeholder") as caught:
        linked(channels.solve("hp-app"), tmp_path / "env", tmp_path / "cache", "/" + "long/" * 60)
    assert "shorter path" in caught.value.hint


def _link_in_process(text: str, folder: str, cache: str) -> None:
    linked(read_text(text), Path(folder), Path(cache))


def test_four_processes_can_share_a_cache(channels: Channels, tmp_path: Path) -> None:
    text = text_of(channels.solve("hp-app"), "linux-64")
    spawn = multiprocessing.get_context("spawn")  # what Rust started doesn't survive a fork
    names = [f"env{number}" for number in range(4)]
    jobs = [spawn.Process(target=_link_in_process, args=(text, str(tmp_path / name), str(tmp_path / "cache"))) for name in names]
    for job in jobs:
        job.start()
    for job in jobs:
        job.join()
    assert [job.exitcode for job in jobs] == [0] * 4
    first, *others = [tree(tmp_path / name) for name in names]
    assert first
    assert all(other == first for other in others)
    assert not [*(tmp_path / "cache").rglob("*.tmp")]


def test_a_cache_that_can_not_be_written_is_named(channels: Channels, tmp_path: Path) -> None:
    packages = channels.solve("hp-data")
    (tmp_path / "file").write_text("no folder\n")
    with pytest.raises(EnvironmentBuildError, match=f"linking the conda packages failed: {tmp_path}/file/"):
        linked(packages, tmp_path / "env", tmp_path / "file" / "cache")
