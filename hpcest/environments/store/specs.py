"""What a request was answered with before: from the key of a request to the key of a lock, and the lock itself."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hpcest.environments.store.layout import Layout, checked, failure, is_key
from hpcest.environments.store.store import Store
from hpcest.environments.store.trust import distrust
from hpcest.kit.files import read_json, write_json


@dataclass(frozen=True)
class Remembered:
    """An answer. ``resolved`` is when, in seconds since the epoch; ``lock`` is the text of the lock, which may be empty."""

    lock_key: str
    resolved: float
    lock: str = ""
    facts: dict[str, Any] = field(default_factory=dict)


class Specs:
    """The memos of a store. The same request has the same answer until it is forgotten, or another one is kept."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def read(self, spec_key: str) -> Remembered | None:
        """The workspace's answer, else that of a site's store that can be relied on; a damaged memo counts as none."""
        checked(spec_key)
        known = read_memo(self._store.layout.spec(spec_key))
        return known or next(filter(None, (self._of_site(site, spec_key) for site in self._store.sites)), None)

    def keep(self, spec_key: str, lock_key: str, *, lock: str = "", facts: Mapping[str, Any] | None = None) -> Remembered:
        """Remember an answer from now on, instead of any other; ``facts`` are whatever JSON takes. Raises EnvironmentBuildError."""
        fresh = Remembered(checked(lock_key), time.time(), lock, dict(facts or {}))
        write_memo(self._store.layout, spec_key, fresh)
        return fresh

    def forget(self, spec_key: str) -> bool:
        """Have the request answered anew the next time; False where the workspace had no answer.

        An answer of a site's store stays, and is used again.
        """
        path = self._store.layout.spec(spec_key)
        try:
            path.unlink()
        except FileNotFoundError:
            return False
        except OSError as error:
            raise failure(f"the memo {path.name}", self._store.layout.root, error) from error
        return True

    def _of_site(self, site: Layout, spec_key: str) -> Remembered | None:
        path = site.spec(spec_key)
        known = read_memo(path)
        try:
            return None if known is None or distrust(site.root, [site.home, site.specs, path], self._store.trusted) else known
        except OSError:
            return None


def read_memo(path: Path) -> Remembered | None:
    """The answer in a file; None where there is none, or where it is damaged."""
    try:
        data = read_json(path)
        known = Remembered(data["lock_key"], float(data["resolved"]), str(data["lock"]), dict(data["facts"]))
    except (OSError, ValueError, TypeError, KeyError):
        return None
    return known if is_key(known.lock_key) else None


def write_memo(layout: Layout, spec_key: str, answer: Remembered) -> None:
    """Put an answer into a store, by rename. Raises EnvironmentBuildError, SpecError."""
    path = layout.spec(spec_key)
    try:
        layout.specs.mkdir(parents=True, exist_ok=True)
        write_json(path, {"lock_key": answer.lock_key, "resolved": answer.resolved, "lock": answer.lock, "facts": answer.facts})
    except OSError as error:
        raise failure(f"the memo {path.name}", layout.root, error) from error
