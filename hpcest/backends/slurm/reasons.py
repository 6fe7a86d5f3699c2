"""Why a job waits and how it ended, in a sentence with the remedy. Slurm's own word stands in it, to be searched for."""

from __future__ import annotations

import re
import time
from types import MappingProxyType

from hpcest.backends.slurm.hastening import SOON
from hpcest.backends.slurm.queries import JobView
from hpcest.backends.slurm.site import Site
from hpcest.backends.slurm.states import meaning
from hpcest.model.status import Reason
from hpcest.onnode.verdict import signal_name

#: Slurm's reason → what it means and what to do. In the order of how often people meet them.
_WAITS = MappingProxyType(
    {
        "": "waits for the scheduler to look at it",
        "Priority": "waits its turn: other jobs have a higher priority; a shorter --time lets it fit into gaps",
        "Resources": "is next, and waits until enough nodes, cores, memory or GPUs are free",
        "Dependency": "waits for the jobs it depends on{needs}",
        "DependencyNeverSatisfied": "will never start: a job it depends on did not end as it should{needs}",
        "JobArrayTaskLimit": "waits for other tasks of its array, which runs only so many at once",
        "ArrayTaskLimit": "waits for other tasks of its array, which runs only so many at once",
        "JobHeldUser": "is held; let it go by: scontrol release {id}",
        "JobHeldAdmin": "is held by an administrator of the cluster; ask them why",
        "BeginTime": "may not start yet: it was put back into the queue, or submitted with --begin",
        "PartitionTimeLimit": "asks for more time than its partition allows, and won't start: ask for less --time, or another partition",
        "PartitionNodeLimit": "asks for more, or fewer, nodes than its partition allows, and won't start: change --nodes or the partition",
        "PartitionDown": "waits because its partition is down; see: sinfo",
        "PartitionInactive": "waits because its partition is closed; see: sinfo",
        "NodeDown": "waits for a node that it needs and that is down; see: sinfo -R",
        "BadConstraints": "can never start: no node has what it asks for; change --constraint, --gpus, --mem or the partition",
        "FrontEndDown": "waits because no front end of the cluster is up",
        "Reservation": "waits for its reservation to begin; see: scontrol show reservation",
        "ReservationDeleted": "waits for a reservation that was deleted: cancel it, and submit it without --reservation",
        "InvalidAccount": "has an account that isn't valid any more: cancel it, and submit it with another --account",
        "InvalidQOS": "has a QOS that isn't valid: cancel it, and submit it with another --qos",
        "AccountNotAllowed": "has an account that may not use its partition: submit it with another --account or partition",
        "QOSNotAllowed": "has a QOS that may not be used here: submit it with another --qos or partition",
        "Licenses": "waits for a licence; see: scontrol show licenses",
        "Cleaning": "was put back into the queue; its last attempt is still being tidied up",
        "Prolog": "has its nodes, which are being prepared (the site's prolog runs)",
        "JobLaunchFailure": "could not be started by Slurm; see the end of its controller log, and: scontrol show job {id}",
        "launch_failed_requeued_held": "could not be started by Slurm and is held now; when that is mended: scontrol release {id}",
        "job_requeued_in_held_state": "was put back into the queue, held; let it go by: scontrol release {id}",
        "DeadLine": "can't end before its deadline any more, and won't start",
        "BurstBufferResources": "waits for space in the burst buffer",
        "BurstBufferStageIn": "waits for its files to be copied into the burst buffer",
        "NonZeroExitCode": "was put back into the queue after its program failed",
        "NodeFail": "was put back into the queue after a node failed",
        "SystemFailure": "was put back into the queue after a failure of Slurm or of a file system",
    }
)
#: What a limit's name says it counts, and what can be done about it.
_LIMITS = (
    ("Submit", "jobs that may be in the queue; it goes on as others end"),
    ("RunMin", "the time that running jobs may still take; it starts as they go on, and sooner with a shorter --time"),
    ("Minutes|Billing", "computing time, which is used up; ask the site, or wait until the share is renewed"),
    ("Wall|TimeLimit", "time; a job that asks for more than the limit won't start: ask for less --time"),
    ("(?i)cpu", "cores; it starts as other jobs end, unless it alone asks for more than the limit: --cpus"),
    ("(?i)mem", "memory; it starts as other jobs end, unless it alone asks for more than the limit: --mem"),
    ("(?i)gres|gpu", "GPUs; it starts as other jobs end, unless it alone asks for more than the limit: --gpus"),
    ("Node", "nodes; it starts as other jobs end, unless it alone asks for more than the limit: --nodes"),
    ("Job", "jobs that may run at once; it starts as others end"),
)
_EXITS = MappingProxyType(
    {
        53: "Slurm could not open its log file: the folder is missing on the node, or its disk is full or can't be written",
        9: "it was killed (SIGKILL): for its memory, or at the end of its time; ask for more --mem or --time",
        15: "it was ended by SIGTERM: its time was up, or somebody or something on the node ended it",
    }
)


def pending(view: JobView, site: Site) -> str:
    """Why a job waits: what it means, what to do, and when Slurm thinks that it starts."""
    reason = view.reason.strip("()")
    needs = f": {view.dependency}" if view.dependency else ""
    said = _WAITS.get(reason, "").format(id=view.id, needs=needs) or _by_pattern(reason) or f"waits; Slurm's reason is {reason}"
    if reason and reason not in said:
        said += f" ({reason})"
    if reason == "BeginTime" and view.restarts and site.version:
        said += f"; to start sooner: scontrol update jobid={view.id} starttime={SOON}"
    return said + _starts(view)


def ended(view: JobView) -> tuple[Reason, str]:
    """Why a job has ended, by Slurm's word alone: a reason for programs, and a sentence with the remedy."""
    code, _, number = (int(part) if part.isdigit() else 0 for part in (view.exit or "0:0").partition(":"))
    reason = meaning(view.state).reason
    where = f" on {view.nodes}" if view.nodes else ""
    if view.state in _ENDS:
        return reason, _ENDS[view.state].format(where=where, id=view.id)
    if view.state != "FAILED":
        return reason, f"Slurm ended it as {view.state}{where}"
    if number == 53 or (view.reason == "JobLaunchFailure" and not number):
        return Reason.LAUNCH_FAILED, f"{_EXITS[53]}{where} (exit code {view.exit or '0:53'})"
    if number == 125:
        return Reason.OUT_OF_MEMORY, _ENDS["OUT_OF_MEMORY"].format(where=where)
    if number:
        said = _EXITS.get(number, f"it was ended by {signal_name(number)}")
        return Reason.SIGNALED, f"{said}{where} (Slurm: FAILED, exit code {view.exit})"
    if code > 128 and code - 128 < 65:
        return Reason.SIGNALED, f"it exited with code {code}, so {signal_name(code - 128)} ended something in it{where}"
    if code:
        return Reason.USER_ERROR, f"it exited with code {code}{where}; read the end of its log"
    return Reason.LAUNCH_FAILED, f"Slurm says FAILED without an exit code{where}" + (f", because of {view.reason}" if view.reason else "")


_ENDS = MappingProxyType(
    {
        "COMPLETED": "Slurm says that it completed{where}",
        "CANCELLED": "its Slurm job {id} was canceled",
        "TIMEOUT": "it reached its time limit{where}; ask for more --time, or write checkpoints and set max_requeues",
        "DEADLINE": "it could not end before its deadline",
        "OUT_OF_MEMORY": "it used more memory than it asked for{where}; ask for more: --mem",
        "NODE_FAIL": "a node failed under it{where}, and Slurm did not start it again; 'hpcest rerun' does",
        "BOOT_FAIL": "a node could not be booted for it{where}; 'hpcest rerun' starts it again",
        "PREEMPTED": "a job with a higher priority took its place{where}; with --max-requeues it starts again by itself",
        "LAUNCH_FAILED": "Slurm could not start it{where}; see: scontrol show job {id}",
        "RECONFIG_FAIL": "a node could not be set up for it{where}; 'hpcest rerun' starts it again",
    }
)


def _by_pattern(reason: str) -> str:
    """A sentence for the reasons that come in many forms; empty for one that nobody knows."""
    if reason.startswith(("ReqNodeNotAvail", "Nodes required for job are", "Nodes_required_for_job_are")):
        named = re.search(r"UnavailableNodes:\s*(\S+?)\)?$", reason)
        who = f" ({named[1]})" if named and named[1] else ""
        return f"needs nodes that are down, drained or reserved{who}: wait, or ask for others; see: sinfo -R, scontrol show reservation"
    owner = re.match(r"(QOS|Assoc)(Grp|Max|Min)?", reason)
    if not owner or not reason.startswith(
        ("QOSGrp", "QOSMax", "QOSMin", "QOSUsage", "QOSTimeLimit", "QOSJobLimit", "QOSResourceLimit", "Assoc")
    ):
        return ""
    whose = "its QOS" if owner[1] == "QOS" else "its account"
    if owner[2] == "Min":
        return f"asks for less than {whose} wants at least, and won't start"
    counted = next((what for pattern, what in _LIMITS if re.search(pattern, reason)), "resources; it starts as other jobs end")
    shared = ", together with others," if owner[2] == "Grp" else ""
    return f"is at the limit that {whose} sets{shared} for {counted}"


def _starts(view: JobView) -> str:
    """``; Slurm expects it to start at 14:05`` where there is an estimate in the future."""
    if view.start is None or view.start <= time.time() or view.reason == "DependencyNeverSatisfied":
        return ""
    try:
        when = time.localtime(view.start)
    except (OverflowError, OSError, ValueError):
        return ""
    day = "" if view.start - time.time() < 64800 else "%Y-%m-%d "
    return "; Slurm expects it to start at " + time.strftime(day + "%H:%M", when)
