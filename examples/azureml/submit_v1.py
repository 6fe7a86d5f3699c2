"""Train with src/train.py, see what came of it, and register the model: written for Azure ML's SDK v1."""

import argparse

from azureml.core import Environment, Experiment, ScriptRunConfig, Workspace
from azureml.core.runconfig import MpiConfiguration

parser = argparse.ArgumentParser()
parser.add_argument("--compute", default="local", help="a compute target (default: local)")
parser.add_argument("--nodes", type=int, default=1, help="two processes on each; 0: one process alone (default: 1)")
args = parser.parse_args()

workspace = Workspace.from_config()
environment = Environment("as-it-is")
environment.python.user_managed_dependencies = True  # the Python that is there
config = ScriptRunConfig(
    source_directory="src",
    script="train.py",
    arguments=["--learning-rate", 0.4],
    compute_target=args.compute,
    environment=environment,
    distributed_job_config=MpiConfiguration(process_count_per_node=2, node_count=args.nodes) if args.nodes else None,
)

run = Experiment(workspace, "clouds").submit(config, tags={"from": "v1"})
print("run", run.id, "at", run.get_portal_url())
run.wait_for_completion(show_output=True)

metrics = run.get_metrics()
print("loss", metrics["loss"][0], "->", metrics["loss"][-1], "accuracy", metrics["accuracy"], "folds", metrics["folds"])
run.download_file("outputs/model/weights.json", output_file_path="weights.json")
model = run.register_model("clouds", model_path="outputs/model", tags={"accuracy": round(metrics["accuracy"], 3)})
print("registered", model.name, "version", model.version, "of run", model.run_id)
