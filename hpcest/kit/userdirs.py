"""Where a user's own files belong, by the XDG base directory specification."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

# platformdirs says the same for Linux, but takes 12 ms to import and reads os.environ alone.
_USUAL = {"XDG_CONFIG_HOME": ".config", "XDG_CACHE_HOME": ".cache"}


def user_folder(variable: str, environ: Mapping[str, str]) -> Path:
    """The user's folder of hpcest below ``variable`` (XDG_CONFIG_HOME, XDG_CACHE_HOME), which may not exist yet.

    A relative value counts as none, the specification says.
    """
    base = environ.get(variable, "")
    if os.path.isabs(base):
        return Path(base, "hpcest")
    return Path(environ.get("HOME") or os.path.expanduser("~"), _USUAL[variable], "hpcest")
