"""Credentials of an index reach the tools, and nothing that is kept or said."""

from __future__ import annotations

import base64
import functools
import http.server
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from hpcest.environments.venv import Venv
from hpcest.errors import EnvironmentBuildError
from hpcest.model.folders import WorkspaceFolder
from hpcest.model.spec import EnvironmentSpec
from tests.environments.conftest import RUN

SECRET = "s3cr3t-p@ss"
IN_URL = "s3cr3t-p%40ss"


class _Index(http.server.SimpleHTTPRequestHandler):
    """A package index with a door."""

    def do_GET(self) -> None:
        wanted = base64.b64encode(f"alice:{SECRET}".encode()).decode()
        if self.headers.get("Authorization") != f"Basic {wanted}":
            self.send_response(401)
            self.send_header("WWW-Authenticate", 'Basic realm="packages"')
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        super().do_GET()

    def log_message(self, format: str, *arguments: object) -> None:
        """Tests are quiet."""


@pytest.fixture
def index(wheels: Path, tmp_path: Path) -> Iterator[str]:
    """``host:port`` of an index of the folder of packages, for alice alone."""
    root = tmp_path / "index"
    for wheel in wheels.iterdir():
        place = root / "simple" / wheel.name.partition("-")[0]
        place.mkdir(parents=True, exist_ok=True)
        (place / wheel.name).write_bytes(wheel.read_bytes())
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Index, directory=str(root)))
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    yield f"127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    thread.join()
    server.server_close()


def kept_in(folder: Path) -> bytes:
    """All bytes and names of files below a folder."""
    found = [path for path in folder.rglob("*") if not path.is_symlink()]
    return b"\n".join([str(path).encode() for path in found] + [path.read_bytes() for path in found if path.is_file()])


def assert_is_nowhere(workspace: WorkspaceFolder, *texts: str) -> None:
    kept = kept_in(workspace.root)
    for secret in (SECRET, IN_URL, "alice"):
        assert secret.encode() not in kept
        assert not any(secret in text for text in texts)


@pytest.mark.usefixtures("installer")
@pytest.mark.parametrize("way", ["line", "variable in line", "PIP_INDEX_URL", "UV_DEFAULT_INDEX", "pip.conf"])
def test_an_index_with_a_door_works_and_its_key_is_not_kept(
    way: str, index: str, workspace: WorkspaceFolder, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    url = f"http://alice:{IN_URL}@{index}/simple"
    lines = ["alpha"]
    if way == "line":
        lines.append(f"--index-url {url}")
    elif way == "variable in line":
        monkeypatch.setenv("WHO", f"alice:{IN_URL}")
        lines.append(f"--index-url=http://${{WHO}}@{index}/simple")
    elif way == "pip.conf":
        (tmp_path / "pip.conf").write_text(f"[global]\nindex-url = {url}\n")
        monkeypatch.setenv("PIP_CONFIG_FILE", str(tmp_path / "pip.conf"))
    else:
        monkeypatch.setenv(way, url)
    said: list[str] = []
    lock = Venv().prepare(EnvironmentSpec(pip=tuple(lines)), workspace, said.append)
    assert [line.partition(" ")[0] for line in lock.text.splitlines()] == ["alpha==1.0", "beta==2.0"]
    assert_is_nowhere(workspace, lock.text, *map(str, lock.facts.values()), *said)


@pytest.mark.usefixtures("installer")
def test_a_package_behind_a_door_can_be_built_again_from_its_lock(index: str, workspace: WorkspaceFolder) -> None:
    """The lock has no credentials: they come from the requirement each time."""
    spec = EnvironmentSpec(pip=("--no-index", f"beta @ http://alice:{IN_URL}@{index}/simple/beta/beta-1.0-py3-none-any.whl"))
    said: list[str] = []
    lock = Venv().prepare(spec, workspace, said.append)
    assert lock.text.startswith(f"beta @ http://{index}/simple/beta/beta-1.0-py3-none-any.whl --hash=sha256:")
    Path(Venv().activate(lock, workspace, RUN).python).unlink()
    assert Venv().prepare(spec, workspace, said.append) == lock
    assert_is_nowhere(workspace, lock.text, *said)


@pytest.mark.usefixtures("installer")
def test_a_refused_key_is_not_in_the_complaint(index: str, workspace: WorkspaceFolder) -> None:
    wrong = "s3cr3t-wr0ng"
    said: list[str] = []
    with pytest.raises(EnvironmentBuildError) as caught:
        Venv().prepare(EnvironmentSpec(pip=(f"-i http://bob:{wrong}@{index}/simple", "alpha")), workspace, said.append)
    texts = [caught.value.message, caught.value.hint, caught.value.log, *said, kept_in(workspace.root).decode("utf-8", "replace")]
    assert not any(wrong in text for text in texts)
    assert "alpha" in caught.value.message


def test_another_password_is_the_same_request(index: str, workspace: WorkspaceFolder) -> None:
    first = EnvironmentSpec(pip=(f"-i http://alice:{IN_URL}@{index}/simple", "beta"))
    second = EnvironmentSpec(pip=(f"-i http://alice:changed@{index}/simple", "beta"))
    said: list[str] = []
    lock = Venv().prepare(first, workspace, said.append)
    said.clear()
    assert Venv().prepare(second, workspace, said.append) == lock
    assert len(said) == 1
    assert " cached, " in said[0]
