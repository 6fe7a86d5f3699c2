"""What an exit sentinel proves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hpcest.contracts import Evidence
from hpcest.model.status import Reason, Status


def from_sentinel(sentinel: Mapping[str, Any]) -> Evidence:
    """What an exit sentinel says. One with words that this version doesn't know is a failure with its own message."""
    try:
        status, reason = Status(sentinel.get("status") or "Failed"), Reason(sentinel.get("reason") or "")
    except ValueError:
        status, reason = Status.FAILED, Reason.NONE
    attempt, code = (value if type(value) is int else None for value in (sentinel.get("attempt"), sentinel.get("rc")))
    return Evidence(status, reason, str(sentinel.get("message") or ""), attempt=attempt or 0, exit_code=code)
