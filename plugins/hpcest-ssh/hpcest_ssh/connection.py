"""One call of the other machine: an ssh that is given our program and a request, and read until it has answered.

Calls of the next minute go through the connection of the first one (ControlMaster), so they take milliseconds.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import IO, Any, cast

from hpcest_ssh import troubles
from hpcest_ssh.options import SshOptions

Pack = Callable[[IO[bytes]], None]
#: The parts of our program there, each after those that it imports.
PARTS = ("processes", "queue", "runs", "files", "serve")
MARK = b"\n\x1ehpcest-ssh\n"
PATIENCE_S = 60.0
_LONGEST_SOCKET = 40  # bytes of its folder; a path of a socket has 108 at most
# Quoted once for any shell. Python 2 must be able to read it.
_BOOT = (
    "import sys;"
    'sys.version_info<(3,8) and sys.exit("Python "+sys.version.split()[0]+" is older than 3.8");'
    "exec(sys.stdin.buffer.read(int(sys.stdin.buffer.readline())))"
)


@cache
def _program() -> bytes:
    """Our part there as one program: modules, made in memory."""
    folder = Path(__file__).parent / "there"
    sources = {f"hpcest_ssh.there.{part}": (folder / f"{part}.py").read_text(encoding="utf-8") for part in PARTS}
    lines = (
        "import sys,types",
        "for n in ('hpcest_ssh','hpcest_ssh.there'): sys.modules[n]=types.ModuleType(n); sys.modules[n].__path__=[]",
        f"for n,s in {list(sources.items())!r}: m=sys.modules[n]=types.ModuleType(n); exec(compile(s,n,'exec'),m.__dict__)",
        "sys.modules['hpcest_ssh.there.serve'].main()",
    )
    return "\n".join(lines).encode()


class Answer:
    """What the machine answers: ``head``, and the files that follow."""

    def __init__(self, stream: _Stream, head: Mapping[str, Any]) -> None:
        self._stream, self.head = stream, head

    def frames(self) -> Iterator[tuple[dict[str, Any], bytes]]:
        """Each piece of a file, with what it is; the last one is the end. Raises BrokenError."""
        while True:
            head = json.loads(self._stream.line())
            yield head, self._stream.take(head.get("n", 0))
            if "end" in head or "error" in head:
                return


class Connection:
    """The machine of a compute target."""

    def __init__(self, options: SshOptions) -> None:
        self.options, self.host = options, options.host

    def argv(self) -> list[str]:
        """The command that runs our part there."""
        options = self.options
        words = ["ssh", "-T", "-o", "BatchMode=yes", "-o", f"ConnectTimeout={options.connect}"]
        words += [word for option in options.options for word in ("-o", option)]  # of several the first one counts, says ssh
        words += ["-o", "ServerAliveInterval=5", "-o", "ServerAliveCountMax=3", "-o", "ForwardX11=no", "-o", "LogLevel=ERROR"]
        words += ["-p", str(options.port)] if options.port else []
        words += ["-i", os.path.expanduser(options.identity), "-o", "IdentitiesOnly=yes"] if options.identity else []
        folder = _socket_folder()
        if folder:
            words += ["-o", "ControlMaster=auto", "-o", "ControlPersist=60", "-o", f"ControlPath={folder}/%C"]
        return [*words, "--", self.host, f"{options.python} -I -S -X utf8 -c '{_BOOT}'"]

    @contextlib.contextmanager
    def call(self, request: Mapping[str, Any], pack: Pack | None = None) -> Iterator[Answer]:
        """Ask; the answer can be read inside. ``pack`` writes what goes along.

        Raises OutOfReachError, BrokenError, or BackendError for what the machine refuses.
        """
        if not self.host or self.host.startswith("-"):
            raise troubles.OutOfReachError("the compute target has no host", hint="write host: user@host in the compute target")
        with tempfile.TemporaryFile() as given, tempfile.TemporaryFile() as said:  # no pipes: a master keeps them open
            patience = PATIENCE_S + _fill(given, request, pack) / 1e5
            try:
                child = subprocess.Popen(self.argv(), stdin=given, stdout=subprocess.PIPE, stderr=said, start_new_session=True)
            except OSError as error:
                raise troubles.OutOfReachError(f"ssh can't be started: {error.strerror}", hint="install the OpenSSH client") from error
            stream = _Stream(child, self.host, patience)
            try:
                yield Answer(stream, self._head(stream, child, said))
            finally:
                stream.close()

    def _head(self, stream: _Stream, child: subprocess.Popen[bytes], said: IO[bytes]) -> Mapping[str, Any]:
        if not stream.skip_to(MARK):
            code = child.wait()
            said.seek(0)
            raise troubles.of_ssh(self.host, code, said.read().decode("utf-8", "replace"))
        head = cast("dict[str, Any]", json.loads(stream.line()))
        if "error" in head:
            raise troubles.of_machine(self.host, head["error"], shared=self.options.shared)
        return head

    def ask(self, request: Mapping[str, Any], pack: Pack | None = None) -> Mapping[str, Any]:
        """The answer to a request that no files follow, and that may be made twice: once more where the connection breaks.

        Raises as ``call``, and BrokenError where the first try may have been heard.
        """
        broken: troubles.BrokenError | None = None
        for _ in range(2):
            try:
                with self.call(request, pack) as answer:
                    return answer.head
            except troubles.BrokenError as error:
                broken = error
            except troubles.OutOfReachError as error:
                raise (troubles.BrokenError(error.message, hint=error.hint) if broken else error) from broken
        assert broken is not None
        raise broken


def _fill(given: IO[bytes], request: Mapping[str, Any], pack: Pack | None) -> int:
    program = _program()
    given.write(b"%d\n%s%s\n" % (len(program), program, json.dumps(request).encode()))
    if pack:
        pack(given)
    size = given.tell()
    given.seek(0)
    return size


def _socket_folder() -> str:
    """A short path that only this user can look into; empty where there is none."""
    folder = os.path.join(os.environ.get("XDG_RUNTIME_DIR") or "/tmp", f"hpcest-ssh-{os.getuid()}")  # noqa: S108
    with contextlib.suppress(OSError):
        with contextlib.suppress(FileExistsError):
            os.mkdir(folder, 0o700)
        facts = os.lstat(folder)
        if facts.st_uid == os.getuid() and facts.st_mode & 0o170077 == 0o040000 and len(folder) <= _LONGEST_SOCKET:
            return folder
    return ""


class _Stream:
    """What an ssh prints, with an end to patience."""

    def __init__(self, child: subprocess.Popen[bytes], host: str, patience: float) -> None:
        assert child.stdout
        self._child, self._out, self._host, self._patience = child, child.stdout.fileno(), host, patience
        self._data = bytearray()

    def _more(self) -> bool:
        if not select.select([self._out], [], [], self._patience)[0]:
            raise troubles.BrokenError(f"{self._host} gave no answer in {self._patience:.0f} s", hint=f"look there: ssh {self._host}")
        data = os.read(self._out, 1 << 20)
        self._data += data
        return bool(data)

    def skip_to(self, mark: bytes) -> bool:
        """Read over all that comes before ``mark`` and over it; False where it does not come."""
        while mark not in self._data:
            if not self._more():
                return False
        del self._data[: self._data.index(mark) + len(mark)]
        return True

    def line(self) -> bytes:
        """The next line. Raises BrokenError where the connection ends before."""
        while b"\n" not in self._data:
            self._need()
        return self.take(self._data.index(b"\n") + 1)

    def take(self, count: int) -> bytes:
        """So many bytes. Raises BrokenError."""
        while len(self._data) < count:
            self._need()
        found = bytes(self._data[:count])
        del self._data[:count]
        return found

    def _need(self) -> None:
        if not self._more():
            raise troubles.BrokenError(f"the connection to {self._host} broke", hint="ask again")

    def close(self) -> None:
        """Leave nothing of it behind, however far it came."""
        assert self._child.stdout
        self._child.stdout.close()
        try:
            self._child.wait(2.0)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait()
