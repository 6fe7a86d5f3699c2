"""Credentials in URLs: kept for the tools that need them, out of everything that is recorded or shown."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from urllib.parse import unquote

from hpcest.errors import SpecError

# The bounds keep long lines without a URL fast. Greedy up to the last @ before the path: passwords with an @ in them are common enough.
_USER = re.compile(r"([A-Za-z][A-Za-z0-9+.-]{0,15})://([^/\s'\"]+)@([^/?#\s'\"]*)")
_PARAMETER = re.compile(
    r"([?&][\w.-]{0,40}(?:sig|signature|token|key|secret|password|credential|auth)[\w.-]{0,40})=[^&#\s'\"]+", re.IGNORECASE
)
# /t/TOKEN/ directly after the host, as conda channels have it; over other schemes (docker://host/t/NAME) that is an image's name.
_TOKEN = re.compile(r"(https?://[^/\s'\"]{1,300})/t/([^/\s'\"]+(?=/)|[\w${}-]+(?![\w-]|\.\w))")
_NAME = re.compile(r"\$\{([A-Z0-9_]+)\}")
#: A shorter one is too likely to be a word by itself.
SHORTEST_SECRET = 5


def strip(text: str) -> str:
    """``text`` without the user names, passwords, tokens and signatures of the URLs in it.

    The user of an SSH address stays where it has no password: ``git@`` is no secret, and is needed. Of a conda channel,
    ``https://host/t/TOKEN/channel``, the two words before its name go.
    """
    text = _TOKEN.sub(r"\1", _USER.sub(_without_user, text))
    return _PARAMETER.sub(r"\1=***", text)


def has_secret(text: str) -> bool:
    """Whether ``text`` has a URL with credentials in it."""
    return strip(text) != text


def _without_user(found: re.Match[str]) -> str:
    scheme, user, host = found.groups()
    return found[0] if _is_harmless(scheme, user) else f"{scheme}://{host}"


def _is_harmless(scheme: str, user: str) -> bool:
    return scheme.endswith("ssh") and ":" not in user


def expand(text: str, variables: Mapping[str, str]) -> str:
    """``text`` with each ``${NAME}`` replaced, as pip does in requirements files. Raises SpecError."""

    def value(found: re.Match[str]) -> str:
        if found[1] not in variables:
            raise SpecError(f"environment variable {found[1]} of {strip(text)!r} is not set", hint=f"export {found[1]}=… and try again")
        return variables[found[1]]

    return _NAME.sub(value, text)


class Veil:
    """Hides the secrets of the URLs that it was given: ``veil(text)`` is the text as it may be recorded.

    ``urls`` are as the user wrote them, with ``${NAME}``; ``unveil`` gives a recorded URL its secrets back.
    """

    def __init__(self, urls: Iterable[str] = (), variables: Mapping[str, str] = os.environ) -> None:
        self._variables = variables
        self._words: dict[str, str] = {}
        self._users: dict[str, str] = {}
        self._tokens: dict[str, str] = {}
        self._whole: dict[str, str] = {}
        for url in urls:
            self._learn(expand(url, variables))
            self._whole[strip(url)] = expand(url, variables)
            self._words.update((variables[name], f"${{{name}}}") for name in _NAME.findall(url) if "://" in url)
        for name, value in variables.items():
            if name.startswith("UV_INDEX_") and name.endswith("_PASSWORD"):
                self._words[value] = "***"
        self._words = {word: shown for word, shown in self._words.items() if len(word) >= SHORTEST_SECRET}

    def _learn(self, url: str) -> None:
        for scheme, user, host in _USER.findall(url):
            if not _is_harmless(scheme, user):
                word = user.partition(":")[2] or user
                self._words.update({word: "***", unquote(word): "***"})
                self._users.setdefault(host, user)
        for before, token in _TOKEN.findall(url):
            self._words[token] = "***"
            self._tokens.setdefault(re.split(r"[/@]", before)[-1], token)
        for found in _PARAMETER.finditer(url):
            self._words[found.group().partition("=")[2]] = "***"

    def __call__(self, text: str) -> str:
        """``text`` without secrets."""
        text = strip(text)
        for word in sorted(self._words, key=len, reverse=True):
            text = text.replace(word, self._words[word])
        return text

    def unveil(self, url: str) -> str:
        """``url``, as it was recorded, with the credentials that were given for it or for its host."""
        if url in self._whole:
            return self._whole[url]
        scheme, mark, rest = expand(url, self._variables).partition("://")
        host = re.split(r"[/?#]", rest)[0]
        if token := self._tokens.get(host, ""):
            rest = f"{host}/t/{token}{rest[len(host) :]}"
        user = self._users.get(host, "")
        return f"{scheme}{mark}{user}@{rest}" if user else f"{scheme}{mark}{rest}"
