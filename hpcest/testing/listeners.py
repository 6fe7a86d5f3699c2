"""The contract of a listener: whatever happens to it, runs go on as if it were not there."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from typing import Any, ClassVar

import pytest

from hpcest.errors import HpcestError
from hpcest.model.spec import Command, EnvironmentSpec, RunSpec
from hpcest.testing.bench import Bench, Contract, Ended, demand, page, tree

WHERE = page("Listeners and commands")
HOOKS = ("hpcest_before_submit", "hpcest_after_submit", "hpcest_status_changed", "hpcest_after_collect")


class ListenerContract(Contract):
    """What hpcest expects of a plugin that listens. At least ``plugin``, the name of its module, has to be set::

    class TestWebhook(ListenerContract):
        plugin = "hpcest_webhook"

        def disturb(self, monkeypatch):
            monkeypatch.setenv("WEBHOOK_URL", "http://127.0.0.1:9/")
    """

    #: Seconds that one call of a hook may take, also where what it talks to does not answer.
    longest: ClassVar[float] = 10.0
    #: A text that must never be shown, such as the password in what ``prepare`` and ``disturb`` set.
    secret: ClassVar[str] = ""

    def prepare(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Set up what the plugin needs to do its work."""

    def disturb(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Break what it depends on: the address that nobody answers, the file that can't be written. Called after ``prepare``."""

    def _modules(self) -> list[str]:
        return [self.plugin]

    def _calls(self, bench: Bench, ended: Ended, **others: Any) -> list[tuple[str, Callable[[], list[str]]]]:
        """Each listening hook, ready to be called for a run."""
        arguments: dict[str, dict[str, Any]] = {
            "hpcest_after_submit": {"run": ended.folder},
            "hpcest_status_changed": {"run": ended.folder, "before": "Running", "after": ended.status},
            "hpcest_after_collect": {"run": ended.folder},
        }
        return [(hook, lambda hook=hook: bench.plugins.notify(hook, **arguments[hook])) for hook in arguments]  # type: ignore[misc]  # mypy can't infer it with a default

    def _spec(self, bench: Bench, code: int = 0) -> RunSpec:
        bench.write({"train.py": f"print('hello')\nraise SystemExit({code})\n"})
        return RunSpec("contract", Command("train.py"), environment=EnvironmentSpec("host"))

    def test_it_is_a_plugin_that_listens(self, bench: Bench) -> None:
        """Nothing is wrong with it, and it has at least one of the hooks."""
        problems = [f"{one.value}: {one.reason}" for one in bench.plugins.problems]
        demand(not problems, "the plugin can't be used: " + "; ".join(problems), WHERE)
        module = sys.modules[self.plugin.partition(":")[0]]
        found = [name for hook in HOOKS for name, value in vars(module).items() if name == hook and hasattr(value, "hpcest_impl")]
        demand(found or ":" in self.plugin, f"{self.plugin} must have one of {', '.join(HOOKS)}, marked with hpcest.hookimpl", WHERE)

    @pytest.mark.parametrize("code", [0, 3])
    def test_a_run_ends_as_it_would_without_it(self, bench: Bench, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
        """All its hooks are called in the life of a run, and none raises."""
        self.prepare(monkeypatch)
        ended = bench.run(self._spec(bench, code), self.patience)
        demand(ended.status == ("Failed" if code else "Completed"), f"a listener must not change how a run ends; {ended}", WHERE)
        demand(not self._warnings(bench), f"a listener that works must not warn: {self._warnings(bench)}", WHERE)

    def test_a_run_ends_as_it_would_when_it_cannot_work(self, bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
        """What it depends on is gone: the run completes, soon, and nothing secret is shown."""
        self.prepare(monkeypatch)
        self.disturb(monkeypatch)
        ended = bench.run(self._spec(bench), self.patience)
        demand(ended.status == "Completed", f"a listener that fails must not fail the run; {ended}", WHERE)
        for hook, call in self._calls(bench, ended):
            began = time.monotonic()
            bench.said += call()
            took = time.monotonic() - began
            demand(took <= self.longest, f"{hook} must give up in time: it took {took:.1f} s, allowed are {self.longest:g} s", WHERE)
        demand(not self.secret or self.secret not in "\n".join(bench.said), "a listener must not show what is secret", WHERE)

    def test_it_prints_nothing(self, bench: Bench, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
        """What hpcest prints is data for scripts; what a listener has to say it raises."""
        self.prepare(monkeypatch)
        ended = bench.run(self._spec(bench), self.patience)
        capfd.readouterr()
        for hook, call in self._calls(bench, ended):
            call()
            out, err = capfd.readouterr()
            demand(not out, f"{hook} must not print: {out!r}", WHERE)
            demand(not self.secret or self.secret not in err, f"{hook} must not show what is secret", WHERE)

    def test_it_leaves_the_process_as_it_was(self, bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
        """Directory, variables and what the run has recorded: it is a guest."""
        self.prepare(monkeypatch)
        place, variables = os.getcwd(), dict(os.environ)
        ended = bench.run(self._spec(bench), self.patience)
        recorded = tree(ended.folder.path)
        for hook, call in self._calls(bench, ended):
            call()
            demand(os.getcwd() == place, f"{hook} must not change the current directory", WHERE)
            demand(dict(os.environ) == variables, f"{hook} must not change environment variables", WHERE)
            known = tree(ended.folder.path)
            changed = [path for path, facts in recorded.items() if known.get(path) != facts]
            demand(not changed, f"{hook} must not change what the run has recorded: {changed}", WHERE)

    def test_it_can_be_told_twice(self, bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
        """Two processes that look at the same time may both tell."""
        self.prepare(monkeypatch)
        ended = bench.run(self._spec(bench), self.patience)
        problems = [problem for _ in range(2) for _, call in self._calls(bench, ended) for problem in call()]
        demand(not problems, f"a listener must take the same news twice: {problems}", WHERE)

    def test_it_copes_with_a_run_that_never_started(self, bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
        """A run that could not be built has no job, no launch manifest and no output."""
        self.prepare(monkeypatch)
        spec = self._spec(bench)
        missing = EnvironmentSpec("host", interpreter=str(bench.source / "no-python"))
        with pytest.raises(HpcestError):
            bench.submit(RunSpec(spec.experiment, spec.command, environment=missing))
        folder = bench.workspace.run(bench.runs()[0])
        ended = Ended(folder, bench.look(folder))
        demand(ended.status == "Failed", f"the run must be recorded as failed; {ended}", WHERE)
        problems = [problem for _, call in self._calls(bench, ended) for problem in call()]
        demand(not problems, f"a listener must cope with a run that never started: {problems}", WHERE)

    def _warnings(self, bench: Bench) -> list[str]:
        return [line for line in bench.said if "failed in hpcest_" in line]
