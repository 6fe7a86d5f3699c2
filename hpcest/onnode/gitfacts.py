"""Where a run's source stood in git, as properties under Azure ML's names and under mlflow's."""

_NAMES = {
    "repository_uri": ("remote", "mlflow.source.git.repoURL"),
    "branch": ("branch", "mlflow.source.git.branch"),
    "commit": ("commit", "mlflow.source.git.commit"),
}


def git_properties(git, environ=None):
    """The properties that say what ``git`` says, the ``git`` of a spec; none for a source that is in no repository.

    ``environ`` is where a CI system says which build this is, in AZUREML_GIT_BUILD_ID and AZUREML_GIT_BUILD_URI.
    """
    properties = {}
    for name, (field, mlflow) in _NAMES.items():
        if git and git.get(field):
            properties["azureml.git." + name] = properties[mlflow] = str(git[field])
    if properties:
        properties["azureml.git.dirty"] = str(bool(git.get("dirty")))
    for name in ("build_id", "build_uri"):
        value = (environ or {}).get("AZUREML_GIT_" + name.upper())
        if value:
            properties["azureml.git." + name] = value
    return properties
