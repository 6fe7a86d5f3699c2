"""The artifacts of runs, as MLflow's calls want to write and read them: under the names that hpcest has for them.

A run's URI is ``hpcest:///shared/ws/.hpcest/runs/ID``, and ``…/ID/outputs/x`` is its artifact ``outputs/x``: the file that the
program itself would write to ``./outputs/x``. What has another name lies below the folder ``artifacts``.
"""

import importlib
import inspect
import os
import posixpath
from pathlib import Path
from urllib.parse import quote, unquote, urlparse

from hpcest.onnode.artifacts import ARTIFACT_FOLDERS, artifact_path
from hpcest.onnode.azureml import SCHEME

_RUNS = "/.hpcest/runs/"


def uri_of(folder):
    """The URI of the run in ``folder``, which that of an artifact begins with."""
    return SCHEME + "//" + quote(os.fsencode(os.path.abspath(folder)))


def place_of(uri):
    """The run folder that a URI names, and the name of the artifact in it. Raises ValueError where there is no run."""
    path = unquote(urlparse(uri).path, errors="surrogateescape")
    start = path.find(_RUNS)
    while start >= 0:  # a workspace may lie in the folder of a run of another one
        run, _, name = path[start + len(_RUNS) :].partition("/")
        folder = path[:start] + _RUNS + run
        if run and os.path.isfile(os.path.join(folder, "run.json")):
            return folder, name.strip("/")
        start = path.find(_RUNS, start + 1)
    raise ValueError("there is no run at %s: the URI of one is %s//WORKSPACE%sID" % (uri, SCHEME, _RUNS))


def path_of(uri):
    """Where the file or folder lies that a URI of ours, or one of files, or a path, names."""
    if not uri.startswith(SCHEME):
        return unquote(urlparse(uri).path, errors="surrogateescape")
    folder, name = place_of(uri)
    return artifact_path(folder, name) if name else folder


def name_in(folder, path):
    """The name of the artifact at ``path`` in the run ``folder``; empty for what is none."""
    inner = os.path.relpath(os.path.realpath(path), os.path.realpath(folder))
    top, _, rest = inner.partition(os.sep)
    return rest if top == "artifacts" else inner if top in ARTIFACT_FOLDERS else ""


def repository(artifact_uri, **known):
    """MLflow's repository for a URI of ours."""
    local = importlib.import_module("mlflow.store.artifact.local_artifact_repo").LocalArtifactRepository
    folder, name = place_of(artifact_uri)
    if name:
        return local(Path(artifact_path(folder, name)).as_uri())
    base = importlib.import_module("mlflow.store.artifact.artifact_repo").ArtifactRepository
    made = type("HpcestArtifacts", (OfRun, base), {"__abstractmethods__": frozenset()})
    taken = inspect.signature(base.__init__).parameters
    return made(folder, local, artifact_uri, **{key: value for key, value in known.items() if key in taken})


class OfRun:
    """All artifacts of one run; each folder of them is handled by MLflow's own repository of local files."""

    def __init__(self, folder, local, artifact_uri, **known):
        super().__init__(artifact_uri, **known)  # type: ignore[call-arg]  # MLflow's
        self._folder = folder
        self._ours, self._others = (local(Path(place).as_uri()) for place in (folder, os.path.join(folder, "artifacts")))

    def _of(self, path):
        """The repository for the artifact ``path``, whose names there are the same."""
        return self._ours if posixpath.normpath(path).split("/")[0] in ARTIFACT_FOLDERS else self._others

    def log_artifact(self, local_file, artifact_path=None):
        self._of(artifact_path or ".").log_artifact(local_file, artifact_path)

    def log_artifacts(self, local_dir, artifact_path=None):
        inner = [entry for entry in os.listdir(local_dir) if entry in ARTIFACT_FOLDERS and os.path.isdir(os.path.join(local_dir, entry))]
        if artifact_path or not inner:
            self._log_folder(local_dir, artifact_path)
            return
        for entry in os.listdir(local_dir):
            path = os.path.join(local_dir, entry)
            if os.path.isdir(path):
                self._log_folder(path, entry)
            else:
                self._others.log_artifact(path)

    def _log_folder(self, local_dir, name):
        repository = self._of(name or ".")
        target = os.path.join(repository.artifact_dir, name or "")
        if not (os.path.exists(target) and os.path.samefile(local_dir, target)):  # ./outputs lies there already
            repository.log_artifacts(local_dir, name)

    def list_artifacts(self, path=None):
        if path and posixpath.normpath(path) != ".":
            return self._of(path).list_artifacts(path)
        found = self._others.list_artifacts()
        info = importlib.import_module("mlflow.entities").FileInfo
        found += [info(part, True, None) for part in ARTIFACT_FOLDERS if os.path.isdir(os.path.join(self._folder, part))]
        return sorted(found, key=lambda one: one.path)

    def download_artifacts(self, artifact_path, dst_path=None):
        if artifact_path and posixpath.normpath(artifact_path) != ".":
            return self._of(artifact_path).download_artifacts(artifact_path, dst_path)
        return super().download_artifacts(artifact_path, dst_path)  # type: ignore[misc]  # MLflow's

    def get_local_path(self, artifact_path):
        return self._of(artifact_path).get_local_path(artifact_path)

    def _download_file(self, remote_file_path, local_path):
        self._of(remote_file_path)._download_file(remote_file_path, local_path)

    def delete_artifacts(self, artifact_path=None):
        self._of(artifact_path or ".").delete_artifacts(artifact_path)
