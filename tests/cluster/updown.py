"""A whole cluster up, repaired where something is missing, and down again."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import stat
from pathlib import Path

from tests.cluster import accounts, apptainer, confs, network, services, slurm
from tests.cluster.shape import CLUSTERS, ROOT, Cluster


def up(cluster: Cluster) -> None:
    """Start what doesn't run and wait until jobs can start on every node. Quick where all runs already.

    :raises ClusterError: Something doesn't start; the message ends with its log.
    """
    changed = write_files(cluster)
    if changed and running(cluster):
        for name in (*cluster.nodes, "slurmctld", "slurmdbd"):
            slurm.daemon(cluster, name).stop()  # jobs live on: their steps belong to nobody else
    network.connect(cluster)
    start(cluster)


def start(cluster: Cluster) -> None:
    """Start what doesn't run, with the files and the network that are there."""
    services.start_munge()
    if cluster.accounting:
        services.start_database(cluster)
        slurm.start_dbd(cluster)
        accounts.ensure_accounts(cluster)
    slurm.start_ctld(cluster)
    for node in cluster.nodes:
        slurm.launch_node(cluster, node)
    for node in cluster.nodes:
        slurm.await_node(cluster, node)


def down(cluster: Cluster) -> None:
    """End this cluster's daemons and jobs, remove its network and its files; MUNGE goes with the last cluster."""
    for node in cluster.nodes:
        slurm.daemon(cluster, node).stop(number=signal.SIGKILL)
        slurm.kill_inside(cluster, node)
    for name in ("slurmctld", "slurmdbd"):
        slurm.daemon(cluster, name).stop()
    services.mariadbd(cluster).stop(seconds=60)
    network.disconnect(cluster)
    _remove_cgroups(cluster)
    shutil.rmtree(cluster.folder, ignore_errors=True)
    if not any(other.folder.exists() for other in CLUSTERS.values()):
        services.munged().stop()
        shutil.rmtree(services.MUNGE, ignore_errors=True)


def running(cluster: Cluster) -> bool:
    """Whether the controller's process is there."""
    return slurm.daemon(cluster, "slurmctld").running()


def write_files(cluster: Cluster) -> bool:
    """The folders, fake GPUs and configuration files; whether a file of a cluster that was there had to change."""
    folder = cluster.folder
    ROOT.mkdir(mode=0o755, parents=True, exist_ok=True)
    for name in ("spool", "pmix", "dev"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for name in ("log", "state", "run"):
        services.own(folder / name, "slurm")
    for number in range(confs.GPUS):
        _null_device(folder / f"dev/gpu{number}")
    texts = {name.replace("_", "."): getattr(confs, name)(cluster) for name in ("slurm_conf", "gres_conf", "mpi_conf", "cgroup_conf")}
    texts |= {"hosts": confs.hosts(cluster), "env": confs.env(cluster) + apptainer.env()}
    changes = [_write(folder / name, text) for name, text in texts.items()]
    changes.append(_write(folder / "node.sh", Path(__file__).with_name("node.sh").read_text(), mode=0o755))
    if cluster.accounting:
        changes.append(_write(folder / "slurmdbd.conf", confs.slurmdbd_conf(cluster), mode=0o600, user="slurm"))
    return any(changes)


def _null_device(path: Path) -> None:
    """Slurm wants a device; one that swallows everything will do."""
    if not path.is_char_device():
        path.unlink(missing_ok=True)
        os.mknod(path, 0o666 | stat.S_IFCHR, os.makedev(1, 3))


def _write(path: Path, text: str, *, mode: int = 0o644, user: str = "root") -> bool:
    if path.exists() and path.read_text() == text:
        return False
    beside = path.with_name(f".{path.name}.new")
    beside.write_text(text)
    beside.chmod(mode)
    os.chown(beside, pwd.getpwnam(user).pw_uid, 0)
    beside.rename(path)
    return True


def _remove_cgroups(cluster: Cluster) -> None:
    for node in cluster.nodes:
        for top in Path("/sys/fs/cgroup").glob(f"*/slurm_{node}"):
            for group, _, _ in os.walk(top, topdown=False):
                try:
                    Path(group).rmdir()
                except OSError:
                    break
