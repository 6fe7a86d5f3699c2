"""What hpcest has no counterpart for, and what a program may still name: logins that do nothing, names that are not there in a run."""

# mypy: allow-untyped-defs, allow-untyped-calls, no-check-untyped-defs

# Azure ML's default images are its own; where none is asked for hpcest makes the environment from its packages.
NO_IMAGE = None


def set_diagnostics_collection(send_diagnostics=True, verbosity=None):
    """Does nothing: hpcest reports nothing to anybody."""


class AbstractAuthentication:
    """Takes what Azure ML's takes, and does nothing but say so once."""

    _said = False

    def __init__(self, *args, **kwargs):
        if not AbstractAuthentication._said:
            import warnings

            AbstractAuthentication._said = True
            text = f"{type(self).__name__} does nothing: files' permissions are the only authentication of hpcest"
            warnings.warn(text, stacklevel=2)


class ArmTokenAuthentication(AbstractAuthentication):
    """Does nothing."""


class AzureCliAuthentication(AbstractAuthentication):
    """Does nothing."""


class InteractiveLoginAuthentication(AbstractAuthentication):
    """Does nothing."""


class MsiAuthentication(AbstractAuthentication):
    """Does nothing."""


class ServicePrincipalAuthentication(AbstractAuthentication):
    """Does nothing, whatever secret it is given."""


class TokenAuthentication(AbstractAuthentication):
    """Does nothing."""


class _Absent(type):
    """A class that is not there: it can be named, and says why when it is used."""

    def __call__(cls, *args, **kwargs):
        raise ImportError(cls.why)

    def __getattr__(cls, name):
        if name.startswith("__"):
            raise AttributeError(name)
        raise ImportError(cls.why)


def absent(module, name):
    """What stands for a name that needs hpcest in the environment: programs often import more than they use."""
    if name.endswith(("Exception", "Error")):
        return type(name, (Exception,), {"__module__": module, "__doc__": "Raised by nothing here."})
    why = f"{module}.{name} is not available here: only tracking (Run) travels with a run; to use it add hpcest to the pip packages"
    return _Absent(name, (), {"__module__": module, "why": why})
