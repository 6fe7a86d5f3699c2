"""A run's parameters, read from the arguments of its script, so that runs can be compared and searched by them."""

from __future__ import annotations

from collections.abc import Sequence
from math import isnan

_SEPARATORS = frozenset(("&&", "||", ";", "|", "&", ">", ">>", "<"))


def parse_arguments(words: Sequence[str]) -> dict[str, str]:
    """The options among a program's arguments: ``--key value``, ``--key=value``, ``key=value``, flags as ``true``.

    A list of numbers after an option is kept whole, joined by spaces; of other words it takes one.
    """
    found: dict[str, str] = {}
    place = 0
    while place < len(words):
        word = words[place]
        place += 1
        name, equals, value = word.lstrip("-+" if "=" in word else "-").partition("=")
        if _is_option(word):
            if not equals:
                values = _values(words, place)
                place += len(values)
                value = " ".join(values) if values else "true"
        elif not (equals and name.replace(".", "").replace("-", "").replace("/", "").isidentifier()):
            continue
        if name:
            found[name] = value
    return found


def _is_option(word: str) -> bool:
    return len(word) > 1 and word[0] == "-" and word != "--" and number(word) is None


def _values(words: Sequence[str], place: int) -> Sequence[str]:
    """The words from ``place`` on that belong to the option before them."""
    end = place
    while end < len(words) and not _is_option(words[end]) and words[end] != "--" and words[end] not in _SEPARATORS:
        end += 1
        if number(words[end - 1]) is None:
            return words[place:end] if end == place + 1 else words[place : end - 1]
    return words[place:end]


def parse_line(line: str) -> dict[str, str]:
    """The same for a shell line; nothing for one that has an open quote."""
    if not line:
        return {}
    import shlex  # few runs are shell lines

    try:
        return parse_arguments(shlex.split(line))
    except ValueError:
        return {}


def number(text: str) -> float | None:
    """``text`` as a number, None if it is none."""
    try:
        value = float(text)
    except ValueError:
        return None
    return None if isnan(value) or "_" in text else value
