"""What a program can do with its run, for type checkers: ``hpcest.onnode.run`` has no annotations, the stub beside this has."""

from hpcest.onnode.run import Run as LoggableRun

__all__ = ["LoggableRun"]
