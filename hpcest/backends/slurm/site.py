"""What this cluster offers: version, limits, MPI types, accounting. Asked once a day and kept on this host."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from hpcest.backends.slurm.surroundings import for_asking
from hpcest.errors import HpcestError
from hpcest.kit.files import read_json, write_json
from hpcest.kit.localdir import VARIABLE, node_local_dir
from hpcest.kit.process import run

KEPT_S = 86400.0
#: A probe that found the accounting dead, or slurmctld, is repeated sooner.
DOUBTFUL_S, FAILED_S = 600.0, 30.0
TIMEOUT_S = 10.0


@dataclass(frozen=True)
class Site:
    """One cluster. The defaults are Slurm's own, and hold where slurmctld doesn't answer; ``problem`` says so then.

    Times in seconds. ``accounting`` is whether sacct answers, ``accounting_type`` what the site has set up;
    ``mpi_types`` is what ``srun --mpi=list`` offers, ``mpi_dirs`` where Slurm keeps what ranks meet by, ``enforce`` which limits
    the accounting enforces.
    """

    version: tuple[int, ...] = ()
    cluster: str = ""
    min_job_age: int = 300
    max_array_size: int = 1001
    max_job_count: int = 10000
    kill_wait: int = 30
    job_requeue: bool = True
    kill_on_bad_exit: bool = False
    mpi_default: str = "none"
    mpi_types: tuple[str, ...] = ()
    accounting: bool = False
    accounting_type: str = ""
    enforce: str = ""
    preempt_mode: str = "OFF"
    select_type: str = ""
    proctrack_type: str = ""
    mpi_dirs: tuple[str, ...] = ()
    problem: str = ""


#: What this process knows, by where Slurm is configured and where the answer is kept: the site, and when it was asked.
_known: dict[tuple[str, str], tuple[Site, float]] = {}


def site(environ: Mapping[str, str], *, fresh: bool = False) -> Site:
    """What is known of the cluster that ``environ`` leads to: kept for a day, or asked now where ``fresh``. Never raises."""
    source = (environ.get("SLURM_CONF", ""), environ.get(VARIABLE, ""))
    known = _known.get(source)
    if known is None or fresh or not _lasts(*known):
        known = _known[source] = _shared(environ, fresh=fresh)
    return known[0]


def _shared(environ: Mapping[str, str], *, fresh: bool) -> tuple[Site, float]:
    """What some process on this host has asked and kept; else what Slurm says now, kept for all."""
    path = _path(environ)
    kept, when = _kept(path)
    if kept is not None and not fresh and _lasts(kept, when):
        return kept, when
    found = _probe(environ)
    if found.problem and kept is not None and kept.version:
        found = replace(kept, problem=found.problem)  # what it was yesterday is a better guess than a default
    now = time.time()
    if path is not None:
        with contextlib.suppress(OSError):
            path.parent.mkdir(mode=0o700, exist_ok=True)
            write_json(path, {"t": now, "site": asdict(found)})
    return found, now


def _lasts(kept: Site, when: float) -> bool:
    """Whether what was asked at the time ``when`` still counts."""
    good = kept.accounting or kept.accounting_type.endswith("/none")
    return 0 <= time.time() - when < (FAILED_S if kept.problem else KEPT_S if good else DOUBTFUL_S)


def _path(environ: Mapping[str, str]) -> Path | None:
    """Where the answer is kept; None where there is no place for it."""
    source = f"{environ.get('SLURM_CONF', '')}\0{os.uname().nodename}"
    try:
        return node_local_dir(environ) / "slurm" / f"site-{hashlib.sha256(source.encode()).hexdigest()[:16]}.json"
    except (OSError, HpcestError):
        return None


def _kept(path: Path | None) -> tuple[Site | None, float]:
    try:
        data = (read_json(path) if path else None) or {}
        known = {one.name: data["site"][one.name] for one in fields(Site)}  # KeyError: of another version
        known |= {name: tuple(known[name]) for name in ("version", "mpi_types", "mpi_dirs")}
        return Site(**known), float(data["t"])
    except (OSError, ValueError, TypeError, KeyError):
        return None, 0.0


def _probe(environ: Mapping[str, str]) -> Site:
    env = for_asking(environ)
    done = run(["scontrol", "show", "config"], env=env, timeout=TIMEOUT_S)
    config = parse_config(done.out) if done.ok else {}
    if not config:
        words = " ".join((done.err or done.out).split())[:300]
        return Site(problem=words or f"scontrol ended with code {done.code}")
    found = _of_config(config)
    listed = run(["srun", "--mpi=list"], env=env, timeout=TIMEOUT_S)
    return replace(found, mpi_types=parse_mpi(listed.out + "\n" + listed.err), accounting=_accounted(env, found))


def _accounted(env: Mapping[str, str], found: Site) -> bool:
    if found.accounting_type.endswith("/none"):
        return False
    today = time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(time.time() - 60))
    return run(["sacct", "-X", "-n", "-P", "-S", today, "-o", "JobID"], env=env, timeout=TIMEOUT_S).ok


def parse_config(text: str) -> dict[str, str]:
    """``scontrol show config`` as a mapping. The first of two equal names counts: other files' sections follow."""
    found: dict[str, str] = {}
    for line in text.splitlines():
        name, equals, value = line.partition("=")
        if equals:
            found.setdefault(name.strip(), value.strip())
    return found


def parse_mpi(text: str) -> tuple[str, ...]:
    """The types that ``srun --mpi=list`` names, on whichever stream, in any of its layouts; sorted."""
    found: set[str] = set()
    for line in text.splitlines():
        words = line.removeprefix("srun:").strip()
        named = re.search(r"versions available:(.*)", words)
        if named:
            found |= set(re.findall(r"[\w]+", named[1]))
        elif re.fullmatch(r"[a-z][a-z0-9_]*", words):
            found.add(words)
    return tuple(sorted(found))


def _of_config(config: Mapping[str, str]) -> Site:
    plain = Site()
    known: dict[str, Any] = {
        "version": tuple(int(part) for part in re.findall(r"\d+", config.get("SLURM_VERSION", ""))),
        "cluster": config.get("ClusterName", ""),
        "min_job_age": _number(config, "MinJobAge", plain.min_job_age),
        "max_array_size": _number(config, "MaxArraySize", plain.max_array_size),
        "max_job_count": _number(config, "MaxJobCount", plain.max_job_count),
        "kill_wait": _number(config, "KillWait", plain.kill_wait),
        "job_requeue": bool(_number(config, "JobRequeue", 1)),
        "kill_on_bad_exit": bool(_number(config, "KillOnBadExit", 0)),
        "mpi_default": config.get("MpiDefault") or plain.mpi_default,
        "accounting_type": config.get("AccountingStorageType", ""),
        "enforce": config.get("AccountingStorageEnforce", ""),
        "preempt_mode": config.get("PreemptMode") or plain.preempt_mode,
        "select_type": config.get("SelectType", ""),
        "proctrack_type": config.get("ProctrackType", ""),
        "mpi_dirs": tuple(config[name] for name in ("SlurmdSpoolDir", "PMIxCliTmpDirBase") if config.get(name, "").startswith("/")),
    }
    return replace(plain, **known)


def _number(config: Mapping[str, str], name: str, default: int) -> int:
    """The number that a value such as ``300 sec`` begins with."""
    match = re.match(r"\d+", config.get(name, ""))
    return int(match[0]) if match else default
