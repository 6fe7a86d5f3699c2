"""What ``hpcest doctor`` looks at: whether runs can work on this machine and in this workspace."""

from __future__ import annotations

import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from hpcest.errors import HpcestError
from hpcest.kit.localdir import node_local_dir
from hpcest.lifecycle.context import Context
from hpcest.model.folders import WorkspaceFolder


@dataclass(frozen=True)
class Finding:
    """One thing that was checked. ``state`` is ``ok``, ``note`` (works, but read it) or ``bad``."""

    check: str
    state: str
    found: str
    remedy: str = ""


def checkup(workspace: WorkspaceFolder | None) -> list[Finding]:
    """Look at everything; a check that breaks is itself a finding."""
    checks: list[Callable[[], Iterator[Finding]]] = [_python, _scratch, _tools]
    if workspace is None:
        findings = [Finding("workspace", "note", "none here", "make one: hpcest init")]
    else:
        findings = []
        context = Context(workspace)
        checks += [
            lambda: _workspace(workspace),
            lambda: _configuration(context),
            lambda: _plugins(context),
            lambda: _environments(context),
        ]
    for check in checks:
        try:
            findings += check()
        except (HpcestError, OSError) as error:
            findings.append(Finding("check", "bad", str(error), getattr(error, "hint", "")))
    return findings


def _python() -> Iterator[Finding]:
    yield Finding("python", "ok", f"{platform.python_version()} in {sys.prefix}")


def _scratch() -> Iterator[Finding]:
    where = Path(tempfile.gettempdir())
    try:
        with tempfile.TemporaryFile(dir=where):
            yield Finding("temporary files", "ok", f"{where}, {_free(where)}")
    except OSError as error:
        yield Finding("temporary files", "bad", f"{where}: {error.strerror}", "set TMPDIR to a directory that can be written")
    yield Finding("local queue", "ok", str(node_local_dir(os.environ)))


def _tools() -> Iterator[Finding]:
    git = shutil.which("git")
    yield Finding("git", "ok" if git else "note", git or "not found", "" if git else "without it runs don't record commits")
    from hpcest.environments.installers import find_uv

    uv = find_uv()
    yield Finding("uv", "ok" if uv else "note", str(uv or "not found"), "" if uv else "pip is slower; get it: pip install 'hpcest[fast]'")


def _workspace(workspace: WorkspaceFolder) -> Iterator[Finding]:
    from hpcest.history.location import index_location

    try:
        with tempfile.NamedTemporaryFile(dir=workspace.home, prefix=".check") as probe:
            os.link(probe.name, probe.name + ".link")
            os.replace(probe.name + ".link", probe.name + ".renamed")
            os.unlink(probe.name + ".renamed")
        yield Finding("workspace", "ok", f"{workspace.root}, {_free(workspace.root)}")
    except OSError as error:
        yield Finding("workspace", "bad", f"{workspace.home}: {error.strerror}", "runs need to write, link and rename files there")
    yield Finding("history index", "ok", str(index_location(workspace)))


def _free(path: Path) -> str:
    usage = shutil.disk_usage(path)
    return f"{usage.free / 2**30:.1f} GiB free"


def _configuration(context: Context) -> Iterator[Finding]:
    from concurrent.futures import ThreadPoolExecutor

    yield Finding("configuration", "ok", f"default compute target {context.config.default_compute}")
    context.plugins  # noqa: B018  # loaded once, before several threads want them
    with ThreadPoolExecutor(8) as at_once:  # a scheduler that is down costs seconds
        found = at_once.map(lambda name: _target(context, name), context.config.compute)
        yield from dict.fromkeys(finding for findings in found for finding in findings)  # a cluster of several targets is told once


def _target(context: Context, name: str) -> list[Finding]:
    """What there is to say of one compute target, and of the cluster behind it."""
    mine = f"compute {name}"
    try:
        backend = context.backend(name)
    except HpcestError as error:
        return [Finding(mine, "bad", error.message, error.hint)]
    try:
        more = [Finding(check or mine, state, found, remedy) for check, state, found, remedy in backend.findings(context.workspace.root)]
    except Exception as error:  # noqa: BLE001  # a stranger's code may raise anything
        more = [Finding(mine, "bad", f"its backend can't be checked: {error or type(error).__name__}", getattr(error, "hint", ""))]
    return [Finding(mine, "ok", f"backend {backend.name}"), *more]


def _plugins(context: Context) -> Iterator[Finding]:
    for row in context.plugins.listing():
        if row.problem:
            yield Finding(f"plugin {row.name}", "note", row.problem, "it is left out until it is mended or removed")


def _environments(context: Context) -> Iterator[Finding]:
    for name in context.plugins.names("environment"):
        why_not = context.plugins.environment(name)(context.config.environment).missing()
        yield Finding(f"environment {name}", "note" if why_not else "ok", why_not or "can be used")
