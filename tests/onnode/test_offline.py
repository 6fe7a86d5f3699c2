"""A program outside of any run: it does all that it does in one, and says what would be recorded."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from hpcest.onnode import offline

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("python", ["own", "isolated"])
def test_offline_it_works_and_says_so(tmp_path: Path, python: str) -> None:
    """Outside any run, with nothing but the tracking part of the package."""
    program = (
        "from hpcest import Run\nrun = Run.get_context()\n"
        "run.log('loss', 0.5, step=1); run.log_row('r', x=1); run.tag('a', 'b'); run.log_list('l', [1, 2])\n"
        "with run.child_run('c') as child: child.log('y', 2)\n"
        "run.flush(); run.complete()\n"
        "assert run.get_metrics() == {'loss': 0.5, 'r': {'x': 1}, 'l': [1, 2]}, run.get_metrics()\n"
        "assert run.get_tags() == {'a': 'b'} and run.id.startswith('OfflineRun_')\n"
        "try: Run.get_context(allow_offline=False)\nexcept RuntimeError as error: print(error)\n"
    )
    if python == "isolated":
        (tmp_path / "hpcest").mkdir()
        (tmp_path / "hpcest" / "__init__.py").write_bytes((ROOT / "hpcest/__init__.py").read_bytes())
        (tmp_path / "hpcest" / "onnode").symlink_to(ROOT / "hpcest/onnode")
    where = tmp_path if python == "isolated" else ROOT
    env = {"PATH": os.environ["PATH"], "PYTHONPATH": str(where)}
    done = subprocess.run([sys.executable, "-S", "-c", program], capture_output=True, text=True, env=env, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stderr
    assert "[offline] loss = 0.5 (step 1)" in done.stdout
    assert "not inside a run" in done.stdout + done.stderr
    assert list(tmp_path.glob("outputs")) == []


def test_offline_it_has_all_that_a_run_has(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = offline.OfflineRun()
    run.log_confusion_matrix("m", {"schema_type": "confusion_matrix", "schema_version": "v1", "data": {}})
    run.log("x", [1])
    first, second = run.create_children(2)
    first.log("y", 1)
    run.register_model("net", "outputs/model.pkl")
    monkeypatch.chdir(tmp_path)
    run.display_name, run.description = "a", "b"
    run.remove_tags("never there")
    assert (run.name, run.description, run.experiment.name, first.parent) == ("a", "b", "offline", run)
    metrics = run.get_metrics(recursive=True)
    (matrix,) = run.get_file_names()
    assert metrics == {run.id: {"m": matrix}, first.id: {"y": 1}, second.id: {}}
    assert [child.id for child in run.get_children()] == [first.id, second.id]
    first.tag("fold", "1")
    found = [
        [child.id for child in run.get_children(**asked)]
        for asked in ({"tags": "fold"}, {"status": "Failed"}, {"type": "azureml.scriptrun"})
    ]
    assert found == [[first.id], [], []]
    assert (dict(run.input_datasets), dict(run.output_datasets)) == ({}, {})
    with second:
        pass
    run.fail("why")
    run.complete()
    assert (run.get_status(), run.status, second.status) == ("Failed", "Failed", "Completed")
    assert (run.get_details()["status"], run.get_detailed_status()["details"]) == ("Failed", "why")
    assert "[offline] would register outputs/model.pkl as the model net" in capsys.readouterr().out


def test_offline_files_are_found_again_and_go_with_the_program(tmp_path: Path) -> None:
    """What was uploaded, linked and not copied; and what lies in ./outputs, as a run would have it."""
    program = """if True:
        import io, os
        from hpcest import Run
        run = Run.get_context()
        os.makedirs("outputs")
        for name in ("outputs/model", "notes"):
            with open(name, "w") as stream:
                stream.write(name)
        run.upload_file("kept/notes", "notes")
        run.upload_file("stream", io.BytesIO(b"bytes"))
        print(run.get_file_names(), os.path.islink(os.path.join(run.folder, "artifacts/kept/notes")), run.folder)
        run.download_file("kept/notes", "back/")
        run.download_file("outputs/model", "back/model")
        run.download_files("stream", "all")
        print([open(name).read() for name in ("back/notes", "back/model", "all/stream")])
        for wrong in (lambda: run.upload_file("x", "nowhere"), lambda: run.download_file("x"), lambda: run.restore_snapshot()):
            try:
                wrong()
            except (FileNotFoundError, AttributeError) as error:
                print(error)
    """
    env = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=env, cwd=tmp_path, check=True)
    first, second, *errors = [line for line in done.stdout.splitlines() if not line.startswith("[offline]")]
    names, linked, folder = first.rpartition("]")[0] + "]", *first.rpartition("]")[2].split()
    assert (names, linked) == ("['kept/notes', 'outputs/model', 'stream']", "True")
    assert second == "['notes', 'outputs/model', 'bytes']"
    assert errors == [
        "upload_file('x'): there is no file 'nowhere'",
        "this run has no file 'x'; it has: kept/notes, outputs/model, stream",
        "Run.restore_snapshot is not there for a program outside of any run; start it with 'hpcest submit'",
    ]
    assert not Path(folder).exists()
