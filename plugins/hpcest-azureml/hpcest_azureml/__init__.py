"""Azure ML's names over hpcest: ``azureml.core`` and the others lie in ``shim/``, which a path file adds to Python's path.

They lie there, and not beside this package, so that no two packages install the same file: where Azure ML's own are installed
too, both stay whole, and this one says so and is not used.
"""
