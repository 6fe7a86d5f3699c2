"""Datastores, datasets, and how a run gets them."""
