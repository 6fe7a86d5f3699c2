"""What MLflow finds by its entry points: a tracking store, a model registry and artifacts for URIs that begin
with ``hpcest:``.

MLflow imports this file whenever it is imported itself, so this is small and imports nothing.
"""

import os

if os.environ.get("HPCEST_RUN_ID") and os.environ.get("MLFLOW_RUN_ID") == os.environ["HPCEST_RUN_ID"]:
    # The store gives the program its run where it first asks for one. MLflow would look for the run of this id also
    # where the program has set a tracking URI of its own, and not find it there.
    del os.environ["MLFLOW_RUN_ID"]

if os.environ.get("HPCEST_RUN_ID"):
    # A working directory is no git repository, and hpcest records what is known of git. Where a container has no git, each
    # run that starts would complain of it at length.
    os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")

_STORES: dict = {}


def tracking_store(store_uri=None, artifact_uri=None, **ignored):
    """The tracking store for ``store_uri``, the same for the whole process: some versions ask at every call."""
    from hpcest.onnode.mlflow import store

    return _kept(("runs", store_uri), store.tracking_store)


def registry_store(store_uri=None, **ignored):
    """The model registry for ``store_uri``."""
    from hpcest.onnode.mlflow import registry

    return _kept(("models", store_uri), registry.registry_store)


def artifact_repository(artifact_uri, tracking_uri=None, registry_uri=None):
    """What stores the artifacts of a run whose URI is ours."""
    from hpcest.onnode.mlflow import artifacts, store

    try:
        return artifacts.repository(artifact_uri, tracking_uri=tracking_uri, registry_uri=registry_uri)
    except ValueError as error:
        raise store.refused(str(error), "RESOURCE_DOES_NOT_EXIST") from error


def _kept(key, make):
    if key not in _STORES:
        _STORES[key] = make(key[1])
    return _STORES[key]
