"""Modules that are not there as files: their names come from one table, and each is imported when it is first used."""

# mypy: allow-untyped-defs, allow-untyped-calls, no-check-untyped-defs, disable-error-code="import-not-found"
import os
from importlib import import_module
from importlib.machinery import ModuleSpec
from types import ModuleType

try:
    from azureml._names import NAMES, counterpart, instead, is_module, refusal  # the copy that travels with runs
except ImportError:
    from hpcest.sdk.migration.names import NAMES, counterpart, instead, is_module, refusal

# What has no counterpart in hpcest, and does no harm: module -> name -> where it is.
OWN = {
    "azureml.core.authentication": {
        "AbstractAuthentication": "AbstractAuthentication",
        "ArmTokenAuthentication": "ArmTokenAuthentication",
        "AzureCliAuthentication": "AzureCliAuthentication",
        "InteractiveLoginAuthentication": "InteractiveLoginAuthentication",
        "MsiAuthentication": "MsiAuthentication",
        "ServicePrincipalAuthentication": "ServicePrincipalAuthentication",
        "TokenAuthentication": "TokenAuthentication",
    },
    "azureml.core.environment": {"DEFAULT_CPU_IMAGE": "NO_IMAGE", "DEFAULT_GPU_IMAGE": "NO_IMAGE"},
    "azureml.core.runconfig": {"DEFAULT_CPU_IMAGE": "NO_IMAGE", "DEFAULT_GPU_IMAGE": "NO_IMAGE"},
    "azureml.telemetry": {"set_diagnostics_collection": "set_diagnostics_collection"},
}


class Finder:
    """Finds the modules of the table, after all others have looked."""

    @staticmethod
    def lacking(module, name):
        """The sentence for a name that is not there."""
        below = f"{module}.{name}"
        where, called = counterpart(module, name)
        if where:
            return f"this hpcest has no {where}.{called}, which stands for {below}: upgrade hpcest"
        what = f"no module {below!r}" if refusal(below) else f"no name {name!r} in {module}"
        return f"hpcest has {what}: {instead(module, name)}"

    def find_spec(self, fullname, path=None, target=None):
        """The spec of a module of ours; None for what is not Azure's."""
        module, _, name = fullname.rpartition(".")
        if not module.startswith("azureml"):
            return None
        if is_module(fullname) and not refusal(fullname):
            return ModuleSpec(fullname, self, is_package=True)
        if name.startswith("_"):
            return None
        # without a name= of its own, for otherwise "from azureml.core import Nonsense" would say less than this
        raise ModuleNotFoundError(self.lacking(module, name))

    def create_module(self, spec):
        """An empty module that knows its table."""
        return Names(spec.name, f"The names of Azure ML's {spec.name}, answered by hpcest.")

    def exec_module(self, module):
        """Everything is done when a name is used."""


class Names(ModuleType):
    """A module whose names are found when they are used."""

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        found = _find(self.__name__, name)
        self.__dict__[name] = found
        return found

    def __dir__(self):
        return sorted({*self.__dict__, *NAMES.get(self.__name__, ()), *OWN.get(self.__name__, ())})

    @property
    def __all__(self):
        names = {*NAMES.get(self.__name__, ()), *OWN.get(self.__name__, ())}
        return sorted(name for name in names if not name.startswith("_") and _is_there(counterpart(self.__name__, name)[0]))


def _is_there(where):
    """Whether a star is to import what is in ``where``: not where that is a plugin which is not installed."""
    if not where.startswith("hpcest_"):
        return True
    from importlib.util import find_spec

    return find_spec(where) is not None


def _find(module, name):
    if name in OWN.get(module, ()):
        return getattr(import_module("azureml._things"), OWN[module][name])
    where, called = counterpart(module, name)
    if not where:
        raise AttributeError(Finder.lacking(module, name))
    try:
        return getattr(import_module(where), called)
    except (AttributeError, ImportError) as error:
        if "HPCEST_RUN_DIR" in os.environ:
            from azureml._things import absent

            return absent(module, name)
        if isinstance(error, AttributeError):
            raise AttributeError(Finder.lacking(module, name)) from None
        if where.startswith("hpcest_"):
            package = where.replace("_", "-")
            raise ImportError(f"{module}.{name} comes with the plugin {package}: pip install {package}") from error
        raise
