"""What ssh says when it can't connect, and what can be done about it."""

from __future__ import annotations

import errno
from collections.abc import Mapping
from typing import Any

from hpcest.errors import BackendError

#: What ssh prints → the next step. With each of these nothing has been started.
REMEDIES = {
    "Could not resolve hostname": "check 'host' of the compute target: user@host, or a Host of ~/.ssh/config",
    "Connection refused": "check 'port' of the compute target, and whether sshd runs there",
    "Host key verification failed": "connect once by hand, compare the fingerprint and accept it: ssh {host}",
    "REMOTE HOST IDENTIFICATION HAS CHANGED": "find out why the host key is another one; then: ssh-keygen -R {host}",
    "No ED25519 host key is known": "connect once by hand, compare the fingerprint and accept it: ssh {host}",
    "Permission denied (": "log in with a key and without a password: ssh-copy-id {host}, and 'identity' of the compute target",
    "Too many authentication failures": "name the key: 'identity' of the compute target",
    "timed out": "check that the machine is up, and the network or VPN to it",
    "No route to host": "check that the machine is up, and the network or VPN to it",
    "Network is unreachable": "check the network or VPN of this machine",
    "Bad configuration option": "check 'options' of the compute target, and ~/.ssh/config",
    "keyword ": "check 'options' of the compute target, and ~/.ssh/config",
    "kex_exchange_identification": "the machine takes no connection now: too many at once, or it is starting; try again later",
}


class OutOfReachError(BackendError):
    """The machine could not be asked, and has done nothing."""


class BrokenError(BackendError):
    """The connection broke: what the machine has done by then is not known."""


def of_ssh(host: str, code: int, said: str) -> BackendError:
    """The error for an ssh that ended with ``code`` before the machine answered; ``said`` is its stderr."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    last = lines[-1] if lines else f"ssh ended with code {code}"
    for words, hint in REMEDIES.items():
        if code == 255 and any(words in line for line in lines):
            return OutOfReachError(f"{host} can't be reached: {last}", hint=hint.format(host=host))
    if code == 255:
        return BrokenError(f"the connection to {host} broke: {last}", hint=f"try by hand: ssh {host} true")
    if code in (126, 127):
        return OutOfReachError(f"{host} has no usable Python: {last}", hint="name one there, 3.8 or newer: 'python' of the compute target")
    return OutOfReachError(
        f"{host} could not run hpcest's part there (code {code}): {last}", hint="check 'python' of the compute target: 3.8 or newer"
    )


def of_machine(host: str, error: Mapping[str, Any], *, shared: bool) -> BackendError:
    """The error for what went wrong on the machine itself."""
    number, path = error.get("errno"), error.get("path")
    hints = {
        errno.ENOSPC: f"make room on {host}",
        errno.EDQUOT: f"the quota on {host} is used up: make room there",
        errno.EACCES: "name a folder there that you can write: 'workspace' of the compute target",
        errno.EROFS: "name a folder there that you can write: 'workspace' of the compute target",
    }
    hint = hints.get(number or 0, f"look there: ssh {host}")
    if shared and number in (errno.ENOENT, errno.EACCES):
        hint = f"if {host} does not have this workspace at the same path, say so: 'shared: false' in the compute target"
    return BackendError(f"{host}: {path + ': ' if path else ''}{error.get('text')}", hint=hint)
