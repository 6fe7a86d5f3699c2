"""Run configurations and script runs: Azure ML v1's form of a run."""
