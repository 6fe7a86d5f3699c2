"""From a request to a lock, once: the same request has the same lock until someone asks for another."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from hpcest.environments.interpreter import Interpreter
from hpcest.environments.keys import key_of
from hpcest.environments.locked import Pinned, read_text, text_of
from hpcest.environments.requirements import Request
from hpcest.environments.secrets import Veil
from hpcest.environments.sources import Sources
from hpcest.kit.files import create_exclusively, read_json, write_json

#: Raised when the way of building changes what comes out: nothing built before is used again then.
RECIPE = 1


@dataclass(frozen=True)
class Order:
    """What is to be built: the request, where its packages come from, the Python it is for."""

    request: Request
    sources: Sources
    python: Interpreter
    variables: Mapping[str, str]

    @cached_property
    def key(self) -> str:
        """The same for the same request, however it is spelt."""
        wanted = [one.key() for one in self.request.wanted]
        return key_of({"recipe": RECIPE, "kind": "venv", "wanted": wanted, "sources": self.sources.key(), "python": self.python.key()})

    @cached_property
    def veil(self) -> Veil:
        """What hides the secrets of the order."""
        return Veil([*(one.url for one in self.request.wanted if one.url), *self.sources.urls], self.variables)

    @property
    def hashes(self) -> dict[str, tuple[str, ...]]:
        """The hashes that requirements name, by package."""
        return {re.split(r"[^a-z0-9-]", one.text)[0]: one.hashes for one in self.request.wanted if one.hashes}

    @property
    def contents(self) -> dict[str, str]:
        """The states of local directories, by URL."""
        return {one.url: one.content for one in self.request.wanted if one.content}


@dataclass(frozen=True)
class Resolved:
    """The answer to an order: every package, when it was resolved (seconds since the epoch) and by what."""

    packages: tuple[Pinned, ...]
    python: dict[str, str]
    when: float
    tool: str = ""

    @cached_property
    def key(self) -> str:
        """The same for the same packages, whatever was asked for and whichever index had them."""
        packages = sorted(package.key() for package in self.packages)
        return key_of({"recipe": RECIPE, "kind": "venv", "packages": packages, "python": self.python})

    @property
    def text(self) -> str:
        """The lock text."""
        return text_of(self.packages)


class Memo:
    """The file that remembers the answer to one order in a workspace."""

    def __init__(self, environments: Path, order: Order) -> None:
        self._order = order
        self.path = environments / "specs" / f"{order.key}.json"
        self.lease = self.path.with_suffix(".lease")

    def read(self) -> Resolved | None:
        """The answer; None where there is none, or where the file was damaged or changed by hand."""
        try:
            data = read_json(self.path)
            if data is None:
                return None
            known = Resolved(tuple(read_text(data["lock"])), self._order.python.key(), float(data["resolved"]), str(data["tool"]))
            return known if known.key == data["key"] else None
        except (OSError, ValueError, TypeError, KeyError):
            return None

    def keep(self, packages: Sequence[Pinned], tool: str) -> Resolved:
        """Remember the answer, and return the one to use: another process may have been quicker."""
        fresh = Resolved(tuple(packages), self._order.python.key(), time.time(), tool)
        data: dict[str, Any] = {
            "key": fresh.key,
            "resolved": fresh.when,
            "tool": tool,
            "python": fresh.python,
            "wanted": [one.text for one in self._order.request.wanted],
            "sources": self._order.sources.key(),
            "lock": fresh.text,
        }
        self.path.parent.mkdir(parents=True, exist_ok=True)
        if self.path.exists() and self.read() is None:
            write_json(self.path, data)
        else:
            import json

            create_exclusively(self.path, json.dumps(data, indent=1) + "\n")
        return self.read() or fresh
