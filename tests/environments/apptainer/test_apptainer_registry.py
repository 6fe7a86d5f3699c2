"""Images of a registry: told by the digest of their manifest, which is the same on every machine, whatever Apptainer makes of them."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from hpcest.environments.apptainer.lockedbase import on_base
from hpcest.environments.apptainer.registry import UnreachableError, look_up, name_of
from hpcest.errors import EnvironmentBuildError
from hpcest.model.spec import EnvironmentSpec
from tests.cluster.fixtures import Apptainer
from tests.environments.apptainer.conftest import Site
from tests.environments.apptainer.registry_server import Registry, serving

LOGIN = "me:a p@ssword"


@pytest.fixture
def registry(apptainer: Apptainer, monkeypatch: pytest.MonkeyPatch) -> Iterator[Registry]:
    """A public registry, reached by HTTP as those inside a cluster are."""
    monkeypatch.setenv("APPTAINER_NOHTTPS", "1")
    with serving() as one:
        yield one


@pytest.fixture
def private(apptainer: Apptainer, monkeypatch: pytest.MonkeyPatch) -> Iterator[Registry]:
    """One that asks for a login."""
    monkeypatch.setenv("APPTAINER_NOHTTPS", "1")
    with serving(LOGIN) as one:
        yield one


@pytest.mark.parametrize(
    ("uri", "host", "repository", "fetched"),
    [
        ("docker://python:3.12-slim", "docker.io", "library/python", "docker://python:3.12-slim"),
        ("docker://docker.io/library/python", "docker.io", "library/python", "docker://python"),
        ("docker://pytorch/pytorch:2", "docker.io", "pytorch/pytorch", "docker://pytorch/pytorch:2"),
        ("docker://nvcr.io/nvidia/pytorch:24.01-py3", "nvcr.io", "nvidia/pytorch", "docker://nvcr.io/nvidia/pytorch:24.01-py3"),
        ("docker://localhost/x", "localhost", "x", "docker://localhost/x"),
        ("docker://me:p%40ss@localhost:5000/a/b:1", "localhost:5000", "a/b", "docker://localhost:5000/a/b:1"),
        (f"docker://python:3@sha256:{'a' * 64}", "docker.io", "library/python", f"docker://python@sha256:{'a' * 64}"),
    ],
)
def test_names_are_read_as_docker_reads_them(uri: str, host: str, repository: str, fetched: str) -> None:
    """A first part with a dot or a port is a machine; Apptainer gets neither a login, nor a tag beside a digest."""
    name = name_of(uri)
    assert name
    assert (name.host, name.repository, name.uri) == (host, repository, fetched)


def test_the_digest_of_a_tag(registry: Registry, apptainer: Apptainer, tmp_path: Path) -> None:
    """Of an index it is that of the image for this machine, and one that is made for others alone is refused by name."""
    layout = apptainer.oci_layout(tmp_path / "layout", GREETING="hello")
    digest = registry.tag("lab/tiny", "1", layout)
    assert registry.tag("lab/tiny", "many", layout, "arm64", "s390x") == digest
    for tag in ("1", "many"):
        name = name_of(f"docker://{registry.address}/lab/tiny:{tag}")
        assert name
        assert look_up(name, machine="x86_64") == digest
    assert name
    with pytest.raises(EnvironmentBuildError, match="not made for riscv64: it is for amd64, arm64, s390x"):
        look_up(name, machine="riscv64")
    missing = name_of(f"docker://{registry.address}/lab/tiny:2")
    assert missing
    with pytest.raises(EnvironmentBuildError, match=f"{registry.address} has no image .*lab/tiny:2"):
        look_up(missing)


@pytest.mark.parametrize("way", ["reference", "variables", "apptainer", "docker"])
def test_a_private_registry(private: Registry, apptainer: Apptainer, tmp_path: Path, way: str) -> None:
    """It is asked with the login of the reference, of Apptainer's variables, or of what ``apptainer`` or ``docker login`` kept."""
    digest = private.tag("lab/tiny", "1", apptainer.oci_layout(tmp_path / "layout"))
    variables = {"APPTAINER_NOHTTPS": "1", "HOME": str(tmp_path)}
    login = ""
    if way == "reference":
        login = "me:a%20p%40ssword@"
    elif way == "variables":
        variables.update(APPTAINER_DOCKER_USERNAME="me", APPTAINER_DOCKER_PASSWORD="a p@ssword")
    else:
        file = tmp_path / (".apptainer/docker-config.json" if way == "apptainer" else ".docker/config.json")
        file.parent.mkdir()
        file.write_text(json.dumps({"auths": {private.address: {"auth": base64.b64encode(LOGIN.encode()).decode()}}}))
    name = name_of(f"docker://{login}{private.address}/lab/tiny:1")
    assert name
    assert look_up(name, variables) == digest


def test_a_registry_that_lets_nobody_in(private: Registry) -> None:
    """It is not taken for one without the image: Apptainer may know a login that we don't."""
    name = name_of(f"docker://{private.address}/lab/tiny:1")
    assert name
    with pytest.raises(UnreachableError, match="401"):
        look_up(name, {"APPTAINER_NOHTTPS": "1", "HOME": "/nonexistent"})


def test_two_workspaces_have_one_key(site: Site, registry: Registry, apptainer: Apptainer, tmp_path: Path) -> None:
    """Apptainer's files differ, what tells the image does not; by digest or by tag, and a tag that moves changes nothing by itself."""
    digest = registry.tag("lab/tiny", "1", apptainer.oci_layout(tmp_path / "one", GREETING="one"), "arm64")
    reference = f"docker://{registry.address}/lab/tiny:1"
    mine = site.build(image=reference)
    other = site.beside("other")
    theirs = other.build(image=f"docker://{registry.address}/lab/tiny@sha256:{digest}")
    assert mine.key == theirs.key
    assert mine.facts["identity"] == theirs.facts["identity"] == digest
    assert mine.facts["origin"] == f"{reference}@sha256:{digest}"
    assert theirs.facts["base"] == hashlib.sha256(other.store.base(theirs.facts["base"]).path.read_bytes()).hexdigest()  # type: ignore[union-attr]
    registry.tag("lab/tiny", "1", apptainer.oci_layout(tmp_path / "two", GREETING="two"))
    assert site.build(image=reference) == mine
    assert site.kind.forget(EnvironmentSpec(image=reference), site.workspace) is False  # packages, there were none to choose
    moved = site.build(image=reference)
    assert moved.key != mine.key
    assert site.run(moved, "sh", "-c", "echo $GREETING").stdout == "two\n"
    assert site.run(mine, "sh", "-c", "echo $GREETING").stdout == "one\n"


def test_what_a_store_has_is_not_fetched_again(site: Site, registry: Registry, apptainer: Apptainer, tmp_path: Path) -> None:
    """Two names of one image are one file, and one that is named by its digest needs no registry then."""
    layout = apptainer.oci_layout(tmp_path / "one")
    digest = registry.tag("lab/tiny", "1", layout)
    registry.tag("lab/tiny", "latest", layout)
    first = site.build(image=f"docker://{registry.address}/lab/tiny:1")
    registry.asked.clear()
    assert site.build(image=f"docker://{registry.address}/lab/tiny").facts["base"] == first.facts["base"]
    assert [line for line in registry.asked if "blobs" in line] == []
    registry.asked.clear()
    assert site.build(image=f"docker://{registry.address}/lab/tiny:9@sha256:{digest}").key == first.key
    assert registry.asked == []


def test_a_lock_finds_its_image_when_the_tag_has_moved(site: Site, registry: Registry, apptainer: Apptainer, tmp_path: Path) -> None:
    """What the lock names is fetched by its digest."""
    registry.tag("lab/tiny", "1", apptainer.oci_layout(tmp_path / "one", GREETING="one"))
    spec = EnvironmentSpec(image=f"docker://{registry.address}/lab/tiny:1")
    lock = site.kind.resolve(spec, site.workspace, site.said.append)
    registry.tag("lab/tiny", "1", apptainer.oci_layout(tmp_path / "two", GREETING="two"))
    other = site.beside("other")
    facts = lock.facts
    fitting = on_base(spec, facts["identity"], facts["origin"], store=other.store, settings=other.settings, say=other.said.append)
    again = other.kind.resolve(fitting, other.workspace, other.said.append)
    assert again.key == lock.key
    assert other.run(again, "sh", "-c", "echo $GREETING").stdout == "one\n"


def test_a_password_is_on_no_command_line(site: Site, private: Registry, apptainer: Apptainer, tmp_path: Path) -> None:
    """Everybody on a login node can read those; nor is it in a record or in what is said."""
    private.tag("lab/tiny", "1", apptainer.oci_layout(tmp_path / "one"))
    lock = site.build(image=f"docker://me:a%20p%40ssword@{private.address}/lab/tiny:1")
    assert site.run(lock, "echo", "in").stdout == "in\n"
    written = [path.read_text(errors="replace") for path in site.workspace.root.rglob("*") if path.is_file() and path.suffix != ".sif"]
    assert not [text for text in [*written, *site.said, str(lock)] if "ssword" in text]


def test_a_sif_of_a_registry_is_taken_as_it_is(site: Site, registry: Registry, apptainer: Apptainer, tmp_path: Path) -> None:
    """So that it has one digest everywhere."""
    sif = apptainer.build(tmp_path / "tiny.sif", f"docker-archive:{apptainer.docker_archive(tmp_path / 'tiny.tar')}")
    registry.put_sif("lab/sif", "1", sif)
    lock = site.build(image=f"oras://{registry.address}/lab/sif:1")
    assert lock.facts["identity"] == lock.facts["base"] == hashlib.sha256(sif.read_bytes()).hexdigest()
