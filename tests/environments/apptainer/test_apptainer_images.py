"""Images that are used as they are, and recipes that images are built from."""

from __future__ import annotations

import os
import subprocess
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
    """Comments in a continued line, variables in their order, files when it is their turn, and what has no effect."""
    (tmp_path / "data.txt").touch()
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
    data.txt /.hpcest-copy/0

%environment
    export A=1
    export B="two words"
    export A=3

%post
    set -ex
    export A=1
    export B="two words"
    /bin/sh -c 'apt-get install one      two && echo $A'
    export A=3
    mkdir -p "/data/"
    cp -a /.hpcest-copy/0 "/data/data.txt"
    rm -rf /.hpcest-copy
"""
    )


@pytest.mark.parametrize(
    ("lines", "section", "expected"),
    [
        ('LABEL a=1 b="two words" "c"=\'$x\' d=', "labels", ["a 1", "b two words", "c $x", "d"]),
        ("LABEL old style\nMAINTAINER me", "labels", ["old style", "maintainer me"]),
        ("ARG X=1\nENV Y=$X${X:+2}${X:-3} X=4\nARG X=5\nLABEL x=$X y=$Y", "labels", ["x 4", "y 121"]),
        ("ARG TAG\nLABEL tag=${TAG}", "labels", ["tag 12"]),
        ("ENV OLD style words", "environment", ['export OLD="style words"']),
        (r"""ENV A=a\ b B='$5' C="\"$\`" D=${D:-d} E=é$""", "environment", None),
        ("ENV PATH=/x:$PATH\nENV PATH=/y:$PATH", "environment", ['export PATH="/x:${PATH}"', 'export PATH="/y:${PATH}"']),
        ("ARG P=/x:$PATH\nENV PATH=$P", "environment", ['export PATH="/x:${PATH}"']),
        ("RUN [ -d / ] && echo it\\\n\n  \\\n works", "post", ["/bin/sh -c '[ -d / ] && echo it     works'"]),
        ('RUN ["echo", "a b"]', "post", ["echo 'a b'"]),
        ('SHELL ["/bin/bash", "-c"]\nRUN cat <<< $((1<<2))', "post", ["/bin/bash -c 'cat <<< $((1<<2))'"]),
        ("WORKDIR /a\nWORKDIR b c", "post", ['mkdir -p "/a"', 'cd "/a"', 'mkdir -p "b c"', 'cd "b c"']),
        ('RUN true\nUSER nobody\nCMD ["x"]\nVOLUME /x\nSTOPSIGNAL 9', "post", ["/bin/sh -c true"]),
    ],
)
def test_what_a_line_of_a_dockerfile_becomes(tmp_path: Path, lines: str, section: str, expected: list[str] | None) -> None:
    """The section of the definition that it ends in; ``None`` where a shell says what the variables are."""
    whole = converted(tmp_path / "Dockerfile", f"ARG TAG=12\nFROM debian:$TAG AS one\n{lines}")
    assert "\nFrom: debian:12\n" in whole
    found = [line[4:] for line in whole.partition(f"%{section}\n")[2].partition("\n\n")[0].splitlines() if line != "    set -ex"]
    if expected is not None:
        assert found == expected
        return
    script = "\n".join([*found, 'printf "%s|" "$A" "$B" "$C" "$D" "$E"'])
    said = subprocess.run(["/bin/sh", "-c", script], env={}, capture_output=True, text=True, check=True).stdout
    assert said == 'a b|$5|"$\\`|d|é$|'


@pytest.mark.parametrize(
    "line",
    [
        "COPY --from=other a /b",
        "COPY --chown=1:1 a /b",
        "COPY . .",
        "COPY <<EOF /b",
        "COPY missing /b",
        "COPY ../a /b",
        "COPY a a.tar.gz /b",
        "COPY a",
        "COPY $HOME /b",
        "ADD https://host/file /b",
        "ADD a.tar.gz /b",
        "ADD --checksum=x a /b",
        "RUN --mount=type=cache,target=/x make",
        "RUN cat <<-'EOF' > x",
        "RUN <<EOF",
        "RUN",
        "SHELL /bin/bash -c",
        "ARG TARGETARCH",
        "ENV A",
        "ENV A=1 b",
        'ENV A="1',
        "ENV A=${B%x}",
        "ENV a.b=1",
        "LABEL a=$HOME",
        'LABEL "a b"=1',
        "WORKDIR src",
        "USER nobody\nRUN make",
        "ONBUILD RUN make",
        "FROM debian:13",
        "FROM --platform=linux/arm64 debian",
        "FROM scratch",
        "BLAH x",
    ],
)
def test_what_would_be_converted_wrongly_is_refused(tmp_path: Path, line: str) -> None:
    """Each by its line and its name, with what to write instead."""
    for name in ("a", "a.tar.gz"):
        (tmp_path / name).touch()
    last = line.splitlines()[-1]
    with pytest.raises(SpecError) as caught:
        converted(tmp_path / "Dockerfile", f"FROM debian:12\n{line}\n")
    assert f"Dockerfile:{2 + line.count(chr(10))}: {last!r} can't be converted" in caught.value.message
    assert caught.value.hint


@pytest.mark.parametrize("text", ["", "# nothing\n", "RUN make\nFROM debian\n", "# escape=`\nFROM debian\n", "ARG A=1\n"])
def test_a_dockerfile_that_begins_with_something_else_is_refused(tmp_path: Path, text: str) -> None:
    """No image can be told from it."""
    with pytest.raises(SpecError, match="Dockerfile"):
        converted(tmp_path / "Dockerfile", text)


def test_a_folder_is_not_copied_past_its_dockerignore(tmp_path: Path) -> None:
    """What it keeps out of images may be secret."""
    (tmp_path / ".dockerignore").write_text(".env\n")
    (tmp_path / ".env").write_text("secret")
    with pytest.raises(SpecError, match=r"COPY \. /app") as caught:
        converted(tmp_path / "Dockerfile", "FROM debian\nCOPY . /app\n")
    assert ".dockerignore" in caught.value.hint


@not_as_root
def test_a_dockerfile_is_built_as_docker_would(site: Site, apptainer: Apptainer, tmp_path: Path) -> None:
    """Each RUN begins in the working directory, files come in their turn, and of a folder what is in it."""
    context = tmp_path / "context"
    (context / "src" / "deep").mkdir(parents=True)
    for name in ("one", "two", "src/.hidden", "src/deep/three"):
        (context / name).write_text(name)
    text = """\
FROM debian:12
ARG NAME=app
ENV HOME_OF=/srv/$NAME GREETING="it's \\"so\\""
RUN mkdir -p /etc/conf && echo default > /etc/conf/one && cd /usr
WORKDIR $HOME_OF
RUN echo $NAME $PWD > where; false; true
COPY one /etc/conf/
COPY one two many/
COPY two renamed
COPY src .
COPY src /copied/src/
COPY . /all
RUN cat renamed >> /etc/conf/one
LABEL made="by hand" of=$NAME
"""
    definition = converted(context / "Dockerfile", text).replace("Bootstrap: docker", "Bootstrap: localimage")
    recipe = context / "x.def"
    recipe.write_text(definition.replace("From: debian:12", f"From: {apptainer.debian}"))
    lock = site.build(image=str(recipe))
    script = "cd /srv/app; echo $GREETING; cat /etc/conf/one; echo; cat where; find . /copied /all -type f; ls -d /.hpcest*"
    said = site.run(lock, "sh", "-c", script).stdout
    there = [
        "./where",
        "./many/one",
        "./many/two",
        "./renamed",
        "./.hidden",
        "./deep/three",
        "/copied/src/.hidden",
        "/copied/src/deep/three",
    ]
    there += [f"/all/{name}" for name in ("Dockerfile", "log", "one", "two", "src/.hidden", "src/deep/three", "x.def")]
    first, conf, where, *found = said.splitlines()
    assert (first, conf, where) == ('it\'s "so"', "onetwo", "app /srv/app")
    assert sorted(found) == sorted(there)
    base = site.store.base(str(lock.facts["base"]))
    assert base is not None
    shown = labels(base.path, str(apptainer.program))
    assert (shown["made"], shown["of"]) == ("by hand", "app")


def test_a_definition_without_a_beginning(site: Site, tmp_path: Path) -> None:
    """It is named, before anything is built."""
    (tmp_path / "x.def").write_text("FROM debian\n")
    assert "has no line 'Bootstrap: …'" in site.refusal(image=str(tmp_path / "x.def")).message


def test_the_files_of_recipes(tmp_path: Path) -> None:
    """What is copied from beside a recipe belongs to it."""
    for name in ("a.txt", "b.txt", "base.sif"):
        (tmp_path / name).write_text(name)
    (tmp_path / "x.def").write_text("Bootstrap: localimage\nFrom: base.sif\n%files\n  *.txt /data\n%post\n  a.txt\n")
    (tmp_path / "Dockerfile").write_text("ARG NAME=a\nFROM debian\nARG NAME\nCOPY ${NAME}.txt /data/\nCOPY nothing /data/\n")
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
