"""The plugin: sends Azure ML's names along with every run, so that training scripts find them in any environment.

Every command of hpcest imports this module, so that it imports next to nothing itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import hpcest
from hpcest.errors import PluginError
from hpcest_azureml.conflict import SHIM, another

#: The interface that this plugin was written for; an hpcest with an older one refuses it with a reason.
HPCEST_INTERFACE = 1

if why := another():
    raise PluginError(why)


@hpcest.hookimpl
def hpcest_travelling_modules() -> Mapping[str, str]:
    """The modules of ``azureml``, and the table that they read, which is hpcest's own."""
    from hpcest.sdk.migration import names as azurenames

    found = {f"azureml/{path.name}": path.read_text(encoding="utf-8") for path in sorted(Path(SHIM, "azureml").glob("*.py"))}
    return {**found, "azureml/_names.py": Path(azurenames.__file__).read_text(encoding="utf-8")}
