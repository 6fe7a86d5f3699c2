"""``Run.get_context()`` outside any run: the same calls, printed instead of recorded."""

import os
import sys

from hpcest.onnode.data.datasets import Datasets
from hpcest.onnode.ids import new_run_id
from hpcest.onnode.metrics import Metrics
from hpcest.onnode.record import EventWriter, encode
from hpcest.onnode.run import ExperimentName, Run, UnregisteredModel
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


class OfflineRun(Run):
    """A run that is not recorded: metrics, tags and children live in memory and are printed."""

    _one: "OfflineRun | None" = None

    def __init__(self, parent=None, name="", run_id=None):
        self.id = run_id or "OfflineRun_" + new_run_id()  # programs ask whether the id begins so, as Azure ML's does
        self.folder = ""
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
        return ExperimentName("offline")

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
            yield child
            if recursive:
                for below in child.get_children(True):
                    yield below

    def wait_for_completion(self, show_output=False, wait_post_processing=False, raise_on_error=True):
        return self.get_details()

    def get_metrics(self, name=None, recursive=False, run_type=None, populate=False):
        metrics = self._printer.metrics.to_dict()
        if name is not None:
            metrics = {name: metrics[name]} if name in metrics else {}
        if recursive:
            return dict([(self.id, metrics)] + [(child.id, child.get_metrics(name)) for child in self.get_children(True)])
        return metrics

    def _keep_image(self, name, path, plot):
        if (path is None) == (plot is None):
            raise ValueError("log_image(%r) takes either path= or plot=" % name)
        return str(path or plot)

    def _keep_payload(self, kind, name, value):
        return "a %s" % kind.replace("_", " ")

    def upload_file(self, name, path_or_stream, datastore_name=None):
        _say("would keep %s" % name)

    def upload_folder(self, name, path, datastore_name=None):
        _say("would keep the files of %s as %s" % (path, name))

    def get_file_names(self):
        return []

    def register_model(self, model_name, model_path=None, tags=None, properties=None, **described):
        _say("would register %s as the model %s" % (model_path or "outputs", model_name))
        return UnregisteredModel(self, model_name, model_path or "outputs", dict(tags or {}), dict(properties or {}))

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


def _say(text):
    print("[offline] %s" % text, flush=True)
