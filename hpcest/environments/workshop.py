"""One preparation of a virtual environment: resolve, build, publish, each done once by whoever comes first."""

from __future__ import annotations

import contextlib
import time
import uuid
from functools import cached_property
from pathlib import Path
from types import TracebackType

from hpcest.contracts import Say
from hpcest.environments.buildlog import BuildLog
from hpcest.environments.images import BAD, Image, Shelf
from hpcest.environments.installers import OFFLINE, Bench, Installer, choose
from hpcest.environments.locked import Pinned, cleared, restricted
from hpcest.environments.resolving import Memo, Order, Resolved
from hpcest.environments.room import scratch
from hpcest.errors import EnvironmentBuildError
from hpcest.kit.lease import lease, span, wait_notice


class Workshop:
    """One preparation. What only a build needs (log, scratch folder, installer) is made when it is first used."""

    def __init__(self, order: Order, environments: Path, name: str, say: Say, *, scratch: str = "") -> None:
        self._order, self._environments, self._name, self._say = order, environments, name, say
        self._place = scratch
        self._variables = dict(order.variables)
        self._memo = Memo(environments, order)
        self._began = time.monotonic()
        self._to_close = contextlib.ExitStack()
        self._fresh = False

    def __enter__(self) -> Workshop:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._to_close.close()

    @cached_property
    def _log(self) -> BuildLog:
        path = self._environments / "specs" / f"resolve-{uuid.uuid4().hex[:8]}.log"
        return self._to_close.enter_context(BuildLog(path, self._say, self._order.veil))

    @cached_property
    def _installer(self) -> Installer:
        order = self._order
        folder = self._to_close.enter_context(scratch(self._place, order.variables))
        installer = choose(Bench(order.python, order.sources, order.veil, folder, self._variables), self._log)
        self._log.say(f"environment{f' {self._name}' if self._name else ''}: using {installer.label} for {order.python}")
        return installer

    def _label(self, key: str) -> str:
        return f"environment {self._name} {key[:12]}" if self._name else f"environment {key[:12]}"

    def resolve(self) -> Resolved:
        """The remembered answer to the order, else a new one that is remembered from now on."""
        known = self._memo.read()
        if known:
            return known
        self._memo.path.parent.mkdir(parents=True, exist_ok=True)
        with lease(self._memo.lease, done=lambda: self._memo.read() is not None, waiting=wait_notice(self._say)) as mine:
            if mine:
                packages = self._resolve()
                self._fresh = True
                return self._memo.keep(packages, self._installer.label if packages else "")
        known = self._memo.read()
        return known or self.resolve()  # None where it was forgotten again in this very moment

    def _resolve(self) -> list[Pinned]:
        if not self._order.request.wanted:
            return []
        installer = self._installer
        with self._log.phase("resolve") as done:
            found = installer.resolve(self._order.request, self._log)
            try:
                packages = cleared(restricted(found, self._order.hashes), self._order.veil, self._order.contents)
            except ValueError as error:
                raise self._log.failure("resolve", str(error)) from None
            done.append(_count(packages))
        return packages

    def image(self, resolved: Resolved) -> Image:
        """The environment that the answer describes, built if need be."""
        shelf = Shelf(self._environments, resolved.key, self._order.python.base)
        image, wrong = shelf.look()
        if image is None:
            if wrong:
                self._say(f"{self._label(resolved.key)} is built again: {wrong}")
            self._build_once(shelf, resolved)
            image, wrong = shelf.look()
        else:
            age = "resolved just now" if self._fresh else f"resolved {span(time.time() - resolved.when)} ago"
            self._say(f"{self._label(resolved.key)} cached, {age}")
        if "_log" in self.__dict__ and self._log.path.parent != shelf.folder:
            self._log.path.unlink(missing_ok=True)  # nothing was built: how it was resolved interests nobody
        if image is None:
            raise EnvironmentBuildError(
                f"{self._label(resolved.key)} is gone again: {wrong or 'someone removed it'}", hint="try again, and see who cleans up there"
            )
        return image

    def _build_once(self, shelf: Shelf, resolved: Resolved) -> None:
        shelf.folder.mkdir(parents=True, exist_ok=True)
        with lease(shelf.lease, done=lambda: shelf.ready() is not None, waiting=wait_notice(self._say)) as mine:
            if not mine:
                self._say(f"{self._label(resolved.key)} was built by another process meanwhile")
                return
            folder = shelf.begin()
            if any(left.why == BAD for left in shelf.left()) and not self._variables.get(OFFLINE):
                self._variables["UV_NO_CACHE"] = "1"  # what was damaged may have come from there
            try:
                self._log.move(shelf.log_of(folder))
                self._build(folder, resolved)
                seconds = time.monotonic() - self._began
                took = f"{seconds:.{0 if seconds >= 10 else 1}f} s"
                if shelf.publish(folder, self._manifest(resolved, shelf.log_of(folder))):
                    self._log.say(f"{self._label(resolved.key)} ready in {took}")
                else:
                    shelf.discard(folder)
            except EnvironmentBuildError as error:
                shelf.discard(folder)
                if not self._fresh:
                    age = f"its versions were chosen {span(time.time() - resolved.when)} ago: remove {self._memo.path} to choose anew"
                    error.hint = f"{error.hint}; {age}" if error.hint else age
                raise
            except BaseException:
                shelf.discard(folder)
                raise

    def _build(self, folder: Path, resolved: Resolved) -> None:
        installer = self._installer
        with self._log.phase("create"):
            installer.create(folder, self._log)
        if resolved.packages:
            with self._log.phase("install") as done:
                installer.install(folder, resolved.packages, self._log)
                done.append(_count(resolved.packages))
        (folder / "requirements.lock").write_text(resolved.text, encoding="utf-8")
        with self._log.phase("check"):
            self._log.run(
                "check", [folder / "bin" / "python", "-c", ""], cwd=folder, env=self._order.sources.variables(self._order.variables)
            )
            installer.check(folder, self._log)

    def _manifest(self, resolved: Resolved, log: Path) -> dict[str, object]:
        return {
            "kind": "venv",
            "key": resolved.key,
            "name": self._name,
            "python": self._order.python.version,
            "base": self._order.python.base,
            "packages": [package.requirement for package in resolved.packages],
            "tool": self._installer.label,
            "resolved": resolved.when,
            "seconds": round(time.monotonic() - self._began, 2),
            "log": log.name,
        }


def _count(packages: list[Pinned] | tuple[Pinned, ...]) -> str:
    return f"{len(packages)} package{'' if len(packages) == 1 else 's'}"
