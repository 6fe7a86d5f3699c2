"""What users write, as a strict type checker must take it. It is never run; ``make lint`` checks it with all other files.

A line with an ignore must be an error: mypy is told to warn of ignores that are not needed.
"""

# mypy: disallow-untyped-calls, warn-unused-ignores

from __future__ import annotations

from collections.abc import Sequence

import hpcest
from hpcest import Environment, Estimator, Experiment, HpcestError, Model, Run, Workspace, hookimpl
from hpcest.contracts import Framework


def on_the_login_node() -> None:
    workspace = Workspace.from_config()
    environment = Environment("sklearn", pip_packages=["scikit-learn"])
    estimator = Estimator(
        "src", entry_script="train.py", script_params={"--lr": 0.1}, node_count=2, environment_definition=environment, vm_size="STANDARD_D2"
    )
    estimator.pip_packages.append("numpy")
    estimator.script_params["--lr"] = 0.2
    estimator.conda_dependencies.add_pip_package("scipy")
    run: Run = Experiment(workspace, "iris").submit(estimator, tags={"kind": "test"})
    details: dict[str, object] = run.wait_for_completion(show_output=True)
    loss: float = run.get_metrics("loss")["loss"]
    for child in run.get_children(recursive=True, tags={"fold": None}):
        run = child
    run.download_file("outputs/model.pkl", "model.pkl")
    model: Model = run.register_model("iris", "outputs/model.pkl", tags={"loss": str(loss)})
    version: int = model.version
    text: str = hpcest.__version__ + model.id + run.display_name + workspace.name + str(version) + str(details)
    for other in Experiment(workspace, text).get_runs(status="Failed"):
        other.cancel()
    Estimator("src", entry_scrpt="train.py")  # type: ignore[call-arg]
    Estimator("src", "train.py")  # type: ignore[arg-type]
    Workspace.create("name", "/elsewhere")  # type: ignore[arg-type]


def in_the_program() -> None:
    run = Run.get_context()
    run.log("loss", 0.1, step=3)
    run.log_list("losses", (1 / step for step in range(1, 9)))
    run.log_row("table", a=1, b="two")
    run.tag("kind", "test")
    with run.child_run("fold 1") as child:
        child.log("loss", 0.2)
    names: Sequence[str] = [fold.id for fold in run.create_children(tag_key="fold", tag_values=["1", "2"])]
    parent: Run | None = run.parent
    home: Workspace = run.experiment.workspace
    run.upload_file("outputs/names.txt", "names.txt")
    print(names, parent, home)
    run.log("loss")  # type: ignore[call-arg]


@hookimpl
def hpcest_register_frameworks() -> list[type[Framework]]:
    raise HpcestError("there are none", hint="look elsewhere")
