"""MLflow's model registry over the models of a workspace: what ``hpcest models`` lists, registered, read and changed by MLflow's calls.

What MLflow says of a version (tags, its description) is what hpcest says of it, in the same events. A stage is the tag ``stage`` of
a version. A model itself, which hpcest has no more of than its versions, keeps tags, a description and aliases beside them.
"""

import importlib
import os
import re
from urllib.parse import unquote

from hpcest.onnode import models, versions
from hpcest.onnode.copying import Refused
from hpcest.onnode.edits import described, say, tagged, untagged
from hpcest.onnode.mlflow.artifacts import name_in, path_of
from hpcest.onnode.mlflow.store import made_of, refused, workspace_of

_SIMPLE = re.compile(r"\s*(name|run_id)\s*=\s*['\"](.*)['\"]\s*\Z")
_VERSION = re.compile(r"models:/+(.+)/(\d+)\Z")
STAGE, NO_STAGE, ARCHIVED = "stage", "None", "Archived"
_STAGES = {stage.lower(): stage for stage in (NO_STAGE, "Staging", "Production", ARCHIVED)}


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

    # ------------------------------------------------------------------ models
    def create_registered_model(self, name, tags=None, description=None, deployment_job_id=None):
        try:
            home = models.home(self.models, models.checked_name(name))
        except Refused as error:
            raise refused(str(error)) from error
        if self._is_there(name):
            raise refused("Registered Model (name=%s) already exists." % name, "RESOURCE_ALREADY_EXISTS")
        events = tagged({tag.key: tag.value for tag in tags or ()}) + (described(description) if description else [])
        try:
            os.makedirs(home, exist_ok=True)
        except OSError as error:
            raise refused("the model %r can't be registered: %s" % (name, error), "INTERNAL_ERROR") from error
        self._note(home, {"e": "created"}, *events)
        return self.get_registered_model(name)

    def _is_there(self, name):
        return bool(models.versions(self.models, name)) or models.later(models.home(self.models, name)).created is not None

    def _named(self, name):
        """The folder of a model. Raises what MLflow does where there is no model of that name."""
        if not self._is_there(name):
            raise refused("Registered Model with name=%s not found" % name, "RESOURCE_DOES_NOT_EXIST")
        return models.home(self.models, name)

    def get_registered_model(self, name):
        said = models.later(self._named(name))
        found = [self.get_model_version(name, version) for version in models.versions(self.models, name)]
        alias, tag = getattr(self.entities, "RegisteredModelAlias", None), self.entities.RegisteredModelTag
        made = min([one.creation_timestamp for one in found] + ([int(said.created * 1000)] if said.created else []), default=0)
        return made_of(
            self.entities.RegisteredModel,
            name=name,
            creation_timestamp=made,
            last_updated_timestamp=max([int(_last(said) * 1000), made] + [one.last_updated_timestamp for one in found]),
            description=said.names["description"][1] if "description" in said.names else "",
            latest_versions=list({one.current_stage: one for one in found}.values()),
            tags=[tag(*one) for one in models.merged({}, said)["tags"].items()],
            aliases=[alias(*one) for one in self._aliases(said, found).items()] if alias else [],
        )

    def _aliases(self, said, found):
        """Alias → version, of versions that are there."""
        known = {int(one.version) for one in found}
        return {name: version for name, (_, version) in said.aliases.items() if version in known}

    def get_latest_versions(self, name, stages=None):
        found = self.get_registered_model(name).latest_versions
        wanted = [_stage(stage) for stage in stages or ()]
        return [one for one in found if not wanted or one.current_stage in wanted]

    def search_registered_models(self, filter_string=None, max_results=100, order_by=None, page_token=None):
        found = [self.get_registered_model(name) for name in versions.names(self.models) if self._is_there(name)]
        return self._page(found, filter_string, "SearchModelUtils", (max_results, order_by, page_token))

    def list_registered_models(self, max_results=100, page_token=None):
        return self.search_registered_models(max_results=max_results, page_token=page_token)

    def update_registered_model(self, name, description=None, deployment_job_id=None):
        self._note(self._named(name), *(described(description) if description is not None else []))
        return self.get_registered_model(name)

    def set_registered_model_tag(self, name, tag):
        self._note(self._named(name), *tagged({tag.key: tag.value}))

    def delete_registered_model_tag(self, name, key):
        self._note(self._named(name), *untagged(key))

    def set_registered_model_alias(self, name, alias, version):
        self._note(self._named(name), {"e": "alias", "k": str(alias), "v": int(self.get_model_version(name, version).version)})

    def delete_registered_model_alias(self, name, alias):
        self._note(self._named(name), {"e": "alias", "k": str(alias)})

    def get_model_version_by_alias(self, name, alias):
        home = self._named(name)
        version = models.later(home).aliases.get(str(alias), (0.0, None))[1]
        if version not in models.versions(self.models, name):
            raise refused("Registered model alias %s not found." % alias)
        return self.get_model_version(name, version)

    def delete_registered_model(self, name):
        home = self._named(name)
        for version in models.versions(self.models, name):
            self.delete_model_version(name, version)
        self._note(home, {"e": "created", "v": False}, *untagged(list(models.merged({}, models.later(home))["tags"])))

    def rename_registered_model(self, name, new_name):
        raise refused("a model is not renamed here: register its versions as %r, by copy_model_version, and delete %r" % (new_name, name))

    # ------------------------------------------------------------------ versions
    def create_model_version(
        self, name, source, run_id=None, tags=None, run_link=None, description=None, local_model_path=None, model_id=None
    ):
        model = self._logged_model(source, model_id)
        try:
            path = path_of(model.artifact_location) if model else self._path(source)
        except ValueError:
            path = ""  # of a run that is not there
        if not os.path.exists(path):
            raise refused("the model %r can't be registered from %r: there is no such file or folder" % (name, source))
        made_with = ("mlflow", importlib.import_module("mlflow").__version__)
        facts = models.facts({tag.key: tag.value for tag in tags or ()}, {"mlflow.source": source}, description, None, made_with)
        run_id = run_id or (model.source_run_id if model else None) or os.environ.get("HPCEST_RUN_ID", "")
        try:
            version = self._register(name, path, dict(facts, run_id=run_id))
        except (OSError, ValueError) as error:
            raise refused("the model %r can't be registered: %s" % (name, error), "INTERNAL_ERROR") from error
        return self.get_model_version(name, version)

    def _tracking(self):
        from hpcest.onnode.mlflow.entry import tracking_store

        return tracking_store(self.uri)

    def _logged_model(self, source, model_id):
        """The logged model of MLflow 3 that is to be registered, if it is one."""
        model_id = model_id or (source[len("models:/") :] if source.startswith("models:/m-") else None)
        return self._tracking().get_logged_model(model_id) if model_id else None

    def _path(self, source):
        version = _VERSION.match(source)
        return self.get_model_version(unquote(version.group(1)), version.group(2)).source if version else path_of(source)

    def _register(self, name, path, facts):
        """As ``run.register_model`` does it, where the files are this program's own."""
        own = self._tracking().data.own
        made = models.made_of(os.path.join(os.path.dirname(self.models), "runs", facts["run_id"])) if facts["run_id"] else {}
        artifact = name_in(own.folder, path) if own else ""
        if not artifact:
            return models.register(self.models, name, path, dict(facts, made=made))
        return models.register_asked(own, name, artifact, path, dict(facts, made=made))

    def get_model_version(self, name, version):
        facts = models.facts_of(self.models, name, version) if str(version).isdigit() else None
        if not facts:
            raise refused("Model Version (name=%s, version=%s) not found" % (name, version), "RESOURCE_DOES_NOT_EXIST")
        folder = models.version_folder(self.models, name, version)
        said = models.later(folder)
        known, created = models.merged(facts, said), facts.get("created") or 0.0
        aliases = models.later(models.home(self.models, name)).aliases
        return made_of(
            self.entities.ModelVersion,
            name=name,
            version=int(version),
            creation_timestamp=int(created * 1000),
            last_updated_timestamp=int(max(created, _last(said)) * 1000),
            description=known["description"],
            current_stage=_STAGES.get(known["tags"].get(STAGE, "").lower(), NO_STAGE),
            source=os.path.join(folder, "data", facts["file"]),
            run_id=facts.get("run_id") or None,
            tags=[self.entities.ModelVersionTag(*one) for one in known["tags"].items()],
            aliases=[alias for alias, (_, number) in aliases.items() if number == int(version)],
        )

    def get_model_version_download_uri(self, name, version):
        """A folder: where a model is a single file, the one that holds it, since MLflow's models are folders."""
        source = self.get_model_version(name, version).source
        return source if os.path.isdir(source) else os.path.dirname(source)

    def search_model_versions(self, filter_string=None, max_results=1000, order_by=None, page_token=None):
        names = models.names(self.models)
        found = [self.get_model_version(name, version) for name in names for version in reversed(models.versions(self.models, name))]
        return self._page(found, filter_string, "SearchModelVersionUtils", (max_results, order_by, page_token))

    def _change(self, name, version, *events):
        """Say something of a version, which is returned."""
        self.get_model_version(name, version)
        self._note(models.version_folder(self.models, name, version), *events)
        return self.get_model_version(name, version)

    def set_model_version_tag(self, name, version, tag):
        self._change(name, version, *tagged({tag.key: tag.value}))

    def delete_model_version_tag(self, name, version, key):
        self._change(name, version, *untagged(key))

    def update_model_version(self, name, version, description=None):
        return self._change(name, version, *(described(description) if description is not None else []))

    def transition_model_version_stage(self, name, version, stage, archive_existing_versions):
        stage = _stage(stage)
        for other in models.versions(self.models, name) if archive_existing_versions else ():
            if other != int(version) and self.get_model_version(name, other).current_stage == stage:
                self._change(name, other, *tagged({STAGE: ARCHIVED}))
        return self._change(name, version, *(untagged(STAGE) if stage == NO_STAGE else tagged({STAGE: stage})))

    def delete_model_version(self, name, version):
        self.get_model_version(name, version)
        try:
            models.delete(self.models, name, version)
        except OSError as error:
            raise refused("version %s of the model %r can't be deleted: %s" % (version, name, error), "INTERNAL_ERROR") from error

    # ------------------------------------------------------------------ how it is written and looked for
    def _note(self, folder, *events):
        try:
            say(folder, *events)
        except OSError as error:
            raise refused("the model can't be changed: %s" % error, "INTERNAL_ERROR") from error

    def _page(self, found, wanted, utils, asked):
        """A page of those that an expression such as ``name='iris'`` is true of."""
        most, order, token = asked
        search = importlib.import_module("mlflow.utils.search_utils")
        if hasattr(search, utils):
            found = getattr(search, utils).filter(found, wanted) if wanted else found
            found = getattr(search, utils).sort(found, order) if order else found
        elif wanted:  # what MLflow 1 has is for runs alone
            match = _SIMPLE.match(wanted)
            if match is None:
                raise refused("%r can't be looked for: name='…' or run_id='…' is what hpcest knows with MLflow 1" % wanted)
            found = [one for one in found if getattr(one, match.group(1), None) == match.group(2)]
        return self._paged(*search.SearchUtils.paginate(found, token, most))


def _stage(word):
    """A stage as MLflow spells it."""
    if str(word).lower() not in _STAGES:
        raise refused("there is no stage %r: MLflow knows %s; any other word can be a tag" % (word, ", ".join(_STAGES.values())))
    return _STAGES[str(word).lower()]


def _last(said):
    """When something was said last, in seconds since the epoch; 0 for never."""
    tables = (said.tags, said.properties, said.names, said.aliases)
    return max([value[0] for table in tables for value in table.values()], default=said.created or 0.0)
