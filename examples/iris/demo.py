"""Runs examples/iris through an Estimator, follows it, and registers its model: what ``make demo`` does."""

import sys
from pathlib import Path

from hpcest import Estimator, Experiment, Workspace

workspace = Workspace.create("demo", path=sys.argv[1] if len(sys.argv) > 1 else "demo-workspace")

estimator = Estimator(
    source_directory=Path(__file__).parent,
    entry_script="train.py",
    script_params={"--regularization": 0.5},
    compute_target="local",
    pip_packages=["scikit-learn"],
)
run = Experiment(workspace, "iris").submit(estimator)
run.wait_for_completion(show_output=True)

print("\nrun", run.id, "is", run.get_status())
for name, value in run.get_metrics().items():
    print(f"  metric   {name}: {value[-1] if isinstance(value, list) else value:.4f}")
for name in run.get_file_names():
    print("  artifact", name)
model = run.register_model("iris", "outputs/model.pkl", model_framework="scikit-learn")
print("registered model", model.name, "version", model.version)
