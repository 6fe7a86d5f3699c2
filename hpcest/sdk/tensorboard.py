"""TensorBoard over runs, while they go on and after: ``Tensorboard(runs).start()``."""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import re
import shutil
import signal
import socket
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hpcest.errors import HpcestError, SpecError
from hpcest.kit import process
from hpcest.kit.users import user_name
from hpcest.onnode.events import read_run
from hpcest.onnode.record import get_json

if TYPE_CHECKING:
    from hpcest.sdk.run import Run

#: So many ports are tried from the one that is asked for on.
_PORTS = 50
_PATIENCE_S, _ANSWER_S, _END_S = 120.0, 2.0, 5.0
#: Between two looks for runs that have begun to write event files, or have got children.
_AGAIN_S = 10.0
#: So many files of a run are looked at for one that is TensorBoard's.
_MOST_FILES = 100_000
_PLACES = ("logs", "outputs", "artifacts")


class Tensorboard:
    """TensorBoard over one run or several, with the runs below them; those that go on are followed.

    It reads the run folders themselves: what a program writes below ``logs/`` or ``outputs/`` shows within seconds, and
    nothing is copied. ``local_root`` is a folder that gets a link for each run, a temporary one by default; what is in it shows too,
    also without any run. ``port`` is the first that is tried. Use it as a context manager, or call ``stop()``.
    """

    def __init__(self, runs: Run | Sequence[Run], local_root: str | Path | None = None, port: int = 6006, *, program: str = "") -> None:
        listed = list(runs) if isinstance(runs, Sequence) else [runs]
        if not listed and local_root is None:
            raise SpecError("TensorBoard needs a run to show", hint="Tensorboard([run]), or Tensorboard(run)")
        self.folders = [Path(run.folder) for run in listed]
        self.port = int(port)
        self.url = ""
        self._root = Path(local_root).absolute() if local_root is not None else None
        self._own_root = local_root is None
        self._program = program
        self._process: Any = None  # what kit.process.start returns
        self._over = threading.Event()
        self._links: set[Path] = set()

    def start(self, start_browser: bool = False) -> str:
        """Start TensorBoard and return its URL, once it answers; a second call returns the same.

        Raises HpcestError where TensorBoard isn't installed or doesn't start, and where the runs have ended without
        having written anything for it.
        """
        if self._process is not None:
            return self.url
        argv = self._found_program()
        self._checked()
        root = self._root = self._root or Path(tempfile.mkdtemp(prefix="hpcest-tensorboard-"))
        root.mkdir(parents=True, exist_ok=True)
        self._link(root)
        self.port = _free_port(self.port)
        self._launch(argv, root)
        atexit.register(self.stop)
        threading.Thread(target=self._follow, args=(root,), daemon=True).start()
        if start_browser:
            import webbrowser

            webbrowser.open(self.url)
        return self.url

    def stop(self) -> None:
        """End TensorBoard and remove its links. Stopping twice is fine."""
        self._over.set()
        atexit.unregister(self.stop)
        if self._process is not None:
            for number in (signal.SIGTERM, signal.SIGKILL):
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(self._process.pid, number)
                with contextlib.suppress(Exception):  # it has another name in each version: it did not end in time
                    self._process.wait(_END_S)
                    break
            self._process = None
        for link in self._links:
            with contextlib.suppress(OSError):
                link.unlink()
        self._links.clear()
        if self._own_root and self._root is not None:
            shutil.rmtree(self._root, ignore_errors=True)
            self._root = None

    def wait(self) -> None:
        """Wait until TensorBoard ends by itself. Raises HpcestError, with what it said last."""
        if self._process is not None and self._root is not None:
            self._process.wait()
            raise HpcestError(f"TensorBoard ended with code {self._process.returncode}: {_last_lines(self._log)}")

    def __enter__(self) -> Tensorboard:
        self.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()

    @property
    def tunnel(self) -> str:
        """The command that brings TensorBoard to another machine, such as the user's own."""
        host = socket.getfqdn()  # which is a name for this machine alone where /etc/hosts says so
        host = socket.gethostname() if host.startswith("localhost") else host
        return f"ssh -N -L {self.port}:localhost:{self.port} {user_name()}@{host}"

    # ------------------------------------------------------------------ what it shows
    def without_events(self) -> list[str]:
        """The ids of the runs that were named and have no event file of TensorBoard's yet, nor any run below them."""
        return [folder.name for folder in self.folders if not any(_has_events(one / place) for one in _family(folder) for place in _PLACES)]

    def _checked(self) -> None:
        empty = self.without_events()
        if self.folders and len(empty) == len(self.folders) and all(read_run(str(folder))[0].finished for folder in self.folders):
            raise HpcestError(
                f"there is nothing for TensorBoard in {', '.join(empty)}: no file events.out.tfevents.* in logs/ or outputs/",
                hint="have the program write its event files to ./logs or ./outputs",
            )

    def _link(self, root: Path) -> None:
        for folder in self.folders:
            for one in _family(folder):
                for place in _PLACES:
                    link = root / _label(one, "" if place == "logs" else place)
                    if link not in self._links and (place == "logs" or _has_events(one / place)):
                        with contextlib.suppress(FileExistsError):
                            link.symlink_to((one / place).absolute(), target_is_directory=True)
                        self._links.add(link)

    def _follow(self, root: Path) -> None:
        while not self._over.wait(_AGAIN_S):
            with contextlib.suppress(OSError):
                self._link(root)
            if all(read_run(str(folder))[0].finished for folder in self.folders):
                return

    # ------------------------------------------------------------------ the program
    def _found_program(self) -> list[str]:
        if self._program:
            return [self._program]
        beside = [Path(sys.executable).with_name("tensorboard"), *map(Path, filter(None, [shutil.which("tensorboard")]))]
        for path in [*beside, *(interpreter.with_name("tensorboard") for interpreter in map(_interpreter, self.folders) if interpreter)]:
            if os.access(path, os.X_OK) and path.is_file():
                return [str(path)]
        raise HpcestError(
            "TensorBoard is not installed here: not beside this Python, not on PATH, and not in the environments of the runs",
            hint="install it for hpcest's Python: pip install tensorboard",
        )

    @property
    def _log(self) -> Path:
        assert self._root is not None
        return self._root.with_name(self._root.name + ".log") if not self._own_root else self._root / ".tensorboard.log"

    def _launch(self, argv: Sequence[str], root: Path) -> None:
        words = [*argv, "--logdir", str(root), "--port", str(self.port), "--host", "localhost", "--reload_multifile", "true"]
        self.url = f"http://localhost:{self.port}/"
        try:
            with open(self._log, "wb") as output:
                self._process = process.start([*words, "--reload_interval", "5"], output=output, cwd=root, env=os.environ)
        except OSError as error:
            self.stop()
            raise HpcestError(f"TensorBoard can't be started: {argv[0]}: {error.strerror}") from error
        end = time.monotonic() + _PATIENCE_S
        try:
            while not _answers(self.url):
                if self._process.poll() is not None or time.monotonic() > end:
                    raise HpcestError(f"TensorBoard ({argv[0]}) doesn't start: {_last_lines(self._log)}")
                time.sleep(0.2)
        except BaseException:
            self.stop()
            raise


def _family(folder: Path, known: set[str] | None = None) -> Iterator[Path]:
    """The run and those below it."""
    known = set() if known is None else known
    if folder.name in known or not folder.is_dir():
        return
    known.add(folder.name)
    yield folder
    for child in read_run(str(folder))[0].children:
        yield from _family(folder.with_name(os.path.basename(child)), known)


def _label(folder: Path, place: str) -> str:
    """What TensorBoard calls a run: its name and its id."""
    names = read_run(str(folder))[0].names.get("display_name")
    spec: dict[str, Any] = (get_json(str(folder / "run.json")) or {}).get("spec") or {}
    name = re.sub(r"[^\w.-]+", "_", str(names[1] if names else spec.get("display_name") or ""))[:80].strip("._")
    return "-".join(filter(None, (name, folder.name, place)))


def _has_events(folder: Path) -> bool:
    seen = 0
    for _, _, files in os.walk(folder):
        if any("tfevents" in name for name in files):
            return True
        seen += len(files)
        if seen > _MOST_FILES:
            return False
    return False


def _interpreter(folder: Path) -> Path | None:
    """The Python of a run, where it is one of this machine and not of a container."""
    launch = get_json(str(folder / "launch.json")) or {}
    return Path(launch["interpreter"]) if launch.get("interpreter") and not launch.get("prefix") else None


def _free_port(first: int) -> int:
    for port in range(first, min(first + _PORTS, 65536)):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("localhost", port))
            return port
    raise HpcestError(f"no port from {first} to {first + _PORTS - 1} is free here", hint="give another one")


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}data/environment", timeout=_ANSWER_S) as answer:  # noqa: S310  # our own URL
            return isinstance(json.load(answer), dict)
    except (OSError, ValueError):
        return False


def _last_lines(path: Path) -> str:
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    except OSError:
        lines = []
    return " / ".join(lines[-3:]) or "it said nothing"
