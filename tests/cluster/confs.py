"""The configuration files of a test cluster, as text."""

from __future__ import annotations

from tests.cluster.shape import ROOT, Cluster

DATABASE_PASSWORD = "test-cluster"
CPUS = 8
MEMORY_MB = 4000
GPUS = 2
MAX_ARRAY = 1001


def slurm_conf(cluster: Cluster) -> str:
    """The slurm.conf; what is not said here is Slurm's default."""
    folder = cluster.folder
    return f"""\
# Written by tests/cluster/cluster.py at every start.
ClusterName={cluster.name}
SlurmctldHost={cluster.head}({cluster.head_address})
SlurmctldPort={cluster.ctld_port}
SlurmdPort={cluster.slurmd_port}
SlurmUser=slurm
AuthType=auth/munge
# Requeued jobs wait for the credential's lifetime, two minutes by default, as they do on "bare".
AuthInfo=socket={ROOT}/munge/socket{",cred_expire=5" if cluster.accounting else ""}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool/%n
SlurmctldPidFile={folder}/run/slurmctld.native.pid
SlurmdPidFile={folder}/run/%n.native.pid
SlurmctldLogFile={folder}/log/slurmctld.log
SlurmdLogFile={folder}/log/%n.log

SwitchType=switch/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
DefMemPerCPU=256
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=1,sched_min_interval=0,bf_interval=1,batch_sched_delay=0
ReturnToService=2
SlurmdTimeout=30
KillWait=10
MinJobAge=60
MaxJobCount=20000
MaxArraySize={MAX_ARRAY}
JobRequeue=1
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
{_processes(cluster)}
{_accounting(cluster)}

# More than the machine has: many small jobs must fit at once.
SlurmdParameters=config_overrides
GresTypes=gpu
NodeName=DEFAULT CPUs={CPUS} CoresPerSocket={CPUS} RealMemory={MEMORY_MB} Gres=gpu:{GPUS}
NodeName={cluster.range} NodeAddr={cluster.subnet}.1[1-{cluster.size}]

PartitionName=DEFAULT Nodes={cluster.range} MaxTime=INFINITE DefaultTime=60 PriorityTier=1 PreemptMode=OFF
PartitionName=main Default=YES
PartitionName=short MaxTime=1 DefaultTime=1
# Jobs in urgent push out jobs in preempt at once, and jobs in graceful after ten seconds.
PartitionName=preempt PreemptMode=REQUEUE
PartitionName=graceful PreemptMode=REQUEUE GraceTime=10
PartitionName=urgent PriorityTier=100
"""


def _processes(cluster: Cluster) -> str:
    if cluster.proctrack == "cgroup":
        return "ProctrackType=proctrack/cgroup\nTaskPlugin=task/cgroup"
    return "ProctrackType=proctrack/linuxproc\nTaskPlugin=task/none"


def _accounting(cluster: Cluster) -> str:
    if not cluster.accounting:
        return "AccountingStorageType=accounting_storage/none\nJobAcctGatherType=jobacct_gather/none"
    return f"""\
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost={cluster.head_address}
AccountingStoragePort={cluster.dbd_port}
# Slurm asks slurmdbd through the system's MUNGE unless it is told here which one to use.
AccountingStoragePass={ROOT}/munge/socket
AccountingStorageEnforce=limits,qos
AccountingStorageTRES=gres/gpu
AccountingStoreFlags=job_comment
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=1"""


def slurmdbd_conf(cluster: Cluster) -> str:
    folder = cluster.folder
    return f"""\
AuthType=auth/munge
AuthInfo=socket={ROOT}/munge/socket
DbdHost={cluster.head}
DbdAddr={cluster.head_address}
DbdPort={cluster.dbd_port}
SlurmUser=slurm
LogFile={folder}/log/slurmdbd.log
PidFile={folder}/run/slurmdbd.native.pid
StorageType=accounting_storage/mysql
StorageHost=127.0.0.1
StoragePort={cluster.database_port}
StorageUser=slurm
StoragePass={DATABASE_PASSWORD}
StorageLoc=slurm_acct_db
"""


def gres_conf(cluster: Cluster) -> str:
    """Fake GPUs: Slurm counts files that exist, whatever they are."""
    return f"NodeName={cluster.range} Name=gpu File={cluster.folder}/dev/gpu[0-{GPUS - 1}]\n"


def mpi_conf(cluster: Cluster) -> str:
    """Ranks of one job on two nodes would meet in one directory, if it were not each node's own."""
    return f"PMIxCliTmpDirBase={cluster.folder}/pmix\n"


def cgroup_conf(_cluster: Cluster) -> str:
    return "CgroupMountpoint=/sys/fs/cgroup\nConstrainRAMSpace=yes\nConstrainSwapSpace=no\nConstrainCores=no\nConstrainDevices=no\n"


def hosts(cluster: Cluster) -> str:
    """Each node's own /etc/hosts."""
    lines = ["127.0.0.1 localhost", "::1 localhost", f"{cluster.head_address} {cluster.head}"]
    lines += [f"{cluster.address(node)} {node}" for node in cluster.nodes]
    return "\n".join(lines) + "\n"


def env(cluster: Cluster) -> str:
    """What a shell sources to talk to this cluster."""
    return f"export SLURM_CONF={cluster.conf}\n"
