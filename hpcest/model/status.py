"""The statuses a run can have, and the reasons for them: Azure ML's words, with Slurm's causes."""

from __future__ import annotations

from enum import Enum

from hpcest.onnode.state import TERMINAL


class Status(str, Enum):
    """Where a run is in its life. ``NotResponding`` is shown, never stored: it is a doubt, not a fact."""

    NOT_STARTED = "NotStarted"
    PREPARING = "Preparing"
    QUEUED = "Queued"
    RUNNING = "Running"
    FINALIZING = "Finalizing"
    COMPLETED = "Completed"
    FAILED = "Failed"
    CANCELED = "Canceled"
    CANCEL_REQUESTED = "CancelRequested"
    NOT_RESPONDING = "NotResponding"

    def __str__(self) -> str:
        return self.value

    @property
    def finished(self) -> bool:
        """Whether nothing comes after it."""
        return self.value in TERMINAL


class Reason(str, Enum):
    """Why a run has its status, for programs; a sentence for people goes with it."""

    NONE = ""
    USER_ERROR = "UserError"
    SIGNALED = "Signaled"
    OUT_OF_MEMORY = "OutOfMemory"
    TIMED_OUT = "TimedOut"
    NODE_FAIL = "NodeFail"
    PREEMPTED = "Preempted"
    UPSTREAM_FAILED = "UpstreamFailed"
    LAUNCH_FAILED = "LaunchFailed"
    BUILD_FAILED = "BuildFailed"
    LOST = "Lost"

    def __str__(self) -> str:
        return self.value
