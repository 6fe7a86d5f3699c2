"""The plugin keeps hpcest's contract, and does what it is for."""

from collections.abc import Mapping
from typing import ClassVar

from hpcest_template.estimator import Template as TemplateEstimator
from hpcest_template.framework import Template

from hpcest.model.spec import Command, EnvironmentSpec, RunSpec
from hpcest.testing import Bench, FrameworkContract


class TestTemplate(FrameworkContract):
    """What hpcest expects of every framework; then what this one adds."""

    framework = Template
    estimator = TemplateEstimator
    files: ClassVar[Mapping[str, str]] = {"train.py": "import os\nprint('threads', os.environ['OMP_NUM_THREADS'])\n"}
    broken: ClassVar[Mapping[str, str]] = {"train.py": "raise SystemExit(3)\n"}

    def refused(self) -> Mapping[str, RunSpec]:
        """Numbers of threads that there can't be."""
        return {"-1 threads": RunSpec("contract", Command("train.py"), framework_options={"threads": -1})}

    def test_threads_are_as_many_as_asked_for(self, bench: Bench) -> None:
        """A real run sees them; ``bench`` is a workspace that has the plugin."""
        bench.write(self.files)
        spec = RunSpec("threads", Command("train.py"), framework="template", environment=EnvironmentSpec("host"))
        assert bench.run(RunSpec(**{**vars(spec), "framework_options": {"threads": 3}}), self.patience).output == "threads 3\n"
        assert int(bench.run(spec, self.patience).output.split()[1]) >= 1
