"""Channels of fabricated packages, as folders and behind a web server that wants credentials."""

from __future__ import annotations

import base64
import functools
import threading
from collections.abc import Iterator, Sequence
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from hpcest.environments.conda.channels import channels_of
from hpcest.environments.conda.lockfile import CondaPackage
from hpcest.environments.conda.matchspecs import normalise
from hpcest.environments.conda.solving import CondaRequest, solve, virtual_packages
from tests.environments.channel import demo_packages, write_channel

USER, PASSWORD, TOKEN = "bob", "s3cret-pw", "tok-123456"


class Channels:
    """The folder of channels of a test. ``said`` are the lines of progress up to now."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.said = folder, list[str]()
        self.url = write_channel(folder / "demo", demo_packages())

    def solve(self, *specs: str, channels: Sequence[str] = (), newest: str = "", cuda: str = "") -> tuple[CondaPackage, ...]:
        """The packages that some specs come to, by name."""
        found = channels_of(channels or [self.url], {})
        virtual = virtual_packages("linux-64", glibc="2.28", cuda=cuda)
        request = CondaRequest(found, normalise(specs), "linux-64", virtual, newest, self.folder.as_uri())
        return solve(request, self.folder.parent / "cache" / "repodata", self.said.append)


@pytest.fixture
def channels(tmp_path: Path) -> Channels:
    """A channel ``demo`` in a folder whose path needs quoting."""
    return Channels(tmp_path / "my channels, (all)")


class _Handler(SimpleHTTPRequestHandler):
    """Gives files: below /private to those with a password, below /t/TOKEN to those who know it."""

    def do_GET(self) -> None:
        wanted = "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        if self.path.startswith("/private/") and self.headers.get("Authorization") != wanted:
            self.send_error(401)
            return
        self.path = self.path.removeprefix("/private").removeprefix(f"/t/{TOKEN}")
        super().do_GET()

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


class _Server(ThreadingHTTPServer):
    def handle_error(self, request: object, client_address: object) -> None:
        """Clients hang up when one of their questions was answered badly."""


@pytest.fixture
def server(channels: Channels) -> Iterator[str]:
    """``host:port`` of a web server that gives the channels."""
    handler = functools.partial(_Handler, directory=str(channels.folder))
    with _Server(("127.0.0.1", 0), handler) as web:
        thread = threading.Thread(target=web.serve_forever, daemon=True)
        thread.start()
        yield f"127.0.0.1:{web.server_port}"
        web.shutdown()
        thread.join()
