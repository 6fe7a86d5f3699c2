"""What can't work is refused with one message that names it and the next step, and leaves nothing half done."""

from __future__ import annotations

import json
import os
import threading
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from tests.lifecycle.conftest import Site  # only for its type: pytest finds the fixture

HELLO = "print('hello')\n"


@pytest.mark.parametrize(
    ("options", "thing", "next_step"),
    [
        (["-c", "lcal"], "compute target 'lcal'", "did you mean 'local'?"),
        (["--framework", "scrpt"], "framework 'scrpt'", "did you mean 'script'?"),
        (["--env", "hst"], "environment 'hst'", "did you mean 'host'?"),
        (["--env", "no-such.txt"], "'no-such.txt'", ""),
        (["--image", "some.sif"], "an image", "hpcest plugins"),
        (["--set", "resources.nods=2"], "'nods'", "did you mean 'nodes'?"),
        (["--set", "resources.nodes=two"], "resources.nodes", "a whole number"),
        (["--set", "environment_variables={'A=B': x}"], "environment variable 'A=B'", "no '='"),
        (["--set", "inputs={'A=B': x}"], "input 'A=B'", "no '='"),
        (["--set", "resume_from=abcdefgh"], "run 'abcdefgh' is not known", "no runs yet"),
        (["--set", "resume_from=../runs"], "run '../runs' is not known", "no runs yet"),
        (["--time", "soon"], "time 'soon'", "2:00:00"),
        (["--mem", "3Q"], "memory '3Q'", "4G"),
        (["-n", "0"], "0", "x>=1"),
        (["--tag", "x"], "'x'", "NAME=VALUE"),
        (["--env-var", "=x"], "'=x'", "NAME=VALUE"),
        (["--folow"], "--folow", "--follow"),
        (["-e", "two\nlines"], r"'two\nlines'", "without line breaks"),
        (["-e", "x" * 256], "x" * 256, "1 to 255 characters"),
    ],
    ids=lambda value: " ".join(value)[:40] if isinstance(value, list) else "",
)
def test_an_option_that_can_not_be(site: Site, options: list[str], thing: str, next_step: str) -> None:
    answer = site.cli("submit", site.write(HELLO), *options)

    assert answer.code == 2
    assert thing in answer.refusal
    assert next_step in answer.refusal
    site.nothing_is_left()


@pytest.mark.parametrize(
    ("text", "place", "words"),
    [
        ("script: train.py\ncomput: local\n", ":2: ", "did you mean 'compute'?"),
        ("script: train.py\n\tcompute: local\n", ":2: ", "a tab"),
        ("script: train.py\ncompute: local\nscript: other.py\n", ":3: ", "a second time"),
        ("script: train.py\nresources:\n  instance_count: two\n", ":3: ", "a whole number"),
        ("script: train.py\narguments: all\n", ":2: ", "a list"),
        ("script: train.py\nenvironment:\n  knd: host\n", ":3: ", "did you mean 'kind'?"),
        ("script: train.py\ncompute: lcal\n", "", "did you mean 'local'?"),
        ("script: train.py\nframework: scrpt\n", "", "did you mean 'script'?"),
        ("script: train.py\nenvironment: hst\n", "", "did you mean 'host'?"),
        ("script: trian.py\n", "", "did you mean 'train.py'?"),
        ("script: train.py\ncode: ../no-such\n", "", "relative to the job file"),
        ("command: train ${{inputs.data}}\n", ":1: ", "${{inputs.data}}"),
        ("script: train.py\ncommand: ls\n", "", "'script'"),
        ("- script: train.py\n", ":1: ", "a mapping"),
        ("script: [train.py\n", ":", "job.yaml"),
        ("", "", "job.yaml"),
    ],
)
def test_a_job_file_that_can_not_be(site: Site, text: str, place: str, words: str) -> None:
    """The message has the line, and the nearest word where there is one."""
    site.write(HELLO)
    job = site.write(text, "job.yaml")
    answer = site.cli("submit", job)

    assert answer.code == 2
    assert (f"{job}{place}" if place else "") in answer.refusal
    assert words in answer.refusal
    site.nothing_is_left()


def test_a_configuration_that_can_not_be(site: Site) -> None:
    script = site.write(HELLO)
    site.configure("compute:\n  local:\n    slot: 2\n")
    assert f"{site.workspace.config}:3: " in site.cli("submit", script).refusal
    site.configure("compute:\n  big:\n    backend: slrm\n")
    assert "'slrm'" in site.cli("submit", script, "-c", "big").refusal
    site.nothing_is_left()


def test_no_such_script(site: Site) -> None:
    site.write(HELLO)
    assert "'trian.py'" in site.cli("submit", "trian.py").refusal
    assert "hpcest.yaml" in site.cli("submit", site.source).refusal
    site.nothing_is_left()


def test_no_such_source_directory(site: Site) -> None:
    assert "no-such" in site.cli("submit", site.write(HELLO), "--source", "no-such").refusal
    job = site.write("command: ls\ncode: empty\n", "job.yaml")
    (site.source / "empty").mkdir()
    assert "has no files in it" in site.cli("submit", job).refusal
    site.nothing_is_left()


def test_a_file_that_can_not_be_read(site: Site) -> None:
    script = site.write(HELLO)
    site.write("secret", "private.txt").chmod(0)
    refusal = site.cli("submit", script, powerless=True).refusal

    assert "'private.txt'" in refusal
    assert "Permission denied" in refusal
    assert ".amlignore" in refusal
    site.nothing_is_left()


@pytest.mark.parametrize("mode", [0o300, 0o600, 0])
def test_a_source_directory_that_can_not_be_read(site: Site, mode: int) -> None:
    """Whether it can be listed, entered, or neither."""
    site.write(HELLO, "inner/train.py")
    job = site.root / "job.yaml"
    job.write_text("script: train.py\ncode: source/inner\nexperiment_name: trial\n")
    (site.source / "inner").chmod(mode)
    refusal = site.cli("submit", job, powerless=True).refusal
    (site.source / "inner").chmod(0o700)

    assert (
        f"the source directory {str(site.source / 'inner')!r} can't be read" in refusal or "'train.py' in the source directory" in refusal
    )
    assert "Permission denied" in refusal
    site.nothing_is_left()


def test_a_file_that_changes_while_it_is_read(site: Site) -> None:
    script = site.write(HELLO)
    stop = threading.Event()

    def scribble() -> None:
        with open(site.source / "growing.log", "ab", buffering=0) as stream:
            while not stop.is_set():
                stream.write(b"x" * 64)

    site.write("x" * 2_000_000, "growing.log")
    writer = threading.Thread(target=scribble)
    writer.start()
    try:
        refusal = site.cli("submit", script).refusal
    finally:
        stop.set()
        writer.join()

    assert "'growing.log'" in refusal
    assert "keeps changing" in refusal
    site.nothing_is_left()


def test_a_workspace_of_a_newer_version(site: Site) -> None:
    header = json.loads(site.workspace.header.read_text())
    site.workspace.header.write_text(json.dumps({**header, "schema": 99}))
    script = site.write(HELLO)

    for words in (["submit", script], ["runs"], ["show", "@latest"], ["init", site.root]):
        answer = site.cli(*words)
        assert "newer version" in answer.refusal
        assert "upgrade hpcest" in answer.refusal
    site.nothing_is_left()


@pytest.mark.parametrize("text", ["", "[]", "{", "null", '{"schema": "one"}'])
def test_a_damaged_workspace(site: Site, text: str) -> None:
    site.workspace.header.write_text(text)

    assert str(site.root) in site.cli("runs").refusal


def test_no_workspace(site: Site, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "train.py").write_text(HELLO)

    assert "hpcest init" in site.cli("submit", "train.py", cwd=outside).refusal
    assert "hpcest init" in site.cli("-w", outside, "runs", cwd=outside).refusal
    assert os.listdir(outside) == ["train.py"]


def test_a_current_directory_that_was_deleted(site: Site, tmp_path: Path) -> None:
    """Whatever does not need it works, the rest is refused."""
    gone = tmp_path / "gone"
    before = ["sh", "-c", 'rmdir "$PWD" && exec "$@"', "sh"]
    for words in (["runs"], ["submit", site.write(HELLO)]):
        gone.mkdir()
        assert "irectory" in site.cli(*words, cwd=gone, before=before).refusal
    gone.mkdir()

    assert site.cli("-w", site.root, "runs", "--json", cwd=gone, before=before).ok().out.strip() == "[]"
    site.nothing_is_left()


def test_a_workspace_that_can_not_be_written(site: Site) -> None:
    """Nothing is submitted, what there is can still be listed and shown."""
    run = site.submit(HELLO)
    site.wait(run)
    site.runs()
    before = sorted(os.listdir(site.workspace.runs))
    folders = [path for path in (site.workspace.home, *site.workspace.home.rglob("*")) if path.is_dir() and not path.is_symlink()]
    for folder in folders:
        folder.chmod(0o500)
    try:
        script = site.write(HELLO + "# anew\n")
        assert "hpcest" in site.cli("submit", script, powerless=True).refusal
        script.write_text(HELLO)
        assert "hpcest" in site.cli("submit", script, powerless=True).refusal
        assert run.id in site.cli("runs", powerless=True).ok().out
        assert "Completed" in site.cli("show", run.id, powerless=True).ok().out
    finally:
        for folder in folders:
            folder.chmod(0o700)

    assert sorted(os.listdir(site.workspace.runs)) == before
