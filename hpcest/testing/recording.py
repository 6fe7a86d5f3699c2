"""The environment ``recorder``: notes what each rank was started with, in its logs, and starts nothing."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hpcest.contracts import Environment, Lock, Say
from hpcest.hookspecs import hookimpl
from hpcest.model.folders import RunFolder, WorkspaceFolder
from hpcest.model.plan import Activation
from hpcest.model.spec import EnvironmentSpec, RunSpec

_PROGRAM = """\
import glob, json, os, sys, time
folder = os.environ["HPCEST_LOG_DIR"]
beside = os.path.join(folder, ".started-%d" % os.getpid())
with open(beside, "x") as file:
    json.dump({"argv": sys.argv[1:], "environ": dict(os.environ)}, file)
os.link(beside, os.path.join(folder, "started-%s.json" % os.environ["RANK"]))
os.unlink(beside)
# Who serves the others is ended with them, and may not have come so far yet.
end = time.monotonic() + 20
while len(glob.glob(os.path.join(glob.escape(folder), "started-*.json"))) < int(os.environ.get("WORLD_SIZE", 1)) and time.monotonic() < end:
    time.sleep(0.05)
"""


class Recorder(Environment):
    """Stands in for any program, so that what a framework makes of a spec can be seen without the framework."""

    name = "recorder"
    takes = frozenset({"interpreter", "pip", "conda", "image", "system", "steps", "prefix", "modules"})

    def prepare(self, spec: EnvironmentSpec, workspace: WorkspaceFolder, say: Say) -> Lock:
        """Needs nothing."""
        return Lock(self.name, "recorder")

    def activate(self, lock: Lock, workspace: WorkspaceFolder, spec: RunSpec) -> Activation:
        """A Python that runs the recorder; what the framework wants to start are its arguments."""
        return Activation(python=sys.executable, prefix=(sys.executable, "-I", "-S", "-c", _PROGRAM))


def recorded(folder: RunFolder) -> list[dict[str, Any]]:
    """What the ranks of a run were started with: ``argv`` and ``environ`` of each, by rank."""
    found = [json.loads(path.read_text()) for path in Path(folder.logs).glob("started-*.json")]
    return sorted(found, key=lambda one: int(one["environ"]["RANK"]))


@hookimpl
def hpcest_register_environments() -> Sequence[type[Environment]]:
    """The class of this module."""
    return [Recorder]
