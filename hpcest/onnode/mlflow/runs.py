"""The runs of a workspace as MLflow's calls want to read and write them; without MLflow, which ``store`` puts around it."""

import getpass
import hashlib
import json
import os
import re
import threading
import time

from hpcest.onnode.events import event_files, read_events, read_run
from hpcest.onnode.ids import new_run_id
from hpcest.onnode.record import SCHEMA, EventWriter, announce, encode, get_json, put_json, warn
from hpcest.onnode.run import Run

_EXPERIMENT_ID = re.compile(r"[a-zA-Z0-9][\w-]{0,63}\Z", re.ASCII)
_STATUS = {"Completed": "FINISHED", "Failed": "FAILED", "Canceled": "KILLED", "NotStarted": "SCHEDULED", "Preparing": "SCHEDULED"}
_STATUS["Queued"] = "SCHEDULED"
_ENDED = {"FINISHED": "Completed", "FAILED": "Failed", "KILLED": "Canceled"}
#: MLflow's own tags of where a run comes from: they never change, and are properties here.
_FACTS = ("mlflow.user", "mlflow.source.", "mlflow.parentRunId", "mlflow.dataset.", "mlflow.model.")
NAME, NOTE, PARENT, MODELS = "mlflow.runName", "mlflow.note.content", "mlflow.parentRunId", "mlflow.log-model.history"


def experiment_id(name):
    """An experiment's name as an id that every version of MLflow takes: itself where it can be one."""
    return name if _EXPERIMENT_ID.match(name) else "e" + hashlib.sha256(name.encode("utf-8", "replace")).hexdigest()[:20]


def milliseconds(seconds):
    """A time as MLflow has it; None stays None."""
    return None if seconds is None else int(seconds * 1000)


class Runs:
    """The runs of the workspace at ``root``. In a run's program one of them is ``own``, else that is None.

    What is written goes to this process's own event file of the run, as ``Run.log`` does it: no locks, nothing
    is lost when the process is killed, and trouble of the storage never raises.
    """

    def __init__(self, root):
        self.home = os.path.join(root, ".hpcest")
        self.runs = os.path.join(self.home, "runs")
        folder = os.environ.get("HPCEST_RUN_DIR", "")
        inside = folder and os.path.realpath(os.path.dirname(folder)) == os.path.realpath(self.runs)
        self.own = Run.get_context() if inside else None
        self._known = {self.own.id: self.own} if self.own else {}
        self._given = False
        self._lock = threading.Lock()
        self._named = ""  # what this process has called its own run
        self._said = {}  # run -> what this process has said of its end, and when
        self._last = {}  # (run, metric) -> its last point
        self._called = {}  # ids of experiments that were asked for -> their names
        self._alias = ""  # the experiment that the program says it belongs to

    # ------------------------------------------------------------------ experiments
    def experiment(self, name):
        """The id of the experiment ``name``; None where no run belongs to it. In a run any name will do: the program may say it."""
        found = experiment_id(name)
        if self.own or name == "Default" or any(header_name == name for _, header_name in self._experiments_of_runs()):
            self._called[found] = name
            return found
        return self._called.get(found) and found

    def called(self, found):
        """The name of the experiment with this id; None where there is none."""
        if found not in self._called:
            names = [self.own.experiment.name] if self.own else []
            self._called.update((experiment_id(name), name) for name in names)
        if found not in self._called:
            self._called.update((experiment_id(name), name) for _, name in self._experiments_of_runs())
        return self._called.get(found) or (found if self.own else {"0": "Default"}.get(found))

    def create_experiment(self, name):
        """The id of the experiment, which is there when its first run is."""
        found = experiment_id(name)
        self._called[found] = name
        return found

    def names(self):
        """The names of all experiments that have a run."""
        return sorted({name for _, name in self._experiments_of_runs()} | set(self._called.values()))

    def _experiments_of_runs(self):
        for run_id in self._ids():
            yield run_id, self._spec(run_id).get("experiment", "")

    def of_experiments(self, ids):
        """The ids of the runs of these experiments, the newest first."""
        found = []
        for run_id in self._ids():
            header = get_json(os.path.join(self.runs, run_id, "run.json")) or {}
            if self._experiment_of(run_id, header.get("spec") or {}) in ids:
                found.append((header.get("created") or 0.0, run_id))
        return [run_id for _, run_id in sorted(found, reverse=True)]

    def _experiment_of(self, run_id, spec):
        if self._alias and self.own and self.own.id in (run_id, spec.get("parent")):
            return self._alias
        return experiment_id(spec.get("experiment", ""))

    def _ids(self):
        try:
            return os.listdir(self.runs)
        except OSError:
            return []

    def _spec(self, run_id):
        return (get_json(os.path.join(self.runs, run_id, "run.json")) or {}).get("spec") or {}

    # ------------------------------------------------------------------ runs
    def create(self, experiment, name, tags):
        """The run of this program where it asks for the first time, else a child of it; outside of any run a new one. Returns the id."""
        parent = tags.get(PARENT)
        with self._lock:
            ours = self.own is not None and not parent and not self._given
            self._given = self._given or ours
            self._alias = experiment if ours else self._alias
        run = self.own if ours else None
        if run is None:
            above = self.run(parent) if parent else self.own
            run = above.child_run(name) if above else self._new(self.called(experiment) or experiment, name)
        self._known[run.id] = run
        self.tag(run.id, {**tags, **({NAME: name} if name else {})})
        return run.id

    def _new(self, experiment, name):
        """A run that no program was submitted for."""
        while True:
            run_id = new_run_id()
            folder = os.path.join(self.runs, run_id)
            try:
                os.mkdir(folder)
                break
            except FileExistsError:
                continue
        for part in ("outputs", "logs", "events"):
            os.mkdir(os.path.join(folder, part))
        spec = {"experiment": experiment, "display_name": name or "", "framework": ""}
        user = getpass.getuser()
        header = {"schema": SCHEMA, "id": run_id, "created": time.time(), "kind": "child", "user": user, "spec": spec}
        put_json(os.path.join(folder, "run.json"), header)
        run = Run(folder, EventWriter(folder, "program"))
        run.start()
        return run

    def run(self, run_id):
        """The run with this id, None where there is none."""
        if run_id not in self._known:
            folder = os.path.join(self.runs, str(run_id))
            if os.path.basename(folder) != run_id or not os.path.isfile(os.path.join(folder, "run.json")):
                return None
            self._known[run_id] = Run(folder, EventWriter(folder, "program"))
        return self._known[run_id]

    def info(self, run_id):
        """What MLflow wants to know of a run beside what was logged. Of the own run no event is read: a thousand ranks may ask."""
        run = self.run(run_id)
        header = get_json(os.path.join(run.folder, "run.json")) or {}
        spec = header.get("spec") or {}
        facts = {"id": run.id, "experiment": self._experiment_of(run.id, spec), "user": header.get("user") or ""}
        if self.own is not None and run is self.own:
            status, ended = self._said.get(run_id, ("RUNNING", None))
            started, name, deleted = header.get("created"), self._named or spec.get("display_name"), False
        else:
            state = read_run(run.folder)[0]
            status, ended, started = _STATUS.get(state.status, "RUNNING"), milliseconds(state.ended), state.started or header.get("created")
            name, deleted = state.names.get("display_name", (0, spec.get("display_name")))[1], state.trashed[1]
        facts.update({"status": status, "start": milliseconds(started or 0.0), "end": ended, "name": name or run.id, "deleted": deleted})
        return facts

    def logged(self, run_id):
        """What was logged to a run: ``tags``, ``params``, ``metrics`` as [(name, value, time, step)]."""
        run = self.run(run_id)
        spec = (get_json(os.path.join(run.folder, "run.json")) or {}).get("spec") or {}
        state, metrics = read_run(run.folder)
        properties = {key: value for key, (_, value) in state.properties.items()}
        tags = {key: value for key, value in dict(properties, **(spec.get("properties") or {})).items() if key.startswith("mlflow.")}
        tags.update(spec.get("tags") or {})
        tags.update({key: value for key, (_, value) in state.tags.items()})
        for one, key in (("display_name", NAME), ("description", NOTE)):
            tags[key] = state.names[one][1] if one in state.names else spec.get(one)
        models = self._logged_models(run.folder)
        tags.update({PARENT: spec.get("parent"), MODELS: json.dumps(models) if models else None})
        return {
            "tags": {key: value for key, value in tags.items() if value is not None and (value or key not in (NAME, NOTE, PARENT))},
            "params": {key: value for key, (_, value) in state.params.items()},
            "metrics": [one for one in map(_latest, metrics.points, metrics.points.values()) if one],
        }

    def history(self, run_id, name):
        """All points of a metric, as (name, value, time, step), in the order of time."""
        points = read_run(self.run(run_id).folder)[1].series(name)
        return [_point(name, *point) for point in points if _is_number(point[2])]

    def _logged_models(self, folder):
        found = []
        for path in event_files(folder):
            try:
                found += [event["v"] for event in read_events(path)[0] if event.get("e") == "logged_model" and "v" in event]
            except OSError:
                continue
        return found

    # ------------------------------------------------------------------ writing
    def log(self, run_id, metrics, params):
        """Record metrics [(name, value, milliseconds, step)] and params [(name, text)]; all in one write."""
        run = self.run(run_id)
        now, lines = time.time(), []
        for name, *point in metrics:
            if self._last.get((run_id, name)) != point:  # MLflow 3 says a metric again for each model that it is of
                self._last[run_id, name] = point
                value, when, step = point
                lines.append({"t": when / 1000.0 if when else now, "e": "metric", "k": name, "v": value, "s": step})
        lines += [{"t": round(now, 6), "e": "param", "k": name, "v": value} for name, value in params]
        if lines:
            self._write(run, lines)

    def tag(self, run_id, tags):
        """Set tags: MLflow's own become the run's name, description and properties."""
        run, now, lines = self.run(run_id), round(time.time(), 6), []
        for key, value in tags.items():
            if key == NAME and run is self.own:
                self._named = value
            if key in (NAME, NOTE):
                lines.append({"t": now, "e": "name" if key == NAME else "description", "v": value})
            elif key.startswith(_FACTS):
                lines.append({"t": now, "e": "property", "k": key, "v": value})
            else:
                lines.append({"t": now, "e": "tag", "k": key, "v": value})
        if lines:
            self._write(run, lines)

    def model(self, run_id, facts):
        """Record a model of MLflow's, whose files are artifacts."""
        self._write(self.run(run_id), [{"t": round(time.time(), 6), "e": "logged_model", "v": facts}])

    def note(self, run_id, kind, **fields):
        """Append one event of another kind."""
        self._write(self.run(run_id), [dict({"t": round(time.time(), 6), "e": kind}, **fields)])

    def end(self, run_id, status):
        """Say how a run has ended. Of the run of this program the controller says it; the program is told what it said itself."""
        run = self.run(run_id)
        if status:
            self._said[run_id] = status, milliseconds(time.time()) if status in _ENDED else None
        if status in _ENDED and run is not self.own:
            self.note(run_id, "status", v=_ENDED[status], by="program")
            run.flush()

    def _write(self, run, lines):
        run._writer.write(b"".join(map(encode, lines)))
        if self.own is None:  # the index no longer looks at a run that has ended
            error = announce(os.path.join(self.home, "edits"), run.id)
            if error:
                warn("run %s: the history may be out of date: %s" % (run.id, error))


def _is_number(value):
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _point(name, when, step, value):
    return name, float(value), int(when * 1000), int(step or 0)


def _latest(name, points):
    """The point of the largest step, and of those the latest; None where no point is a number."""
    found = [_point(name, *point) for point in points if _is_number(point[2])]
    return max(found, key=lambda point: (point[3], point[2])) if found else None
