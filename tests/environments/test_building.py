"""The parts of a build: its log, the tools' answers and complaints, and the shelf of images."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

import pluggy
import pytest

from hpcest import hookspecs
from hpcest.environments import host, venv
from hpcest.environments.buildlog import BuildLog
from hpcest.environments.complaints import decisive, hint_for
from hpcest.environments.images import Shelf
from hpcest.environments.locked import Pinned, cleared, read_report, read_text, restricted, text_of
from hpcest.environments.secrets import Veil
from hpcest.errors import EnvironmentBuildError


def test_the_kinds_register_as_a_stranger_s_would() -> None:
    manager = pluggy.PluginManager(hookspecs.PROJECT)
    manager.add_hookspecs(hookspecs)
    manager.register(host)
    manager.register(venv)
    found = {kind.name: kind for kinds in manager.hook.hpcest_register_environments() for kind in kinds}
    assert sorted(found) == ["host", "venv"]
    assert found["host"]().missing() == ""
    assert found["venv"]().missing() == ""
    assert found["host"].takes == {"interpreter", "variables"}
    assert found["venv"].takes == {"interpreter", "pip", "variables", "name"}


class TestLog:
    @pytest.fixture
    def log(self, tmp_path: Path) -> BuildLog:
        return BuildLog(tmp_path / "logs" / "build.log", lambda line: None, Veil(["https://me:hushhush@host"], {}))

    def run(self, log: BuildLog, code: str) -> str:
        with log:
            return log.run("step", [sys.executable, "-c", code], cwd=log.path.parent, env=dict(os.environ))

    def test_both_outputs_are_kept_with_the_time_and_without_secrets(self, log: BuildLog) -> None:
        assert self.run(log, "import sys; print('hushhush', flush=True); print('two', file=sys.stderr)").splitlines() == ["***", "two"]
        lines = log.path.read_text().splitlines()
        assert lines[0].startswith("[    0.0")
        assert [line.partition("] ")[2] for line in lines[1:]] == ["***", "two"]

    def test_what_we_say_ourselves_is_without_secrets(self, tmp_path: Path) -> None:
        said: list[str] = []
        with BuildLog(tmp_path / "log", said.append, Veil(["https://me:hushhush@host"], {})) as log:
            log.say("one hushhush")
            assert "hush" not in log.failure("step", "two hushhush").message
        assert said == ["one ***"]
        assert "hush" not in log.path.read_text()

    def test_a_failure_has_the_program_s_words(self, log: BuildLog) -> None:
        with pytest.raises(EnvironmentBuildError, match="step failed: it is hopeless") as caught:
            self.run(log, "print('fine so far'); import sys; sys.exit('error: it is hopeless')")
        assert caught.value.log == str(log.path)
        assert "it is hopeless" in log.path.read_text()

    def test_a_silent_failure_has_its_code(self, log: BuildLog) -> None:
        with pytest.raises(EnvironmentBuildError, match="ended with code 7"):
            self.run(log, "import sys; sys.exit(7)")

    def test_a_program_that_is_not_there_is_named(self, log: BuildLog) -> None:
        with log, pytest.raises(EnvironmentBuildError, match=r"/nowhere/uv: No such file"):
            log.run("step", ["/nowhere/uv"], cwd=log.path.parent, env={})

    def test_what_a_program_leaves_running_is_ended(self, log: BuildLog, wait_until: Callable[..., None]) -> None:
        pid = int(self.run(log, "import subprocess; print(subprocess.Popen(['sleep', '60']).pid)"))

        def is_gone() -> bool:
            try:
                return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
            except OSError:
                return True

        wait_until(is_gone, "the end of sleep", 10.0)

    def test_output_that_is_no_text_does_not_stop_it(self, log: BuildLog) -> None:
        assert "after" in self.run(log, r"import os; os.write(1, b'\xff\n\0\nafter\n')")

    def test_a_full_disk_does_not_stop_it(self, tmp_path: Path) -> None:
        (tmp_path / "full").symlink_to("/dev/full")
        said: list[str] = []
        with BuildLog(tmp_path / "full", said.append, Veil()) as log:
            log.say("one")
            assert log.run("step", [sys.executable, "-c", "print('x' * 100000)"], cwd=tmp_path, env={}) == "x" * 100000
        assert said == ["one"]


class TestLock:
    UV = (
        "alpha==1.0 \\\n    --hash=sha256:bb \\\n    --hash=sha256:aa\n    # via x\n# a comment\n"
        "b-c[d] @ https://h/x.whl \\\n    --hash=sha256:cc\n"
    )

    def test_the_answer_of_uv_becomes_one_line_each(self) -> None:
        assert text_of(read_text(self.UV)) == "alpha==1.0 --hash=sha256:aa --hash=sha256:bb\nb-c @ https://h/x.whl --hash=sha256:cc\n"

    def test_a_lock_text_is_read_as_it_was_written(self) -> None:
        packages = [
            Pinned("a", "1.0", hashes=("sha256:aa", "sha256:bb")),
            Pinned("b", url="git+https://h/b@0123"),
            Pinned("c", url="file:///c%20d", content="abc"),
            Pinned("", url="file:///unnamed", content="def"),
        ]
        assert sorted(read_text(text_of(packages)), key=str) == sorted(packages, key=str)

    def test_a_line_that_is_no_package_is_refused(self) -> None:
        with pytest.raises(ValueError, match="no locked package: six"):
            read_text("six\n")

    def test_the_answer_of_pip_has_the_same_form(self) -> None:
        archive = {"archive_info": {"hash": "sha256=aa"}, "url": "https://h/x.whl"}
        newer = {"archive_info": {"hashes": {"sha256": "bb"}}, "url": "https://h/y.tar.gz", "subdirectory": "sub"}
        commit = {"vcs_info": {"vcs": "git", "commit_id": "0123"}, "url": "file:///a b"}
        report = {
            "install": [
                {"metadata": {"name": "X_x", "version": "1"}, "download_info": archive, "is_direct": False},
                {"metadata": {"name": "y", "version": "2"}, "download_info": newer, "is_direct": True},
                {"metadata": {"name": "z", "version": "3"}, "download_info": commit, "is_direct": True},
            ]
        }
        assert text_of(read_report(report)).splitlines() == [
            "x-x==1 --hash=sha256:aa",
            "y @ https://h/y.tar.gz#subdirectory=sub --hash=sha256:bb",
            "z @ git+file:///a%20b@0123",
        ]

    def test_only_the_hashes_that_were_asked_for_stay(self) -> None:
        packages = [Pinned("a", "1", hashes=("sha256:aa", "sha256:bb")), Pinned("b", "1", hashes=("sha256:cc",))]
        assert [one.hashes for one in restricted(packages, {"a": ("sha256:bb",)})] == [("sha256:bb",), ("sha256:cc",)]
        with pytest.raises(ValueError, match="b==1 has none of the hashes"):
            restricted(packages, {"b": ("sha256:00",)})

    def test_urls_lose_their_secrets_and_directories_get_their_state(self) -> None:
        packages = [Pinned("a", url="https://me:hush@h/a.whl", hashes=("sha256:aa",)), Pinned("b", url="file:///b")]
        assert (
            text_of(cleared(packages, Veil(), {"file:///b": "abc"}))
            == "a @ https://h/a.whl --hash=sha256:aa\nb @ file:///b  # content=abc\n"
        )


@pytest.mark.parametrize(
    ("output", "words", "hint"),
    [
        (
            "Using Python 3.11 at x\n  \u00d7 No solution found when resolving dependencies:\n"
            "  ╰─▶ Because nope was not found in the package registry",
            "No solution found when resolving dependencies:\nBecause nope was not found in the package registry",
            "spelling",
        ),
        (
            "Collecting six\nERROR: No matching distribution found for six==99\nWARNING: old pip",
            "No matching distribution found for six==99",
            "version",
        ),
        (
            "error: Failed to fetch\n  cause: dns error: failed to lookup",
            "Failed to fetch\ncause: dns error: failed to lookup",
            "HTTPS_PROXY",
        ),
        ("error: invalid peer certificate: UnknownIssuer", "invalid peer certificate: UnknownIssuer", "SSL_CERT_FILE"),
        ("error: HTTP status client error (401 Unauthorized)", "HTTP status client error (401 Unauthorized)", "credentials"),
        ("ERROR: [Errno 28] No space left on device", "[Errno 28] No space left on device", "UV_CACHE_DIR"),
        ("ERROR: [Errno 122] Disk quota exceeded", "[Errno 122] Disk quota exceeded", "UV_CACHE_DIR"),
        ("ERROR: Failed building wheel for mpi4py", "Failed building wheel for mpi4py", "compiler"),
        ("one\ntwo\nthree", "one\ntwo\nthree", ""),
        ("", "", ""),
    ],
)
def test_complaints_are_cut_to_what_matters(output: str, words: str, hint: str) -> None:
    found = decisive(output.splitlines())
    assert found == words
    assert hint in hint_for(found)
    assert bool(hint_for(found)) == bool(hint)


def test_long_complaints_are_cut() -> None:
    assert len(decisive([f"error: {'x' * 1000} {number}" for number in range(50)])) <= 1500


class TestShelf:
    def finished(self, shelf: Shelf) -> Path:
        folder = shelf.begin()
        (folder / "bin").mkdir()
        (folder / "bin" / "python").symlink_to(sys.executable)
        return folder

    def test_of_two_that_finish_one_is_used(self, tmp_path: Path) -> None:
        shelf = Shelf(tmp_path, "k" * 64, sys.executable)
        assert shelf.look() == (None, "")
        one, two = self.finished(shelf), self.finished(shelf)
        assert shelf.ready() is None
        assert shelf.publish(one, {})
        assert not shelf.publish(two, {})
        image = shelf.ready()
        assert image is not None
        assert image.folder == one

    def test_each_python_has_an_image_of_its_own(self, tmp_path: Path) -> None:
        one, two = Shelf(tmp_path, "k" * 64, sys.executable), Shelf(tmp_path, "k" * 64, "/elsewhere/python")
        assert one.publish(self.finished(one), {})
        assert two.ready() is None
        assert Shelf(tmp_path, "k" * 64, os.path.realpath(sys.executable)).ready() is not None

    def test_a_finished_image_of_a_builder_that_ended_is_not_swept_away(self, tmp_path: Path) -> None:
        shelf = Shelf(tmp_path, "k" * 64, sys.executable)
        folder = self.finished(shelf)
        assert shelf.publish(folder, {})
        os.utime(folder, (1, 1))
        shelf.begin()
        assert shelf.ready() is not None

    def test_a_pointer_never_leads_out_of_its_folder(self, tmp_path: Path) -> None:
        shelf = Shelf(tmp_path, "k" * 64, sys.executable)
        assert shelf.publish(self.finished(shelf), {})
        pointer = shelf.folder / "image.json"
        for token in ('"../../x"', '"/etc"', "null", "7", '""'):
            pointer.write_text(f'{{"token": {token}}}')
            assert shelf.look() == (None, "its manifest can't be read")
