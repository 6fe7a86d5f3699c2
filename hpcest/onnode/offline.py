"""``Run.get_context()`` outside any run: the same calls, printed instead of recorded."""

import os
import sys

from hpcest.onnode.artifacts import artifact_names, artifact_path, place_of
from hpcest.onnode.data.datasets import Datasets
from hpcest.onnode.filters import has_all, is_of
from hpcest.onnode.ids import new_run_id
from hpcest.onnode.metrics import Metrics
from hpcest.onnode.record import EventWriter, encode, put_json
from hpcest.onnode.run import IN_FULL, ExperimentName, Run
from hpcest.onnode.state import RunState


class _Printer(EventWriter):
    """An event writer without a file: prints each event and keeps it for reading back."""

    def __init__(self):
        self.metrics, self.state = Metrics(), RunState()

    def event(self, kind, **fields):
        import time

        line = {"t": time.time(), "e": kind}
        line.update((key, value) for key, value in fields.items() if value is not None)
        self.write(encode(line))

    def write(self, data):
        import json

        event = json.loads(data)
        if self.metrics.apply(event):
            step = "" if event.get("s") is None else " (step %s)" % event["s"]
            _say("%s = %s%s" % (event["k"], event["v"], step))
        else:
            self.state.apply(event)

    def flush(self):
        return True


class _Experiment(ExperimentName):
    """The experiment of a program outside of any run: it has the workspace that the program is in."""

    @property
    def workspace(self):
        import importlib

        return importlib.import_module("hpcest").Workspace.from_config()


class OfflineRun(Run):
    """A run that is not recorded: metrics, tags and children live in memory and are printed."""

    _one: "OfflineRun | None" = None

    def __init__(self, parent=None, name="", run_id=None):
        self.id = run_id or "OfflineRun_" + new_run_id()  # programs ask whether the id begins so, as Azure ML's does
        self._spec = {"display_name": name}
        self._printer = _Printer()
        self._log_to(self._printer)
        self._parent = parent
        self._children = []
        self._printer.state.status = "Running"

    @classmethod
    def the_one(cls):
        if OfflineRun._one is None:
            sys.stderr.write("hpcest: this program is not inside a run; what it logs is printed, not recorded\n")
            OfflineRun._one = cls()
        return OfflineRun._one

    @property
    def experiment(self):
        return _Experiment("offline")

    @property
    def parent(self):
        return self._parent

    @property
    def type(self):
        return "script"

    @property
    def status(self):
        return self.get_status()

    @property
    def input_datasets(self):
        return Datasets(os.devnull, "input")  # which has nothing below it

    @property
    def output_datasets(self):
        return Datasets(os.devnull, "output")

    def _state(self):
        return self._printer.state

    def get_details(self):
        return {
            "runId": self.id,
            "target": "offline",
            "status": self.get_status(),
            "startTimeUtc": None,
            "endTimeUtc": None,
            "properties": self.get_properties(),
            "tags": self.get_tags(),
            "inputDatasets": [],
            "outputDatasets": [],
            "runDefinition": {},
            "logFiles": {},
            "submittedBy": "",
        }

    def get_detailed_status(self):
        return {"status": self.get_status(), "reason": "", "details": self._printer.state.message, "facts": {}}

    def get_children(self, recursive=False, tags=None, properties=None, type=None, status=None):
        for child in self._children:
            wanted = has_all(child.get_tags(), tags) and has_all(child.get_properties(), properties)
            if wanted and is_of(type, "child", {"framework": ""}) and status in (None, child.get_status()):
                yield child
            if recursive:
                for below in child.get_children(True, tags, properties, type, status):
                    yield below

    def wait_for_completion(self, show_output=False, wait_post_processing=False, raise_on_error=True):
        return self.get_details()

    def _metrics(self):
        return self._printer.metrics

    # ------------------------------------------------------------------ files
    def upload_file(self, name, path_or_stream, datastore_name=None):
        artifact_path("", name)
        if hasattr(path_or_stream, "read"):
            super().upload_file(name, path_or_stream)
        elif os.path.isfile(path_or_stream):
            target = place_of(self.folder, name)
            if os.path.lexists(target):
                os.unlink(target)
            os.symlink(os.path.abspath(path_or_stream), target)
        else:
            raise FileNotFoundError("upload_file(%r): there is no file %r" % (name, str(path_or_stream)))
        _say("would keep %s" % name)

    def get_file_names(self):
        """What was uploaded, and what is in ./outputs and ./logs, which would be the run's."""
        here = [name for name in artifact_names(os.getcwd()) if name.split(os.sep)[0] in ("outputs", "logs")]
        return sorted(set(here) | set(artifact_names(self.folder) if "folder" in self.__dict__ else ()))

    def download_file(self, name, output_file_path=None):
        """Copy what was uploaded as ``name``, or is so called here. Raises FileNotFoundError."""
        import shutil

        places = [artifact_path(folder, name) for folder in (self.folder, os.getcwd())]
        found = [path for path in places if os.path.isfile(path)]
        if not found:
            raise FileNotFoundError("this run has no file %r; it has: %s" % (name, ", ".join(self.get_file_names()) or "none"))
        target = str(output_file_path or os.path.basename(found[0]))
        target = os.path.join(target, os.path.basename(found[0])) if os.path.isdir(target) or target.endswith(os.sep) else target
        os.makedirs(os.path.dirname(os.path.abspath(target)), exist_ok=True)
        if os.path.realpath(target) != os.path.realpath(found[0]):
            shutil.copyfile(found[0], target)

    def download_files(
        self, prefix=None, output_directory=None, output_paths=None, batch_size=100, append_prefix=True, timeout_seconds=None
    ):  # fmt: skip
        """Copy all files whose names start with ``prefix``, as ``download_file`` does each."""
        names = [name for name in self.get_file_names() if name.startswith(prefix or "")]
        cut = 0 if append_prefix else len(prefix or "")
        below = [os.path.join(str(output_directory or "."), name[cut:].lstrip("/")) for name in names]
        for name, target in zip(names, below if output_paths is None else output_paths):
            self.download_file(name, target)

    def get_all_logs(self, destination=None):
        return []

    def get_details_with_logs(self):
        return self.get_details()

    def get_portal_url(self):
        from pathlib import Path

        return Path.cwd().as_uri()

    def __getattr__(self, name):
        if name == "folder":
            self.folder = _for_files(self.id)
            return self.folder
        if name in IN_FULL:
            raise AttributeError("Run.%s is not there for a program outside of any run; start it with 'hpcest submit'" % name)
        raise AttributeError("%r object has no attribute %r" % (type(self).__name__, name))

    def register_model(
        self, model_name, model_path=None, tags=None, properties=None, model_framework=None, model_framework_version=None,
        description=None, datasets=None, **ignored
    ):  # fmt: skip
        from hpcest.onnode import models

        _say("would register %s as the model %s" % (model_path or "outputs", model_name))
        facts = models.facts(tags, properties, description, datasets, (model_framework, model_framework_version))
        return models.Version(model_path or "outputs", dict(facts, name=models.checked_name(model_name), run_id=self.id))

    def child_run(self, name=None, run_id=None, outputs=None):
        child = OfflineRun(self, name or "", run_id or "%s_%d" % (self.id, len(self._children)))
        self._children.append(child)
        return child

    def cancel(self):
        self._end("Canceled")

    def _end(self, status, **fields):
        if not self._over:
            self._over = True
            self._writer.event("status", v=status, by="program", **fields)
            _say(status)


def _for_files(run):
    """Where what is uploaded is until the program ends: links to files, and what streams held."""
    import atexit
    import shutil
    import tempfile

    folder, owner = tempfile.mkdtemp(prefix="hpcest-offline-"), os.getpid()

    def remove():
        if os.getpid() == owner:  # and not when a forked child ends
            shutil.rmtree(folder, ignore_errors=True)

    atexit.register(remove)
    put_json(os.path.join(folder, "run.json"), {"id": run})
    return folder


def _say(text):
    print("[offline] %s" % text, flush=True)
