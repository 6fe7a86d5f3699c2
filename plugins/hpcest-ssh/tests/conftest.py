"""A real sshd on a free port of 127.0.0.1, and workspaces whose runs go through it."""

from __future__ import annotations

import contextlib
import getpass
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

SSHD = shutil.which("sshd", path="/usr/sbin:/usr/local/sbin:/usr/bin")
CONFIG = """
Port {port}
ListenAddress 127.0.0.1
HostKey {folder}/host_key
AuthorizedKeysFile {folder}/user_key.pub
PidFile {folder}/listener
UsePAM no
StrictModes no
PermitRootLogin yes
MaxStartups 100
SetEnv HOME={folder}/home HPCEST_LOCAL_DIR={folder}/local
"""
#: Counts the calls. The one whose number stands in ``break`` is done, but its connection breaks after so much of the answer.
GATE = """#!/bin/sh
echo call >> {folder}/calls
read number bytes 2>/dev/null < {folder}/break
if [ "$(wc -l < {folder}/calls)" = "$number" ]; then
    /bin/sh -c "$SSH_ORIGINAL_COMMAND" | (head -c $bytes; cat >/dev/null)
    kill -9 $PPID
fi
exec /bin/sh -c "$SSH_ORIGINAL_COMMAND"
"""


class Machine:
    """What is reached by ssh: an sshd with its own keys, home and local disk."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.port = folder, _free_port()
        self._sshd: subprocess.Popen[bytes] | None = None
        for part in ("home", "local"):
            (folder / part).mkdir(parents=True)
        (folder / "home" / ".bashrc").write_text("echo welcome; echo to this machine >&2\n")
        for key in ("host_key", "user_key"):
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / key], check=True)
        self.settings = CONFIG.format(port=self.port, folder=folder)
        public = (folder / "host_key.pub").read_text()
        (folder / "known_hosts").write_text(f"[127.0.0.1]:{self.port} {public}")

    def start(self, more: str = "") -> None:
        """Start sshd, and wait until it listens."""
        assert SSHD
        if os.getuid() == 0:
            os.makedirs("/run/sshd", mode=0o755, exist_ok=True)
        config, log = self.folder / "sshd_config", self.folder / "sshd.log"
        config.write_text(self.settings + more)
        self._sshd = subprocess.Popen([SSHD, "-D", "-f", config, "-E", log], stdin=subprocess.DEVNULL)
        end = time.monotonic() + 20
        while not self._listens():
            assert time.monotonic() < end, log.read_text()
            time.sleep(0.05)

    def _listens(self) -> bool:
        with socket.socket() as probe:
            return not probe.connect_ex(("127.0.0.1", self.port))

    def stop(self) -> None:
        """End sshd and all its connections; what was started through them goes on."""
        if not self._sshd:
            return
        for pid in [*_children(self._sshd.pid), self._sshd.pid]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._sshd.wait()
        self._sshd = None

    @property
    def calls(self) -> int:
        """How many there were since ``guard``."""
        return (self.folder / "calls").read_text().count("\n") if (self.folder / "calls").exists() else 0

    def hide(self, root: Path) -> None:
        """Start sshd anew with a view of the disk in which the workspace ``root`` is not there."""
        self.stop()
        hidden = f"{str(root)[:-1]}-"  # of the same length
        self.start(f"ForceCommand sed 's#{root}#{hidden}#g' | /bin/sh -c \"$SSH_ORIGINAL_COMMAND\"\n")

    def break_answer(self, number: int, *, after: int = 0) -> None:
        """Have the connection of a call (1 is the next one) break ``after`` so many bytes of its answer."""
        (self.folder / "break").write_text(f"{self.calls + number} {after}\n")

    def guard(self, then: str = "") -> None:
        """Start sshd anew with a gate that counts calls and can break them, and does ``then``."""
        self.stop()
        gate = self.folder / "gate"
        gate.write_text(GATE.format(folder=self.folder).replace("kill -9 $PPID", f"{then or ':'}\n    kill -9 $PPID"))
        gate.chmod(0o755)
        self.start(f"ForceCommand {gate}\n")


def _children(pid: int) -> list[int]:
    """sshd's own processes below ``pid``: those of connections."""
    found = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            words = Path("/proc", name, "stat").read_text().rpartition(")")
            if words[0].endswith("sshd") and int(words[2].split()[1]) == pid:
                found += [int(name), *_children(int(name))]
    return found


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Site:
    """A workspace with the compute target ``vm``, and the command line."""

    def __init__(self, root: Path, machine: Machine) -> None:
        self.root, self.machine = root, machine
        self.options: dict[str, object] = {}
        self.source = root.parent / "source"
        self.source.mkdir()

    def configure(self, **options: object) -> None:
        """Write the compute target; what is not said is as before, else as the machine needs it."""
        folder, self.options = self.machine.folder, {**self.options, **options}
        target = {
            "backend": "ssh",
            "host": f"{getpass.getuser()}@127.0.0.1",
            "port": self.machine.port,
            "identity": str(folder / "user_key"),
            "options": [f"UserKnownHostsFile={folder}/known_hosts", "GlobalKnownHostsFile=/dev/null"],
            "workspace": str(folder / "far"),
            "environment": "host",
            "connect": 3,
            **self.options,
        }
        lines = "".join(f"    {name}: {str(value).lower() if isinstance(value, bool) else value}\n" for name, value in target.items())
        (self.root / ".hpcest" / "config.yaml").write_text("compute:\n  vm:\n" + lines)

    def hpcest(self, *words: str, code: int = 0) -> str:
        """What the command prints, both outputs; it must end with ``code``."""
        program = Path(sys.executable).with_name("hpcest")
        done = subprocess.run(
            [program, *words],
            cwd=self.root,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == code, f"hpcest {' '.join(words)}: {done.returncode}\n{done.stdout}"
        return done.stdout

    def submit(self, program: str, *words: str, code: int = 0) -> str:
        """Submit a program as the script ``train.py``; returns the run's id, or what was said where that failed."""
        (self.source / "train.py").write_text(program)
        before = self.runs()
        said = self.hpcest("submit", "--compute", "vm", *words, str(self.source / "train.py"), code=code)
        new = sorted(self.runs() - before)
        return new[-1] if new and not code else said

    def runs(self) -> set[str]:
        """The ids of all runs."""
        return {path.name for path in (self.root / ".hpcest" / "runs").glob("[a-z]*")}

    def folder(self, run: str) -> Path:
        """A run's folder on this side."""
        return self.root / ".hpcest" / "runs" / run

    def show(self, run: str) -> str:
        """What ``hpcest show`` says of a run."""
        return self.hpcest("show", run)


Wait = Callable[[Callable[[], object]], None]


@pytest.fixture
def wait_until() -> Wait:
    """``wait_until(condition)`` returns when it holds, and fails the test after 40 seconds."""

    def wait(condition: Callable[[], object]) -> None:
        end = time.monotonic() + 40
        while not condition():
            assert time.monotonic() < end, "waited 40 s in vain"
            time.sleep(0.2)

    return wait


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    """A machine that answers."""
    if not SSHD:
        assert not os.environ.get("CI"), "there is no sshd: install openssh-server"
        pytest.skip("there is no sshd here: install openssh-server")
    made = Machine(tmp_path / "machine")
    made.start()
    yield made
    made.stop()


@pytest.fixture
def site(tmp_path: Path, machine: Machine, monkeypatch: pytest.MonkeyPatch) -> Site:
    """A workspace beside a machine that does not share it; ``configure(shared=True)`` has it shared."""
    home = tmp_path / "here"
    for part in ("", "local", "run"):
        (home / part).mkdir(mode=0o700)
    for name in [name for name in os.environ if name.startswith(("HPCEST_", "XDG_", "SLURM_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("HPCEST_SITE_CONFIG", str(home / "site.yaml"))
    monkeypatch.setenv("HPCEST_LOCAL_DIR", str(home / "local"))
    root = tmp_path / "ws"
    program = Path(sys.executable).with_name("hpcest")
    subprocess.run([program, "init", root], check=True, capture_output=True)
    made = Site(root, machine)
    made.configure(shared=False)
    return made
