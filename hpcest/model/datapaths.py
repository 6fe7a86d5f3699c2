"""Where the data of a run is, as far as its spec says: what a program is told, and what a container has to see."""

from __future__ import annotations

import glob
import os
from pathlib import Path

from hpcest.model.folders import RunFolder
from hpcest.model.spec import DataInput, DataOutput, RunSpec


def is_pattern(path: str) -> bool:
    """Whether ``path`` stands for what matches it; a path that is there means itself."""
    return glob.has_magic(path) and not os.path.lexists(path)


def whole_path(given: DataInput) -> str:
    """The one file or folder that an input is; empty for several."""
    return given.paths[0] if len(given.paths) == 1 and not is_pattern(given.paths[0]) else ""


def path_of(given: DataInput) -> str:
    """Where a program finds an input, if that is known before it is on a node; else empty."""
    return "" if given.mode == "download" or given.target else whole_path(given)


def output_path(run: str, name: str, output: DataOutput) -> str:
    """Where an output of the run ends, an absolute path; empty for one that stays in the run's own outputs."""
    return output.path.replace("{run-id}", run).replace("{output-name}", name)


def written_path(folder: RunFolder, name: str, output: DataOutput) -> str:
    """Where the program writes an output: at its end, or below the run's outputs until it is uploaded."""
    own = os.path.join(folder.outputs, name)
    return own if output.mode == "upload" else output_path(folder.id, name, output) or own


def final_path(folder: RunFolder, name: str, output: DataOutput) -> str:
    """Where an output is when the run has completed."""
    return output_path(folder.id, name, output) or os.path.join(folder.outputs, name)


def folders_of(spec: RunSpec) -> list[tuple[str, bool]]:
    """The folders and files that the data of a run lies in, and whether the program may write there."""
    found: dict[str, bool] = {}
    for given in spec.data.values():
        place = whole_path(given) or given.root
        if given.mode != "download" and place not in ("", os.sep):
            found[place] = found.get(place, False) or given.mode == "direct"
    for output in spec.outputs.values():
        if output.path and output.mode == "mount" and (place := _existing(Path(output.path))) != os.sep:
            found[place] = True
    return list(found.items())


def _existing(path: Path) -> str:
    """The folder that ``path``, which may yet have to be made, will lie in."""
    while not path.is_dir() and path != path.parent:
        path = path.parent
    return str(path)
