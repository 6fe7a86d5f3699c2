"""Stores with small images, made the way that a builder makes them."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from hpcest.environments.store.entries import StoredImage
from hpcest.environments.store.store import Store
from hpcest.kit.process import run
from tests.environments.store.helpers import HOUSE, AsNobody, Fill, key


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A store whose path needs quoting, not made yet."""
    return Store(tmp_path / "work's space" / "environments")


@pytest.fixture
def fill() -> Fill:
    """``fill(store, text, name=…, base=…, content=…)`` builds the image of ``key(text)``."""

    def build(
        store: Store, text: str = "one", *, name: str = "sk", base: str = "", content: bytes = b"", created: float = 0.0
    ) -> StoredImage:
        with store.begin(key(text), name=name, base=base) as build:
            (build.folder / "env.sqfs").write_bytes(content or text.encode() * 100)
            (build.folder / "requirements.lock").write_text("numpy==2.0\n")
            build.log.write_text("[    0.00] built\n")
            manifest: dict[str, object] = {"name": name, "layout": "split"}
            manifest.update({"base": base} if base else {})
            manifest.update({"created": created} if created else {})
            return build.publish(manifest)

    return build


@pytest.fixture
def as_nobody(tmp_path: Path) -> AsNobody:
    """``as_nobody(code)`` runs code in ``tmp_path`` as a user who is not root, whoever runs the tests; returns its output."""

    def start(code: str) -> str:
        tmp_path.chmod(0o755)
        done = run([sys.executable, "-c", DROP + code], cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(HOUSE)}, timeout=60)
        assert done.err == ""
        return done.out

    return start


DROP = """
import os, encodings.idna, json, grp, pwd, getpass
from pathlib import Path
from hpcest.environments.store import sharing, specs, sweeping, verify
from hpcest.environments.store.store import Store
from hpcest.errors import HpcestError
if os.geteuid() == 0:
    os.setgroups([]); os.setgid(65534); os.setuid(65534)
"""
