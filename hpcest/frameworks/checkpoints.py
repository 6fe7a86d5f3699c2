"""Finding the newest checkpoint in the outputs of a run."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Sequence
from pathlib import Path


def newest(outputs: Path, *, files: Sequence[str] = (), folders: Sequence[str] = (), but: Sequence[str] = ()) -> Path | None:
    """The file below ``outputs`` that was written last of those whose names match; None where there is none.

    ``folders`` are patterns of a file that marks a folder as one checkpoint, such as ``*/.metadata``: then it is the folder.
    Files that match one of ``but`` are none. Folders of such a name, empty files, and those that a training
    was still writing under a temporary name, don't count.
    """
    found: list[tuple[int, str, Path]] = []
    for pattern in (*files, *folders):
        for path in outputs.rglob(pattern):
            with contextlib.suppress(OSError):
                facts = os.stat(path)
                if stat.S_ISREG(facts.st_mode) and facts.st_size and not any(path.match(one) for one in but):
                    found.append((facts.st_mtime_ns, str(path), path.parent if pattern in folders else path))
    return max(found)[2] if found else None
