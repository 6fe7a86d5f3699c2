"""MLflow's model registry over the models of a workspace: registering and reading versions, as ``hpcest models`` does.

A version appears whole or not at all: it is written beside and renamed to the first number that nobody has or had.
"""

import importlib
import os
import re
import shutil
import time
import uuid
from urllib.parse import unquote, urlparse

from hpcest.onnode import versions
from hpcest.onnode.mlflow.store import made_of, refused, workspace_of
from hpcest.onnode.processes import identity
from hpcest.onnode.record import get_json, put_json, warn

_SIMPLE = re.compile(r"\s*(name|run_id)\s*=\s*['\"](.*)['\"]\s*\Z")


def registry_store(uri):
    """The registry for a tracking URI. Needs MLflow, of any version since 1.30."""
    base = importlib.import_module("mlflow.store.model_registry.abstract_store").AbstractStore
    made = type("HpcestRegistry", (Registry, base), {"__abstractmethods__": frozenset()})
    return made(uri)


class Registry:
    """The methods of MLflow's AbstractStore of registered models."""

    def __init__(self, uri):
        super().__init__()
        self.uri = uri
        self.models = os.path.join(workspace_of(uri), ".hpcest", "models")
        self.entities = importlib.import_module("mlflow.entities.model_registry")
        self._paged = importlib.import_module("mlflow.store.entities").PagedList
        self._named = set()  # models that were created here, and have no version yet

    def _home(self, name):
        return os.path.join(self.models, versions.folder_name(name))

    def _versions(self, name):
        return versions.numbers(self._home(name))

    # ------------------------------------------------------------------ models
    def create_registered_model(self, name, tags=None, description=None, deployment_job_id=None):
        if not name or ":" in name or len(self._home(name)) - len(self.models) > 200:
            raise refused("%r can't be the name of a model: use up to 200 letters, digits and marks, without ':'" % name)
        if name in self._named or self._versions(name):
            raise refused("Registered Model (name=%s) already exists." % name, "RESOURCE_ALREADY_EXISTS")
        self._named.add(name)
        return self.get_registered_model(name)

    def get_registered_model(self, name):
        known = self._versions(name)
        if not known and name not in self._named:
            raise refused("Registered Model with name=%s not found" % name, "RESOURCE_DOES_NOT_EXIST")
        latest = [self.get_model_version(name, known[-1])] if known else []
        made = latest[0].creation_timestamp if latest else int(time.time() * 1000)
        facts = {"name": name, "creation_timestamp": made, "last_updated_timestamp": made}
        return made_of(self.entities.RegisteredModel, latest_versions=latest, tags=[], **facts)

    def get_latest_versions(self, name, stages=None):
        return self.get_registered_model(name).latest_versions

    def search_registered_models(self, filter_string=None, max_results=100, order_by=None, page_token=None):
        found = [self.get_registered_model(name) for name in versions.names(self.models) if self._versions(name)]
        found = _filtered(found, filter_string, "SearchModelUtils")
        return self._paged(found[:max_results], None)

    def list_registered_models(self, max_results=100, page_token=None):
        return self.search_registered_models(max_results=max_results)

    # ------------------------------------------------------------------ versions
    def create_model_version(
        self, name, source, run_id=None, tags=None, run_link=None, description=None, local_model_path=None, model_id=None
    ):
        model = self._logged_model(source, model_id)
        path = unquote(urlparse(model.artifact_location if model else source).path, errors="surrogateescape")
        if not os.path.exists(path):
            raise refused("the model %r can't be registered from %r: there is no such file or folder" % (name, source))
        facts = {
            "name": name,
            "created": time.time(),
            "file": os.path.basename(path.rstrip("/")),
            "run_id": run_id or (model.source_run_id if model else None) or os.environ.get("HPCEST_RUN_ID", ""),
            "description": description or "",
            "tags": {tag.key: str(tag.value) for tag in tags or ()},
            "properties": {"mlflow.source": source},
            "framework": "mlflow",
            "framework_version": importlib.import_module("mlflow").__version__,
        }
        version = self._register(self._home(name), path, facts)
        self._named.discard(name)
        return self.get_model_version(name, version)

    def _logged_model(self, source, model_id):
        """The logged model of MLflow 3 that is to be registered, if it is one."""
        model_id = model_id or (source[len("models:/") :] if source.startswith("models:/m-") else None)
        if model_id is None:
            return None
        from hpcest.onnode.mlflow.entry import tracking_store

        return tracking_store(self.uri).get_logged_model(model_id)

    def _register(self, home, path, facts):
        beside = os.path.join(home, ".new-" + uuid.uuid4().hex)
        try:
            os.makedirs(os.path.join(beside, "data"))
            put_json(os.path.join(beside, versions.OWNER), identity())
            (shutil.copytree if os.path.isdir(path) else shutil.copy2)(path, os.path.join(beside, "data", facts["file"]))
            return versions.publish(beside, facts)
        except (OSError, shutil.Error) as error:
            raise refused("the model %r can't be registered: %s" % (facts["name"], error), "INTERNAL_ERROR") from error
        finally:
            shutil.rmtree(beside, ignore_errors=True)

    def get_model_version(self, name, version):
        folder = os.path.join(self._home(name), str(version))
        facts = get_json(os.path.join(folder, "model.json")) if str(version).isdigit() else None
        if not facts or "file" not in facts:
            raise refused("Model Version (name=%s, version=%s) not found" % (name, version), "RESOURCE_DOES_NOT_EXIST")
        tags = [self.entities.ModelVersionTag(*one) for one in (facts.get("tags") or {}).items()]
        return made_of(
            self.entities.ModelVersion,
            name=name,
            version=int(version),
            creation_timestamp=int((facts.get("created") or 0) * 1000),
            last_updated_timestamp=int((facts.get("created") or 0) * 1000),
            description=facts.get("description") or "",
            current_stage="None",
            source=os.path.join(folder, "data", facts["file"]),
            run_id=facts.get("run_id") or None,
            tags=tags,
        )

    def get_model_version_download_uri(self, name, version):
        return self.get_model_version(name, version).source

    def search_model_versions(self, filter_string=None, max_results=1000, order_by=None, page_token=None):
        names = versions.names(self.models)
        found = [self.get_model_version(name, version) for name in names for version in reversed(self._versions(name))]
        found = _filtered(found, filter_string, "SearchModelVersionUtils")
        return self._paged(found[:max_results], None)

    # ------------------------------------------------------------------ what a version here is without
    def _not_kept(self, name, *ignored, **more):
        warn(
            "mlflow: the model %r: stages, aliases, descriptions and tags of registered models are set by 'hpcest models', not kept here"
            % name
        )

    set_registered_model_tag = delete_registered_model_tag = set_model_version_tag = delete_model_version_tag = _not_kept
    set_registered_model_alias = delete_registered_model_alias = update_registered_model = _not_kept

    def update_model_version(self, name, version, description=None):
        self._not_kept(name)
        return self.get_model_version(name, version)

    def transition_model_version_stage(self, name, version, stage, archive_existing_versions):
        return self.update_model_version(name, version)

    def _no_change(self, name, *ignored):
        raise refused("registered models are renamed and deleted by 'hpcest models' and hpcest.Model, not by MLflow: %r" % name)

    rename_registered_model = delete_registered_model = delete_model_version = get_model_version_by_alias = _no_change


def _filtered(found, wanted, utils):
    """Those of the models or versions that an expression such as ``name='iris'`` is true of."""
    if not wanted:
        return found
    mlflow = importlib.import_module("mlflow")
    if int(mlflow.__version__.split(".")[0]) >= 2:
        return getattr(importlib.import_module("mlflow.utils.search_utils"), utils).filter(found, wanted)
    match = _SIMPLE.match(wanted)  # what MLflow 1 has is for runs alone
    if match is None:
        raise refused("%r can't be looked for: name='…' or run_id='…' is what hpcest knows with MLflow 1" % wanted)
    return [one for one in found if getattr(one, match.group(1), None) == match.group(2)]
