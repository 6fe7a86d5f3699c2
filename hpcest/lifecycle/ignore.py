"""Which files of a source directory stay out of its snapshot: ``.amlignore``, ``.gitignore``, our defaults.

Rules are asked for one entry at a time, from the top down, as git does it: what lies in an ignored
directory is never asked for. The deepest ignore file that has an opinion decides, its last matching
line first; ``pathspec`` knows what a line means.
"""

from __future__ import annotations

import hashlib
import re
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from hpcest.model.folders import WorkspaceFolder

AMLIGNORE = ".amlignore"
GITIGNORE = ".gitignore"

# What nobody wants in a snapshot, and a run can't use. A line with ``!`` in an ignore file brings it back.
_NAMES = frozenset(
    (
        ".git", ".hg", ".svn", "__pycache__", ".ipynb_checkpoints", ".venv", "venv", ".tox", ".nox", ".mypy_cache",
        ".pytest_cache", ".ruff_cache", "node_modules", ".azureml", ".DS_Store",
    )
)  # fmt: skip
_ENDINGS = (".pyc", ".egg-info")
_AT_ROOT = frozenset(("outputs", "logs"))  # a run's own are put there
_DEFAULTS = "the built-in rules"
_EXTRA = "the patterns given with the call"

_CLASSES = {
    "alnum": "0-9A-Za-z",
    "alpha": "A-Za-z",
    "digit": "0-9",
    "lower": "a-z",
    "upper": "A-Z",
    "space": " \t\r\n\f\v",
    "xdigit": "0-9A-Fa-f",
}


class Rules:
    """The ignore rules in effect in one directory and below it, until a deeper ignore file adds to them.

    ``key`` names their content: decisions made under the same key need not be made again.
    """

    def __init__(self, extra: Sequence[str] = ()) -> None:
        """The rules at the root of a source directory; ``extra`` patterns go before all files."""
        self.key = _digest(*sorted(_NAMES), *_ENDINGS, *sorted(_AT_ROOT), "", *extra)
        self._extra = _Lines("", _EXTRA, lambda: "\n".join(extra).encode("utf-8", "surrogateescape"))
        self._files: tuple[_Lines, ...] = ()  # the deepest first
        self._aml = False

    @property
    def looks_for(self) -> tuple[str, ...]:
        """The ignore files that a directory may add, the first one found counts.

        From an ``.amlignore`` on downwards no ``.gitignore`` is read.
        """
        return (AMLIGNORE,) if self._aml else (AMLIGNORE, GITIGNORE)

    def below(self, path: str, digest: str, read: Callable[[], bytes]) -> Rules:
        """These rules and those of the ignore file ``path``, which has the content ``digest``.

        ``path`` is relative to the source directory; ``read`` is called when a line is first needed.
        """
        folder, _, name = path.rpartition("/")
        rules = Rules.__new__(Rules)
        rules.key = _digest(self.key, path, digest)
        rules._extra = self._extra
        rules._files = (_Lines(folder, path, read), *self._files)
        rules._aml = self._aml or name == AMLIGNORE
        return rules

    def ignoring(self, path: str, *, is_dir: bool) -> str:
        """What has ``path`` ignored (an ignore file, or a few words); empty if nothing does.

        A symbolic link to a directory is no directory. Assumes that the parent is not ignored.
        """
        name = path.rpartition("/")[2]
        if name == WorkspaceFolder.MARKER:
            return _DEFAULTS  # a workspace in its own snapshots would never end
        default = name in _NAMES or name.endswith(_ENDINGS) or path in _AT_ROOT
        by, ignored = self._said(path, is_dir, naming=default)
        if ignored is None:
            return _DEFAULTS if default else ""
        return by if ignored else ""

    def brings_back(self, path: str) -> bool:
        """Whether a line with ``!`` names the directory ``path``, so that it is wanted even with an environment in it."""
        return self._said(path, True, naming=True)[1] is False

    def _said(self, path: str, is_dir: bool, *, naming: bool) -> tuple[str, bool | None]:
        for lines in (self._extra, *self._files):
            ignored = lines.said(path, is_dir, naming=naming)
            if ignored is not None:
                return lines.origin, ignored
        return "", None


class _Lines:
    """The lines of one ignore file in ``folder``; they are read and compiled when first asked."""

    def __init__(self, folder: str, origin: str, read: Callable[[], bytes]) -> None:
        self.origin = origin
        self._start = len(folder) + 1 if folder else 0
        self._read = read
        self._compiled: list[_Line] | None = None

    def said(self, path: str, is_dir: bool, *, naming: bool) -> bool | None:
        """Whether the last line that matches ignores ``path``; None if no line matches.

        With ``naming`` a line such as ``!*/`` is passed over: people write it to see into directories, and
        don't mean ``.git`` and their environments by it.
        """
        if self._compiled is None:
            text = self._read().removeprefix(b"\xef\xbb\xbf").decode("latin-1")  # git matches byte by byte
            found = (_compile(line.removesuffix("\r")) for line in text.split("\n"))
            self._compiled = [line for line in reversed(list(found)) if line is not None]
        path = path[self._start :]
        if not path.isascii():
            path = path.encode("utf-8", "surrogateescape").decode("latin-1")
        name = path.rpartition("/")[2]
        for line in self._compiled:
            if (naming and line.sweeping) or (line.dirs_only and not is_dir):
                continue
            if line.match(name if line.by_name else path):
                return line.ignores
        return None


@dataclass(frozen=True)
class _Line:
    match: Callable[[str], object]
    ignores: bool
    dirs_only: bool
    by_name: bool  # matches at any depth
    sweeping: bool  # brings back whatever it is called


def _compile(line: str) -> _Line | None:
    """What a line of an ignore file means for one entry; None where it means nothing, or is wrong."""
    text = _without_trailing_spaces(line)
    if text.startswith("#"):
        return None
    ignores = not text.startswith("!")
    text = text if ignores else text[1:]
    dirs_only = text.endswith("/")
    text = text.removesuffix("/")
    if not text:
        return None
    by_name, sweeping = "/" not in text, not ignores and not text.rpartition("/")[2].strip("*")
    if text.endswith("/**"):
        text += "/*"  # everything below, and not the directory itself
    try:
        return _Line(_regex(text).fullmatch, ignores, dirs_only, by_name, sweeping)
    except (ValueError, re.error):
        return None  # git passes over such lines too


def _regex(text: str) -> re.Pattern[str]:
    """The expression that ``text`` is, for the path of an entry itself: pathspec's also match what is below."""
    from pathspec import GitIgnoreSpec

    for name, characters in _CLASSES.items() if "[:" in text else ():
        text = text.replace(f"[:{name}:]", characters)
    if text[0] in "#!":
        text = "\\" + text  # what gave it a meaning has been taken off
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # "[[" might mean something in a later version of re
        (pattern,) = GitIgnoreSpec.from_lines([_trailing_blank_kept(text)]).patterns
        if pattern.regex is None:
            raise ValueError(text)
        found = pattern.regex.pattern
        if not found.startswith("^"):
            found = ".+"  # pathspec's short form for "*"
        found = found.replace("(?P<ps_d>/)", "(?!)")
        return re.compile(re.sub(r"\[\^(?!/\])", "(?!/)[^", found), re.DOTALL)


def _without_trailing_spaces(line: str) -> str:
    """``line`` as git takes it: spaces at the end don't count unless a backslash keeps them."""
    kept = line.rstrip(" ")
    backslashes = len(kept) - len(kept.rstrip("\\"))
    return kept + " " if backslashes % 2 and kept != line else kept


def _trailing_blank_kept(text: str) -> str:
    """``text`` with a blank at its end put in brackets, since pathspec would take it off."""
    if not text[-1].isspace():
        return text
    body = text[:-1]
    escaped = (len(body) - len(body.rstrip("\\"))) % 2
    return f"{body[:-1] if escaped else body}[{text[-1]}]"


def _digest(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode("utf-8", "surrogateescape")).hexdigest()[:32]


def as_pattern(path: str, *, is_dir: bool = False) -> str:
    """The line for an ignore file at the root that ignores ``path`` and nothing else."""
    escaped = "".join(f"\\{letter}" if letter in "\\*?[" else letter for letter in path)
    if escaped.endswith(" ") and not is_dir:
        escaped = escaped[:-1] + "\\ "
    if escaped.endswith("\r") and not is_dir:  # at the end of a line it would be taken for a part of the line's end
        escaped = escaped[:-1] + "[\r]"
    return f"/{escaped}/" if is_dir else f"/{escaped}"


def describe(origins: Iterable[str]) -> str:
    """Who ignored how much: ``.amlignore (12), the built-in rules (2)``."""
    counts: dict[str, int] = {}
    for origin in origins:
        counts[origin] = counts.get(origin, 0) + 1
    return ", ".join(f"{origin} ({count})" for origin, count in sorted(counts.items(), key=lambda item: -item[1]))
