"""MLflow's tracking store over the run folders of a workspace.

MLflow's own stores don't serve here: the one of files is refused by MLflow 3 and loses lines where several nodes append to
one file, and a SQLite file must not be opened from many nodes. MLflow's modules are imported by name, when a program uses it.
"""

import importlib
import inspect
import json
import os
import pathlib
import uuid
from urllib.parse import unquote, urlparse

from hpcest.onnode.artifacts import artifact_path
from hpcest.onnode.mlflow.artifacts import uri_of
from hpcest.onnode.mlflow.runs import Runs, milliseconds
from hpcest.onnode.record import get_json, put_json, warn

_MOST = 50000


def workspace_of(uri):
    """The directory of the workspace that a URI such as hpcest:///shared/ws names."""
    return unquote(urlparse(uri).path, errors="surrogateescape")


def tracking_store(uri):
    """The store for a tracking URI. Needs MLflow, of any version since 1.30."""
    base = importlib.import_module("mlflow.store.tracking.abstract_store").AbstractStore
    made = type("HpcestStore", (Tracking, base), {"__abstractmethods__": frozenset()})
    return made(workspace_of(uri))


def as_uri(*parts):
    """A path as MLflow takes it without misreading a mark in it."""
    return pathlib.Path(os.path.abspath(os.path.join(*parts))).as_uri()


def refused(message, code="INVALID_PARAMETER_VALUE"):
    """What MLflow raises."""
    exceptions, codes = importlib.import_module("mlflow.exceptions"), importlib.import_module("mlflow.protos.databricks_pb2")
    return exceptions.MlflowException(message, error_code=getattr(codes, code))


def made_of(kind, **facts):
    """An entity of MLflow from the facts that this version of it knows."""
    known = inspect.signature(kind.__init__).parameters
    return kind(**{name: value for name, value in facts.items() if name in known})


def _read_late(base):
    """MLflow's RunData, read when it is first looked at: to log to a run each rank would else read what all have logged."""

    def __init__(self, load):
        self._load = load

    def __getattr__(self, name):
        if name.startswith("__") or "_load" not in self.__dict__:
            raise AttributeError(name)
        base.__init__(self, *self.__dict__.pop("_load")())
        return getattr(self, name)

    def __reduce__(self):
        """A copy is MLflow's own."""
        _ = self.metrics
        return object.__new__, (base,), dict(self.__dict__)

    shown = {name: value for name, value in vars(base).items() if isinstance(value, property)}  # of a class itself MLflow shows them
    return type(base.__name__, (base,), dict(shown, __init__=__init__, __getattr__=__getattr__, __reduce__=__reduce__))


class Tracking:
    """The methods of MLflow's AbstractStore. What a version has beyond them answers that it is not implemented."""

    def __init__(self, root):
        super().__init__()
        self.data = Runs(root)
        self.entities = importlib.import_module("mlflow.entities")
        self._data = _read_late(self.entities.RunData)
        self._paged = importlib.import_module("mlflow.store.entities").PagedList
        self._models = {}  # id of a logged model -> its file

    # ------------------------------------------------------------------ experiments
    def _experiment(self, found, name):
        return made_of(
            self.entities.Experiment,
            experiment_id=found,
            name=name,
            artifact_location=as_uri(self.data.runs),
            lifecycle_stage="active",
            tags=[],
        )

    def get_experiment(self, experiment_id):
        name = self.data.called(str(experiment_id))
        if name is None:
            raise refused("there is no experiment with the id %r in this workspace" % str(experiment_id), "RESOURCE_DOES_NOT_EXIST")
        return self._experiment(str(experiment_id), name)

    def get_experiment_by_name(self, experiment_name):
        found = self.data.experiment(experiment_name)
        return self._experiment(found, experiment_name) if found else None

    def create_experiment(self, name, artifact_location=None, tags=None, **ignored):
        return self.data.create_experiment(name)

    def search_experiments(self, view_type=None, max_results=1000, filter_string=None, order_by=None, page_token=None):
        found = [self.get_experiment_by_name(name) for name in self.data.names()]
        if filter_string:
            search = importlib.import_module("mlflow.utils.search_utils")
            found = search.SearchExperimentsUtils.filter(found, filter_string)
        return self._paged(found[:max_results], None)

    def list_experiments(self, view_type=None, max_results=None, page_token=None):
        return self.search_experiments(max_results=max_results)

    def set_experiment_tag(self, experiment_id, tag):
        warn("mlflow: experiments have no tags here; %r is not kept" % tag.key)

    def _no_change(self, experiment_id, *ignored):
        raise refused(
            "an experiment is the runs that were submitted to it: it can't be renamed or deleted by MLflow; see: hpcest delete --help"
        )

    delete_experiment = restore_experiment = rename_experiment = _no_change

    # ------------------------------------------------------------------ runs
    def create_run(self, experiment_id, user_id, start_time, tags, run_name=None):
        named = {tag.key: str(tag.value) for tag in tags or ()}
        return self.get_run(self.data.create(str(experiment_id), run_name, named))

    def _there(self, run_id):
        run = self.data.run(run_id)
        if run is None:
            raise refused("Run with id=%s not found" % run_id, "RESOURCE_DOES_NOT_EXIST")
        return run

    def get_run(self, run_id):
        self._there(run_id)
        return self.entities.Run(self._info(run_id), self._data(lambda: self._logged(run_id)))

    def _logged(self, run_id):
        """The lists of which MLflow makes a run's data."""
        facts, entities = self.data.logged(run_id), self.entities
        return (
            [entities.Metric(*one) for one in facts["metrics"]],
            [entities.Param(*one) for one in facts["params"].items()],
            [entities.RunTag(*one) for one in facts["tags"].items()],
        )

    def _info(self, run_id):
        facts = self.data.info(run_id)
        return made_of(
            self.entities.RunInfo,
            run_uuid=facts["id"],
            run_id=facts["id"],
            experiment_id=facts["experiment"],
            user_id=facts["user"],
            status=facts["status"],
            start_time=facts["start"],
            end_time=facts["end"],
            lifecycle_stage="deleted" if facts["deleted"] else "active",
            artifact_uri=uri_of(os.path.join(self.data.runs, facts["id"])),
            run_name=facts["name"],
        )

    def update_run_info(self, run_id, run_status, end_time, run_name=None):
        self._there(run_id)
        if run_name:
            self.data.tag(run_id, {"mlflow.runName": run_name})
        status = self.entities.RunStatus
        self.data.end(run_id, status.to_string(run_status) if run_status is not None else "")
        return self._info(run_id)

    def delete_run(self, run_id):
        self._trash(run_id, True)

    def restore_run(self, run_id):
        self._trash(run_id, False)

    def _trash(self, run_id, value):
        own = self.data.own
        if own is not None and self._there(run_id) is own:
            raise refused("the run %s is this program's own, and can't be deleted by it" % run_id)
        self.data.note(run_id, "trash", v=value)

    # ------------------------------------------------------------------ what is logged
    def log_batch(self, run_id, metrics, params, tags):
        self._there(run_id)
        points = [_point(one) for one in metrics or ()]
        self.data.log(run_id, points, [(one.key, str(one.value)) for one in params or ()])
        self.data.tag(run_id, {tag.key: str(tag.value) for tag in tags or ()})

    def log_param(self, run_id, param):
        self.log_batch(run_id, (), (param,), ())
        return param.value

    def delete_tag(self, run_id, key):
        self._there(run_id)
        self.data.note(run_id, "untag", k=key)

    def get_metric_history(self, run_id, metric_key, max_results=None, page_token=None):
        self._there(run_id)
        return self._paged([self.entities.Metric(*one) for one in self.data.history(run_id, metric_key)], None)

    def log_inputs(self, run_id, datasets=None, models=None):
        self._there(run_id)
        self.data.tag(run_id, {"mlflow.dataset." + one.dataset.name: one.dataset.digest for one in datasets or ()})

    def record_logged_model(self, run_id, mlflow_model):
        self._there(run_id)
        tags = getattr(mlflow_model, "get_tags_dict", mlflow_model.to_dict)()
        self._model(run_id, str(tags.get("artifact_path") or ""), tags)

    def _model(self, run_id, path, tags):
        self.data.model(run_id, json.loads(json.dumps(tags, default=str)))
        self.data.tag(
            run_id, {"mlflow.model." + (path or "model"): ", ".join(sorted(tags.get("flavors") or ())) or tags.get("model_id", "")}
        )

    def log_outputs(self, run_id, models):
        """Which models a run has put out: the model's own file says it."""

    def start_trace(self, trace_info):
        raise NotImplementedError("hpcest keeps no traces; mlflow.tracing.disable() ends this message")

    def link_traces_to_run(self, trace_ids, run_id):
        """Traces are not kept."""

    # ------------------------------------------------------------------ looking for runs
    def _search_runs(self, experiment_ids, filter_string, run_view_type, max_results, order_by, page_token):
        if max_results > _MOST:
            raise refused("max_results must be at most %d, not %d" % (_MOST, max_results))
        found = [self.get_run(run_id) for run_id in self.data.of_experiments({str(one) for one in experiment_ids})]
        matches = self.entities.LifecycleStage.matches_view_type
        found = [run for run in found if matches(run_view_type, run.info.lifecycle_stage)]
        utils = importlib.import_module("mlflow.utils.search_utils").SearchUtils
        return utils.paginate(utils.sort(utils.filter(found, filter_string), order_by), page_token, max_results)

    def list_run_infos(self, experiment_id, run_view_type, max_results=1000, order_by=None, page_token=None):
        runs, token = self._search_runs([experiment_id], "", run_view_type, max_results, order_by, page_token)
        return self._paged([run.info for run in runs], token)

    # ------------------------------------------------------------------ models of MLflow 3
    def create_logged_model(self, experiment_id="", name=None, source_run_id=None, tags=None, params=None, model_type=None):
        """A model whose files lie where the artifacts of its run do, by its name: every version of MLflow finds it there."""
        run = self._there(source_run_id) if source_run_id else self.data.own
        if run is None:
            raise refused("a model is kept with a run here: log it inside mlflow.start_run()")
        model_id = "m-" + uuid.uuid4().hex
        name, now = name or model_id, self._now()
        facts = {
            "experiment_id": str(experiment_id),
            "model_id": model_id,
            "name": name,
            "artifact_location": as_uri(_claimed(run.folder, name, model_id)),
            "creation_timestamp": now,
            "last_updated_timestamp": now,
            "model_type": model_type,
            "source_run_id": source_run_id,
            "status": 1,
            "tags": {tag.key: tag.value for tag in tags or ()},
            "params": {param.key: param.value for param in params or ()},
        }
        self._models[model_id] = os.path.join(run.folder, "state", "mlflow-%s.json" % model_id)
        self._keep(facts)
        self._model(run.id, name, {"artifact_path": name, "model_id": model_id, "utc_time_created": now, "run_id": run.id})
        return self.get_logged_model(model_id)

    def _now(self):
        return milliseconds(importlib.import_module("time").time())

    def _keep(self, facts):
        path = self._models[facts["model_id"]]
        os.makedirs(os.path.dirname(path), exist_ok=True)
        put_json(path, facts)

    def _facts(self, model_id):
        if model_id not in self._models:
            found = pathlib.Path(self.data.runs).glob("*/state/mlflow-%s.json" % os.path.basename(str(model_id)))
            self._models.update((model_id, str(path)) for path in found)
        facts = get_json(self._models[model_id]) if model_id in self._models else None
        if facts is None:
            raise refused("there is no logged model %s in this workspace" % model_id, "RESOURCE_DOES_NOT_EXIST")
        return facts

    def get_logged_model(self, model_id, allow_deleted=False):
        return self.entities.LoggedModel(**self._facts(model_id))

    def search_logged_models(self, experiment_ids, filter_string=None, datasets=None, max_results=None, order_by=None, page_token=None):
        if datasets or any("metric" in str(words).lower() for words in (filter_string, order_by)):
            raise refused("metrics are kept with the run of a model here, not with the model: look for it by mlflow.search_runs()")
        wanted = {str(one) for one in experiment_ids}
        files = map(get_json, map(str, pathlib.Path(self.data.runs).glob("*/state/mlflow-m-*.json")))
        found = [self.entities.LoggedModel(**facts) for facts in files if facts and facts["experiment_id"] in wanted]
        utils = importlib.import_module("mlflow.utils.search_utils").SearchLoggedModelsUtils
        found = utils.sort(utils.filter_logged_models(found, filter_string), order_by)
        return self._paged(*utils.paginate(found, page_token, max_results or 100))

    def finalize_logged_model(self, model_id, status):
        return self._changed(model_id, status=getattr(status, "to_int", lambda: 2)())

    def set_logged_model_tags(self, model_id, tags):
        self._changed(model_id, tags={**self._facts(model_id)["tags"], **{tag.key: tag.value for tag in tags}})

    def delete_logged_model_tag(self, model_id, key):
        self._changed(model_id, tags={name: value for name, value in self._facts(model_id)["tags"].items() if name != key})

    def log_logged_model_params(self, model_id, params):
        self._changed(model_id, params={**self._facts(model_id)["params"], **{param.key: param.value for param in params}})

    def set_model_versions_tags(self, name, version, model_id):
        """Which versions of registered models a model has become: the version says it."""

    def _changed(self, model_id, **fields):
        self._keep({**self._facts(model_id), "last_updated_timestamp": self._now(), **fields})
        return self.get_logged_model(model_id)


def _point(metric):
    """A metric as (name, value, milliseconds, step), by the value of NumPy's numbers too."""
    try:
        return metric.key, float(metric.value), int(metric.timestamp or 0), int(metric.step or 0)
    except (TypeError, ValueError, OverflowError):
        raise refused("metric %r: the value %r or the step %r is no number" % (metric.key, metric.value, metric.step)) from None


def _claimed(folder, name, model_id):
    """A new folder among the run's artifacts for the files of a model: of its name, if that is free."""
    os.makedirs(os.path.join(folder, "artifacts"), exist_ok=True)
    path = artifact_path(folder, name)
    try:
        os.mkdir(path)
    except OSError:
        path = os.path.join(folder, "artifacts", "%s-%s" % (os.path.basename(name), model_id[2:10]))
        os.makedirs(path, exist_ok=True)
    return path
