"""What ``get_runs`` and ``get_children`` are asked for, compared with a run."""

#: What Azure ML calls how a run came to be -> our word for it.
AZURE_TYPES = {"azureml.scriptrun": "run", "azureml.interactiverun": "interactive"}


def has_all(have, wanted):
    """Whether all that is wanted is there: a name with any value, or names with their values (None: any)."""
    if isinstance(wanted, str):
        return wanted in have
    return all(key in have and (value is None or have[key] == value) for key, value in (wanted or {}).items())


def is_of(wanted, kind, spec):
    """Whether ``type=`` means a run: its framework, or one of Azure's names for how it came to be. None means all."""
    if wanted is None:
        return True
    return kind == AZURE_TYPES[wanted] if wanted in AZURE_TYPES else wanted == spec.get("framework", "script")
