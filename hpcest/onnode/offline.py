"""``Run.get_context()`` outside any run: the same calls, printed instead of recorded."""

import sys

from hpcest.onnode.metrics import Metrics
from hpcest.onnode.record import EventWriter, encode
from hpcest.onnode.run import ExperimentName, Run


class _Printer(EventWriter):
    """An event writer without a file: prints each event and keeps it for reading back."""

    def __init__(self):
        self.metrics = Metrics()
        self.tags, self.properties, self.names = {}, {}, {}

    def event(self, kind, **fields):
        import time

        line = {"t": time.time(), "e": kind}
        line.update(fields)
        self.write(encode(line))

    def write(self, data):
        import json

        event = json.loads(data)
        if self.metrics.apply(event):
            step = "" if event.get("s") is None else " (step %s)" % event["s"]
            print("[offline] %s = %s%s" % (event["k"], event["v"], step), flush=True)
        elif event["e"] == "tag":
            self.tags[event["k"]] = event["v"]
        elif event["e"] == "untag":
            self.tags.pop(event["k"], None)
        elif event["e"] == "property":
            self.properties.setdefault(event["k"], event["v"])
        elif event["e"] in ("name", "description"):
            self.names[event["e"]] = event["v"]

    def flush(self):
        return True


class OfflineRun(Run):
    """A run that is not recorded: metrics and tags live in memory and are printed."""

    _one: "OfflineRun | None" = None

    def __init__(self, parent=None, name=""):
        self.id = "offline"
        self.folder = ""
        self._spec = {"display_name": name}
        self._printer = self._writer = _Printer()
        self._prefixes = {}
        self._parent = parent

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

    def _name(self, which):
        return self._printer.names.get("name" if which == "display_name" else which, self._spec.get(which, ""))

    def get_status(self):
        return "Running"

    def get_details(self):
        return {"runId": self.id, "target": "offline", "status": self.get_status(), "tags": self.get_tags(), "logFiles": {}}

    def get_children(self, **filters):
        return iter(())

    def wait_for_completion(self, show_output=False, wait_post_processing=False, raise_on_error=True):
        return self.get_details()

    def get_metrics(self, name=None):
        metrics = self._printer.metrics.to_dict()
        if name is None:
            return metrics
        return {name: metrics[name]} if name in metrics else {}

    def get_tags(self):
        return dict(self._printer.tags)

    def get_properties(self):
        return dict(self._printer.properties)

    def log_image(self, name, path=None, plot=None, description=""):
        if (path is None) == (plot is None):
            raise ValueError("log_image(%r) takes either path= or plot=" % name)
        self._writer.event("image", k=name, v=str(path or plot))

    def upload_file(self, name, path_or_stream, datastore_name=None):
        print("[offline] would keep %s" % name, flush=True)

    def get_file_names(self):
        return []

    def child_run(self, name=None, run_id=None, outputs=None):
        return OfflineRun(parent=self, name=name or "")

    def _end(self, status, **fields):
        print("[offline] %s" % status, flush=True)
