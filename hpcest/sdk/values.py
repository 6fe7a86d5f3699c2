"""What estimators and run configurations are given, checked, and as a run spec has it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from hpcest.errors import SpecError

if TYPE_CHECKING:
    from hpcest.sdk.run import Run
    from hpcest.sdk.workspace import Workspace


def words(params: Mapping[str, Any] | Sequence[Any] | None) -> list[Any]:
    """Script parameters as an argument list: ``{'--lr': 0.1, '--fast': ''}`` → ``--lr 0.1 --fast``. Raises SpecError.

    A name whose value is an empty text or None is a bare flag.
    """
    if isinstance(params, Mapping):
        bare = {name: value is None or (isinstance(value, str) and not value) for name, value in params.items()}
        return [word for name, value in params.items() for word in ((name,) if bare[name] else (name, value))]
    if params is None or (isinstance(params, Sequence) and not isinstance(params, (str, bytes))):
        return [*(params or ())]
    raise SpecError(f"script_params must be a dict or a list, not {params!r}", hint="such as {'--lr': 0.1, '--fast': ''}")


def arguments(params: Mapping[str, Any] | Sequence[Any] | None) -> tuple[str, ...]:
    """The same as texts. Raises SpecError."""
    return tuple(str(word) for word in words(params))


def whole(name: str, value: Any, least: int) -> int | None:
    """``value``, which is None or a whole number from ``least`` up. Raises SpecError that calls it ``name``."""
    if value is None or (isinstance(value, int) and not isinstance(value, bool) and value >= least):
        return value
    raise SpecError(f"{name} must be a whole number from {least} up, not {value!r}")


def mapping(name: str, value: Any) -> dict[str, Any]:
    """A dict of one's own, whose keys are texts; an empty one for None. Raises SpecError."""
    if value is None or isinstance(value, Mapping):
        return {str(key): item for key, item in (value or {}).items()}
    raise SpecError(f"{name} must be a dict, not {value!r}", hint=f"such as {name}={{'name': 'value'}}")


def texts(name: str, value: Any) -> dict[str, str]:
    """The same, of which the values are texts too. Raises SpecError."""
    return {key: str(item) for key, item in mapping(name, value).items()}


def plain(name: str, value: Any) -> Any:
    """A copy of a dict to the last list in it. Raises SpecError for what is no dict, and for what a record can't hold."""
    try:
        return json.loads(json.dumps(mapping(name, value)))
    except (TypeError, ValueError) as error:
        raise SpecError(f"{name} must hold texts, numbers, lists and dicts: {error}") from error


def own(value: Any) -> Any:
    """A list or dict of one's own; its items, which may be datasets, are the same."""
    return dict(value) if isinstance(value, Mapping) else list(value) if isinstance(value, (list, tuple)) else value


def resumed(run: Run | str | None, workspace: Workspace) -> str:
    """The id of the run to resume from, which must be there now; empty for none. Raises UnknownNameError."""
    from hpcest.sdk.run import Run

    return Run.get(workspace, run if isinstance(run, str) else run.id).id if run else ""
