"""Data in a run's life: where it lies, what it is made of, what it was when the run was submitted, and what becomes of outputs."""
