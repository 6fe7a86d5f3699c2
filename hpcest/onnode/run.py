"""The run that this program is: ``Run.get_context()`` and everything that can be done with it on a node.

Nothing here raises for trouble of the storage, and nothing that is logged ever does; what the caller got wrong about a
file (a name that leaves its folder, a path where nothing is) raises at once.
"""

import os
import time

from hpcest.onnode.artifacts import artifact_names, artifact_path, keep, place_of
from hpcest.onnode.events import read_run
from hpcest.onnode.filters import has_all, is_of
from hpcest.onnode.ids import may_be_id, new_run_id
from hpcest.onnode.loggable import Loggable
from hpcest.onnode.reading import read_state
from hpcest.onnode.record import SCHEMA, EventWriter, get_json, put_json, warn

__all__ = ["ExperimentName", "Run", "artifact_names", "artifact_path"]


class ExperimentName:
    """What ``run.experiment`` is inside a program: the name is all that a node knows."""

    def __init__(self, name):
        self.name = name

    def __getattr__(self, name):
        raise AttributeError("run.experiment has no %r in an environment without hpcest: add hpcest to the run's packages" % name)

    def __repr__(self):
        return "Experiment(%r)" % self.name


class Run(Loggable):
    """One execution of a training script, seen from inside it.

    Use ``Run.get_context()``; inside a run it records, outside it works all the same, prints what
    is logged and says so. ``id``, ``experiment`` and ``parent`` tell which run this is.
    """

    _over = False  # whether its end was said here

    def __init__(self, folder, writer=None):
        self._open(folder)
        self._log_to(writer or EventWriter(self.folder, "program"))

    def _open(self, folder, outputs=None):
        self.folder = str(folder)
        header = get_json(os.path.join(self.folder, "run.json")) or {}
        self.id = header.get("id") or os.path.basename(self.folder)
        self._kind, self._made = header.get("kind", ""), header.get("created") or 0.0
        self._spec = header.get("spec") or {}
        self._outputs = outputs  # a folder that is kept as its outputs when it ends
        self._prefixes = {}

    # ------------------------------------------------------------------ which run this is
    @classmethod
    def get_context(cls, allow_offline=True, used_for_context_manager=False):
        """The run that this program was started as.

        Outside any run: an offline run that prints, or a RuntimeError where ``allow_offline`` is False.
        ``used_for_context_manager`` has no effect: every run can be used by ``with``.
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

    @classmethod
    def get_submitted_run(cls, **kwargs):
        """The older name of ``get_context(allow_offline=False)``."""
        return cls.get_context(allow_offline=False)

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
        changed = self._state().names.get(which)
        return changed[1] if changed else self._spec.get(which, "")

    def _state(self):
        """What the events say beside the metrics."""
        return read_state(self.folder)

    def get_status(self):
        """The status as far as it is recorded."""
        return self._state().status

    def __repr__(self):
        return "Run(id=%r, experiment=%r)" % (self.id, self.experiment.name)

    # ------------------------------------------------------------------ data
    @property
    def input_datasets(self):
        """Where the program finds its inputs: name → path, which also says what data it is."""
        from hpcest.onnode.data.datasets import Datasets

        return Datasets(self.folder, "input")

    @property
    def output_datasets(self):
        """Where the program writes its named outputs: name → path."""
        from hpcest.onnode.data.datasets import Datasets

        return Datasets(self.folder, "output")

    def get_secret(self, name):
        """The value of the environment variable ``name``: secrets are given as variables when a run is submitted."""
        for spelling in (name, name.replace("-", "_"), name.replace("-", "_").upper()):
            if spelling in os.environ:
                return os.environ[spelling]
        raise KeyError("there is no environment variable %r; give it when you submit: environment_variables={%r: …}" % (name, name))

    def get_secrets(self, secrets):
        """Several secrets, name → value, as ``get_secret`` finds each."""
        return {name: self.get_secret(name) for name in secrets}

    # ------------------------------------------------------------------ what was logged
    def get_metrics(self, name=None, recursive=False, run_type=None, populate=False):
        """What was logged so far, by all ranks: a scalar, or a list where a name was logged repeatedly;
        rows and tables as a dict of columns. ``populate``: what typed payloads hold, in place of their files' names.
        ``recursive``: run id → such a dict, children included."""
        metrics = self._metrics().to_dict()
        if name is not None:
            metrics = {name: metrics[name]} if name in metrics else {}
        if populate:
            from hpcest.onnode.payloads import content_of

            metrics = {name: content_of(self.folder, value) for name, value in metrics.items()}
        if recursive:
            below = self.get_children(True, type=run_type)
            return dict([(self.id, metrics)] + [(child.id, child.get_metrics(name, populate=populate)) for child in below])
        return metrics

    def _metrics(self):
        return read_run(self.folder)[1]

    # ------------------------------------------------------------------ tags and properties
    def tag(self, key, value=""):
        """Set a tag; it may be changed and removed later."""
        self._writer.event("tag", k=str(key), v="" if value is None else str(value))

    def set_tags(self, tags):
        for key, value in dict(tags).items():
            Run.tag(self, key, value)

    def remove_tags(self, tags):
        for key in [tags] if isinstance(tags, str) else tags:
            self._writer.event("untag", k=str(key))

    def get_tags(self):
        tags = dict(self._spec.get("tags") or {})
        for key, (_, value) in self._state().tags.items():
            tags[key] = value
        return {key: value for key, value in tags.items() if value is not None}

    def add_properties(self, properties):
        """Set properties. A property is written once: another value for it is ignored, and stderr says so."""
        known = self.get_properties()
        for key, value in dict(properties).items():
            if known.get(str(key), str(value)) != str(value):
                warn("run %s: the property %r is %r and stays so: a property is written once" % (self.id, str(key), known[str(key)]))
            self._writer.event("property", k=str(key), v=str(value))

    def get_properties(self):
        """All properties; those that were submitted count before those that were added."""
        properties = {key: value for key, (_, value) in self._state().properties.items()}
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
        """Keep a file (or what a stream holds) as the artifact ``name``, replacing it whole.

        Raises FileNotFoundError where there is no such file, ValueError for a name that leads out of the run folder.
        """
        artifact_path(self.folder, name)
        if not hasattr(path_or_stream, "read") and not os.path.isfile(path_or_stream):
            raise FileNotFoundError("upload_file(%r): there is no file %r" % (name, str(path_or_stream)))
        self._guard(lambda: keep(path_or_stream, place_of(self.folder, name)))

    def upload_files(self, names, paths, return_artifacts=False, timeout_seconds=None, datastore_name=None):
        """Keep files, each as the artifact of that name; with ``return_artifacts`` return name → path in the run folder."""
        if len(names) != len(paths):
            raise ValueError("upload_files: %d names for %d paths" % (len(names), len(paths)))
        for name, path in zip(names, paths):
            self.upload_file(name, path)
        return {name: artifact_path(self.folder, name) for name in names} if return_artifacts else None

    def upload_folder(self, name, path, datastore_name=None):
        """Keep every file below the folder ``path`` as the artifact ``name``/its relative path."""
        if not os.path.isdir(path):
            raise FileNotFoundError("upload_folder(%r): there is no folder %r" % (name, str(path)))
        for where, _, files in os.walk(path):
            for file in files:
                source = os.path.join(where, file)
                if os.path.isfile(source):  # no pipes, and no links that lead nowhere
                    self.upload_file(os.path.join(name, os.path.relpath(source, path)), source)

    def get_file_names(self):
        """The names of all files that the run has so far: outputs, logs, images, uploads."""
        return artifact_names(self.folder)

    def register_model(
        self, model_name, model_path=None, tags=None, properties=None, model_framework=None, model_framework_version=None,
        description=None, datasets=None, **ignored
    ):  # fmt: skip
        """Register a file or folder of this run (all of ``outputs`` by default) as the next version of a model, as it is now.

        Returns an object with ``name``, ``version``, ``id``, ``tags`` and so on. Its ``version`` is 0 where the registry can't be
        written; then it is registered when the run is collected. Raises FileNotFoundError if there is no such file,
        ValueError for a name that can't be and for what can't be copied whole.
        """
        from hpcest.onnode import models

        if ignored:
            warn("register_model: no effect here: %s" % ", ".join(sorted(ignored)))
        path = artifact_path(self.folder, model_path or "outputs")
        if not os.path.exists(path) or (os.path.isdir(path) and not os.listdir(path)):
            raise FileNotFoundError("register_model(%r): the run has no file %r" % (model_name, model_path or "outputs"))
        facts = models.facts(tags, properties, description, datasets, (model_framework, model_framework_version))
        return models.register_of(self, model_name, str(model_path or "outputs"), path, facts)

    # ------------------------------------------------------------------ children
    def child_run(self, name=None, run_id=None, outputs=None):
        """A new run below this one, to log to; end it with ``complete()``, ``fail()`` or ``with``.

        ``outputs`` is a folder that is kept as its outputs when it ends.
        """
        if run_id is not None and not may_be_id(str(run_id)):
            raise ValueError("child_run: a run id has letters, digits, '_', '-' and '.', and starts with a letter, unlike %r" % (run_id,))
        runs = os.path.dirname(self.folder)
        while True:
            child = str(run_id or new_run_id())
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
        run._outputs = outputs
        run.start()
        return run

    def create_children(self, count=None, tag_key=None, tag_values=None):
        """Several child runs at once: ``count`` of them, or one for each of ``tag_values``."""
        if (count is None) == (tag_values is None) or (tag_key is None) != (tag_values is None):
            raise ValueError("create_children takes either count= or tag_key= and tag_values=")
        if count is not None and (not isinstance(count, int) or count < 0):
            raise ValueError("create_children: count is how many, a whole number, and not %r" % (count,))
        values = [None] * (count or 0) if tag_values is None else list(tag_values)
        children = [self.child_run() for _ in values]
        for child, value in zip(children, values):
            if tag_key is not None:
                child.tag(tag_key, value)
        return children

    def get_children(self, recursive=False, tags=None, properties=None, type=None, status=None):
        """The runs below this one, in the order in which they were made; ``recursive`` with theirs."""
        runs = os.path.dirname(self.folder)
        names = [name for name in self._state().children if os.path.basename(name) == name]
        children = [self.__class__(os.path.join(runs, name)) for name in names if os.path.isfile(os.path.join(runs, name, "run.json"))]
        for child in sorted(children, key=lambda child: child._made):
            wanted = has_all(child.get_tags(), tags) and has_all(child.get_properties(), properties)
            if wanted and is_of(type, child._kind, child._spec) and status in (None, child.get_status()):
                yield child
            if recursive:
                for below in child.get_children(True, tags, properties, type, status):
                    yield below

    # ------------------------------------------------------------------ its end
    def start(self):
        """Say that the run has begun."""
        self._writer.event("status", v="Running", by="program")

    def complete(self):
        """Say that the run is done. A submitted run ends when its program ends, whatever is said here."""
        self._end("Completed")

    def fail(self, error_details=None, error_code=None):
        """Say that the run failed, and why."""
        said = ": ".join(str(part) for part in (error_code, error_details) if part is not None)
        self._end("Failed", r="UserError", m=said or None)

    def cancel(self):
        """Have the run ended: its controller is asked to; a child is Canceled from now on."""
        if os.environ.get("HPCEST_RUN_DIR") == self.folder:
            self._guard(_touch, os.path.join(self.folder, "state", "cancel"))
        else:
            self._end("Canceled")

    def _end(self, status, **fields):
        if os.environ.get("HPCEST_RUN_DIR") != self.folder and not self._over:  # there the controller has the word
            self._over = True
            if self._outputs and os.path.isdir(self._outputs):
                self.upload_folder("outputs", self._outputs)
            self._writer.event("status", v=status, by="program", **fields)
            self._writer.close()  # whoever makes a thousand children needs their files closed
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

    def _guard(self, action, *args):
        """Do ``action``; trouble of the storage is said once and recorded, and the program goes on."""
        try:
            action(*args)
        except OSError as error:
            warn("run %s: %s" % (self.id, error))
            self._writer.event("trouble", m=str(error))


def _touch(path):
    with open(path, "ab"):
        pass


def _explained(run, name):
    """Say of what only the whole package can do where it can be had."""
    if name in IN_FULL:
        raise AttributeError(
            "Run.%s is not available here: only the tracking part of hpcest travels with a run; "
            "install hpcest in this environment to use it" % name
        )
    raise AttributeError("%r object has no attribute %r" % (type(run).__name__, name))


IN_FULL = frozenset(
    (
        "clean", "download_file", "download_files", "get_all_logs", "get_details", "get_details_with_logs", "get_detailed_status",
        "get_environment", "get_portal_url", "get_snapshot_id", "number", "restore_snapshot", "submit_child",
        "take_snapshot", "wait_for_completion", "workspace",
    )
)  # fmt: skip
setattr(Run, "__getattr__", _explained)  # noqa: B010  # not in the class, where type checkers would take it for any attribute
_CONTEXTS: dict = {}  # run folder -> the one Run of this process
