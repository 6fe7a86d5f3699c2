"""Compute targets, as the configuration defines them, with what Azure ML's SDK does with its own.

Nothing is provisioned here: a target is made by a few lines of configuration, and who asks for one that is not there
gets these lines to fill in.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, NoReturn

from hpcest.errors import SpecError, UnknownNameError
from hpcest.sdk.azure import unknown_keyword

if TYPE_CHECKING:
    from hpcest.sdk.run import Run
    from hpcest.sdk.workspace import Workspace


class ComputeTargetError(UnknownNameError):
    """A compute target that the configuration doesn't have, or a change that only its configuration can make."""

    def __init__(self, workspace: Workspace, name: str, *, message: str = "", hint: str = "") -> None:
        super().__init__("compute target", name, workspace.context.config.compute, hint=hint)
        if message:
            self.message, self.args = message, (message,)


#: Azure ML's name for it, which notebooks catch.
ComputeTargetException = ComputeTargetError


@dataclass(frozen=True)
class Provisioning:
    """What Azure ML would be told to provision, or to attach; here it fills in the lines that are to be configured."""

    kind: str
    asked: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class ComputeStatus:
    """How a target is. ``node_state_counts`` counts nodes by the scheduler's word, for as long as it can be asked."""

    name: str
    type: str
    provisioning_state: str = "Succeeded"
    allocation_state: str = "Steady"
    current_node_count: int = 0
    target_node_count: int = 0
    node_state_counts: dict[str, int] = field(default_factory=dict)
    errors: tuple[str, ...] = ()

    def serialize(self) -> dict[str, Any]:
        """The status as a dict, in Azure ML's keys."""
        names = {"errors": "errors", "name": "name", "type": "type"}
        return {names.get(key, _camel(key)): list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}


class ComputeTarget:
    """A named configuration of a backend: ``ComputeTarget(workspace, 'gpu')``. Raises ComputeTargetException.

    ``name`` is what it is called, ``type`` its backend. One of Slurm is an ``AmlCompute``.
    """

    workspace: Workspace
    name: str
    type: str
    provisioning_state = "Succeeded"
    provisioning_errors: tuple[str, ...] = ()

    def __init__(self, workspace: Workspace, name: str) -> None:
        config = workspace.context.config
        if not name or name not in config.compute:
            raise ComputeTargetError(workspace, name)
        target = config.compute[name]
        self.workspace, self.name = workspace, target.name
        self.type = target.backend
        self._options = target.options
        if type(self) is ComputeTarget and self.type == "slurm":
            self.__class__ = AmlCompute  # programs for Azure ML ask whether it is one

    @classmethod
    def create(cls, workspace: Workspace, name: str, provisioning_configuration: Any = None) -> ComputeTarget:
        """The target ``name``, if it is configured. Raises ComputeTargetException with the lines that would configure it."""
        if name in workspace.context.config.compute:
            return cls(workspace, name)
        raise _to_configure(workspace, name, provisioning_configuration)

    @classmethod
    def attach(cls, workspace: Workspace, name: str, attach_configuration: Any = None) -> ComputeTarget:
        """The same."""
        return cls.create(workspace, name, attach_configuration)

    @staticmethod
    def list(workspace: Workspace) -> Sequence[ComputeTarget]:
        """All configured targets."""
        return [*workspace.compute_targets.values()]

    @classmethod
    def deserialize(cls, workspace: Workspace, object_dict: Mapping[str, Any]) -> ComputeTarget:
        """The target that ``serialize`` was called on. Raises ComputeTargetException if it isn't configured any more."""
        return cls(workspace, str(object_dict.get("name", "")))

    def serialize(self) -> dict[str, Any]:
        """The target's name, backend and options."""
        return {"name": self.name, "type": self.type, **self._options}

    def wait_for_completion(self, show_output: bool = False, min_node_count: int | None = None, timeout_in_minutes: float = 0) -> None:
        """Nothing to wait for: what is configured is there."""
        if show_output:
            sys.stderr.write(f"compute target {self.name}: nothing is provisioned, it can be submitted to\n")

    def get_status(self) -> ComputeStatus:
        """How the target is now: of a Slurm partition also how many nodes it has, by their states."""
        states = Counter(node["nodeState"] for node in self.list_nodes())
        total = sum(states.values())
        return ComputeStatus(self.name, self.type, current_node_count=total, target_node_count=total, node_state_counts=dict(states))

    @property
    def status(self) -> ComputeStatus:
        """The same as ``get_status()``."""
        return self.get_status()

    def refresh_state(self) -> None:
        """Nothing to do: a status is asked for when it is wanted."""

    def list_nodes(self) -> Sequence[dict[str, Any]]:
        """The nodes of the target: ``nodeId``, ``nodeState``, ``cpus``, ``memoryMb``, ``gres``; this machine for ``local``.

        Empty where the scheduler can't be asked.
        """
        from hpcest.backends.local import local_node
        from hpcest.backends.slurm.nodes import slurm_nodes

        if self.type == "local":
            return [local_node()]
        return slurm_nodes(self._partition) if self.type == "slurm" else []

    @property
    def _partition(self) -> str:
        more = self._options.get("sbatch")
        return str(self._options.get("partition") or (more.get("partition") if isinstance(more, Mapping) else None) or "")

    def get_active_runs(
        self,
        type: str | None = None,
        tags: Mapping[str, str | None] | str | None = None,
        properties: Mapping[str, str | None] | str | None = None,
        status: str | None = None,
    ) -> Iterator[Run]:
        """The runs of this workspace that were submitted to the target and have not ended, newest first."""
        from hpcest.onnode.state import ORDER, TERMINAL
        from hpcest.sdk.experiment import runs_of

        going = [status] if status else [name for name in ORDER if name not in TERMINAL]
        return runs_of(self.workspace, type, tags, properties, going, compute=self.name)

    def update(self, min_nodes: int | None = None, max_nodes: int | None = None, idle_seconds_before_scaledown: int | None = None) -> None:
        """Nothing, with a warning: a target neither grows nor shrinks, its size is the scheduler's."""
        from hpcest.sdk import azure

        asked = {"min_nodes": min_nodes, "max_nodes": max_nodes, "idle_seconds_before_scaledown": idle_seconds_before_scaledown}
        given = [name for name, value in asked.items() if value is not None]
        azure.warn("ComputeTarget.update", dict.fromkeys(given, "a target is as large as its partition"))

    def delete(self) -> NoReturn:
        """Refused: a target is removed where it is configured. Raises ComputeTargetException."""
        raise self._configured("can't be deleted from a program")

    def detach(self) -> NoReturn:
        """Refused, as ``delete`` is. Raises ComputeTargetException."""
        raise self._configured("can't be detached from a program")

    def _configured(self, problem: str) -> ComputeTargetError:
        config = self.workspace.context.config
        where = config.origin(f"compute.{self.name}")
        known = where if where != "default" else str(self.workspace.folder.config)
        return ComputeTargetError(
            self.workspace, self.name, message=f"compute target {self.name!r} {problem}", hint=f"edit compute.{self.name} in {known}"
        )

    def __repr__(self) -> str:
        return f"{type(self).__name__}(name={self.name!r}, type={self.type!r})"


_SIZES = {
    "vm_size": "", "vm_priority": "dedicated", "min_nodes": 0, "max_nodes": None, "idle_seconds_before_scaledown": 1800,
    "admin_username": None, "admin_user_password": None, "admin_user_ssh_key": None, "vnet_resourcegroup_name": None,
    "vnet_name": None, "subnet_name": None, "tags": None, "description": None, "remote_login_port_public_access": "NotSpecified",
    "identity_type": None, "identity_id": None, "location": None, "enable_node_public_ip": True,
}  # fmt: skip


class AmlCompute(ComputeTarget):
    """Azure ML's name for a cluster: a compute target as any other here."""

    @staticmethod
    def provisioning_configuration(
        vm_size: str = "",
        vm_priority: str = "dedicated",
        min_nodes: int = 0,
        max_nodes: int | None = None,
        idle_seconds_before_scaledown: int = 1800,
        **azure: Any,
    ) -> Provisioning:
        """What a cluster would be asked to have, for ``ComputeTarget.create``. Raises SpecError for a keyword that Azure ML hasn't."""
        sizes = {"vm_size": vm_size, "vm_priority": vm_priority, "min_nodes": min_nodes, "max_nodes": max_nodes}
        asked: dict[str, Any] = {**sizes, "idle_seconds_before_scaledown": idle_seconds_before_scaledown, **azure}
        for name in asked:
            if name not in _SIZES:
                raise unknown_keyword("AmlCompute.provisioning_configuration", name, _SIZES)
        return Provisioning("slurm", {name: value for name, value in asked.items() if value != _SIZES[name]})

    @staticmethod
    def supported_vmsizes(workspace: Workspace, location: str | None = None) -> Sequence[dict[str, Any]]:
        """What the nodes of each Slurm partition have: ``name``, ``vCPUs``, ``memoryGB``, ``gres``, ``nodes``, ``time``."""
        from hpcest.backends.slurm.nodes import slurm_partitions

        return slurm_partitions()

    @staticmethod
    def list_usages(workspace: Workspace, show_all: bool = False, location: str | None = None) -> Sequence[dict[str, Any]]:
        """How many nodes of each Slurm partition are taken: ``name``, ``currentValue``, ``limit``."""
        from hpcest.backends.slurm.nodes import slurm_usage

        return [row for row in slurm_usage() if show_all or row["currentValue"]]

    @staticmethod
    def list_quotas(workspace: Workspace, location: str | None = None) -> Sequence[dict[str, Any]]:
        """The limits of this user's Slurm associations: ``account``, ``partition``, ``qos``, ``limits``; empty without accounting."""
        from hpcest.backends.slurm.nodes import slurm_limits

        return slurm_limits()


class RemoteCompute(ComputeTarget):
    """Azure ML's name for a machine that is reached by ssh, which hpcest does not do."""

    @staticmethod
    def attach_configuration(*where: Any, **azure: Any) -> NoReturn:
        """Refused. Raises SpecError."""
        raise SpecError(
            "hpcest reaches no machine by ssh", hint="run hpcest on that machine, where the target 'local' is it, or submit through Slurm"
        )


def _to_configure(workspace: Workspace, name: str, asked: Any) -> ComputeTargetError:
    """The error that has the lines to configure a target with."""
    from hpcest.backends.slurm.nodes import slurm_partitions

    wishes = asked.asked if isinstance(asked, Provisioning) else {}
    partitions = [str(row["name"]) for row in slurm_partitions()]
    lines = ["compute:", f"  {name}:"]
    if partitions:
        lines += ["    backend: slurm", f"    partition: {partitions[0]}   # one of {', '.join(partitions[:8])}"]
    else:
        lines += ["    backend: slurm   # or local, for this machine", "    partition: …     # sinfo lists them"]
    if wishes.get("vm_size"):
        lines.append(f"    # gres: gpu:1   # if {wishes['vm_size']} meant a GPU; a run asks for its cores, GPUs and memory itself")
    if wishes.get("vm_priority"):
        lines.append(f"    # qos: …        # for vm_priority {wishes['vm_priority']!r}")
    for wish in ("max_nodes", "min_nodes", "idle_seconds_before_scaledown"):
        if wish in wishes:
            lines.append(f"    # {wish} = {wishes[wish]}: nothing to configure, a run takes the nodes that it asks for")
    return ComputeTargetError(
        workspace,
        name,
        message=f"compute target {name!r} is not configured, and hpcest provisions none",
        hint=f"name one of {', '.join(workspace.context.config.compute)}, or add to {workspace.folder.config}:\n" + "\n".join(lines),
    )


def _camel(name: str) -> str:
    first, *others = name.split("_")
    return first + "".join(word.capitalize() for word in others)
