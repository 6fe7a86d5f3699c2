"""Whether ranks get on a compute target what they are promised: a small run whose ranks look at it and reach each other."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from hpcest.contracts import Say
from hpcest.lifecycle.context import Context
from hpcest.lifecycle.explain import explain
from hpcest.lifecycle.follow import log_paths, wait
from hpcest.lifecycle.submit import submit
from hpcest.lifecycle.watch import Seen, cancel
from hpcest.model.folders import RunFolder
from hpcest.model.spec import Command, Distribution, EnvironmentSpec, Resources, RunSpec
from hpcest.model.status import Status
from hpcest.onnode import contract

EXPERIMENT = "preflight"
_SCRIPT = "contract.py"


@dataclass(frozen=True)
class RankReport:
    """What one rank has found: its ``variables``, what the kernel allows it, milliseconds to rank 0 and back, and what is wrong."""

    rank: int
    host: str
    variables: dict[str, str | None] = field(default_factory=dict)
    cores: int = 0
    ms: float | None = None
    problems: tuple[str, ...] = ()


@dataclass(frozen=True)
class RankCheck:
    """All ranks of the run ``run``; ``problems`` are those that no rank sees alone."""

    compute: str
    run: str
    ranks: tuple[RankReport, ...]
    problems: tuple[str, ...]

    @property
    def ok(self) -> bool:
        """Whether all is as it is promised."""
        return not self.problems and not any(one.problems for one in self.ranks)


def rank_check(context: Context, compute: str, environment: EnvironmentSpec, resources: Resources, say: Say) -> RankCheck:
    """Run the check; a recorded run, which is canceled where this is interrupted. Raises HpcestError where it can't be submitted."""
    with tempfile.TemporaryDirectory(prefix="hpcest-ranks-") as source:
        shutil.copyfile(contract.__file__, os.path.join(source, _SCRIPT))
        # TensorFlow's ranks have all that others have, and TF_CONFIG.
        spec = RunSpec(
            EXPERIMENT,
            Command(script=_SCRIPT),
            compute,
            display_name="ranks",
            source=source,
            environment=environment,
            resources=resources,
            distribution=Distribution("tensorflow"),
        )
        folder = submit(context, spec, say).folder
    try:
        seen = wait(context, folder)
    except KeyboardInterrupt:
        cancel(context, folder)
        say(f"run {folder.id} was told to end")
        raise
    ranks = _reports(folder)
    return RankCheck(compute, folder.id, tuple(ranks), tuple(_together(seen, spec, ranks)))


def _reports(folder: RunFolder) -> list[RankReport]:
    found = []
    for paths in log_paths(folder).values():
        for line in "\n".join(path.read_text("utf-8", "replace") for path in paths).splitlines():
            report = _report(line)
            if report:
                found.append(report)
    return sorted(found, key=lambda one: one.rank)


def _report(line: str) -> RankReport | None:
    try:
        data: Mapping[str, Any] = json.loads(line)
        return RankReport(
            int(data["rank"]), str(data["host"]), dict(data["variables"]), int(data["cores"]), data["ms"], tuple(data["problems"])
        )
    except (ValueError, KeyError, TypeError):
        return None  # what a profile or a module prints


def _together(seen: Seen, spec: RunSpec, ranks: Sequence[RankReport]) -> list[str]:
    """What is wrong with the ranks as a whole."""
    if seen.status is not Status.COMPLETED:
        return [explain(seen)["why"] or f"the run ended as {seen.status}"]
    if [one.rank for one in ranks] != list(range(spec.ranks)):
        return [f"ranks {', '.join(str(one.rank) for one in ranks) or '(none)'} have answered, and there are {spec.ranks}"]
    problems = []
    for name in ("WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT", "HPCEST_PEERS"):
        if len({one.variables[name] for one in ranks}) > 1:
            problems.append(f"{name} is not the same for all ranks")
    peers = str(ranks[0].variables["HPCEST_PEERS"]).split(",")
    problems += [f"{place} is the place of {count} ranks" for place, count in Counter(peers).items() if count > 1]
    nodes = {one.variables["NODE_RANK"] for one in ranks}
    if len(nodes) != spec.resources.nodes:
        problems.append(f"the ranks see {len(nodes)} nodes, and {spec.resources.nodes} were asked for")
    return problems
