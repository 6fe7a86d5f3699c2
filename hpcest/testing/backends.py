"""The contract of a backend: it starts each run once, believes only evidence, and ends what it is told to end."""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar

import pytest

from hpcest.contracts import Backend, Evidence
from hpcest.errors import ConfigError, HpcestError
from hpcest.lifecycle import watch
from hpcest.lifecycle.passage import Passage, record
from hpcest.lifecycle.together import submit_together
from hpcest.model.folders import RunFolder
from hpcest.model.plan import Plan
from hpcest.model.spec import Command, EnvironmentSpec, Resources, RunSpec
from hpcest.model.status import Status
from hpcest.testing.bench import (
    Bench,
    Contract,
    Ended,
    complaints_of_options,
    demand,
    finished,
    is_json,
    modules_of,
    page,
    refusal,
    registered,
    tree,
)

WHERE = page("Backends")
HIDDEN = "sesame-open-5f1c"
#: Each start leaves a line, then the program does what its argument says.
_PROGRAM = """\
import os, sys, time
with open(os.environ["STARTS"], "a") as file:
    file.write(os.environ["HPCEST_RUN_ID"] + "\\n")
print("token", os.environ.get("CONTRACT_TOKEN"), flush=True)
if sys.argv[1] == "stay":
    beats = 0
    while True:
        beats += 1
        with open("outputs/beat", "w") as file:
            file.write(str(beats))
        time.sleep(0.1)
sys.exit(int(sys.argv[1]))
"""


class BackendContract(Contract):
    """What hpcest expects of a backend. At least ``backend`` has to be set; real runs go through it::

    class TestPbs(BackendContract):
        backend = Pbs
        options = {"queue": "test"}
        needs = "qsub"
    """

    #: The class under test.
    backend: ClassVar[type[Backend]]
    #: The settings of the compute target that the tests use, as in a configuration file.
    options: ClassVar[Mapping[str, Any]] = {}
    #: What the runs ask for.
    resources: ClassVar[Resources] = Resources()

    def spec(self, what: str) -> RunSpec:
        """A run that ends with the exit code ``what``, or stays until it is ended for ``stay``."""
        command = Command("train.py", (what,))
        return RunSpec("contract", command, "contract", environment=EnvironmentSpec("host"), resources=self.resources)

    @pytest.fixture
    def target(self, bench: Bench) -> Backend:
        """The backend of the compute target; skips the test where a program is missing."""
        self._able()
        bench.write({"train.py": _PROGRAM})
        return bench.context.backend("contract")

    def _modules(self) -> list[str]:
        return modules_of("backend", self.backend, self.plugin)

    def _config(self) -> str:
        return json.dumps({"compute": {"contract": {"backend": self.backend.name, **self.options}}})

    def _spec(self, bench: Bench, what: str, **variables: str) -> RunSpec:
        starts = str(bench.source.parent / "starts")
        return replace(bench.placed(self.spec(what)), environment_variables={"STARTS": starts, **variables})

    def _starts(self, bench: Bench) -> list[str]:
        """The ids of the runs whose programs have started, once for each start."""
        path = bench.source.parent / "starts"
        return path.read_text().split() if path.exists() else []

    def _running(self, bench: Bench) -> Passage:
        """A run whose program has begun, and stays."""
        passage = bench.submit(self._spec(bench, "stay"))
        beat = passage.folder.outputs / "beat"
        begun = bench.until(lambda: bench.look(passage.folder).finished or beat.exists(), self.patience)
        demand(begun and beat.exists(), f"a run must start; {Ended(passage.folder, bench.look(passage.folder))}", WHERE)
        return passage

    def _job(self, bench: Bench, folder: RunFolder) -> Mapping[str, Any]:
        """The facts that ``submit`` returned, as they were recorded."""
        return dict(bench.look(folder).state.job or {})

    # ------------------------------------------------------------------ the class
    def test_it_is_registered_under_its_name(self, bench: Bench) -> None:
        """The plugin's hook returns it, and nothing is wrong with the plugin."""
        registered(bench, "backend", self.backend, WHERE)

    def test_its_options_have_defaults_and_help(self, bench: Bench) -> None:
        """A target whose configuration is gone still has to be asked about its runs, with default options."""
        wrong = complaints_of_options(self.backend.Options)
        demand(not wrong, f"{self.backend.__name__}.Options: {'; '.join(wrong)}", WHERE)
        self.backend(self.backend.Options())

    def test_an_unknown_option_is_refused(self, bench: Bench) -> None:
        """A misspelt key of a compute target is an error with its line."""
        bench.workspace.config.write_text(f"compute:\n  contract:\n    backend: {self.backend.name}\n    no_such_option: 1\n")
        with refusal("a key that Options has not must be refused", WHERE, ConfigError):
            bench.context.backend("contract")

    def test_a_process_outside_of_a_job_is_outside(self) -> None:
        """``inside`` looks at the variables that it is given, and at nothing else."""
        found = self.backend.inside({})
        demand(found is None, f"inside({{}}) must be None, not {found!r}", WHERE)

    # ------------------------------------------------------------------ plan and submit
    def test_a_plan_changes_nothing(self, target: Backend, bench: Bench) -> None:
        """A dry run makes one too: the disk and the manifest that it is given stay as they are."""
        dry = bench.submit(self._spec(bench, "0"), dry=True)
        demand(bench.runs() == [], "plan must change nothing on the disk: a dry run has left a folder", WHERE)
        assert dry.plan is not None
        given = {key: value for key, value in dry.plan.launch.items() if key not in ("time", "grace", "queue")}
        kept, before = copy.deepcopy(given), tree(bench.workspace.root)
        plans = [target.plan(dry.spec, given, dry.folder) for _ in range(2)]
        demand(tree(bench.workspace.root) == before, "plan must change nothing on the disk", WHERE)
        demand(given == kept, "plan must leave the launch manifest that it is given as it is, and return its own", WHERE)
        demand(plans[0] == plans[1], "plan must come to the same for the same run", WHERE)
        self._complete(plans[0], given, dry.folder)

    def _complete(self, plan: Plan, given: Mapping[str, Any], folder: RunFolder) -> None:
        demand(
            isinstance(plan, Plan) and plan.run_id == folder.id, f"plan must return the Plan of the run {folder.id}, not {plan!r}", WHERE
        )
        demand(plan.backend == self.backend.name, f"the plan must name the backend {self.backend.name!r}, not {plan.backend!r}", WHERE)
        demand(set(given) <= set(plan.launch), f"plan must keep what the manifest has: {sorted(set(given) - set(plan.launch))}", WHERE)
        missing = {"time", "grace", "queue"} - set(plan.launch)
        demand(not missing, f"plan must complete the manifest with {', '.join(sorted(missing))}", WHERE)
        demand(is_json(plan.launch) and is_json(plan.options), "JSON must be able to hold the manifest and the options of a plan", WHERE)

    def test_a_run_completes(self, target: Backend, bench: Bench) -> None:
        """It ends Completed, and its record has the job's facts, an id at least."""
        ended = bench.run(self._spec(bench, "0"), self.patience)
        demand(ended.status == "Completed", f"a run whose program ends with 0 must end Completed; {ended}", WHERE)
        job = self._job(bench, ended.folder)
        demand(
            job.get("id") and isinstance(job["id"], str), f"submit must return the job's facts with an id, a text; they are {job}", WHERE
        )
        demand(is_json(job), f"JSON must be able to hold the job's facts; they are {job}", WHERE)

    def test_a_run_that_fails_has_its_exit_code(self, target: Backend, bench: Bench) -> None:
        """The program's own, and whose fault it was."""
        ended = bench.run(self._spec(bench, "3"), self.patience)
        found = (ended.status, ended.seen.reason.value, ended.seen.state.exit_code)
        demand(
            found == ("Failed", "UserError", 3), f"a run whose program ends with 3 must end Failed, UserError, 3; {found} {ended}", WHERE
        )

    def test_submitting_again_starts_nothing(self, target: Backend, bench: Bench) -> None:
        """Whoever submits may not have heard the answer: the same plan is the same run."""
        passage = bench.submit(self._spec(bench, "0"))
        assert passage.plan is not None
        again = target.submit(passage.plan, passage.folder)
        demand(is_json(dict(again)) and again.get("id"), f"submit must return the job's facts again; it returned {again!r}", WHERE)
        ended = bench.end_of(passage.folder, self.patience)
        later = target.submit(passage.plan, passage.folder)  # a scheduler may have forgotten the job by now
        demand(later.get("id"), f"submit must return the job's facts of a run that has ended; it returned {later!r}", WHERE)
        bench.until(lambda: len(self._starts(bench)) > 1, 2.0)
        demand(self._starts(bench) == [ended.folder.id], f"the program must have started once: {self._starts(bench)}; {ended}", WHERE)
        demand(bench.look(ended.folder).status is Status.COMPLETED, "a run that has ended stays as it is when it is submitted again", WHERE)

    def test_many_are_submitted_together(self, target: Backend, bench: Bench) -> None:
        """Each is started once, and answered for in the order in which it came."""
        specs = [self._spec(bench, code) for code in ("0", "4", "0")]
        passages = submit_together(bench.context, specs, bench.said.append, at_once=2)
        ended = [bench.end_of(passage.folder, self.patience) for passage in passages]
        codes = [one.seen.state.exit_code or 0 for one in ended]
        demand(codes == [0, 4, 0], f"runs that are submitted together must keep their order: exit codes {codes}", WHERE)
        demand(sorted(self._starts(bench)) == sorted(one.folder.id for one in ended), "each must have started once", WHERE)
        demand(all(self._job(bench, one.folder).get("id") for one in ended), "submit_all must yield the facts of each job", WHERE)

    def test_secrets_reach_the_program_alone(self, target: Backend, bench: Bench) -> None:
        """Neither the plan nor the facts of the job have the value of a variable that is a secret."""
        passage = bench.submit(self._spec(bench, "0", CONTRACT_TOKEN=HIDDEN))
        ended = bench.end_of(passage.folder, self.patience)
        demand(f"token {HIDDEN}" in ended.output, f"the program must have its secrets; {ended}", WHERE)
        assert passage.plan is not None
        told = json.dumps([passage.plan.script, passage.plan.launch, passage.plan.options, dict(passage.job)])
        demand(HIDDEN not in told, "neither the plan nor the facts of the job may hold the value of a secret", WHERE)

    # ------------------------------------------------------------------ look
    def test_a_run_that_it_never_got_is_not_finished(self, target: Backend, bench: Bench) -> None:
        """NotStarted where it is certain, else nothing: unknown is never finished."""
        passage = Passage.of(bench.context, self._spec(bench, "0"), bench.said.append)
        record(passage)
        found = target.look({passage.folder.id: (passage.folder, {})}).get(passage.folder.id, Evidence())
        wanted = found.status in (None, Status.NOT_STARTED)
        demand(wanted, f"look must answer NotStarted, or None, for a run that was never submitted, and not {found}", WHERE)

    def test_looking_at_nothing_is_nothing(self, target: Backend) -> None:
        """``look`` and ``usage`` of no runs are empty; ``findings`` are rows of four texts."""
        demand(dict(target.look({})) == {} and dict(target.usage({})) == {}, "look({}) and usage({}) must be empty", WHERE)

    def test_what_it_finds_can_be_shown(self, target: Backend, bench: Bench) -> None:
        """``hpcest doctor`` prints rows of four texts, the second of which is ``ok``, ``note`` or ``bad``."""
        for row in target.findings(bench.workspace.root):
            sound = len(row) == 4 and all(isinstance(word, str) for word in row) and row[1] in ("ok", "note", "bad")
            demand(sound, f"findings must be (check, ok|note|bad, what was found, remedy), not {row!r}", WHERE)

    def test_what_it_knows_of_a_run_can_be_kept(self, target: Backend, bench: Bench) -> None:
        """While it runs and when it has ended: an Evidence, with facts that JSON can hold."""
        passage = self._running(bench)
        folder, job = passage.folder, self._job(bench, passage.folder)
        during = target.look({folder.id: (folder, job)})[folder.id]
        demand(isinstance(during, Evidence) and is_json(during.facts), f"look must return an Evidence for each run, not {during!r}", WHERE)
        demand(not finished(during.status), f"a run that goes on must not be finished; look says {during}", WHERE)
        watch.cancel(bench.context, folder)
        bench.end_of(folder, self.patience)
        after = target.look({folder.id: (folder, job)})[folder.id]
        demand(
            after.status in (None, Status.CANCELED),
            f"look must say Canceled, or nothing, of a run that was canceled; it says {after}",
            WHERE,
        )

    # ------------------------------------------------------------------ cancel
    def test_a_run_that_is_canceled_ends(self, target: Backend, bench: Bench) -> None:
        """Its status is Canceled, and its program is gone."""
        passage = self._running(bench)
        watch.cancel(bench.context, passage.folder)
        ended = bench.end_of(passage.folder, self.patience)
        demand(ended.status == "Canceled", f"a run that was canceled must end Canceled; {ended}", WHERE)
        beat = passage.folder.outputs / "beat"
        last = beat.read_text()
        bench.until(lambda: beat.read_text() != last, 1.0)
        demand(beat.read_text() == last, "the program of a canceled run must be gone", WHERE)

    def test_canceling_what_has_ended_does_no_harm(self, target: Backend, bench: Bench) -> None:
        """Whoever cancels may come late."""
        ended = bench.run(self._spec(bench, "0"), self.patience)
        try:
            found = target.cancel(ended.folder, self._job(bench, ended.folder))
        except HpcestError as error:
            pytest.fail(f"cancel of a run that has ended must not be an error: {error}\nSee {WHERE}", pytrace=False)
        demand(found.status in (None, Status.COMPLETED), f"cancel of a completed run must say so, or nothing; it says {found}", WHERE)
        demand(bench.look(ended.folder).status is Status.COMPLETED, "a completed run that is canceled stays completed", WHERE)
        assert os.path.isdir(ended.folder.path)
