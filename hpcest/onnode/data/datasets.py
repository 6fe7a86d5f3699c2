"""The data of a run as its program sees it: ``run.input_datasets['mnist']`` is a path."""

import os
from collections.abc import Mapping

from hpcest.onnode.record import get_json


class DataPath(str):
    """Where the data is here, as a text; ``name``, ``dataset``, ``version`` and ``digest`` say what it is.

    It also has what Azure ML's dataset objects have, for programs that ask for one: ``to_path``, ``download``, ``mount``,
    ``to_pandas_dataframe``.
    """

    name = ""
    facts: dict = {}

    def __new__(cls, path, name="", facts=None):
        made = super().__new__(cls, path)
        made.name, made.facts = name, facts or {}
        return made

    @property
    def dataset(self):
        """The name that it is registered under; empty where it is not."""
        return self.facts.get("dataset", "")

    @property
    def version(self):
        return self.facts.get("version", 0)

    @property
    def digest(self):
        """The sha256 of names and contents when the run was submitted."""
        return self.facts.get("digest", "")

    @property
    def id(self):
        return "%s:%s" % (self.dataset, self.version) if self.dataset else self.digest

    def files(self):
        """The paths of all files, sorted."""
        if os.path.isfile(self):
            return [str(self)]
        return sorted(os.path.join(where, name) for where, _, names in os.walk(self, followlinks=True) for name in names)

    def to_path(self):
        """The names of all files, each with a ``/`` before it, as Azure ML's datasets give them; ``files`` gives whole paths."""
        return ["/" + os.path.relpath(path, self._root()) for path in self.files()]

    def _root(self):
        return os.path.dirname(self) if os.path.isfile(self) else str(self)

    def download(self, target_path=None, overwrite=False, ignore_not_found=False):
        """Copy all files into the folder ``target_path`` (a new one by default); returns their paths there."""
        import shutil
        import tempfile

        target = str(target_path) if target_path else tempfile.mkdtemp(prefix="hpcest-data-")
        found = []
        for path in self.files():
            copy = os.path.join(target, os.path.relpath(path, self._root()))
            if os.path.lexists(copy) and not overwrite:
                raise FileExistsError("download: %r exists already; pass overwrite=True" % copy)
            os.makedirs(os.path.dirname(copy), exist_ok=True)
            shutil.copyfile(path, copy)
            found.append(copy)
        return found

    def mount(self, mount_point=None):
        """A context whose ``mount_point`` is the path; there is nothing to be mounted."""
        return MountContext(str(self))

    def to_pandas_dataframe(self, on_error="null", out_of_range_datetime="null"):
        """The table, read as the dataset says; a file or folder without a recipe by the ending of its names."""
        from hpcest.onnode import table

        return table.read(self.facts.get("table") or {}, self.files(), on_error, out_of_range_datetime)


class MountContext:
    """What ``mount`` returns: the data is there before ``start`` and after ``stop``."""

    def __init__(self, path):
        self.mount_point = path

    def start(self):
        """Nothing needs to be done."""

    def stop(self):
        """Nothing needs to be done."""

    def __enter__(self):
        return self

    def __exit__(self, kind, error, traceback):
        self.stop()


class Datasets(Mapping):
    """Name -> ``DataPath`` of a run's inputs, or outputs; made from its record and this process's variables."""

    def __init__(self, folder, which):
        spec = (get_json(os.path.join(str(folder), "run.json")) or {}).get("spec") or {}
        self._which, self._prefix = which, "AZURE_ML_%s_" % which.upper()
        self._texts = dict(spec.get("inputs") or {}) if which == "input" else {}
        self._facts = dict(spec.get("data" if which == "input" else "outputs") or {})
        self._inside = os.environ.get("HPCEST_RUN_DIR") == str(folder)
        self._folder = str(folder)

    def __getitem__(self, name):
        if name not in self._facts and name not in self._texts:
            known = ", ".join(sorted(self)) or "none"
            raise KeyError("this run has no %s %r; it has: %s" % (self._which, name, known))
        told = os.environ.get(self._prefix + name, "") if self._inside else ""
        return DataPath(told or self._texts.get(name) or self._elsewhere(name), name, self._facts.get(name))

    def _elsewhere(self, name):
        """Where it is for who only reads the record."""
        facts = self._facts[name]
        if self._which == "output":
            path = facts.get("path", "") if facts.get("mode", "mount") == "mount" else ""
            path = path.replace("{run-id}", os.path.basename(self._folder)).replace("{output-name}", name)
            return path or os.path.join(self._folder, "outputs", name)
        paths = facts.get("paths") or [""]
        return paths[0] if len(paths) == 1 else facts.get("root") or paths[0]

    def __iter__(self):
        return iter(list(self._facts) + [name for name in self._texts if name not in self._facts])

    def __len__(self):
        return len(set(self._facts) | set(self._texts))

    def __repr__(self):
        return repr({name: str(self[name]) for name in self})
