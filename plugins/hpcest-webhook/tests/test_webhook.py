"""Real servers on this machine get the news of real runs: ones that answer, refuse, hang and drip."""

from __future__ import annotations

import json
import os
import socket
import socketserver
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from hpcest_webhook.settings import WebhookError, load_settings, settings_path

from hpcest.model.spec import Command, EnvironmentSpec, RunSpec
from hpcest.testing import Bench, ListenerContract

HIDDEN = "T0-secret-word"


class Receiver(ThreadingHTTPServer):
    """A web server that keeps what it is told, and answers as ``mood`` says."""

    daemon_threads = True
    block_on_close = False

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.mood, self.told, self.closing = "200", list[dict[str, Any]](), threading.Event()

    @property
    def url(self) -> str:
        """An address with secrets in it."""
        return f"http://me:{HIDDEN}@127.0.0.1:{self.server_address[1]}/services/{HIDDEN}?token={HIDDEN}"


class Handler(BaseHTTPRequestHandler):
    """One request."""

    server: Receiver

    def do_POST(self) -> None:
        """Keep the body, then answer, hang, or answer a byte at a time for ever."""
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.told.append({"path": self.path, "type": self.headers["Content-Type"], "body": json.loads(body)})
        if self.server.mood == "hang":
            self.server.closing.wait(30)
        elif self.server.mood == "drip":
            self.wfile.write(b"HTTP/1.0 200 OK\r\n")
            while not self.server.closing.wait(0.1):
                self.wfile.write(b"X: y\r\n")
        else:
            self.send_response(int(self.server.mood))
            self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


class MailServer(socketserver.ThreadingTCPServer):
    """Takes mail, and keeps it."""

    daemon_threads = True
    block_on_close = False
    mails: list[str]


class MailHandler(socketserver.StreamRequestHandler):
    """One conversation."""

    server: MailServer

    def handle(self) -> None:
        """As little of SMTP as a client needs."""
        self.wfile.write(b"220 here\r\n")
        for line in self.rfile:
            word = line.strip().upper()
            if word == b"DATA":
                self.wfile.write(b"354 go on\r\n")
                self.server.mails.append(b"".join(iter(self.rfile.readline, b".\r\n")).decode())
            self.wfile.write(b"221 bye\r\n" if word == b"QUIT" else b"250 fine\r\n")
            if word == b"QUIT":
                return


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """A web server on a port of its own."""
    with Receiver() as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        yield server
        server.closing.set()
        server.shutdown()


@pytest.fixture
def mails() -> Iterator[MailServer]:
    """A mail server on a port of its own."""
    with MailServer(("127.0.0.1", 0), MailHandler) as server:
        server.mails = []
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture(autouse=True)
def home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home without settings, caches and proxies of the user's."""
    home = tmp_path_factory.mktemp("user")
    for name in [*os.environ]:
        if name.startswith(("HPCEST_", "XDG_")) or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    for name, value in {"HOME": "", "HPCEST_SITE_CONFIG": "none.yaml", "HPCEST_CACHE_DIR": "cache", "HPCEST_LOCAL_DIR": "local"}.items():
        monkeypatch.setenv(name, str(home / value))
    (home / "local").mkdir(mode=0o700)
    return home


def configure(mode: int = 0o600, **settings: Any) -> Path:
    """Write the settings to where they are looked for."""
    path = settings_path(os.environ)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(settings))
    path.chmod(mode)
    return path


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    """A workspace in which the plugin is known."""
    made = Bench(tmp_path, ["hpcest_webhook"])
    made.write({"train.py": "import sys\nsys.exit(int(sys.argv[1]))\n"})
    return made


def spec(code: int = 0) -> RunSpec:
    """A run that ends with that code."""
    return RunSpec("parabola", Command("train.py", (str(code),)), display_name="steps", environment=EnvironmentSpec("host"))


def warnings(bench: Bench) -> list[str]:
    """What hpcest warned of."""
    return [line for line in bench.said if "webhook" in line]


class TestContract(ListenerContract):
    """What hpcest expects of every listener."""

    plugin = "hpcest_webhook"
    longest = 2.0
    secret = HIDDEN

    @pytest.fixture(autouse=True)
    def _server(self, receiver: Receiver) -> None:
        self.receiver = receiver

    def prepare(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """All news to a server that answers."""
        configure(url=self.receiver.url, events=["submitted", "started", "ended"], timeout=1)

    def disturb(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """It hangs from now on."""
        self.receiver.mood = "hang"


def test_an_end_is_told_with_all_facts(bench: Bench, receiver: Receiver) -> None:
    """Once, as JSON; a failure with its reason."""
    configure(url=receiver.url)
    ended = bench.run(spec(3), 60)
    (news,) = receiver.told
    assert (news["path"], news["type"]) == (f"/services/{HIDDEN}?token={HIDDEN}", "application/json")
    told = news["body"]
    expected = {"event": "ended", "run": ended.folder.id, "status": "Failed", "reason": "UserError", "exit_code": 3}
    assert {key: told[key] for key in expected} == expected
    assert (told["experiment"], told["display_name"], told["compute"]) == ("parabola", "steps", "local")
    assert told["workspace"] == str(bench.workspace.root)
    assert told["created"] < told["started"] < told["ended"]
    assert told["seconds"] == pytest.approx(told["ended"] - told["started"], abs=0.01)
    assert warnings(bench) == []


def test_a_chat_gets_a_sentence(bench: Bench, receiver: Receiver) -> None:
    """The form that Slack takes, and nothing else."""
    configure(url=receiver.url, format="slack", events=["submitted", "ended"])
    ended = bench.run(spec(), 60)
    texts = [news["body"] for news in receiver.told]
    name = f"run {ended.folder.id} (steps) of parabola"
    assert texts == [{"text": f"{name} was submitted"}, {"text": f"{name} has ended: Completed after 0:00:00"}]


def test_only_what_was_asked_for_is_told(bench: Bench, receiver: Receiver) -> None:
    """Bad news alone."""
    configure(url=receiver.url, statuses=["Failed"])
    bench.run(spec(), 60)
    assert receiver.told == []
    bench.run(spec(1), 60)
    assert [news["body"]["status"] for news in receiver.told] == ["Failed"]


def test_a_mail_is_written(bench: Bench, mails: MailServer) -> None:
    """Subject, a sentence and the facts."""
    configure(mail="me@example.org", smtp=f"127.0.0.1:{mails.server_address[1]}")
    ended = bench.run(spec(3), 60)
    (mail,) = mails.mails
    assert f"Subject: [hpcest] run {ended.folder.id}: Failed" in mail
    assert "To: me@example.org" in mail
    assert "exit_code: 3" in mail
    assert warnings(bench) == []


@pytest.mark.parametrize(
    ("mood", "said"),
    [("500", "was not told: it answered 500"), ("404", "it answered 404"), ("hang", "within 0.5 s"), ("drip", "within 0.5 s")],
)
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # an abandoned thread leaves its socket to the collector
def test_a_server_that_does_not_take_it_is_a_warning(bench: Bench, receiver: Receiver, mood: str, said: str) -> None:
    """It is asked once, it holds nobody up, and its address stays a secret."""
    configure(url=receiver.url, timeout=0.5)
    receiver.mood = mood
    passage = bench.submit(spec())
    assert bench.until(lambda: bench.look(passage.folder).finished, 60)
    began = time.monotonic()
    ended = bench.end_of(passage.folder, 60)
    assert time.monotonic() - began < 8
    assert ended.status == "Completed"
    (warning,) = warnings(bench)
    assert warning.startswith("plugin 'hpcest_webhook' of hpcest_webhook under test failed in hpcest_status_changed: WebhookError: ")
    assert warning.endswith(said)
    assert "http://127.0.0.1" in warning
    assert HIDDEN not in "\n".join(bench.said)
    assert len(receiver.told) == 1


def test_a_server_that_is_not_there_is_a_warning(bench: Bench) -> None:
    """Whatever the system says of it; both addresses are tried."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        configure(url=f"http://127.0.0.1:{port}/{HIDDEN}", mail="me@example.org", smtp=f"127.0.0.1:{port}")
        assert bench.run(spec(), 60).status == "Completed"
    (warning,) = warnings(bench)
    assert warning.endswith(
        f"http://127.0.0.1 was not told: Connection refused; the mail server 127.0.0.1:{port} was not told: Connection refused"
    )


def test_without_settings_nothing_is_sent(bench: Bench, receiver: Receiver) -> None:
    """And nothing is said."""
    bench.run(spec(), 60)
    assert receiver.told == []
    assert warnings(bench) == []


def test_settings_that_others_can_read_are_not_used(bench: Bench, receiver: Receiver) -> None:
    """The address is a secret."""
    path = configure(0o640, url=receiver.url)
    bench.run(spec(), 60)
    assert receiver.told == []
    assert {line.partition("Error: ")[2] for line in warnings(bench)} == {
        f"{path} can be read by others, and nothing is sent: chmod 600 {path}"
    }


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({}, "it needs a url or a mail address"),
        ({"url": f"ftp://host/{HIDDEN}"}, "url must begin with http:// or https:// and a host"),
        ({"url": f"https:///{HIDDEN}"}, "url must begin with http:// or https:// and a host"),
        ({"url": 3}, "url must be a text"),
        ({"url": "http://a", "format": "xml"}, "format must be one of json, slack"),
        ({"url": "http://a", "events": "end"}, "events must be a list of some of submitted, started, ended"),
        ({"url": "http://a", "statuses": ["Lost"]}, "statuses must be a list of some of Completed, Failed, Canceled"),
        ({"url": "http://a", "timeout": 100}, "timeout must be a number of seconds up to 30"),
        ({"url": "http://a", "timeout": True}, "timeout must be a number"),
        ({"adress": "http://a"}, "known keys are url, format, mail, smtp, events, statuses, timeout, and not adress"),
        ({"mail": "a@b\r\nBcc: c@d"}, "mail must be an address"),
    ],
)
def test_wrong_settings_are_named(settings: dict[str, Any], said: str) -> None:
    """With the file and the key, and without the address."""
    path = configure(**settings)
    with pytest.raises(WebhookError) as caught:
        load_settings()
    assert caught.value.message == f"{path}: {said}"


@pytest.mark.parametrize("text", [f"url: 'http://{HIDDEN}", f"http://{HIDDEN}", f"url: http://{HIDDEN}\n  on: x: y"])
def test_a_file_that_is_no_yaml_is_not_quoted(text: str) -> None:
    """The parser would show the line."""
    path = configure()
    path.write_text(text)
    with pytest.raises(WebhookError) as caught:
        load_settings()
    assert str(path) in caught.value.message
    assert HIDDEN not in caught.value.message


def test_the_settings_may_lie_elsewhere(tmp_path: Path) -> None:
    """HPCEST_WEBHOOK_FILE, then XDG_CONFIG_HOME, then HOME."""
    assert settings_path({"HOME": "/h"}) == Path("/h/.config/hpcest/webhook.yaml")
    assert settings_path({"HOME": "/h", "XDG_CONFIG_HOME": "/x"}) == Path("/x/hpcest/webhook.yaml")
    assert settings_path({"HOME": "/h", "XDG_CONFIG_HOME": "/x", "HPCEST_WEBHOOK_FILE": "/f"}) == Path("/f")
    path = tmp_path / "webhook.yaml"
    path.write_text("url: https://example.org/x\nevents: started\ntimeout: 2\n")
    path.chmod(0o600)
    found = load_settings({"HPCEST_WEBHOOK_FILE": str(path)})
    assert found is not None
    assert (found.events, found.timeout) == (("started",), 2)
