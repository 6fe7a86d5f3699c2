"""Lock files say what they were made of, fit that alone, and hold no secrets; what is built can be told by its key."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hpcest.contracts import Lock
from hpcest.errors import SpecError, UnknownNameError, UsageError
from hpcest.lifecycle.context import Context
from hpcest.lifecycle.environments import gc, keys_in_use, listed, one_of, pin
from hpcest.lifecycle.lockfiles import LockFile, asked_of, check_fit, lock_file, read_lock_file, write_lock_file
from hpcest.lifecycle.shelves import counted
from hpcest.lifecycle.workspace import create_workspace
from hpcest.model.spec import EnvironmentSpec

SPEC = EnvironmentSpec(
    name="lab",
    pip=("NumPy >= 2", "--index-url https://me:secret-word@host/simple", "--pre"),
    conda=("Python=3.11",),
    channels=("https://me:secret-word@host/conda", "conda-forge"),
    image="docker://debian:12",
    steps=("make\n  install",),
)
MADE = Lock(
    "apptainer",
    "ab" * 32,
    "# pip packages, locked by hpcest for Python 3.11.2\nnumpy==2.1 --hash=sha256:00\n",
    {
        "base": "ef" * 32,
        "identity": "cd" * 32,
        "reference": "docker://debian:12",
        "origin": f"docker://debian:12@sha256:{'cd' * 32}",
        "version": "3.11.2",
        "layout": "split",
        "resolved": 1_700_000_000.0,
    },
)


def test_a_lock_file_says_all_that_is_needed_to_build_it_again(tmp_path: Path) -> None:
    path = tmp_path / "environment.lock"
    write_lock_file(path, lock_file(MADE, SPEC))
    assert path.read_text() == (
        "# hpcest environment lock, version 1\n# kind: apptainer\n"
        f"# key: {MADE.key}\n# name: lab\n# base: {'cd' * 32}\n# reference: docker://debian:12\n"
        f"# origin: docker://debian:12@sha256:{'cd' * 32}\n# python: 3.11.2\n# layout: split\n# resolved: 2023-11-14T22:13:20Z\n"
        "# asked: channel 1 https://host/conda\n# asked: channel 2 conda-forge\n# asked: conda python 3.11.*\n"
        "# asked: image docker://debian:12\n# asked: pip --pre\n# asked: pip numpy>=2\n# asked: step 1 make install\n#\n" + MADE.text
    )
    assert read_lock_file(path) == lock_file(MADE, SPEC)
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))  # as git may check it out
    assert read_lock_file(path).asked == asked_of(SPEC)


@pytest.mark.parametrize(
    ("other", "said"),
    [
        (EnvironmentSpec(pip=("b",)), "'pip b' is not in it; it has 'pip a'"),
        (EnvironmentSpec(pip=("A",), interpreter="3.9"), "'python 3.9' is not in it"),
        (EnvironmentSpec("conda", pip=("a",)), "it is for the kind 'venv', and 'conda' is asked for"),
        (EnvironmentSpec(pip=tuple("abcdefg")), "'pip e' is not in it (and 2 more)"),
    ],
)
def test_a_lock_fits_what_it_was_made_of_alone(other: EnvironmentSpec, said: str) -> None:
    lock = LockFile("venv", "k", "", asked=asked_of(EnvironmentSpec(pip=("a",))))
    check_fit(lock, EnvironmentSpec("venv", name="whatever", pip=("A",), variables={"A": "b"}), Path("x.lock"))
    with pytest.raises(SpecError) as error:
        check_fit(lock, other, Path("x.lock"))
    assert error.value.message.startswith("the lock file x.lock does not fit what is asked for: ")
    assert error.value.message.endswith(said)


def test_an_image_file_is_known_by_its_name_wherever_it_lies(tmp_path: Path) -> None:
    for folder in (tmp_path / "here", tmp_path / "there"):
        folder.mkdir()
        (folder / "base.sif").touch()
    assert {asked_of(EnvironmentSpec(image=str(tmp_path / one / "base.sif"))) for one in ("here", "there")} == {("image base.sif",)}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("alpha==1\n", "is no lock file of hpcest"),
        ("# hpcest environment lock, version 2\n# kind: venv\n", "was written by a newer version of hpcest"),
        ("# hpcest environment lock, version 1\n# kind: venv\n#\n", "is damaged: its head names no kind and key"),
    ],
)
def test_what_is_no_lock_file(text: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "x.lock").write_text(text)
    with pytest.raises(SpecError, match=said) as error:
        read_lock_file(tmp_path / "x.lock")
    assert error.value.hint


def test_what_is_built_is_found_by_the_beginning_of_its_key(tmp_path: Path) -> None:
    context = Context(create_workspace(tmp_path / "w"))
    for number, key in enumerate(("abc123abc123", "abd123abc123")):
        folder = context.workspace.environments / "venv" / f"{key}-0000"
        (folder / "00000000").mkdir(parents=True)
        (folder / "00000000" / "file").write_text("12345")
        facts = {"key": key, "kind": "venv", "token": "00000000", "created": 5 + number, "name": "abc lab"}
        (folder / "image.json").write_text(json.dumps(facts))
    assert [row.key for row in listed(context)] == ["abd123abc123", "abc123abc123"]
    assert (one_of(context, "abc").key, counted(one_of(context, "abd123abc123-0000"))) == ("abc123abc123", 5)
    with pytest.raises(UsageError, match="environment 'ab' is ambiguous: 2 keys start with it"):
        one_of(context, "ab")
    assert one_of(context, "abc lab").key == "abd123abc123"  # the newest of that name
    with pytest.raises(UnknownNameError, match="environment 'lab' is not known"):
        one_of(context, "lab")
    assert [*keys_in_use(context)] == []


def test_tokens_of_channels_stay_out_of_a_lock_file() -> None:
    """anaconda.org's private channels have theirs in the path."""
    spec = EnvironmentSpec(conda=("tool",), channels=("https://host/t/tok-123/lab",))
    assert asked_of(spec) == ("channel 1 https://host/lab", "conda tool")


def test_a_name_goes_before_the_beginning_of_a_key_and_a_whole_key_before_both(tmp_path: Path) -> None:
    """What a person sees in the list means one environment, even where it looks like something else."""
    context = Context(create_workspace(tmp_path / "w"))
    keys = {"abc000abc000": "ffe", "abc111abc111": "abc", "ffe000ffe000": "abc111abc111"}
    for key, name in keys.items():
        folder = context.workspace.environments / "venv" / f"{key}-0000"
        folder.mkdir(parents=True)
        (folder / "image.json").write_text(json.dumps({"key": key, "token": "00000000", "name": name}))
    assert one_of(context, "abc").key == "abc111abc111"
    assert one_of(context, "ffe").key == "abc000abc000"
    assert one_of(context, "abc111abc111").key == "abc111abc111"
    assert one_of(context, "ffe0").key == "ffe000ffe000"
    with pytest.raises(UsageError, match="environment 'ab' is ambiguous"):
        one_of(context, "ab")


def test_a_virtual_environment_is_pinned_and_swept(tmp_path: Path) -> None:
    """By its name, and without a store of images."""
    context = Context(create_workspace(tmp_path / "w"))
    folder = context.workspace.environments / "venv" / f"{'ab' * 8}-0000"
    (folder / "00000000" / "bin").mkdir(parents=True)
    (folder / "00000000" / "bin" / "python").symlink_to("/bin/sh")
    (folder / "image.json").write_text(json.dumps({"key": "ab" * 32, "kind": "venv", "token": "00000000", "name": "lab"}))
    report = gc(context, older_than=0, keep=0, dry_run=True)
    assert [one.label for one in report.gone] == ["environment lab abababababab (venv)"]
    pin(context, "lab")
    assert gc(context, older_than=0, keep=0).kept == {"environment lab abababababab (venv)": "pinned"}
    pin(context, "lab", pinned=False)
    assert one_of(context, "lab").pinned is False
    assert len(gc(context, older_than=0, keep=0).gone) == 1
    assert listed(context) == []
