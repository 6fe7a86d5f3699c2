"""Named inputs of a run: where a program finds its data."""

from __future__ import annotations

import os
from pathlib import Path


def input_text(value: object, base: Path) -> str:
    """An input as a run spec has it: what exists relative to ``base`` as an absolute path, all else as it is.

    A program runs in a directory of its own, so a relative path would mean something else there. A Path
    that does not exist here may exist on a node, and is made absolute too.
    """
    text = os.fspath(value) if isinstance(value, os.PathLike) else str(value)
    inside = os.path.join(base, os.path.expanduser(text) if isinstance(value, os.PathLike) else text)
    if text and "\0" not in text and (isinstance(value, os.PathLike) or os.path.exists(inside)):
        return os.path.abspath(inside)
    return text
