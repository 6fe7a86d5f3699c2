"""Environments in Apptainer images: a base, and a layer of packages that is bound over it."""
