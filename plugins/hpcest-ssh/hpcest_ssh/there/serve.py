"""Answers one request: a JSON line on stdin, and maybe a tar stream; a JSON line on stdout, and maybe files."""

from __future__ import annotations

import json
import os
import platform
import shutil
import socket
import sys
import tempfile
import time
import traceback
from typing import IO, Any

from hpcest_ssh.there import files, processes, queue, runs

MARK = b"\n\x1ehpcest-ssh\n"  # what a login script prints comes before it


def main() -> None:
    """Answer, and go."""
    out = sys.stdout.buffer
    request = json.loads(sys.stdin.buffer.readline())
    out.write(MARK)
    out.flush()
    os.umask(request.get("umask", 0o077))
    try:
        DO[request["do"]](request, out)
    except OSError as error:
        say(
            out,
            {
                "error": {
                    "errno": error.errno,
                    "text": error.strerror or str(error),
                    "path": str(error.filename or request.get("root") or ""),
                }
            },
        )
    except Exception:
        say(out, {"error": {"errno": None, "text": traceback.format_exc().strip().rpartition("\n")[2], "path": ""}})
    out.flush()


def say(out: IO[bytes], answer: dict[str, Any]) -> None:
    """Write the answer's line."""
    out.write(json.dumps(dict(answer, host=socket.gethostname())).encode() + b"\n")
    out.flush()


def lacks(request: dict[str, Any], out: IO[bytes]) -> None:
    """Where the workspace is, and which files it lacks."""
    root = os.path.abspath(os.path.expanduser(request["root"]))
    os.makedirs(root, exist_ok=True)
    say(out, {"root": root, "lacks": files.lacks(root, request["names"])})


def start(request: dict[str, Any], out: IO[bytes]) -> None:
    """Take what comes along, and start the runs."""
    if request["root"]:
        files.take(sys.stdin.buffer, request["root"])
    for run in request["runs"]:
        runs.start(run)
    say(out, {})


def look(request: dict[str, Any], out: IO[bytes]) -> None:
    """What has become of the runs; those that are to end are told so."""
    found, limits = {}, {}
    for run in request["runs"]:
        limits[run["id"]] = files.sizes(run["folder"])
        if run["cancel"] and os.path.isdir(run["folder"]):
            runs.cancel(run)
        found[run["id"]] = runs.facts(run)
    say(out, {"runs": found})
    complete = {}
    for run in request["runs"]:
        if run["have"] is not None and found[run["id"]]["visible"]:
            complete[run["id"]] = files.send(out, run, runs.is_over(found[run["id"]]), limits[run["id"]])
    out.write(json.dumps({"end": complete}).encode() + b"\n")


def probe(request: dict[str, Any], out: IO[bytes]) -> None:
    """What a doctor wants to know."""
    root = os.path.abspath(os.path.expanduser(request["root"]))
    found = {"python": platform.python_version(), "time": time.time(), "boot": processes.boot_id(), "root": root, "writable": ""}
    found["marker"] = runs.read(os.path.join(root, ".hpcest", "workspace.json"))
    try:
        if request["make"]:
            os.makedirs(root, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=root):
            found["free"] = shutil.disk_usage(root).free
        queue.folder()
    except OSError as error:
        found["writable"] = f"{error.filename or root}: {error.strerror}"
    say(out, found)


DO = {"lacks": lacks, "start": start, "look": look, "probe": probe}
