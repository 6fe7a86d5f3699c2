"""What the plugin is told to do: a file that only its owner can read, because the address is a secret mostly."""

from __future__ import annotations

import dataclasses
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from hpcest.errors import HpcestError

EVENTS = ("submitted", "started", "ended")
FINAL = ("Completed", "Failed", "Canceled")
FORMATS = ("json", "slack")


class WebhookError(HpcestError):
    """News could not be told. The message never has more of an address than its host."""


@dataclass(frozen=True)
class Settings:
    """``url`` gets a POST in the ``format`` json or slack; ``mail`` is an address, reached by the mail server ``smtp``.

    ``events`` are some of submitted, started and ended, ``statuses`` are those with which an end is told. ``timeout`` is how many
    seconds may pass until one message is sent.
    """

    url: str = ""
    format: str = "json"
    mail: str = ""
    smtp: str = "localhost:25"
    events: tuple[str, ...] = ("ended",)
    statuses: tuple[str, ...] = FINAL
    timeout: float = 3.0


def settings_path(environ: Mapping[str, str]) -> Path:
    """Where the settings are: HPCEST_WEBHOOK_FILE, or ``hpcest/webhook.yaml`` in the user's folder of configurations."""
    folder = environ.get("XDG_CONFIG_HOME") or os.path.join(environ.get("HOME", ""), ".config")
    return Path(environ.get("HPCEST_WEBHOOK_FILE") or os.path.join(folder, "hpcest", "webhook.yaml"))


def load_settings(environ: Mapping[str, str] = os.environ) -> Settings | None:
    """The settings; None where there is no file. Raises WebhookError for one that others can read, or that is wrong."""
    path = settings_path(environ)
    try:
        with open(path, encoding="utf-8") as file:
            mode = os.fstat(file.fileno()).st_mode
            text = file.read()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as error:
        raise WebhookError(f"{path} can't be read: {getattr(error, 'strerror', None) or 'it is no UTF-8'}") from None
    if stat.S_IMODE(mode) & 0o077:
        raise WebhookError(f"{path} can be read by others, and nothing is sent: chmod 600 {path}")
    import yaml  # heavy, and not needed by whoever has no file

    try:
        return _checked(yaml.safe_load(text), path)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark else ""
        raise WebhookError(f"{path}{line}: it is no YAML") from None  # the parser's own words quote the file


def _checked(found: Any, path: Path) -> Settings:
    known = {field.name: type(field.default) for field in dataclasses.fields(Settings)}
    if not isinstance(found, dict) or not set(found) <= set(known):
        strangers = sorted(name for name in set(map(str, found)) - set(known) if name.isidentifier()) if isinstance(found, dict) else []
        raise WebhookError(f"{path}: known keys are {', '.join(known)}" + (f", and not {', '.join(strangers)}" if strangers else ""))
    for name, value in found.items():
        if name in ("events", "statuses"):
            found[name] = _choice(name, (value,) if isinstance(value, str) else value, path)
        elif not isinstance(value, known[name]) and not (name == "timeout" and type(value) is int):
            raise WebhookError(f"{path}: {name} must be a {'number' if name == 'timeout' else 'text'}")
    settings = Settings(**found)
    if settings.format not in FORMATS:
        raise WebhookError(f"{path}: format must be one of {', '.join(FORMATS)}")
    if not 0 < settings.timeout <= 30:
        raise WebhookError(f"{path}: timeout must be a number of seconds up to 30")
    if settings.url and (urlsplit(settings.url).scheme not in ("http", "https") or not urlsplit(settings.url).hostname):
        raise WebhookError(f"{path}: url must begin with http:// or https:// and a host")
    if not settings.url and not settings.mail:
        raise WebhookError(f"{path}: it needs a url or a mail address")
    if any(sign in settings.mail for sign in "\r\n"):
        raise WebhookError(f"{path}: mail must be an address")
    return settings


def _choice(name: str, value: Any, path: Path) -> tuple[str, ...]:
    allowed = EVENTS if name == "events" else FINAL
    if not isinstance(value, (list, tuple)) or not set(map(str, value)) <= set(allowed):
        raise WebhookError(f"{path}: {name} must be a list of some of {', '.join(allowed)}")
    return tuple(map(str, value))
