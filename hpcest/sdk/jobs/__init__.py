"""Job files and command jobs: Azure ML v2's form of a run."""
