"""``MLClient``: the door to a workspace that Azure ML's SDK v2 has."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, NoReturn

from hpcest.errors import SpecError, UnknownNameError
from hpcest.sdk import azure
from hpcest.sdk.compute import ComputeTarget
from hpcest.sdk.jobs.command import CommandJob
from hpcest.sdk.jobs.entities import Data, Environment, Model
from hpcest.sdk.jobs.operations import JobOperations
from hpcest.sdk.jobs.submitted import Job

if TYPE_CHECKING:
    from hpcest.lifecycle.data.datasets import DatasetVersion
    from hpcest.sdk import environment, model
    from hpcest.sdk.data.datastore import Datastore
    from hpcest.sdk.workspace import Workspace

_IGNORED = {
    **dict.fromkeys(("subscription_id", "resource_group_name", "registry_name", "cloud"), "a workspace is a directory"),
    "credential": "files' permissions are the only authentication",
    "show_progress": "nothing is uploaded",
}
#: Operations that only a cloud has → what to do instead.
_ELSEWHERE = {
    **dict.fromkeys(("online_endpoints", "online_deployments", "batch_endpoints", "batch_deployments"), "hpcest does not deploy models"),
    "components": "a job file, or a function that returns command(…), can be used again",
    "schedules": "call 'hpcest submit' from cron or scrontab",
    "registries": "share a workspace, or a site's store of images",
    "connections": "give secrets as environment variables when you submit",
    "workspace_outbound_rules": "hpcest has no network of its own",
    "feature_stores": "keep features as data: client.data",
    "feature_sets": "keep features as data: client.data",
    "serverless_endpoints": "hpcest does not deploy models",
}


class MLClient:
    """A workspace, seen as Azure ML's SDK v2 does: ``jobs``, ``data``, ``environments``, ``models``, ``compute``, ``datastores``.

    ``path`` is the workspace's directory, or one in it; without it the one that holds the current directory is found. Azure's
    own arguments are accepted with a warning. Raises WorkspaceError if there is none, or it is not called ``workspace_name``.
    """

    def __init__(
        self,
        credential: Any = None,
        subscription_id: str | None = None,
        resource_group_name: str | None = None,
        workspace_name: str | None = None,
        registry_name: str | None = None,
        *,
        path: str | Path | None = None,
        workspace: Workspace | None = None,
        **azure_only: Any,
    ) -> None:
        from hpcest.sdk.workspace import Workspace

        given = {"credential": credential, "subscription_id": subscription_id, "resource_group_name": resource_group_name}
        azure.warn_ignored("MLClient", {**given, "registry_name": registry_name, **azure_only}, _IGNORED)
        found = workspace or (Workspace.from_config(path) if path is not None else Workspace.get(workspace_name or ""))
        self._workspace = Workspace.get(workspace_name, path=found.root) if workspace_name else found

    @classmethod
    def from_config(
        cls, credential: Any = None, *, path: str | Path | None = None, file_name: str | None = None, **azure_only: Any
    ) -> MLClient:
        """The client of the workspace that ``Workspace.from_config(path)`` finds, by a ``file_name`` of its own if one is given."""
        from hpcest.sdk.workspace import Workspace

        azure.warn_ignored("MLClient.from_config", {"credential": credential, **azure_only}, _IGNORED)
        return cls(workspace=Workspace.from_config(Path(path or ".", file_name) if file_name else path))

    @property
    def workspace(self) -> Workspace:
        """The workspace."""
        return self._workspace

    @property
    def workspace_name(self) -> str:
        """What the workspace is called."""
        return self._workspace.name

    @property
    def subscription_id(self) -> str:
        """Azure's; empty here, so that programs which print it go on."""
        return self._workspace.subscription_id

    @property
    def resource_group_name(self) -> str:
        """Azure's; empty here, so that programs which print it go on."""
        return self._workspace.resource_group

    @cached_property
    def jobs(self) -> JobOperations:
        """The jobs."""
        return JobOperations(self._workspace)

    @cached_property
    def data(self) -> DataOperations:
        """The registered data."""
        return DataOperations(self._workspace)

    @cached_property
    def environments(self) -> EnvironmentOperations:
        """The registered environments."""
        return EnvironmentOperations(self._workspace)

    @cached_property
    def models(self) -> ModelOperations:
        """The registered models."""
        return ModelOperations(self._workspace)

    @cached_property
    def compute(self) -> ComputeOperations:
        """The compute targets of the configuration."""
        return ComputeOperations(self._workspace)

    @cached_property
    def datastores(self) -> DatastoreOperations:
        """The datastores."""
        return DatastoreOperations(self._workspace)

    @cached_property
    def workspaces(self) -> WorkspaceOperations:
        """The workspace itself."""
        return WorkspaceOperations(self._workspace)

    def create_or_update(self, entity: Any, **keywords: Any) -> Any:
        """Submit a job, or register data, a model or an environment. Raises SpecError for anything else."""
        if isinstance(entity, (CommandJob, Job)):
            return self.jobs.create_or_update(entity, **keywords)
        if isinstance(entity, Data):
            return self.data.create_or_update(entity)
        if isinstance(entity, Model):
            return self.models.create_or_update(entity)
        if hasattr(entity, "to_spec") and hasattr(entity, "conda_file" if isinstance(entity, Environment) else "register"):
            return self.environments.create_or_update(entity)
        raise SpecError(f"MLClient.create_or_update can't take {entity!r}", hint="it takes a job, Data, a Model or an Environment")

    def __getattr__(self, name: str) -> NoReturn:
        if name in _ELSEWHERE:
            raise AttributeError(f"MLClient has no {name!r} here: {_ELSEWHERE[name]}")
        raise AttributeError(f"MLClient has no {name!r}, but jobs, data, datastores, environments, models, compute, workspaces")

    def __repr__(self) -> str:
        return f"MLClient(workspace={self._workspace.name!r}, path={str(self._workspace.root)!r})"


class DataOperations:
    """``client.data``"""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace

    def get(self, name: str, version: str | int | None = None, label: str | None = None) -> Data:
        """A version of registered data, by default the latest. Raises UnknownNameError."""
        from hpcest.lifecycle.data import datasets

        return _data(datasets.read(self._workspace.folder, name, version if version is not None else label))

    def list(self, name: str | None = None, **azure_only: Any) -> Iterator[Data]:
        """The latest version of each name; of one ``name`` all versions, the newest first. Raises UnknownNameError."""
        from hpcest.lifecycle.data import datasets

        azure.warn_ignored("data.list", azure_only, {"list_view_type": "nothing is archived"})
        if name is None:
            return iter([self.get(one) for one in datasets.names(self._workspace.folder)])
        self.get(name)
        return iter([self.get(name, number) for number in reversed(datasets.versions(self._workspace.folder, name))])

    def create_or_update(self, data: Data) -> Data:
        """Register data as the next version of its name; where the latest one is the same, that is returned. Raises SpecError."""
        from hpcest.lifecycle.data import datasets
        from hpcest.lifecycle.data.datastores import local_path
        from hpcest.model.spec import DataInput
        from hpcest.sdk.inputs import input_text

        if not data.name:
            raise SpecError("data needs a name to be registered", hint="Data(name='mnist', path=…)")
        place = local_path(self._workspace.context, input_text(data.path, Path.cwd()))
        tags = {str(key): "" if value is None else str(value) for key, value in data.tags.items()}
        return _data(
            datasets.register(
                self._workspace.folder, data.name, DataInput((place,), type=data.type), description=data.description or "", tags=tags
            )
        )


def _data(found: DatasetVersion) -> Data:
    path = found.data.paths[0] if len(found.data.paths) == 1 else found.data.root
    return Data(path, found.name, str(found.version), found.data.type, found.description, dict(found.tags))


class EnvironmentOperations:
    """``client.environments``"""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace

    def get(self, name: str, version: str | int | None = None, label: str | None = None) -> environment.Environment:
        """A registered environment, by default the latest version. Raises UnknownNameError."""
        from hpcest.sdk.environment import Environment

        return Environment.get(self._workspace, name, version, label)

    def list(self, name: str | None = None, **azure_only: Any) -> Iterator[environment.Environment]:
        """The latest version of each name; of one ``name`` all versions, the newest first. Raises UnknownNameError."""
        from hpcest.sdk.environment import Environment

        azure.warn_ignored("environments.list", azure_only, {"list_view_type": "nothing is archived"})
        if name is None:
            return iter(Environment.list(self._workspace).values())
        numbers = reversed(Environment.versions(self._workspace, name))
        return iter([Environment.get(self._workspace, name, number) for number in numbers])

    def create_or_update(self, environment: Any) -> environment.Environment:
        """Register an environment as the next version of its name; where the latest one is the same, that is returned."""
        from hpcest.sdk import environment as registered

        if not getattr(environment, "name", None) or not hasattr(environment, "to_spec"):
            raise SpecError(f"{environment!r} can't be registered as an environment", hint="give an Environment with a name")
        made = registered.Environment.from_spec(environment.to_spec())
        made.name = environment.name
        return made.register(self._workspace)


class ModelOperations:
    """``client.models``"""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace

    def get(self, name: str, version: str | int | None = None, label: str | None = None) -> model.Model:
        """A registered model, by default the latest version. Raises UnknownNameError."""
        from hpcest.sdk.model import Model

        wanted = version if version is not None else label
        if wanted in (None, "latest"):
            return Model(self._workspace, name)
        if not str(wanted).isdigit():
            raise UnknownNameError(f"version of model {name!r}", str(wanted), ["latest"])
        return Model(self._workspace, name, version=int(str(wanted)))

    def list(self, name: str | None = None, **azure_only: Any) -> Iterator[model.Model]:
        """The latest version of each name; of one ``name`` all versions, the newest first."""
        from hpcest.sdk.model import Model

        azure.warn_ignored("models.list", azure_only, {"list_view_type": "nothing is archived", "stage": "tag models instead"})
        return iter(Model.list(self._workspace, name=name, latest=name is None))

    def create_or_update(self, model: Model) -> model.Model:
        """Register a model's file or folder, which may be a job's, as the next version of its name. Raises SpecError."""
        from hpcest.sdk import model as registered
        from hpcest.sdk.jobs.assets import WorkspaceAssets
        from hpcest.sdk.jobs.data import place_in_job
        from hpcest.sdk.jobs.names import run_of

        if not model.name:
            raise SpecError("a model needs a name to be registered", hint="Model(name='iris', path=…)")
        found, run_id = place_in_job(WorkspaceAssets(self._workspace.context), str(model.path)), ""
        if found:
            run_id = run_of(self._workspace.folder, found[0])
        place = found[1] if found else Path(model.path).expanduser().absolute()
        return registered.Model.register(self._workspace, place, model.name, model.tags, model.properties, model.description, run_id=run_id)

    def download(self, name: str, version: str | int | None = None, download_path: str | Path = ".") -> str:
        """Copy a model's file or folder into a directory; returns its path there. Raises UnknownNameError, SpecError."""
        return self.get(name, version).download(download_path, exist_ok=True)


class DatastoreOperations:
    """``client.datastores``"""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace

    def get(self, name: str) -> Datastore:
        """A datastore. Raises UnknownNameError."""
        from hpcest.sdk.data.datastore import Datastore

        return Datastore.get(self._workspace, name)

    def get_default(self) -> Datastore:
        """The default one."""
        from hpcest.sdk.data.datastore import Datastore

        return Datastore.get_default(self._workspace)

    def list(self) -> Iterator[Datastore]:
        """All of them."""
        from hpcest.sdk.data.datastore import datastores_of

        return iter(datastores_of(self._workspace).values())

    def create_or_update(self, datastore: Any) -> NoReturn:
        """Refused: raises SpecError."""
        name = getattr(datastore, "name", None) or "NAME"
        raise SpecError(
            "a datastore is a folder here, and hpcest keeps no keys of cloud storage",
            hint=f"give a folder its name: Datastore.register(workspace, {name!r}, FOLDER)",
        )


class ComputeOperations:
    """``client.compute``"""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace

    def get(self, name: str) -> ComputeTarget:
        """A compute target of the configuration. Raises UnknownNameError."""
        return ComputeTarget(self._workspace, name)

    def list(self, *, compute_type: str | None = None) -> Iterator[ComputeTarget]:
        """All of them; ``compute_type`` is their backend, such as slurm."""
        found = self._workspace.compute_targets.values()
        return iter([target for target in found if compute_type in (None, target.type)])

    def begin_create_or_update(self, compute: Any) -> NoReturn:
        """Refused: raises SpecError."""
        name = getattr(compute, "name", None) or "NAME"
        raise SpecError(
            "hpcest provisions no machines: a compute target is named in the configuration",
            hint=f"write it into .hpcest/config.yaml: compute: {{{name}: {{backend: slurm, partition: …}}}}",
        )

    create_or_update = begin_delete = begin_start = begin_stop = begin_create_or_update


class WorkspaceOperations:
    """``client.workspaces``"""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace

    def get(self, name: str | None = None) -> SimpleNamespace:
        """Its ``name``, ``id``, ``location`` (a directory), ``resource_group`` and ``mlflow_tracking_uri``. Raises UnknownNameError."""
        known = self._workspace
        if name not in (None, known.name):
            raise UnknownNameError("workspace", str(name), [known.name])
        return SimpleNamespace(
            name=known.name,
            id=f"/subscriptions//resourceGroups//providers/Microsoft.MachineLearningServices/workspaces/{known.name}",  # programs split it
            location=known.location,
            resource_group=known.resource_group,
            mlflow_tracking_uri=known.get_mlflow_tracking_uri(),
        )

    def list(self) -> Iterator[SimpleNamespace]:
        """The one that the client is of."""
        return iter([self.get()])

    def begin_create(self, workspace: Any, **azure_only: Any) -> NoReturn:
        """Refused: raises SpecError."""
        raise SpecError("a workspace is a directory", hint="make one by 'hpcest init', open one by Workspace(path)")

    begin_delete = begin_update = create_or_update = begin_create
