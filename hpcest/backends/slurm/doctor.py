"""What ``hpcest doctor`` says of Slurm: the cluster, its limits and accounts, and whether it takes a job of a compute target."""

from __future__ import annotations

import getpass
import re
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

from hpcest.backends.slurm import surroundings
from hpcest.backends.slurm.options import SlurmOptions
from hpcest.backends.slurm.site import Site, site
from hpcest.backends.starting import submitted_environment
from hpcest.errors import HpcestError
from hpcest.kit.process import run

Finding = tuple[str, str, str, str]

#: Nobody waits longer for a diagnosis that one command after the other gives; Slurm's own wait for minutes.
PATIENCE_S = 4.0
#: Kinds of file systems that only one machine sees.
_LOCAL = frozenset({"ext2", "ext3", "ext4", "xfs", "btrfs", "zfs", "tmpfs", "ramfs", "overlay", "f2fs", "vfat", "aufs", "squashfs"})
_NOT_SHARED = ("/tmp", "/var/tmp", "/dev/shm", "/run")  # noqa: S108  # compared, never written to


def findings(options: SlurmOptions, folder: Path) -> Iterator[Finding]:
    """Check by check; where Slurm can't be reached, only that."""
    if not shutil.which("sbatch"):
        yield "", "bad", "sbatch is not found", "work on a login node of the cluster, or load its Slurm module first"
        return
    environ = surroundings.for_asking()
    down = run(["scontrol", "ping"], env=environ, timeout=PATIENCE_S)
    if not down.ok or " UP" not in down.out:
        said = " ".join((down.out + " " + down.err).split()) or f"scontrol ended with code {down.code}"
        remedy = "try again later; what was submitted waits meanwhile, and its status is known again then"
        yield "", "bad", f"slurmctld does not answer: {said[:200]}", remedy
        return
    here = site(environ, fresh=True)
    yield from _of_cluster(here, options)
    if here.accounting:
        yield from _accounts(environ)
    yield _place(folder)
    yield _trial(options, environ)


def _of_cluster(here: Site, options: SlurmOptions) -> Iterator[Finding]:
    if here.problem:
        yield "slurm", "bad", here.problem, "see: scontrol show config"
        return
    version = ".".join(f"{part:02}" if place == 1 else str(part) for place, part in enumerate(here.version))
    yield "slurm", "ok", f"{version}, cluster {here.cluster}, {here.select_type}, {here.proctrack_type}", ""
    yield _mpi(here)
    yield _accounting(here, options)
    limits = f"MaxArraySize {here.max_array_size}, MaxJobCount {here.max_job_count}, KillWait {here.kill_wait} s"
    yield "slurm limits", "ok", f"{limits}, MinJobAge {here.min_job_age} s, asked at most every {options.poll:g} s", ""
    if options.grace > here.kill_wait:
        remedy = f"set for the compute target: grace: {here.kill_wait}; or have KillWait raised"
        yield "", "note", f"grace is {options.grace:g} s, but at the time limit Slurm kills after {here.kill_wait} s (KillWait)", remedy
    yield _requeue(here, options)


def _mpi(here: Site) -> Finding:
    kinds = [kind for kind in here.mpi_types if kind != "none"]
    found = f"{', '.join(kinds) or 'none'}; default {here.mpi_default}"
    if any(kind.startswith("pmix") for kind in kinds):
        return "slurm mpi types", "ok", found, ""
    remedy = (
        "an MPI that speaks PMI-2 works; for Open MPI set for the compute target: launcher: mpirun; prove it: hpcest compute check NAME"
    )
    return "slurm mpi types", "note", found, remedy


def _accounting(here: Site, options: SlurmOptions) -> Finding:
    if here.accounting:
        enforced = f", which enforces {here.enforce}" if here.enforce not in ("", "none") else ""
        return "slurm accounting", "ok", f"sacct answers{enforced}", ""
    if here.accounting_type.endswith("slurmdbd"):
        return "slurm accounting", "note", "sacct does not answer", "runs go on; what they used is not shown until slurmdbd is back"
    remedy = f"nothing to do: run folders tell how runs ended; what they used is not known. Keep poll well below {here.min_job_age} s"
    return "slurm accounting", "note" if options.poll * 2 > here.min_job_age else "ok", "there is none", remedy


def _requeue(here: Site, options: SlurmOptions) -> Finding:
    found = f"preemption {here.preempt_mode}, JobRequeue {int(here.job_requeue)}"
    if "REQUEUE" in here.preempt_mode and options.max_requeues is None:
        remedy = "for programs that write checkpoints set for the compute target: max_requeues: 3 (or such)"
        return "slurm requeue", "ok", found, remedy
    return "slurm requeue", "ok", found, ""


def _accounts(environ: Mapping[str, str]) -> Iterator[Finding]:
    """The accounts and QOS that this user may name, with their limits; nothing where sacctmgr won't tell."""
    asked = ["sacctmgr", "-n", "-P", "show", "assoc", f"user={getpass.getuser()}", "format=Account,QOS,MaxSubmitJobs,MaxJobs"]
    done = run(asked, env=environ, timeout=PATIENCE_S)
    rows = [line.split("|") for line in done.out.splitlines() if line.count("|") == 3] if done.ok else []
    if rows:
        accounts = [f"{name}{_limits(submit, jobs)} with QOS {qos or 'none'}" for name, qos, submit, jobs in rows]
        yield "slurm accounts", "ok", "; ".join(dict.fromkeys(accounts)), ""
    asked = ["sacctmgr", "-n", "-P", "show", "qos", "format=Name,MaxSubmitJobsPerUser,MaxJobsPerUser"]
    done = run(asked, env=environ, timeout=PATIENCE_S)
    rows = [line.split("|") for line in done.out.splitlines() if line.count("|") == 2] if done.ok else []
    limited = [f"{name}{limits}" for name, submit, jobs in rows if (limits := _limits(submit, jobs))]
    if limited:
        yield "slurm qos", "ok", "; ".join(limited), ""


def _limits(submit: str, jobs: str) -> str:
    said = [f"{number} {what}" for number, what in ((submit, "jobs in the queue"), (jobs, "running")) if number]
    return f" (at most {', '.join(said)})" if said else ""


def _place(folder: Path) -> Finding:
    """Whether other machines see the workspace, as far as can be told from here."""
    where, kind = mount_of(folder.resolve(), Path("/proc/self/mounts"))
    found = f"{folder} is on {kind or 'an unknown file system'}"
    if kind in _LOCAL or any(folder.resolve().is_relative_to(place) for place in _NOT_SHARED):
        remedy = "unless the nodes see the same files there, put the workspace on a shared file system: hpcest init DIR"
        return "slurm file system", "note", f"{found} (at {where}), which other machines may not see", remedy
    return "slurm file system", "ok", found, ""


def mount_of(folder: Path, mounts: Path) -> tuple[str, str]:
    """The mount point that ``folder`` is on and its kind of file system; empty where it can't be told."""
    best = ("", "")
    try:
        lines = mounts.read_text(errors="replace").splitlines()
    except OSError:
        return best
    for line in lines:
        parts = line.split(" ")
        if len(parts) < 3:
            continue
        point = re.sub(r"\\([0-7]{3})", lambda code: chr(int(code[1], 8)), parts[1])
        if folder.is_relative_to(point) and len(point) >= len(best[0]):
            best = (point, parts[2])
    return best


def _trial(options: SlurmOptions, environ: Mapping[str, str]) -> Finding:
    """What sbatch says of the smallest job with the target's own options."""
    from hpcest.backends.slurm.refusals import own_words
    from hpcest.backends.slurm.request import requested
    from hpcest.backends.slurm.script import script_text
    from hpcest.model.spec import Command, RunSpec

    try:
        asked = {**requested(RunSpec("doctor", Command("true")), options), "job-name": "hpcest-doctor"}
    except HpcestError as error:
        return "", "bad", error.message, error.hint
    text = script_text(Path.cwd(), asked, (), "true")
    sent = surroundings.scrubbed(submitted_environment(), options.keep_env)
    done = run(["sbatch", "--test-only", "/dev/stdin"], env=sent, stdin=text, timeout=PATIENCE_S)
    said = own_words(done.err or done.out)
    if done.ok:
        return "", "ok", f"Slurm would take a job: {said}", ""
    if done.code == 124:
        return "", "note", f"sbatch did not answer in {PATIENCE_S:g} s", "try again later"
    return "", "bad", f"Slurm would refuse a job: {said}", _remedy(said, environ)


def _remedy(said: str, environ: Mapping[str, str]) -> str:
    """What to change in the compute target, by what sbatch complains of."""
    if "partition" in said.lower():
        names = run(["sinfo", "-h", "-o", "%R"], env=environ, timeout=PATIENCE_S).out.split()
        return f"set for the compute target: partition: one of {', '.join(dict.fromkeys(names)) or 'those of sinfo'}"
    if "account" in said.lower() or "qos" in said.lower():
        return "set account and qos of the compute target to a pair of: sacctmgr show assoc user=$USER format=account,partition,qos"
    return "change the options of the compute target: hpcest compute show NAME"
