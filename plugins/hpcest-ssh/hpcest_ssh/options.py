"""The settings of a compute target with ``backend: ssh``."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class SshOptions:
    """One machine, and how it is reached."""

    host: str = field(default="", metadata={"help": "user@host, or a Host of ~/.ssh/config"})
    port: int = field(default=0, metadata={"help": "its port; 0: as ssh's own configuration says, else 22"})
    identity: str = field(default="", metadata={"help": "the file of a private key; empty: as ssh's own configuration says"})
    options: tuple[str, ...] = field(default=(), metadata={"help": "more options of ssh, such as 'ProxyJump=gate'"})
    python: str = field(default="python3", metadata={"help": "a Python there, 3.8 or newer: it runs the controller"})
    shared: bool = field(
        default=True, metadata={"help": "whether the workspace is there at the same path; false: what a run needs is sent"}
    )
    workspace: str = field(
        default="~/.hpcest-ssh", metadata={"help": "with 'shared: false', the folder there in which each workspace gets one of its own"}
    )
    slots: int = field(default=0, metadata={"help": "how many runs go on there at once; 0: as many as are submitted"})
    grace: float = field(default=10.0, metadata={"help": "seconds between TERM and KILL when a run is ended"})
    time: str = field(default="", metadata={"help": "time limit of a run that names none, such as 2:00:00; empty: none"})
    connect: int = field(default=10, metadata={"help": "seconds until a machine that does not answer counts as out of reach"})
