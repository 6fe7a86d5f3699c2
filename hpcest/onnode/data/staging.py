"""The data of an attempt, from the controller's side: what is to be where before the ranks start, and gone when they have ended.

What has to be done on every node (copies on its own disk, links at places of its own) is done by a ``keeper`` there, which
stays until the attempt ends. The launch manifest's ``data`` has ``inputs`` and ``outputs``, name -> facts.
"""

import errno
import json
import os
import signal
import subprocess
import tempfile
from typing import Any

from hpcest.onnode import processes
from hpcest.onnode.data.files import DataError, check, link_all
from hpcest.onnode.record import put_json
from hpcest.onnode.slurmjob import unblock

_SCRATCH = ("SLURM_TMPDIR", "TMPDIR")


class Staging:
    """``begin`` it, wait until it ``is_ready``, start the ranks with its ``variables``, and ``close`` it after them."""

    def __init__(self, launch, attempt, job):
        self.launch, self.attempt, self.job = launch, attempt, job
        self.data = launch.get("data") or {}
        self.problem = ""
        self.notes = []
        self._variables = {}
        self._binds = []
        self._links, self._folders = [], []  # made in the working directory
        self._keeper: Any = None
        self._answers, self._text = [], b""

    @property
    def uploads(self):
        """The outputs that go elsewhere when the run has completed."""
        return {name: facts for name, facts in (self.data.get("outputs") or {}).items() if facts.get("upload")}

    # ------------------------------------------------------------------ before the ranks
    def begin(self):
        """Check the data and begin what every node has to do. Raises DataError, OSError."""
        orders = {"downloads": {}, "links": [], "scratch": self._scratch()}
        for name, facts in (self.data.get("inputs") or {}).items():
            if facts["mode"] != "download":
                changed = check(name, facts)
                if changed:
                    self._note("input %r has changed since the run was submitted: %s (files in all: %d)" % ((name,) + changed))
            self._put(name, facts, self._place(name, facts, orders), orders)
        for name, facts in (self.data.get("outputs") or {}).items():
            os.makedirs(os.path.dirname(facts["path"]) if facts["type"] == "uri_file" else facts["path"], exist_ok=True)
            self._put(name, facts, facts["path"], orders)
        if orders["downloads"] or orders["links"]:
            self._start("keep", orders)

    def _note(self, text):
        self.notes.append(text)

    def _scratch(self):
        """The folder for copies, the same on all nodes. Inside of it everything is the owner's alone."""
        asked = (self.launch.get("variables") or {}).get("HPCEST_SCRATCH") or os.environ.get("HPCEST_SCRATCH")
        places = [os.environ.get(name) or "" for name in _SCRATCH]
        usable = [place for place in places if os.path.isabs(place) and os.access(place, os.W_OK | os.X_OK)]
        run = "%s.a%d" % (self.launch["run"], self.attempt)
        return os.path.join(asked or (usable + [tempfile.gettempdir()])[0], "hpcest-%d" % os.getuid(), run)

    def _place(self, name, facts, orders):
        """Where the input will be, before what the program wants is heard."""
        if facts["mode"] == "download":
            orders["downloads"][name] = facts
            self._binds.append((orders["scratch"], orders["scratch"], ""))
            place = os.path.join(orders["scratch"], name)
            return os.path.join(place, os.path.basename(facts["path"])) if os.path.isfile(facts["path"]) else place
        if facts["path"]:
            return facts["path"]
        place = os.path.join(self.launch["folder"], "state", "inputs", name)
        os.makedirs(os.path.dirname(place), exist_ok=True)
        link_all(name, facts, place)
        return place

    def _put(self, name, facts, place, orders):
        """Have what is at ``place`` where the program wants it, and the variables say so."""
        target = facts.get("target") or ""
        if target and not os.path.isabs(target):
            target = os.path.normpath(os.path.join(self.launch.get("place") or os.path.join(self.launch["folder"], "work"), target))
            self._link(name, target, place)
        elif target and self._container():
            self._binds.append((place, target, ":ro" if facts.get("mode") == "mount" else ""))
        elif target:
            orders["links"].append([target, place])
        self._variables.update(dict.fromkeys(facts["variables"], target or place))

    def _container(self):
        """What starts the program in a container; empty for none."""
        program = os.path.basename((self.launch.get("prefix") or [""])[0])
        return program if program.startswith(("apptainer", "singularity")) else ""

    def _link(self, name, target, place):
        if os.path.islink(target) and (not os.path.exists(target) or "/%s.a" % self.launch["run"] in os.readlink(target)):
            os.unlink(target)  # of an attempt that was killed
        if os.path.lexists(target):
            if os.path.realpath(target) == os.path.realpath(place):
                return
            raise DataError("input %r: there is something at %s already; choose another path_on_compute" % (name, target))
        folder = os.path.dirname(target)
        while not os.path.isdir(folder):
            self._folders.append(folder)
            folder = os.path.dirname(folder)
        os.makedirs(os.path.dirname(target), exist_ok=True)
        os.symlink(place, target)
        self._links.append(target)

    def is_ready(self):
        """Whether all nodes have answered, or one has a problem."""
        self._listen()
        nodes = self.job.nodes if self.job else 1
        if self._keeper is None or self.problem:
            return True
        if len(self._answers) < nodes and self._keeper.returncode is not None:
            self.problem = "the data could not be made ready; see system_logs/controller.log"
        return bool(self.problem) or len(self._answers) >= nodes

    def variables(self, env):
        """What the ranks are told, on top of ``env``."""
        found = dict(self._variables)
        if self._binds and self._container():
            if any(set(path) & set(",:") for bind in self._binds for path in bind[:2]):
                raise DataError("Apptainer can't bind a path with a comma or a colon: %s" % self._binds[0][0])
            words = ["%s:%s%s" % bind for bind in dict.fromkeys(self._binds)]
            name = "SINGULARITY_BIND" if self._container().startswith("singularity") else "APPTAINER_BIND"
            found[name] = ",".join(([env[name]] if env.get(name) else []) + words)
        return found

    # ------------------------------------------------------------------ after the ranks
    def upload(self):
        """Begin to copy outputs to where they go; ``is_uploaded`` says when that is done."""
        self.problem, self._answers, self._text = "", [], b""
        self._start("upload", {"uploads": self.uploads}, alone=True)

    def is_uploaded(self):
        """Whether the copies have been made, or there is a problem."""
        self._listen()
        if not self._answers and self._keeper.returncode is not None and not self.problem:
            self.problem = "the outputs could not be uploaded; see system_logs/controller.log"
        return bool(self._answers or self.problem)

    def close(self):
        """Have the keepers remove what they made; ``is_closed`` says when they have."""
        for action, paths in ((os.unlink, self._links), (os.rmdir, self._folders)):
            for path in paths:
                try:
                    action(path)
                except OSError:
                    pass
        if self._keeper is not None:
            try:
                self._keeper.stdin.close()
            except OSError:
                pass

    def is_closed(self):
        return self._keeper is None or self._keeper.returncode is not None

    def kill(self):
        """Don't wait any longer for them."""
        if not self.is_closed():
            processes.send([self._keeper.pid], signal.SIGTERM)

    def take(self, pid, status):
        """A child of the controller has ended."""
        if self._keeper is not None and pid == self._keeper.pid:
            self._listen()
            self._keeper.returncode = processes.exit_code(status)[0]

    # ------------------------------------------------------------------ the keepers
    def _start(self, what, orders, alone=False):
        path = os.path.join(self.launch["folder"], "state", "%s.%d.json" % (what, self.attempt))
        put_json(path, orders)
        keeper = os.path.join(self.launch["runtime"], "hpcest", "onnode", "data", "keeper.py")
        argv = [self.launch["python"], "-I", "-S", "-X", "utf8", keeper, what, path]
        if self.job and self.job.nodes > 1 and not alone:
            nodes = ["--nodes=%d" % self.job.nodes, "--ntasks=%d" % self.job.nodes, "--ntasks-per-node=1", "--cpus-per-task=1"]
            argv = ["srun", "--overlap", "--mpi=none"] + nodes + ["--mem=0", "--gres=none", "--quiet", "--export=ALL"] + argv
        dropped = ("HPCEST_RUN_ID", "HPCEST_SLOT_FD", "SLURM_EXPORT_ENV")  # it is to outlive what carries the run's mark
        self._keeper = subprocess.Popen(
            argv,
            env={key: value for key, value in os.environ.items() if key not in dropped},
            cwd=self.launch["folder"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
            preexec_fn=unblock,  # noqa: PLW1509 - the controller has one thread
        )
        os.set_blocking(self._keeper.stdout.fileno(), False)

    def _listen(self):
        """Read what the keepers have said by now: a line of JSON each."""
        while self._keeper is not None and not self._keeper.stdout.closed:
            try:
                data = os.read(self._keeper.stdout.fileno(), 1 << 16)
            except OSError as error:
                if error.errno != errno.EAGAIN:
                    self._keeper.stdout.close()
                return
            if not data:
                self._keeper.stdout.close()
                return
            lines = (self._text + data).split(b"\n")
            self._text = lines.pop()
            for line in lines:
                self._hear(line)

    def _hear(self, line):
        try:
            answer = json.loads(line)
            node = answer["node"]
        except (ValueError, KeyError, TypeError):
            return  # srun's own words
        self._answers.append(node)
        self.notes.extend(answer.get("notes") or [])
        self.problem = self.problem or answer.get("problem") or ""
