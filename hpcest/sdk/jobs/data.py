"""Inputs and outputs of a job file: literals, files and folders, and what is registered by name."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from hpcest.errors import ConfigError, HpcestError, SpecError, UnknownNameError
from hpcest.kit.yamlfile import Document, decode_document
from hpcest.model.datapaths import path_of
from hpcest.model.spec import DataInput, DataOutput
from hpcest.sdk.inputs import input_text
from hpcest.sdk.jobs.assets import Assets
from hpcest.sdk.jobs.text import Value

DATA = ("uri_folder", "uri_file", "mltable")
MODELS = ("mlflow_model", "custom_model", "triton_model")
LITERALS = ("string", "number", "integer", "boolean")
#: Azure ML's modes of inputs and of outputs → what they are here.
INPUT_MODES = {
    "ro_mount": "mount", "rw_mount": "direct", "mount": "mount", "download": "download", "direct": "direct", "eval_mount": "mount",
    "eval_download": "download",
}  # fmt: skip
OUTPUT_MODES = {"rw_mount": "mount", "mount": "mount", "direct": "mount", "upload": "upload"}

_INSTEAD = "path: …, or --input {}=PATH"
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_KEPT = re.compile(r"(?:azureml:)(?P<name>[^:@/]+)(?:[:@](?P<version>[^:@/]+))?")
_OUTPUT_OF = re.compile(r"azureml://(?:.*/)?jobs/(?P<job>[^/]+)/outputs/(?P<output>[^/]+)(?:/paths/(?P<path>.*))?")
_OF_RUN = re.compile(r"runs:/(?P<job>[^/]+)(?:/(?P<path>.*))?")
_DATASTORE = re.compile(r"azureml://(?:.*/)?datastores/(?P<name>[^/]+)(?:/paths/(?P<path>.*))?")


@dataclass(frozen=True)
class JobInput:
    """One of ``inputs:`` as a mapping: a ``path`` with its ``type`` and ``mode``, or the ``default`` of a literal."""

    type: str = ""
    path: Any = None
    mode: str = ""
    path_on_compute: str = ""
    default: Any = None
    optional: bool = False
    min: Any = None
    max: Any = None
    enum: Any = None
    description: str = ""
    datastore: str = ""


@dataclass(frozen=True)
class JobOutput:
    """One of ``outputs:`` as a mapping; with a ``name`` it becomes a version of that dataset, or model, when the run has completed."""

    type: str = "uri_folder"
    path: Any = None
    mode: str = ""
    path_on_compute: str = ""
    name: str = ""
    version: str = ""
    description: str = ""
    tags: dict[str, str] | None = None


@dataclass(frozen=True)
class Reader:
    """Reads the inputs and outputs of one document; what is registered is known to ``assets``."""

    document: Document
    warn: Callable[[str], None]
    assets: Assets

    # ------------------------------------------------------------------ inputs
    def input(self, name: str, value: Any, given: str | None = None) -> tuple[Value, DataInput | None]:
        """What stands for an input in the job's texts, and its data, if it is any; ``given`` goes before what the file says."""
        key = f"inputs.{name}"
        if not isinstance(value, dict):
            text = value if given is None else given
            if isinstance(text, str) and _KEPT.fullmatch(text):
                data = self._data(name, JobInput(), text)
                return self._value_of(name, data), data
            if given is None and (value is None or isinstance(value, list)):
                raise self._wrong(key, f"input {name!r} must be a value, or a mapping with 'path', not {value!r}")
            return Value(_literal(value) if given is None else given, raw=True), None
        asked = decode_document(JobInput, self.document, where=key)
        if asked.type and asked.type not in (*DATA, *MODELS, *LITERALS):
            types = "known: " + ", ".join((*DATA, *MODELS, *LITERALS))
            raise self._wrong(f"{key}.type", f"input {name!r} can't be of the type {asked.type!r}", types)
        if asked.path is None and (asked.default is not None or asked.type in LITERALS or asked.optional):
            return self._literal_input(name, asked, given), None
        path = str(asked.path) if given is None else given
        if asked.path is None and given is None:
            raise self._wrong(key, f"input {name!r} has no path")
        if asked.mode == "direct" and "://" in path and not path.startswith(("azureml:", "file:")):
            return Value(path, f"AZURE_ML_INPUT_{name}"), None  # the program reads it, if it can
        data = self._data(name, asked, path)
        return self._value_of(name, data), data

    def _literal_input(self, name: str, asked: JobInput, given: str | None) -> Value:
        key = f"inputs.{name}"
        text = given if given is not None else None if asked.default is None else _literal(asked.default)
        if text is None:
            if not asked.optional:
                raise self._wrong(key, f"input {name!r} has no value", "give it a default, or optional: true")
            return Value(given=False)
        if asked.type in ("number", "integer"):
            try:
                number = int(text) if asked.type == "integer" else float(text)
            except ValueError:
                raise self._wrong(key, f"input {name!r} must be {asked.type}, not {text!r}") from None
            low, high = (float(bound) if isinstance(bound, (int, float)) else None for bound in (asked.min, asked.max))
            if (low is not None and number < low) or (high is not None and number > high):
                raise self._wrong(key, f"input {name!r} must be from {asked.min} to {asked.max}, not {text}")
        if isinstance(asked.enum, list) and text not in map(_literal, asked.enum):
            raise self._wrong(key, f"input {name!r} must be one of {', '.join(map(_literal, asked.enum))}, not {text!r}")
        return Value(text, raw=True)

    def _data(self, name: str, asked: JobInput, path: str) -> DataInput:
        key = f"inputs.{name}"
        if not _NAME.fullmatch(name):
            raise self._wrong(key, f"{name!r} can't be the name of data", "use letters, digits and _")
        if asked.mode and asked.mode not in INPUT_MODES:
            modes = "known: " + ", ".join(INPUT_MODES)
            raise self._wrong(f"{key}.mode", f"input {name!r} can't have the mode {asked.mode!r}", modes)
        mode = INPUT_MODES.get(asked.mode, "mount")
        found = replace(self._located(key, asked, path), mode=mode, target=asked.path_on_compute)
        if found.dataset:
            return found
        found = replace(found, type=asked.type if asked.type in DATA else found.type)
        if found.type == "mltable":
            return self._table(key, found)
        place = Path(found.paths[0])
        fact = "uri_folder" if place.is_dir() else "uri_file" if place.is_file() else found.type
        if asked.type in DATA and fact != asked.type:
            self.warn(f"{self.document.where(key)}: {str(place)!r} is a {fact[4:]}, so {name} is taken for a {fact}")
        return replace(found, type=fact)

    def _table(self, key: str, found: DataInput) -> DataInput:
        """An ``mltable`` is a folder with the file that describes it; that is there, as far as can be seen from here."""
        place = Path(found.paths[0])
        if place.exists() and not (place / "MLTable").is_file():
            raise self._wrong(key, f"{str(place)!r} holds no file MLTable", "give its type: uri_folder or uri_file")
        return found

    def _located(self, key: str, asked: JobInput, path: str) -> DataInput:
        """Where an input lies: a path here, or something that is registered here."""
        kept, store = _KEPT.fullmatch(path), _DATASTORE.fullmatch(path)
        if store:
            return DataInput((self._below_datastore(key, store["name"], store["path"] or ""),))
        of_job = self._known(key, path, "job", lambda: place_in_job(self.assets, path))
        if of_job:
            return DataInput((str(of_job[1]),))
        if kept and asked.type in MODELS:
            found = self._known(key, path, "model", lambda: self.assets.model(kept["name"], kept["version"] or ""))
            return DataInput((str(found),), type="uri_folder" if found.is_dir() else "uri_file")
        if kept:
            data: DataInput = self._known(key, path, "dataset", lambda: self.assets.data(kept["name"], kept["version"] or ""))
            return data
        text = path.removeprefix("file://") if path.startswith("file:///") else path.removeprefix("file:")
        if "://" in text:
            raise self._cloud(key, text)
        found_text = input_text(text, self.document.path.parent)
        if not os.path.isabs(found_text):
            beside = str(self.document.path.parent / text)
            raise self._wrong(key, f"there is no file or folder {beside!r}", "a path is relative to the job file")
        return DataInput((os.path.normpath(found_text),))

    def _known(self, key: str, path: str, kind: str, look: Callable[[], Any]) -> Any:
        """What ``look`` finds under a name of Azure ML's. Raises ConfigError that says how to have one here."""
        try:
            return look()
        except UnknownNameError as error:
            if kind == "job":
                raise self._wrong(key, error.message, error.hint) from None
            known = f" (known here: {', '.join(error.known)})" if error.known else ""
            named = f"register a {kind} of that name here{known}"
            hint = f"name a file or folder that the nodes can read: {_INSTEAD.format(key[7:])}; or {named}"
            raise self._wrong(key, f"{path!r} is kept on Azure, and not here", hint) from None
        except HpcestError as error:
            raise self._wrong(key, error.message, error.hint) from error

    def _below_datastore(self, key: str, name: str, below: str) -> str:
        """A path in a datastore that is registered here."""
        try:
            root = self.assets.datastore(name)
        except UnknownNameError as error:
            known = f" (known here: {', '.join(error.known)})" if error.known else ""
            hint = f"give a folder that name: Datastore.register(workspace, {name!r}, FOLDER){known}"
            raise self._wrong(key, f"there is no datastore {name!r} here", hint) from None
        try:
            return str(_below(root, unquote(below), f"the datastore {name!r}"))
        except SpecError as error:
            raise self._wrong(key, error.message) from None

    def _cloud(self, key: str, url: str) -> ConfigError:
        """The error for what lies where no node looks."""
        scheme = url.partition("://")[0]
        if url.startswith("azureml:"):
            hint = f"copy it here and name the path: {_INSTEAD.format(key[7:])}; azureml://datastores/NAME/paths/… is a place here"
            return self._wrong(key, f"{url!r} is kept on Azure", hint)
        hint = f"download it and name the path: {_INSTEAD.format(key[7:])}"
        if scheme in ("http", "https"):
            hint += "; a program that reads URLs takes it with mode: direct"
        return self._wrong(key, f"{url!r} is no path: hpcest fetches nothing from {scheme}://", hint)

    @staticmethod
    def _value_of(name: str, data: DataInput) -> Value:
        """The path itself where that is known already."""
        variable = f"AZURE_ML_INPUT_{name}"
        return Value(path_of(data) or None, variable)

    # ------------------------------------------------------------------ outputs
    def output(self, name: str, value: Any) -> tuple[Value, DataOutput]:
        """What stands for an output in the job's texts, and where it goes."""
        key = f"outputs.{name}"
        if not _NAME.fullmatch(name):
            raise self._wrong(key, f"{name!r} can't be the name of an output", "use letters, digits and _")
        if value is not None and not isinstance(value, dict):
            raise self._wrong(key, f"output {name!r} must be a mapping, not {value!r}", "such as {path: …}, or nothing")
        asked = decode_document(JobOutput, self.document, where=key) if value else JobOutput()
        if asked.type not in (*DATA, *MODELS):
            raise self._wrong(
                f"{key}.type", f"output {name!r} can't be of the type {asked.type!r}", "known: " + ", ".join((*DATA, *MODELS))
            )
        if asked.mode and asked.mode not in OUTPUT_MODES:
            modes = "known: " + ", ".join(OUTPUT_MODES)
            raise self._wrong(f"{key}.mode", f"output {name!r} can't have the mode {asked.mode!r}", modes)
        if asked.version:
            self.warn(f"{self.document.where(f'{key}.version')}: {key}.version has no effect: hpcest counts the versions of {asked.name!r}")
        path = self._target(key, name, str(asked.path)) if asked.path is not None else ""
        made = DataOutput(
            path=path,
            type="uri_file" if asked.type == "uri_file" else "uri_folder",
            mode=OUTPUT_MODES.get(asked.mode, "mount"),
            target=asked.path_on_compute,
            dataset=asked.name if asked.type in DATA else "",
            model=asked.name if asked.type in MODELS else "",
            description=asked.description,
            tags=asked.tags or {},
        )
        known = made.path and made.mode == "mount" and not made.target and "{" not in made.path
        return Value(made.path if known else None, f"AZURE_ML_OUTPUT_{name}"), made

    def _target(self, key: str, name: str, path: str) -> str:
        """Where an output ends: a folder here, or in a datastore that is registered here; empty for the run's own place."""
        path = path.replace("${{name}}", "{run-id}").replace("${{output_name}}", "{output-name}")
        store = _DATASTORE.fullmatch(path)
        if store:
            try:
                return self._below_datastore(key, store["name"], store["path"] or "")
            except ConfigError as error:
                if "no datastore" not in error.message:
                    raise
                self.warn(f"{error.message}; output {name!r} stays with the run, in outputs/{name}")
                return ""
        if "${{" in path:
            known = "known there: ${{name}}, ${{output_name}}"
            raise self._wrong(key, f"the path of output {name!r} has a placeholder that is not known: {path!r}", known)
        text = path.removeprefix("file://") if path.startswith("file:///") else path.removeprefix("file:")
        if "://" in text or text.startswith("azureml:"):
            hint = "name a folder, or no path: then it is kept with the run"
            raise self._wrong(key, f"output {name!r} can't be written to {path!r}", hint)
        return os.path.abspath(self.document.path.parent / os.path.expanduser(text))

    def _wrong(self, key: str, problem: str, hint: str = "") -> ConfigError:
        return ConfigError(f"{self.document.where(key)}: {problem}", hint=hint)


def _literal(value: Any) -> str:
    """A value of YAML as a program's argument: true and false as YAML spells them."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def place_in_job(assets: Assets, path: str) -> tuple[str, Path] | None:
    """The job and the place that ``azureml://jobs/JOB/outputs/OUTPUT/paths/…`` names, or ``runs:/RUN/…``; None for any other path.

    Raises UnknownNameError, SpecError.
    """
    found = _OUTPUT_OF.fullmatch(path) or _OF_RUN.fullmatch(path)
    if found is None:
        return None
    parts = found.groupdict()
    root = assets.output(parts["job"], parts.get("output") or "artifacts")
    return parts["job"], _below(root, unquote(parts["path"] or ""), f"the job {parts['job']!r}")


def _below(root: Path, below: str, what: str) -> Path:
    inside = Path(os.path.normpath(os.path.join(root, below.lstrip("/"))))
    if not inside.is_relative_to(root):
        raise SpecError(f"{below!r} leads out of {what}")
    return inside
