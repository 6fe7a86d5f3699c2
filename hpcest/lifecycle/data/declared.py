"""What a run was to read and write, by its record: inputs and outputs by their names, for whoever shows them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hpcest.errors import HpcestError
from hpcest.kit.codec import decode
from hpcest.model.datapaths import final_path, output_path
from hpcest.model.folders import RunFolder
from hpcest.model.spec import DataInput, DataOutput

#: The property that says which dataset or model an output has become.
REGISTERED = "hpcest.output."


def inputs_of(spec: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The inputs in a spec, by name: ``value`` of a text, else ``dataset``, ``paths``, ``mode`` and what it was known to be."""
    found: dict[str, dict[str, Any]] = {name: {"value": value} for name, value in (spec.get("inputs") or {}).items()}
    for name, given in _decoded(DataInput, spec.get("data")).items():
        found[name] = {
            "dataset": f"{given.dataset}:{given.version or 'latest'}" if given.dataset else "",
            "paths": list(given.paths),
            **{key: getattr(given, key) for key in ("mode", "type", "digest", "files", "size")},
        }
    return found


def outputs_of(spec: Mapping[str, Any], folder: RunFolder | None, properties: Mapping[str, str] | None = None) -> dict[str, dict[str, Any]]:
    """The named outputs in a spec: ``path`` (where it ends), ``mode``, ``type``, ``dataset`` or ``model`` (what it is to become).

    ``registered`` is the version that it became, ``digest`` of a dataset. Without ``folder`` the run is not there yet, and its id
    stands as ``{run-id}``.
    """
    found: dict[str, dict[str, Any]] = {}
    for name, declared in _decoded(DataOutput, spec.get("outputs")).items():
        if folder:
            path = final_path(folder, name, declared)
        else:
            path = output_path("{run-id}", name, declared) or f"outputs/{name}"
        version, _, digest = (properties or {}).get(REGISTERED + name, "").partition(" ")
        found[name] = {
            "path": path,
            **{key: getattr(declared, key) for key in ("mode", "type", "dataset", "model")},
            "registered": version,
            "digest": digest,
        }
    return found


def _decoded(kind: type[Any], declared: Any) -> dict[str, Any]:
    """What can be read of the data in a record, which another version or a hand may have written."""
    found = {}
    for name, facts in declared.items() if isinstance(declared, dict) else ():
        try:
            found[name] = decode(kind, facts)
        except (HpcestError, TypeError, ValueError, KeyError):
            continue
    return found
