"""Whether Azure ML's own packages are installed beside this one."""

from __future__ import annotations

import os
import sys

SHIM = os.path.join(os.path.dirname(os.path.abspath(__file__)), "shim")


def another() -> str:
    """Why this plugin is not used: a sentence, where another ``azureml.core`` is on Python's path; else empty. Takes well below 1 ms."""
    for entry in dict.fromkeys(sys.path):
        if os.path.isfile(os.path.join(entry or os.curdir, "azureml", "core", "__init__.py")):
            return (
                f"Azure ML's own packages are installed too, in {entry or os.getcwd()}, and hpcest-azureml answers to the same names; "
                f"uninstall one of them: pip uninstall azureml-core, or pip uninstall hpcest-azureml"
            )
    return ""
