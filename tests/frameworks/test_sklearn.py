"""The framework ``sklearn``: one process, that uses the cores which it was given and no others."""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path

import pytest

from hpcest import SKLearn as Estimator
from hpcest.errors import SpecError, UnknownNameError
from hpcest.frameworks.sklearn import SKLearn
from hpcest.kit.process import run as start
from hpcest.lifecycle.presets import preset, versions
from hpcest.model.plan import Activation
from hpcest.model.spec import Command, Distribution, Resources, RunSpec
from hpcest.onnode.rank import expand
from tests.frameworks.envs import framework_env, used_by_runs
from tests.frameworks.sk_programs import CORES, used
from tests.lifecycle.conftest import Site

EXAMPLE = Path(__file__).parents[2] / "examples" / "sklearn"
HERE = len(os.sched_getaffinity(0))
SPEC = RunSpec("e", Command("train.py"))


def variables(cpus: str, limit: str) -> dict[str, str]:
    """What a rank is told beyond the number of its cores."""
    told = SKLearn().program(SPEC, Activation("/env/bin/python")).rank_variables
    cores = {"HPCEST_CPUS": cpus, "HPCEST_CPU_LIMIT": limit}
    return {name: value for name, text in told.items() if (value := expand([text], cores)[0])}


def test_joblib_is_told_the_cores() -> None:
    assert variables("3", "") == {"LOKY_MAX_CPU_COUNT": "3"}


def test_threads_are_limited_where_the_kernel_allows_more() -> None:
    """But none of the variables are set that joblib's workers would inherit instead of their share."""
    assert variables("3", "3") == {
        "LOKY_MAX_CPU_COUNT": "3",
        "OMP_THREAD_LIMIT": "3",
        "GOTO_NUM_THREADS": "3",
        "NUMEXPR_MAX_THREADS": "3",
    }


@pytest.mark.parametrize("resources", [Resources(nodes=2), Resources(procs_per_node=2)])
def test_several_processes_are_refused(resources: Resources) -> None:
    with pytest.raises(SpecError, match="runs one process on one node, not") as caught:
        SKLearn().check(RunSpec("e", Command("train.py"), resources=resources))
    assert "--cpus" in caught.value.hint


def test_it_knows_no_distribution() -> None:
    with pytest.raises(SpecError, match="can't do the distribution 'mpi'") as caught:
        SKLearn().check(RunSpec("e", Command("train.py"), distribution=Distribution("mpi")))
    assert caught.value.hint == "it runs one process on one node: leave the distribution out"


def test_versions() -> None:
    """The newest first; a part of one is enough, and a longer one is asked for exactly."""
    known = versions(SKLearn)

    assert known == Estimator.get_supported_versions()
    assert known[-1] == "1.3"
    assert preset(SKLearn, "1", gpu=False) == preset(SKLearn, known[0], gpu=True)
    assert preset(SKLearn, "1.6.1", gpu=False).pip[0] == "scikit-learn==1.6.1"
    with pytest.raises(UnknownNameError, match=r"'0\.24'") as caught:
        preset(SKLearn, "0.24", gpu=False)
    assert caught.value.hint.startswith("known: 1.9, 1.8,")


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """A workspace on a path with spaces."""
    made = Site(tmp_path / "work space")
    made.cli("init", made.root).ok()
    return made


@pytest.mark.parametrize("cores", [1, 2])
def test_workers_share_the_cores(cores: int, tmp_path: Path) -> None:
    """With a limit as where nothing binds the run: so many workers, and so many threads of all of them together."""
    if cores > HERE:
        pytest.skip(f"this machine has {HERE} core")
    env = {**os.environ, **variables(str(cores), str(cores))}
    done = start([framework_env("sklearn"), "-c", CORES], cwd=tmp_path, env=env, timeout=100)

    known = used(done.out)
    assert (known["cpu_count"], known["n_jobs"]) == (cores, cores), done.err
    assert sum(known["threads"].values()) <= cores


@pytest.mark.skipif(HERE < 2, reason="one core is all that there is")
def test_one_core_of_several(site: Site) -> None:
    """``n_jobs=-1`` in a run that asked for one core: no second process and no second thread."""
    site.write(CORES)
    answer = site.cli("submit", "train.py", "-f", "--framework", "sklearn", "--cpus", "1", *used_by_runs("sklearn")).ok()

    known = used(answer.out)
    assert (known["cpu_count"], known["n_jobs"], known["allowed"]) == (1, 1, HERE)
    assert list(known["threads"].values()) == [1]


def test_the_example(site: Site) -> None:
    """A grid search on the cores of the run; each setting is a row, and the best model is kept."""
    shutil.copytree(EXAMPLE, site.source / "example")
    site.cli("submit", "example", "-f", *used_by_runs("sklearn")).ok()
    (row,) = site.runs()
    known = json.loads(site.cli("metrics", "--json", row["id"]).ok().out)[row["id"]]

    assert known["cores"] == min(2, HERE)
    assert known["accuracy"] > 0.9
    assert len(known["settings"]["accuracy"]) == 4
    assert (site.run(row["id"]).outputs / "model.pkl").stat().st_size > 1000


@pytest.mark.slow
def test_a_version_is_installed_for_the_run(site: Site) -> None:
    """``SKLearn(framework_version='1.6')`` trains with scikit-learn 1.6, in a venv of its own with the Python that is here."""
    site.configure("environment: {kind: venv}\n")
    site.write("import sklearn\nfrom sklearn.svm import SVC\nprint(sklearn.__version__, SVC().fit([[0], [1]], [0, 1]).predict([[2]]))\n")
    site.write(
        "from hpcest import Experiment, SKLearn, Workspace\n"
        "estimator = SKLearn('.', entry_script='train.py', framework_version='1.6')\n"
        "Experiment(Workspace.from_config(), 'versions').submit(estimator).wait_for_completion(show_output=True)\n",
        "submit.py",
    )
    done = start([sys.executable, "submit.py"], cwd=site.source, env={**os.environ, "PYTHONPATH": str(EXAMPLE.parents[1])}, timeout=300)

    assert done.code == 0, done
    (row,) = site.runs()
    assert site.run(row["id"]).rank_log(0, 0, ranks=1).read_text().startswith("1.6.")
