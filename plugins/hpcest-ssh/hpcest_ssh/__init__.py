"""The backend ``ssh``: a compute target that is one machine, reached by OpenSSH."""

import hpcest
from hpcest.contracts import Backend

from hpcest_ssh.backend import Ssh

__all__ = ["Ssh", "hpcest_register_backends"]


@hpcest.hookimpl
def hpcest_register_backends() -> list[type[Backend]]:
    """Register the backend ``ssh``."""
    return [Ssh]
