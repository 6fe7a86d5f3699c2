"""Images that are used as they are, and recipes that images are built from."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from hpcest.environments.apptainer.recipes import definition_of, files_of, labels
from hpcest.environments.apptainer.references import parse
from hpcest.environments.buildlog import BuildLog
from hpcest.environments.secrets import strip
from hpcest.errors import SpecError
from tests.cluster.fixtures import Apptainer
from tests.environments.apptainer.conftest import Offline, Site

not_as_root = pytest.mark.skipif(os.geteuid() == 0, reason="root in a sandbox can't unpack images; CI runs this as an ordinary user")


def converted(path: Path, text: str) -> str:
    """The definition that a Dockerfile becomes."""
    path.write_text(text)
    with BuildLog(path.with_name("log"), lambda line: None, strip) as log:
        return definition_of(parse(str(path)), log)


@pytest.mark.parametrize("kind", ["file", "docker-archive", "oci"])
def test_an_image_as_it_is(site: Site, apptainer: Apptainer, tmp_path: Path, kind: str) -> None:
    """Nothing is built over it, and its programs and variables are found."""
    archive, layout = tmp_path / "an archive.tar", tmp_path / "a layout"
    reference = {
        "file": lambda: str(apptainer.debian),
        "docker-archive": lambda: f"docker-archive:{apptainer.docker_archive(archive, FROM_IMAGE='yes')}",
        "oci": lambda: f"oci:{apptainer.oci_layout(layout, FROM_IMAGE='yes')}",
    }[kind]()
    lock = site.build(image=reference)
    assert lock.facts["layout"] == "image"
    assert site.run(lock, "echo", "here").stdout == "here\n"
    if kind != "file":
        assert site.run(lock, "sh", "-c", "echo $FROM_IMAGE").stdout == "yes\n"
    site.said.clear()
    assert site.build(image=reference) == lock
    (line,) = site.said
    assert f"environment {lock.key[:12]}: image {reference}, as it is" in line
    site.nothing_left()


def test_an_image_that_is_not_there(site: Site, tmp_path: Path) -> None:
    """What could be written instead is said."""
    assert "docker-archive:FILE" in site.refusal(image=str(tmp_path / "no.sif")).hint


def test_a_registry_that_cannot_be_reached(site: Site) -> None:
    """The registry's own words, and what to do on a machine without a network."""
    error = site.refusal(image="docker://127.0.0.1:1/some/image:1")
    assert "connection refused" in error.message
    assert "can't reach the registry" in error.hint
    site.nothing_left()


def test_a_digest_is_no_password() -> None:
    """A reference by digest is recorded whole, one with a password without it."""
    digest = f"docker://debian@sha256:{'a' * 64}"
    assert parse(digest).shown == digest
    assert parse(f"docker://me:secret@host/debian@sha256:{'a' * 64}").shown == f"docker://host/debian@sha256:{'a' * 64}"


def test_a_dockerfile_becomes_a_definition(tmp_path: Path) -> None:
    """Comments in a continued line, variables in their order, files, and what has no effect."""
    text = """\
# syntax=docker/dockerfile:1
from debian:12 as only
ENV A=1 \\
    B="two words"
RUN apt-get install one \\
    # a comment
    two && echo $A
ENV A=3
COPY data.txt /data/
USER nobody
CMD ["run"]
"""
    assert (
        converted(tmp_path / "Dockerfile", text)
        == """\
Bootstrap: docker
From: debian:12

%files
    data.txt /data/

%environment
    export A=1
    export B="two words"
    export A=3

%post
    set -ex
    export A=1
    export B="two words"
    apt-get install one      two && echo $A
    export A=3
"""
    )


@pytest.mark.parametrize(
    "line",
    [
        "COPY --from=other a /b",
        "COPY --chown=1:1 a /b",
        'COPY ["a", "/b"]',
        "COPY . .",
        "COPY <<EOF /b",
        "ADD https://host/file /b",
        "ADD a.tar.gz /b",
        "ADD --checksum=x a /b",
        "RUN --mount=type=cache,target=/x make",
        'RUN ["make"]',
        "RUN <<EOF",
        'SHELL ["/bin/bash", "-c"]',
        "ARG VERSION=1",
        "ONBUILD RUN make",
        "FROM debian:13",
        "FROM --platform=linux/arm64 debian",
        "FROM scratch",
        "BLAH x",
    ],
)
def test_what_would_be_converted_wrongly_is_refused(tmp_path: Path, line: str) -> None:
    """Each by its line and its name, with what to write instead."""
    with pytest.raises(SpecError) as caught:
        converted(tmp_path / "Dockerfile", f"FROM debian:12\n{line}\n")
    assert "Dockerfile" in caught.value.message
    assert caught.value.hint


def test_a_definition_without_a_beginning(site: Site, tmp_path: Path) -> None:
    """It is named, before anything is built."""
    (tmp_path / "x.def").write_text("FROM debian\n")
    assert "has no line 'Bootstrap: …'" in site.refusal(image=str(tmp_path / "x.def")).message


def test_the_files_of_recipes(tmp_path: Path) -> None:
    """What is copied from beside a recipe belongs to it."""
    for name in ("a.txt", "b.txt", "base.sif"):
        (tmp_path / name).write_text(name)
    (tmp_path / "x.def").write_text("Bootstrap: localimage\nFrom: base.sif\n%files\n  *.txt /data\n%post\n  a.txt\n")
    (tmp_path / "Dockerfile").write_text("FROM debian\nCOPY a.txt nothing /data/\n")
    assert [path.name for path in files_of(tmp_path / "x.def")] == ["a.txt", "b.txt", "base.sif"]
    assert [path.name for path in files_of(tmp_path / "Dockerfile")] == ["a.txt"]


@not_as_root
def test_a_definition_file_is_built_again_when_its_files_change(site: Site, apptainer: Apptainer, tmp_path: Path) -> None:
    """Built once for one content, and once more for another."""
    (tmp_path / "x.def").write_text(f"Bootstrap: localimage\nFrom: {apptainer.debian}\n%files\n  data.txt /data.txt\n")
    keys = []
    for text in ("one", "one", "two"):
        (tmp_path / "data.txt").write_text(text)
        lock = site.build(image=str(tmp_path / "x.def"))
        assert site.run(lock, "cat", "/data.txt").stdout == text
        keys.append(lock.key)
    assert keys[0] == keys[1] != keys[2]
    assert sum(line.startswith("base ") for line in site.said) == 2


@not_as_root
def test_system_steps_make_a_base_that_is_kept(site: Site, offline: Offline) -> None:
    """Root's lines run once, for all environments that have them."""
    lock = site.build(*offline, "alpha", system=("echo made > /etc/mark", "id -u >> /etc/mark"))
    assert site.run(lock, "cat", "/etc/mark").stdout == "made\n0\n"
    site.said.clear()
    site.build(*offline, "beta", system=("echo made > /etc/mark", "id -u >> /etc/mark"))
    assert not [line for line in site.said if line.startswith("base ")]


@not_as_root
def test_a_system_step_that_fails_is_shown(site: Site, offline: Offline) -> None:
    """The line that failed, and what it said."""
    error = site.refusal(*offline, "beta", system=("echo begun", "cat /no/such/file", "echo never"))
    assert "+ cat /no/such/file" in error.message
    assert "No such file" in error.message
    assert "never" not in error.message
    site.nothing_left()


@not_as_root
@pytest.mark.slow
def test_the_flat_layout(site: Site, offline: Offline) -> None:
    """One SIF, built the classic way."""
    lock = site.build(*offline, "alpha", layout="flat")
    assert site.run(lock, "say-alpha").stdout == "hello from alpha\n"
    site.nothing_left()


def test_the_labels_of_an_image(apptainer: Apptainer, tmp_path: Path) -> None:
    """What the image itself says; nothing of a file that is none."""
    found = labels(apptainer.debian, str(apptainer.program))
    assert found["org.label-schema.usage.singularity.deffile.bootstrap"] == "localimage"
    (tmp_path / "no.sif").write_text("nothing")
    assert labels(tmp_path / "no.sif", str(apptainer.program)) == {}
