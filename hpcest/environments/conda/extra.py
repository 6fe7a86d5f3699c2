"""py-rattler, the optional library that knows conda: whether it is there, and how to wait for it."""

from __future__ import annotations

from collections.abc import Coroutine
from importlib.util import find_spec
from typing import Any, TypeVar

from hpcest.errors import EnvironmentBuildError

T = TypeVar("T")
_INSTALL = "pip install 'hpcest[conda]'"


def missing() -> str:
    """Why conda packages can't be had on this machine, in a sentence; empty where they can."""
    return "" if find_spec("rattler") else f"py-rattler is not installed, which conda packages need; {_INSTALL}"


def require() -> None:
    """Raise EnvironmentBuildError, with the command that helps, where py-rattler is not installed."""
    if missing():
        raise EnvironmentBuildError("py-rattler is not installed, which solves and links conda packages", hint=_INSTALL)


def wait(work: Coroutine[Any, Any, T]) -> T:
    """The result of ``work``, also where an event loop is running already, as in a notebook."""
    import asyncio
    from concurrent.futures import ThreadPoolExecutor

    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(work)
    with ThreadPoolExecutor(1, "hpcest-conda") as pool:
        return pool.submit(asyncio.run, work).result()
