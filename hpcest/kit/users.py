"""Who is asking."""

from __future__ import annotations

import os


def user_name() -> str:
    """The name of this process's user; the number where this host knows no name for it."""
    import getpass

    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):
        return str(os.getuid())


def user_at_host() -> str:
    """``user@host``, for records that many hosts write."""
    return f"{user_name()}@{os.uname().nodename}"
