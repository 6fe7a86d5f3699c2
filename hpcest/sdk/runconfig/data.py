"""Data as run configurations name it: entries of ``data``, ``output_data`` and ``data_references``, in Azure ML's words."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import quote

from hpcest.errors import SpecError
from hpcest.model.spec import DataInput, DataOutput
from hpcest.sdk.runconfig.sections import Section

_MODES = {"mount": "mount", "download": "download", "direct": "direct", "upload": "upload", "hdfs": "direct"}


class RunDataset(Section):
    """A registered dataset, by its name (an id is known to Azure alone); ``runconfig.Dataset`` in Azure ML's SDK."""

    DEFAULTS: ClassVar[Mapping[str, Any]] = {"dataset_id": None, "dataset_name": None, "dataset_version": None}
    dataset_id: str | None
    dataset_name: str | None
    dataset_version: str | int | None


class DataPath(Section):
    """A path in a datastore."""

    DEFAULTS: ClassVar[Mapping[str, Any]] = {"datastore_name": None, "relative_path": None}
    datastore_name: str | None
    relative_path: str | None


class Uri(Section):
    """A path of this machine, or an address."""

    DEFAULTS: ClassVar[Mapping[str, Any]] = {"path": None, "is_file": False}
    path: str | None
    is_file: bool


class DataLocation(Section):
    """Where data is: one of a dataset, a path in a datastore, and a path."""

    DEFAULTS: ClassVar[Mapping[str, Any]] = {"dataset": None, "data_path": None, "uri": None}
    dataset: RunDataset | None
    data_path: DataPath | None
    uri: Uri | None


class Data(Section):
    """An input in ``run_config.data``; ``mechanism`` is ``mount``, ``download`` or ``direct``."""

    DEFAULTS: ClassVar[Mapping[str, Any]] = {
        "data_location": None,
        "create_output_directories": None,
        "mechanism": "direct",
        "environment_variable_name": None,
        "path_on_compute": None,
        "overwrite": False,
        "options": None,
    }
    data_location: Any
    mechanism: str
    environment_variable_name: str | None
    path_on_compute: str | None

    def to_input(self, name: str, base: Path) -> DataInput:
        """The same in a run spec; a relative path counts from ``base``. Raises SpecError for what only Azure knows."""
        mode, target = _mode(f"data[{name!r}]", self.mechanism), self.path_on_compute or ""
        dataset = part(self.data_location, "dataset")
        registered = part(dataset, "name", "datasetname")
        if registered:
            version = str(part(dataset, "version", "datasetversion"))
            return DataInput(mode=mode, target=target, dataset=str(registered), version=int(version) if version.isdigit() else 0)
        path = _path(self.data_location, base)
        if not path:
            known = part(dataset, "id", "datasetid")
            raise SpecError(
                f"data[{name!r}] names {f'the dataset {known}, which is' if known else 'data that is'} kept on Azure",
                hint=f"set it to what dataset.as_named_input({name!r}).as_mount() gives, or take it out",
            )
        return DataInput(paths=(path,), type="uri_file" if os.path.isfile(path) else "uri_folder", mode=mode, target=target)


class OutputData(Section):
    """An output in ``run_config.output_data``; ``mechanism`` is ``mount`` or ``upload``."""

    DEFAULTS: ClassVar[Mapping[str, Any]] = {"output_location": None, "mechanism": "mount", "additional_options": None}
    output_location: Any
    mechanism: str
    additional_options: Any

    def to_output(self, name: str, base: Path) -> DataOutput:
        """The same in a run spec: without a location a folder of the run's outputs. Raises SpecError."""
        options, registration = self.additional_options, part(self.additional_options, "registrationoptions")
        upload = part(options, "uploadoptions")
        globs = part(part(upload, "sourceglobs"), "globpatterns") or ()
        return DataOutput(
            path=_path(self.output_location, base),
            mode="upload" if _mode(f"output_data[{name!r}]", self.mechanism) == "upload" else "mount",
            target=part(options, "pathoncompute") or "",
            globs=tuple(str(one) for one in globs),
            overwrite=bool(part(upload, "overwrite")),
            dataset=str(part(registration, "name") or ""),
            description=str(part(registration, "description") or ""),
            tags={str(key): str(value) for key, value in (part(registration, "tags") or {}).items()},
        )


class DataReferenceConfiguration(Section):
    """A path in a datastore, as older programs name it; with the mode ``upload`` the program writes there."""

    DEFAULTS: ClassVar[Mapping[str, Any]] = {
        "datastore_name": None,
        "mode": "mount",
        "path_on_datastore": None,
        "path_on_compute": None,
        "overwrite": False,
    }
    datastore_name: str | None
    mode: str
    path_on_datastore: str | None
    path_on_compute: str | None
    overwrite: bool

    def bound(self, name: str, data: dict[str, DataInput], outputs: dict[str, DataOutput]) -> None:
        """Add it to the data of a run spec. Raises SpecError."""
        if not self.datastore_name:
            raise SpecError(f"data_references[{name!r}] names no datastore", hint="set its datastore_name")
        path, target = _stored(self.datastore_name, self.path_on_datastore), self.path_on_compute or ""
        mode = _mode(f"data_references[{name!r}]", self.mode)
        if mode == "upload":
            outputs[name] = DataOutput(path=path, mode="upload", target=target, overwrite=bool(self.overwrite))
        else:
            mode = "direct" if mode == "mount" else mode  # programs write through references too
            data[name] = DataInput(paths=(path,), mode=mode, target=target)


def part(value: Any, *names: str) -> Any:
    """What a section, or a mapping of a file, has under one of ``names``, however it is spelt (``dataPath``, ``data_path``)."""
    if isinstance(value, Section):
        value = vars(value)
    if not isinstance(value, Mapping):
        return None
    return next((item for key, item in value.items() if str(key).lower().replace("_", "") in names and item is not None), None)


def _mode(what: str, mechanism: Any) -> str:
    mode = _MODES.get(str(mechanism or "direct").lower())
    if mode is None:
        raise SpecError(f"{what} can't be had by {mechanism!r}", hint="known: mount, download, direct; upload for outputs")
    return mode


def _path(location: Any, base: Path) -> str:
    """The path of a location: one of this machine, or in a datastore; empty where there is neither. Raises SpecError."""
    place, text = part(location, "datapath"), str(part(part(location, "uri"), "path") or "").removeprefix("file://")
    if part(place, "datastorename"):
        return _stored(str(part(place, "datastorename")), part(place, "relativepath"))
    if "://" in text and not text.startswith("azureml://"):
        raise SpecError(f"{text!r} can't be read from here", hint="fetch it, and give the path of a file or folder")
    return text if "://" in text or not text else os.path.abspath(base / text)


def _stored(datastore: str, path: Any) -> str:
    return f"azureml://datastores/{quote(datastore, safe='')}/paths/{quote(str(path or '').lstrip('/'))}"
