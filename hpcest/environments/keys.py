"""Keys of environments: digests of canonical JSON, so that the same content has one key everywhere."""

from __future__ import annotations

import hashlib
import json
from typing import Any

SCHEMA = 1


def key_of(value: Any) -> str:
    """The SHA-256 of ``value`` as JSON, in hex; the order of keys makes no difference."""
    text = json.dumps({"schema": SCHEMA, "of": value}, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()
