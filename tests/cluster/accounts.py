"""Who may submit: an account, a tight quality of service, and every person of this machine."""

from __future__ import annotations

import pwd

from tests.cluster.commands import ClusterError, call
from tests.cluster.shape import Cluster

ACCOUNT = "lab"
TIGHT = "tight"
TIGHT_JOBS = 2


def ensure_accounts(cluster: Cluster) -> None:
    """Add the cluster, the account, the qualities of service and the users that slurmdbd doesn't know yet."""
    if cluster.name not in _listed(cluster, "cluster", "cluster"):
        _add(cluster, "cluster", cluster.name)
    if ACCOUNT not in _listed(cluster, "account", "account"):
        _add(cluster, "account", ACCOUNT, "description=tests", "organization=tests")
    if TIGHT not in _listed(cluster, "qos", "name"):
        _add(cluster, "qos", TIGHT, f"maxsubmitjobsperuser={TIGHT_JOBS}")
    if new := sorted(_people() - _listed(cluster, "association", "user", f"account={ACCOUNT}")):
        _add(cluster, "user", ",".join(new), f"account={ACCOUNT}", f"qos=normal,{TIGHT}", "defaultqos=normal")
        # slurmdbd has made an account for root already, which would stay its default.
        call(
            ["sacctmgr", "-i", "modify", "user", "where", f"name={','.join(new)}", "set", f"defaultaccount={ACCOUNT}"],
            env=cluster.environment(),
        )


def _people() -> set[str]:
    """Root and all users with a home of their own."""
    return {"root"} | {entry.pw_name for entry in pwd.getpwall() if 1000 <= entry.pw_uid < 60000}


def _listed(cluster: Cluster, kind: str, field: str, *where: str) -> set[str]:
    chosen = ["where", *where] if where else []
    return set(call(["sacctmgr", "-nP", "list", kind, *chosen, f"format={field}"], env=cluster.environment()).stdout.split())


def _add(cluster: Cluster, *what: str) -> None:
    done = call(["sacctmgr", "-i", "add", *what], env=cluster.environment(), check=False)
    if done.returncode and "Nothing new added" not in done.stdout + done.stderr:
        raise ClusterError(f"sacctmgr add {' '.join(what)}: {(done.stderr or done.stdout).strip()}")
