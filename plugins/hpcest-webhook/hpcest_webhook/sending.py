"""Sending news: once, and never for longer than the time-out, whatever the other side does."""

from __future__ import annotations

import json
import threading
from base64 import b64encode
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import unquote, urlsplit

from hpcest_webhook.news import sentence
from hpcest_webhook.settings import Settings, WebhookError


def send(settings: Settings, news: Mapping[str, Any]) -> None:
    """Send the news to all that are named. Raises WebhookError with what went wrong, when all were tried."""
    problems = []
    for address, function in (("url", _post), ("mail", _mail)):
        if getattr(settings, address):
            try:
                _within(settings.timeout, function, settings, dict(news))
            except WebhookError as error:
                problems.append(error.message)
    if problems:
        raise WebhookError("; ".join(problems))


def _within(seconds: float, function: Callable[[Settings, dict[str, Any]], None], settings: Settings, news: dict[str, Any]) -> None:
    """Call the function, and wait no longer: looking up a name, or an answer that drips, knows no time-out of its own."""
    problem: list[BaseException] = []

    def call() -> None:
        try:
            function(settings, news)
        except BaseException as error:  # noqa: BLE001 - told by whoever waits
            problem.append(error)

    thread = threading.Thread(target=call, daemon=True)  # it must not keep the process from ending
    thread.start()
    thread.join(seconds)
    whom = _host(settings, function)
    if thread.is_alive() or isinstance(getattr(problem[0], "reason", problem[0]) if problem else None, TimeoutError):
        raise WebhookError(f"{whom} did not answer within {seconds:g} s")
    if problem:
        raise WebhookError(f"{whom} was not told: {_words(problem[0])}") from None


def _post(settings: Settings, news: dict[str, Any]) -> None:
    from urllib.request import Request, urlopen

    body = {"text": sentence(news)} if settings.format == "slack" else news
    headers = {"Content-Type": "application/json", "User-Agent": "hpcest-webhook"}
    parts = urlsplit(settings.url)
    account, _, place = parts.netloc.rpartition("@")
    if account:  # urllib would take them for a part of the host's name
        headers["Authorization"] = "Basic " + b64encode(unquote(account).encode()).decode()
    url = parts._replace(netloc=place).geturl()
    request = Request(url, json.dumps(body).encode(), headers, method="POST")  # noqa: S310 - the scheme was checked
    with urlopen(request, timeout=settings.timeout) as answer:  # noqa: S310
        answer.read(1)


def _mail(settings: Settings, news: dict[str, Any]) -> None:
    from email.message import EmailMessage
    from smtplib import SMTP

    message = EmailMessage()
    message["Subject"] = f"[hpcest] run {news['run']}: {news['status']}"
    message["From"] = message["To"] = settings.mail
    message.set_content(sentence(news) + "\n\n" + "".join(f"{name}: {value}\n" for name, value in news.items() if value not in ("", None)))
    host, _, port = settings.smtp.partition(":")
    with SMTP(host, int(port or 25), timeout=settings.timeout) as server:
        server.send_message(message)


def _host(settings: Settings, function: Callable[[Settings, dict[str, Any]], None]) -> str:
    """Whom a message was for, without what may be secret: user, password, path and query of an address."""
    if function is _mail:
        return f"the mail server {settings.smtp}"
    parts = urlsplit(settings.url)
    return f"{parts.scheme}://{parts.hostname}"


def _words(error: BaseException) -> str:
    """What happened, in the words of the system or of HTTP alone: texts of libraries may quote the address."""
    from urllib.error import HTTPError

    if isinstance(error, HTTPError):
        error.close()  # it holds the connection
        return f"it answered {error.code}"
    reason = getattr(error, "reason", error)
    return getattr(reason, "strerror", None) or type(reason).__name__
