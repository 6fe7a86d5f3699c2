"""Azure ML's names, answered by hpcest: ``from azureml.core import Run`` is hpcest's Run.

Lies beside the programs of runs too: the standard library only, under Python 3.8.
"""

# mypy: allow-untyped-defs, allow-untyped-calls, no-check-untyped-defs, disable-error-code="import-not-found"
import os
import sys

if "HPCEST_RUN_DIR" not in os.environ:  # in a run the environment may well have Azure ML's packages: the run is hpcest's all the same
    from hpcest_azureml.conflict import another

    if another():
        raise ImportError(another())

from azureml._standin import Finder

sys.meta_path.append(Finder())


def __getattr__(name):
    raise AttributeError(Finder.lacking("azureml", name))
