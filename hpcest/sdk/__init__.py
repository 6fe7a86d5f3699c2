"""The Python API: workspaces, experiments, estimators, runs and models, with the feel of Azure ML's SDK v1."""
