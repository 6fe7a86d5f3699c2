"""What a run reads and writes, as commands print it: a line for each input and output."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hpcest.cli import output


def input_lines(inputs: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """A line for each input."""
    return [f"{name} = {facts['value'] if 'value' in facts else _data(facts)}" for name, facts in inputs.items()]


def _data(facts: Mapping[str, Any]) -> str:
    where = " ".join(filter(None, [facts["dataset"], f"({', '.join(facts['paths'])})" if facts["dataset"] else ", ".join(facts["paths"])]))
    files = facts["files"]
    known = [f"{files} file{'s' * (files != 1)}", output.size(facts["size"]), _short(facts["digest"])] if facts["digest"] else []
    return ", ".join([where, facts["mode"], *known])


def output_lines(outputs: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """A line for each output."""
    return [", ".join([f"{name} = {facts['path']}", facts["mode"], *_becomes(facts)]) for name, facts in outputs.items()]


def _becomes(facts: Mapping[str, Any]) -> list[str]:
    what = "the model " if facts["model"] else ""
    if facts["registered"]:
        return [f"registered as {what}{facts['registered']}", *([_short(facts["digest"])] if facts["digest"] else [])]
    name = facts["dataset"] or facts["model"]
    return [f"to be registered as {what}{name}"] if name else []


def _short(digest: str) -> str:
    kind, _, text = digest.partition(":")
    return f"{kind}:{text[:12]}"
