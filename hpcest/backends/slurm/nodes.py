"""The nodes, partitions and limits of the cluster that this machine belongs to.

Everything is empty where Slurm can't be asked: these are facts to show, and nothing depends on them.
"""

from __future__ import annotations

import os
import shutil
from collections import Counter
from typing import Any

from hpcest.backends.slurm.surroundings import for_asking
from hpcest.kit import process

_PATIENCE_S = 20.0
_TAKEN = ("alloc", "mix", "comp")


def slurm_nodes(partition: str = "") -> list[dict[str, Any]]:
    """The nodes of a partition (of all: empty), each once: ``nodeId``, ``nodeState``, ``cpus``, ``memoryMb``, ``gres``."""
    chosen = ["-p", partition] if partition else []
    found = {}
    for node, state, cpus, memory, gres in _table(["sinfo", "-h", "-N", "-o", "%N|%T|%c|%m|%G", *chosen], 5):
        known = {"nodeState": state.strip("*~#!%$@^-"), "cpus": _number(cpus), "memoryMb": _number(memory), "gres": _gres(gres)}
        found[node] = {"nodeId": node, **known}
    return list(found.values())


def slurm_partitions() -> list[dict[str, Any]]:
    """Each partition with what its smallest nodes have; the default one first."""
    rows = _table(["sinfo", "-h", "-o", "%P|%c|%m|%G|%D|%l"], 6)
    rows.sort(key=lambda row: not row[0].endswith("*"))
    found: dict[str, dict[str, Any]] = {}
    for name, cpus, memory, gres, nodes, limit in rows:
        row = {"name": name.rstrip("*"), "vCPUs": _number(cpus), "memoryGB": round(_number(memory) / 1024, 1), "gres": _gres(gres)}
        known = found.setdefault(name.rstrip("*"), {**row, "nodes": 0, "time": limit})
        known["nodes"] += _number(nodes)
    return list(found.values())


def slurm_usage() -> list[dict[str, Any]]:
    """How many nodes of each partition are taken, of how many."""
    taken, total = Counter[str](), Counter[str]()
    for name, state, nodes in _table(["sinfo", "-h", "-o", "%P|%t|%D"], 3):
        total[name.rstrip("*")] += _number(nodes)
        taken[name.rstrip("*")] += _number(nodes) if state.startswith(_TAKEN) else 0
    return [{"name": name, "currentValue": taken[name], "limit": total[name], "unit": "nodes"} for name in total]


def slurm_limits() -> list[dict[str, Any]]:
    """The limits of this user's associations, as the accounting has them."""
    fields = ("Account", "Partition", "QOS", "GrpTRES", "MaxTRES", "MaxJobs", "MaxSubmit", "MaxWall")
    argv = ["sacctmgr", "-n", "-P", "show", "associations", f"user={os.environ.get('USER', '')}", f"format={','.join(fields)}"]
    found = []
    for account, partition, qos, *limits in _table(argv, len(fields)):
        named = {name: value for name, value in zip(fields[3:], limits, strict=True) if value}
        found.append({"account": account, "partition": partition, "qos": qos, "limits": named})
    return found


def _table(argv: list[str], width: int) -> list[list[str]]:
    """The rows of a command's output that have ``width`` columns; none where it is not there, or fails."""
    if not shutil.which(argv[0]):
        return []
    done = process.run(argv, env=for_asking(), timeout=_PATIENCE_S)
    rows = [[word.strip() for word in line.split("|")] for line in done.out.splitlines()] if done.ok else []
    return [row for row in rows if len(row) == width]


def _number(text: str) -> int:
    digits = text.rstrip("+")
    return int(digits) if digits.isdigit() else 0


def _gres(text: str) -> str:
    return "" if text in ("(null)", "N/A") else text
