"""The run that this program is: ``Run.get_context()`` and everything it can log.

Nothing here raises for trouble of the storage; what the caller got wrong (a name, a path that leaves
its folder) raises at once.
"""

import json
import math
import os
import time

from hpcest.onnode.events import read_run
from hpcest.onnode.ids import new_run_id
from hpcest.onnode.record import SCHEMA, EventWriter, get_json, put_json, warn

# Where the artifacts of a run lie in its folder. Any other name is kept below ``artifacts/``.
ARTIFACT_FOLDERS = ("outputs", "logs", "user_logs", "system_logs")
# How long one text of the time serves for what is logged: to spell it takes as long as to write a line.
CLOCK_S = 0.0005


def artifact_path(folder, name):
    """The path of the artifact ``name`` in the run folder. Raises ValueError if it would leave it."""
    parts = str(name).replace("\\", "/").split("/")
    if os.path.isabs(str(name)) or ".." in parts or not [part for part in parts if part not in ("", ".")]:
        raise ValueError("artifact name %r must be a relative path without '..'" % (name,))
    parts = [part for part in parts if part not in ("", ".")]
    if parts[0] not in ARTIFACT_FOLDERS:
        parts.insert(0, "artifacts")
    return os.path.join(str(folder), *parts)


def artifact_names(folder):
    """The names of all artifacts in the run folder, sorted. Links are named, not followed."""
    names: list = []
    for top in ARTIFACT_FOLDERS + ("artifacts",):
        root = os.path.join(str(folder), top)
        for where, folders, files in os.walk(root):
            links = [name for name in folders if os.path.islink(os.path.join(where, name))]
            below = os.path.relpath(where, root if top == "artifacts" else str(folder))
            names.extend(os.path.normpath(os.path.join(below, name)) for name in files + links)
    return sorted(names)


class ExperimentName:
    """What ``run.experiment`` is inside a program: the name is all that a node knows."""

    def __init__(self, name):
        self.name = name

    def __repr__(self):
        return "Experiment(%r)" % self.name


class Run:
    """One execution of a training script, seen from inside it.

    Use ``Run.get_context()``; inside a run it records, outside it works all the same, prints what
    is logged and says so. ``id``, ``experiment`` and ``parent`` tell which run this is.
    """

    _clock = (0.0, "")  # a moment, and how a line starts that was logged then

    def __init__(self, folder, writer=None):
        self.folder = str(folder)
        header = get_json(os.path.join(self.folder, "run.json")) or {}
        self.id = header.get("id") or os.path.basename(self.folder)
        self._spec = header.get("spec") or {}
        self._writer = writer or EventWriter(self.folder, "program")
        self._prefixes = {}

    # ------------------------------------------------------------------ which run this is
    @classmethod
    def get_context(cls, allow_offline=True):
        """The run that this program was started as.

        Outside any run: an offline run that prints, or a RuntimeError where ``allow_offline`` is False.
        """
        folder = os.environ.get("HPCEST_RUN_DIR")
        if folder:
            context = _CONTEXTS.get(folder)
            if context is None:
                role = "rank%s.a%s" % (os.environ.get("RANK", "0"), os.environ.get("HPCEST_ATTEMPT", "0"))
                context = _CONTEXTS[folder] = cls(folder, EventWriter(folder, role))
            return context
        if not allow_offline:
            raise RuntimeError("not inside a run: HPCEST_RUN_DIR is not set; start the program with 'hpcest submit'")
        from hpcest.onnode.offline import OfflineRun

        return OfflineRun.the_one()

    @property
    def experiment(self):
        return ExperimentName(self._spec.get("experiment", ""))

    @property
    def parent(self):
        """The run that this one is a child of, or None."""
        parent = self._spec.get("parent")
        return type(self)(os.path.join(os.path.dirname(self.folder), parent)) if parent else None

    @property
    def name(self):
        return self._name("display_name")

    @property
    def display_name(self):
        return self._name("display_name")

    @display_name.setter
    def display_name(self, value):
        self._writer.event("name", v=str(value))

    @property
    def description(self):
        return self._name("description")

    @description.setter
    def description(self, value):
        self._writer.event("description", v=str(value))

    def _name(self, which):
        changed = read_run(self.folder)[0].names.get(which)
        return changed[1] if changed else self._spec.get(which, "")

    def __repr__(self):
        return "Run(id=%r, experiment=%r)" % (self.id, self.experiment.name)

    # ------------------------------------------------------------------ metrics
    def log(self, name, value, description="", step=None):
        """Log a scalar: a number or a text. The same name again makes a series.

        Numbers of NumPy, PyTorch and the like are taken by their value. Other types raise TypeError.
        """
        try:
            start = self._prefixes[name]
        except (KeyError, TypeError):
            start = self._prefixes[_checked_name(name)] = ',"e":"metric","k":%s,"v":' % json.dumps(name)
        text = repr(value) if type(value) is float and value - value == 0.0 else _json(name, value)
        if step is not None:
            text = f'{text},"s":{step if type(step) is int else _json("step", step)}'
        now = time.time()
        since, clock = self._clock
        if not 0.0 <= now - since < CLOCK_S:
            clock = '{"t":%.4f' % now
            self._clock = now, clock
        self._writer.write(f"{clock}{start}{text}}}\n".encode())

    def log_list(self, name, value, description=""):
        """Log a list, or anything that can be iterated over, as one metric."""
        self._writer.event("list", k=_checked_name(name), v=[_scalar(name, item) for item in value])

    def log_row(self, name, description=None, **kwargs):
        """Append one row, its columns given as keywords, to the table ``name``."""
        self._writer.event("row", k=_checked_name(name), v={key: _scalar(key, item) for key, item in kwargs.items()})

    def log_table(self, name, value, description=""):
        """Log a table: a dict of columns, each a list of scalars or one scalar."""
        table = {}
        for column, items in dict(value).items():
            alone = isinstance(items, (str, bytes)) or not hasattr(items, "__iter__")
            table[str(column)] = _scalar(column, items) if alone else [_scalar(column, item) for item in items]
        self._writer.event("table", k=_checked_name(name), v=table)

    def log_image(self, name, path=None, plot=None, description=""):
        """Keep an image as an artifact: a file at ``path``, or a matplotlib figure (or pyplot) as ``plot``."""
        _checked_name(name)
        if (path is None) == (plot is None):
            raise ValueError("log_image(%r) takes either path= or plot=" % name)
        suffix = os.path.splitext(str(path))[1] if path is not None else ".png"
        stem = "".join(char if char.isalnum() or char in "-_." else "_" for char in name)
        artifact = "images/%s_%d%s" % (stem, time.time_ns() // 1000, suffix)
        target = artifact_path(self.folder, artifact)
        if self._guard(os.makedirs, os.path.dirname(target), exist_ok=True):
            if path is not None:
                if not os.path.isfile(path):
                    raise FileNotFoundError("log_image(%r): there is no file %r" % (name, str(path)))
                self._guard(_copy, path, target)
            else:
                self._guard(plot.savefig, target)
        self._writer.event("image", k=name, v=artifact)

    def get_metrics(self, name=None):
        """What was logged so far, by all ranks: a scalar, or a list where a name was logged repeatedly;
        rows and tables as a dict of columns."""
        metrics = read_run(self.folder)[1].to_dict()
        if name is None:
            return metrics
        return {name: metrics[name]} if name in metrics else {}

    # ------------------------------------------------------------------ tags and properties
    def tag(self, key, value=""):
        """Set a tag; it may be changed and removed later."""
        self._writer.event("tag", k=str(key), v="" if value is None else str(value))

    def set_tags(self, tags):
        for key, value in dict(tags).items():
            self.tag(key, value)

    def remove_tags(self, tags):
        for key in [tags] if isinstance(tags, str) else tags:
            self._writer.event("untag", k=str(key))

    def get_tags(self):
        tags = dict(self._spec.get("tags") or {})
        for key, (_, value) in read_run(self.folder)[0].tags.items():
            tags[key] = value
        return {key: value for key, value in tags.items() if value is not None}

    def add_properties(self, properties):
        """Set properties. A property is written once: a second value for it is ignored."""
        for key, value in dict(properties).items():
            self._writer.event("property", k=str(key), v=str(value))

    def get_properties(self):
        properties = {key: value for key, (_, value) in read_run(self.folder)[0].properties.items()}
        properties.update(self._spec.get("properties") or {})
        return properties

    @property
    def tags(self):
        return self.get_tags()

    @property
    def properties(self):
        return self.get_properties()

    # ------------------------------------------------------------------ files
    def upload_file(self, name, path_or_stream, datastore_name=None):
        """Keep a file (or what a binary stream holds) as the artifact ``name``, replacing it whole."""
        target = artifact_path(self.folder, name)
        if not hasattr(path_or_stream, "read") and not os.path.isfile(path_or_stream):
            raise FileNotFoundError("upload_file(%r): there is no file %r" % (name, str(path_or_stream)))
        beside = "%s.%d.part" % (target, os.getpid())

        def copy():
            os.makedirs(os.path.dirname(target), exist_ok=True)
            if hasattr(path_or_stream, "read"):
                with open(beside, "wb") as stream:
                    _copy(path_or_stream, stream)
            elif os.path.exists(target) and os.path.samefile(path_or_stream, target):
                return  # already live in the run folder
            else:
                _copy(path_or_stream, beside)
            os.replace(beside, target)

        self._guard(copy)

    def upload_files(self, names, paths, datastore_name=None):
        if len(names) != len(paths):
            raise ValueError("upload_files: %d names for %d paths" % (len(names), len(paths)))
        for name, path in zip(names, paths):
            self.upload_file(name, path)

    def upload_folder(self, name, path, datastore_name=None):
        """Keep every file below the folder ``path`` as the artifact ``name``/its relative path."""
        if not os.path.isdir(path):
            raise FileNotFoundError("upload_folder(%r): there is no folder %r" % (name, str(path)))
        for where, _, files in os.walk(path):
            for file in files:
                source = os.path.join(where, file)
                self.upload_file(os.path.join(name, os.path.relpath(source, path)), source)

    def get_file_names(self):
        """The names of all files that the run has so far: outputs, logs, images, uploads."""
        return artifact_names(self.folder)

    # ------------------------------------------------------------------ children
    def child_run(self, name=None, run_id=None, outputs=None):
        """A new run below this one, to log to; end it with ``complete()``, ``fail()`` or ``with``."""
        runs = os.path.dirname(self.folder)
        while True:
            child = run_id or new_run_id()
            folder = os.path.join(runs, child)
            try:
                os.mkdir(folder)
                break
            except FileExistsError:
                if run_id:
                    raise ValueError("child_run: there is a run %r already" % run_id) from None
        spec = {"experiment": self.experiment.name, "parent": self.id, "display_name": name or "", "framework": ""}
        header = {"schema": SCHEMA, "id": child, "created": time.time(), "kind": "child", "spec": spec}
        for part in ("outputs", "logs", "events"):
            os.mkdir(os.path.join(folder, part))
        put_json(os.path.join(folder, "run.json"), header)
        self._writer.event("child", id=child)
        run = type(self)(folder, EventWriter(folder, "program"))
        run.start()
        return run

    def create_children(self, count=None, tag_key=None, tag_values=None):
        """Several child runs at once: ``count`` of them, or one for each of ``tag_values``."""
        if (count is None) == (tag_values is None):
            raise ValueError("create_children takes either count= or tag_key= and tag_values=")
        children = [self.child_run() for _ in range(count if count is not None else len(tag_values))]
        for child, value in zip(children, tag_values or ()):
            child.tag(tag_key, value)
        return children

    def start(self):
        self._writer.event("status", v="Running", by="program")

    def complete(self):
        """Say that the run is done. A submitted run ends when its program ends, whatever is said here."""
        self._end("Completed")

    def fail(self, error_details=None, error_code=None):
        """Say that the run failed, and why."""
        self._end("Failed", r="UserError", m=str(error_details) if error_details is not None else None)

    def _end(self, status, **fields):
        if os.environ.get("HPCEST_RUN_DIR") != self.folder:  # there the controller has the word
            self._writer.event("status", v=status, by="program", **fields)
        self.flush()

    def __enter__(self):
        return self

    def __exit__(self, kind, error, traceback):
        if kind is None or (kind is SystemExit and error.code in (None, 0)):
            self.complete()
        else:
            self.fail("%s: %s" % (kind.__name__, error))

    def flush(self, timeout_seconds=300):
        """Have everything that was logged on disk."""
        self._writer.flush()

    def _guard(self, action, *args, **kwargs):
        """Do ``action``; trouble of the storage is said once and recorded, and the program goes on."""
        try:
            action(*args, **kwargs)
            return True
        except OSError as error:
            warn("run %s: %s" % (self.id, error))
            self._writer.event("trouble", m=str(error))
            return False


def _copy(source, target):
    """Copy a file to a path, or a stream to a stream."""
    import shutil  # brings a dozen modules along, which a program that only logs does without

    (shutil.copyfileobj if hasattr(source, "read") else shutil.copyfile)(source, target)


_CONTEXTS: dict = {}  # run folder -> the one Run of this process


def _checked_name(name):
    if not isinstance(name, str) or not name.strip():
        raise TypeError("the name of a metric must be a text that is not empty, not %r" % (name,))
    return name


def _json(name, value):
    """A scalar as JSON; the usual types are spelt here, for json.dumps takes several times as long."""
    value = _scalar(name, value)
    if isinstance(value, float) and math.isfinite(value):
        return float.__repr__(value)  # NumPy's own repr says that it is NumPy's
    return repr(value) if type(value) is int else json.dumps(value)  # NaN and infinities in JSON's spelling


def _scalar(name, value):
    """``value`` as a JSON scalar; numbers of other libraries by their value."""
    if value is None or isinstance(value, (str, bool, int, float)):
        return value
    item = getattr(value, "item", None)
    if callable(item):
        value = item()  # NumPy, PyTorch, TensorFlow: raises its own error for more than one element
        if isinstance(value, (str, bool, int, float)):
            return value
    for number in (int, float):
        if hasattr(value, "__index__" if number is int else "__float__"):
            return number(value)
    raise TypeError("metric %r: %s is neither a number nor a text; use log_list, log_row or log_table" % (name, type(value).__name__))
