"""Tells a webhook, a chat or a mailbox when runs have ended, and on request when they are submitted and start.

Every command of hpcest imports this module, so that it imports next to nothing itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import hpcest

if TYPE_CHECKING:
    from hpcest.model.folders import RunFolder

#: The interface that this plugin was written for; an hpcest with an older one refuses it with a reason.
HPCEST_INTERFACE = 1


@hpcest.hookimpl
def hpcest_after_submit(run: RunFolder) -> None:
    """A backend has taken the run."""
    _tell(run, "submitted", "Queued")


@hpcest.hookimpl
def hpcest_status_changed(run: RunFolder, after: str) -> None:
    """The run has started, as far as anybody looked in time, or has ended, which is told once for each run."""
    if after == "Running":
        _tell(run, "started", after)
    elif after in ("Completed", "Failed", "Canceled"):
        _tell(run, "ended", after)


def _tell(run: RunFolder, event: str, status: str) -> None:
    """Send the news, if somebody wants them. Raises WebhookError, which hpcest shows as a warning."""
    from hpcest_webhook.settings import load_settings

    settings = load_settings()
    if settings is None or event not in settings.events or (event == "ended" and status not in settings.statuses):
        return
    from hpcest_webhook.news import news_of
    from hpcest_webhook.sending import send

    send(settings, news_of(run, event, status))
