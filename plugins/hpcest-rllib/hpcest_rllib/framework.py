"""The framework ``rllib``: a Ray cluster in the nodes of a run, and a program that uses it on the first of them."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar

import hpcest
from hpcest.contracts import Framework
from hpcest.errors import SpecError
from hpcest.frameworks.script import Script
from hpcest.model.plan import Activation, Program
from hpcest.model.spec import RunSpec

HPCEST_INTERFACE = 1

_HELPER = "ray_node.py"
# No words of a command line are replaced, so that the helper's folder is asked for there. The program's own folder stands
# first in the path, and may have a module of any name.
_START = f"""import sys; sys.path[:] = filter(None, sys.path)
import os, runpy
runpy.run_path(os.path.join(os.environ["HPCEST_HELPERS"], "{_HELPER}"), run_name="__main__")"""
#: Of ``ray start``, what is decided here.
_OURS = ("--head", "--address", "--port", "--block", "--temp-dir", "--node-ip-address", "--node-manager-port")
_BYTES = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}


@dataclass(frozen=True)
class RLlibOptions:
    """What a run may say of its Ray cluster."""

    dashboard: bool = field(default=False, metadata={"help": "whether Ray's dashboard runs on the first node; the log says where"})
    head_cpus: int | None = field(
        default=None, metadata={"help": "cores of the first node that Ray gives out; by default all, 0 leaves them to the program"}
    )
    object_store_memory: str = field(
        default="", metadata={"help": "Ray's object store on each node, such as 2g; by default 30 percent of what the node has"}
    )
    coordination_timeout: int = field(default=300, metadata={"help": "seconds in which all nodes have to be in the cluster"})
    ray_arguments: tuple[str, ...] = field(default=(), metadata={"help": "further arguments of 'ray start', on every node"})


class RLlib(Script):
    """Starts Ray on every node, and the program on the first one, where ``ray.init()`` finds the cluster (RAY_ADDRESS).

    Its exit code is the run's. The other nodes serve it until it has ended.
    """

    name = "rllib"
    distributions: ClassVar[tuple[str, ...]] = ("ray",)
    Options = RLlibOptions
    options: RLlibOptions
    presets: ClassVar[Path | None] = Path(__file__).with_name("presets.yaml")

    def check(self, spec: RunSpec) -> None:
        """As for a script, with one Ray on each node; and the options must be possible. Raises SpecError."""
        super().check(spec)
        options = self.options
        if spec.resources.procs_per_node > 1:
            hint = "ask for cores instead (cpus): Ray starts processes on them itself"
            raise SpecError(f"{spec.resources.procs_per_node} processes on a node, where one Ray serves each node", hint=hint)
        if options.coordination_timeout < 1:
            raise SpecError(f"coordination_timeout must be a number of seconds from 1 up, not {options.coordination_timeout}")
        if options.head_cpus is not None and options.head_cpus < 0:
            raise SpecError(f"head_cpus must be a whole number from 0 up, not {options.head_cpus}")
        parse_size(options.object_store_memory)
        taken = [word for word in options.ray_arguments if word.partition("=")[0] in _OURS]
        if taken:
            raise SpecError(f"ray_arguments can't have {taken[0]}: the run decides that", hint=f"leave out {', '.join(_OURS)}")

    def program(self, spec: RunSpec, activation: Activation) -> Program:
        """The argv of one node: the helper, what it is told, and the program."""
        plain, options, workers = super().program(spec, activation), self.options, spec.resources.nodes - 1
        settings = {
            "timeout": options.coordination_timeout,
            "head_cpus": options.head_cpus,
            "gpus": spec.resources.gpus or 0,
            "object_store_memory": parse_size(options.object_store_memory),
            "dashboard": options.dashboard,
            "ray_arguments": options.ray_arguments,
        }
        return replace(
            plain,
            argv=(activation.python, "-c", _START, json.dumps(settings), *plain.argv),
            variables={**plain.variables, "HPCEST_MEETING_TIMEOUT": str(options.coordination_timeout)},
            per="node",
            meets=True,
            roles={"head": 1, "worker": workers} if workers else {"head": 1},
            servers=("worker",) if workers else (),
            helpers={_HELPER: Path(__file__).with_name(_HELPER).read_text(encoding="utf-8")},
        )


def parse_size(text: str) -> int:
    """``2g`` in bytes, as Docker reads it; 0 for nothing. Raises SpecError."""
    found = re.fullmatch(r"(\d+)([kmgt]?)(?:i?b)?", text.strip().lower() or "0")
    if not found:
        raise SpecError(f"object_store_memory must be a size such as 2g or 512m, not {text!r}")
    return int(found[1]) * _BYTES[found[2]]


@hpcest.hookimpl
def hpcest_register_frameworks() -> Sequence[type[Framework]]:
    """The classes of this module."""
    return [RLlib]
