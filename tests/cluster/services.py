"""What the Slurm daemons lean on: MUNGE for both clusters, and MariaDB with slurmdbd for the one that accounts."""

from __future__ import annotations

import os
import pwd
import shutil
from pathlib import Path

from tests.cluster.commands import call, wait_for
from tests.cluster.confs import DATABASE_PASSWORD
from tests.cluster.daemons import Daemon
from tests.cluster.shape import ROOT, Cluster

MUNGE = ROOT / "munge"


def own(path: Path, user: str, mode: int = 0o755) -> Path:
    """The folder ``path``, made if missing, as that user's own."""
    path.mkdir(parents=True, exist_ok=True)
    entry = pwd.getpwnam(user)
    os.chown(path, entry.pw_uid, entry.pw_gid)
    path.chmod(mode)
    return path


def munged() -> Daemon:
    return Daemon("munged", ROOT / "run")


def start_munge() -> None:
    """A munged with its own key and socket: the machine's own, if there is one, is not ours."""
    daemon = munged()
    own(MUNGE, "munge")
    key = MUNGE / "key"
    if not key.exists():
        key.write_bytes(os.urandom(128))
        shutil.chown(key, "munge", "munge")
        key.chmod(0o400)
    files = [
        f"--key-file={key}",
        f"--socket={MUNGE}/socket",
        f"--pid-file={MUNGE}/pid",
        f"--log-file={MUNGE}/log",
        f"--seed-file={MUNGE}/seed",
    ]
    # Two threads are Debian's default and starve under hundreds of requests.
    daemon.start(
        ["setpriv", "--reuid=munge", "--regid=munge", "--clear-groups", "munged", "--foreground", "--num-threads=4", "--force", *files]
    )
    wait_for(
        lambda: not call(["munge", f"--socket={MUNGE}/socket", "--no-input"], check=False).returncode,
        "munged",
        seconds=20,
        alive=daemon.running,
        logs=[daemon.output],
    )


def mariadbd(cluster: Cluster) -> Daemon:
    return Daemon("mariadbd", cluster.folder / "run")


def start_database(cluster: Cluster) -> None:
    """MariaDB on a port of its own, with slurmdbd's database and user."""
    daemon = mariadbd(cluster)
    folder = own(cluster.folder / "database", "mysql", 0o700)
    data, socket = folder / "data", folder / "socket"
    if not (data / "mysql").exists():
        call(["mariadb-install-db", "--no-defaults", "--user=mysql", f"--datadir={data}", "--skip-test-db"], timeout=120)
    small = ["--innodb-buffer-pool-size=64M", "--innodb-lock-wait-timeout=900", "--innodb-flush-log-at-trx-commit=2", "--skip-name-resolve"]
    where = [f"--datadir={data}", f"--socket={socket}", f"--pid-file={folder}/pid", f"--port={cluster.database_port}"]
    daemon.start(["mariadbd", "--no-defaults", "--user=mysql", "--bind-address=127.0.0.1", *where, *small])
    client = ["mariadb", "--no-defaults", f"--socket={socket}", "--user=root"]
    wait_for(
        lambda: not call([*client, "-e", "select 1"], check=False).returncode,
        "mariadbd",
        seconds=60,
        alive=daemon.running,
        logs=[daemon.output],
    )
    user = f"slurm@127.0.0.1 identified by '{DATABASE_PASSWORD}'"
    call([*client, "-e", f"create database if not exists slurm_acct_db; grant all on slurm_acct_db.* to {user}"])
