"""Requirement lines as people write them, made comparable: comments, spelling and secrets are dropped."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hpcest.environments.contents import digest_of
from hpcest.environments.secrets import expand, strip
from hpcest.errors import SpecError

_COMMENT = re.compile(r"(^|\s)#.*$")
_HASH = re.compile(r"\s--hash[=\s]\s*(\S+)")
_ARCHIVES = (".whl", ".tar.gz", ".zip", ".tar.bz2", ".tgz")
_VERSION_CONTROL = ("git+", "hg+", "svn+", "bzr+")
_HINT = "write it as pip does: name, name==1.2, 'name[extra]>=1,<2' or name @ URL"


@dataclass(frozen=True)
class Wanted:
    """One requirement. ``text`` is what is recorded; ``real`` and ``url`` may hold a secret or ``${NAME}``.

    ``kind`` is ``index``, ``url``, ``vcs`` or ``local``; ``content`` tells one state of local files from
    another; ``hashes`` are the ones that were asked for, as ``sha256:…``.
    """

    text: str
    real: str
    kind: str = "index"
    url: str = ""
    hashes: tuple[str, ...] = ()
    content: str = ""

    def key(self) -> list[Any]:
        """What makes it another requirement."""
        return [self.text, sorted(self.hashes), self.content]


@dataclass(frozen=True)
class Options:
    """Where packages come from and which are allowed, as the lines say. URLs may hold secrets."""

    index_url: str = ""
    extra_index_urls: tuple[str, ...] = ()
    find_links: tuple[str, ...] = ()
    no_index: bool = False
    pre: bool = False
    no_binary: tuple[str, ...] = ()
    only_binary: tuple[str, ...] = ()
    trusted_hosts: tuple[str, ...] = ()


@dataclass(frozen=True)
class Request:
    """What a spec's requirement lines ask for."""

    wanted: tuple[Wanted, ...] = ()
    options: Options = Options()


_OPTIONS = {
    "-i": "index_url",
    "--index-url": "index_url",
    "--extra-index-url": "extra_index_urls",
    "-f": "find_links",
    "--find-links": "find_links",
    "--no-index": "no_index",
    "--pre": "pre",
    "--no-binary": "no_binary",
    "--only-binary": "only_binary",
    "--trusted-host": "trusted_hosts",
}
_REFUSED = {
    "-r": "requirements files are read where the spec is made: give their lines",
    "-c": "constraints files are read where the spec is made: give their lines as requirements",
    "-e": "an editable install can't be kept as it was: give the path without -e",
}
_LONG = {"--requirement": "-r", "--constraint": "-c", "--editable": "-e"}


def read(lines: Iterable[str], variables: Mapping[str, str] = os.environ) -> Request:
    """The request that requirement lines make, as in a requirements file.

    Order is kept, duplicates are dropped; paths count from the current directory, and ``${NAME}`` stands
    for an environment variable. Raises SpecError that names the line.
    """
    wanted: dict[tuple[str, tuple[str, ...]], Wanted] = {}
    options = Options()
    for line in _logical(lines):
        if line.startswith("-"):
            options = _option(line, options)
        else:
            one = _requirement(line, variables)
            wanted.setdefault((one.text, one.hashes), one)
    return Request(tuple(wanted.values()), options)


def _logical(lines: Iterable[str]) -> Iterable[str]:
    """Lines without comments and blank ones, those that end in a backslash joined to the next."""
    whole = "\n".join(line.rstrip("\r\n") for line in lines)
    for line in re.sub(r"\\[ \t]*\n", " ", whole).split("\n"):
        bare = _COMMENT.sub("", line).strip().removesuffix("\\").strip()
        if bare:
            yield bare


def _option(line: str, options: Options) -> Options:
    try:
        words = shlex.split(line)
    except ValueError as error:
        raise SpecError(f"requirement line {strip(line)!r} can't be read: {error}", hint="close the quotes") from None
    name, _, value = words[0].partition("=")
    value = value or " ".join(words[1:])
    short = _LONG.get(name, name[:2] if not name.startswith("--") else name)
    if short in _REFUSED:
        raise SpecError(f"requirement line {strip(line)!r} can't be used here", hint=_REFUSED[short])
    field = _OPTIONS.get(name)
    if field is None:
        raise SpecError(f"option {name!r} of requirement line {strip(line)!r} is not known", hint=f"known: {', '.join(_OPTIONS)}")
    if field in ("no_index", "pre"):
        return _with(options, field, True)
    if not value:
        raise SpecError(f"option {name!r} needs a value", hint=f"write {name} VALUE, as one line")
    if field == "index_url":
        return _with(options, field, value)
    return _with(options, field, (*getattr(options, field), _link(value) if field == "find_links" else value))


def _with(options: Options, field: str, value: Any) -> Options:
    return replace(options, **{field: value})


def _link(value: str) -> str:
    """A directory or page of links as a URL: tools split lists of paths at spaces and commas."""
    return value if "://" in value or "${" in value else Path(os.path.abspath(os.path.expanduser(value))).as_uri()


def _requirement(line: str, variables: Mapping[str, str]) -> Wanted:
    hashes = tuple(_HASH.findall(line))
    bare = _HASH.sub("", line).strip()
    if re.search(r"\s--?[a-z]", bare):
        raise SpecError(f"requirement {strip(line)!r} has an option that can't be used here", hint="only --hash can follow a requirement")
    there = expand(bare, variables)  # what isn't set is refused here; secrets stay names until they are used
    bare = bare if _is_remote(bare) else there
    one = _bare(bare) if _looks_bare(bare) else _named(bare)
    if not hashes:
        return one
    return replace(one, hashes=hashes, real=" ".join([one.real, *(f"--hash={value}" for value in hashes)]))


def _is_remote(text: str) -> bool:
    return "://" in text and "file://" not in text


def _looks_bare(text: str) -> bool:
    """True for a path or a URL that stands alone, without ``name @``."""
    if " @ " in text or re.match(r"[\w.-]+\s*(\[[^]]*\])?\s*@", text):
        return False
    return "://" in text or text.startswith((".", "/", "~")) or text.endswith(_ARCHIVES)


def _bare(text: str) -> Wanted:
    url = text if _is_remote(text) else _file_url(text)
    return _at(strip(url), url, url)


def _named(text: str) -> Wanted:
    from packaging.requirements import InvalidRequirement, Requirement
    from packaging.utils import canonicalize_name

    try:
        parsed = Requirement(text)
    except InvalidRequirement as error:
        reason = strip(str(error).splitlines()[0])
        hint = "pip writes == where conda writes =" if re.fullmatch(r"[\w.-]+\s*=[^=].*", text) else _HINT
        raise SpecError(f"requirement {strip(text)!r} can't be read: {reason}", hint=hint) from None
    extras = ",".join(sorted(canonicalize_name(extra) for extra in parsed.extras))
    name = canonicalize_name(parsed.name) + (f"[{extras}]" if extras else "")
    marker = f" ; {parsed.marker}" if parsed.marker else ""
    if not parsed.url:
        spelt = f"{name}{parsed.specifier}{marker}"
        return Wanted(spelt, spelt)
    url = parsed.url if _is_remote(parsed.url) else _file_url(parsed.url)
    return _at(f"{name} @ {strip(url)}{marker}", f"{name} @ {url}{marker}", url)


def _at(text: str, real: str, url: str) -> Wanted:
    if url.startswith(_VERSION_CONTROL):
        plain = "[" not in real and " ; " not in real
        return Wanted(text, url if plain and is_local_repository(url) else real, "vcs", url)
    if _is_remote(url):
        return Wanted(text, real, "url", url)
    return Wanted(text, real, "local", url, content=digest_of(_path_of(url)))


def is_local_repository(url: str) -> bool:
    """True for a repository on this machine's file systems: pip refuses those after a ``name @``."""
    return url.startswith("git+file:")


def _file_url(text: str) -> str:
    return text if "://" in text else Path(os.path.abspath(os.path.expanduser(text))).as_uri()


def _path_of(url: str) -> Path:
    """The local path that a file URL names. Raises SpecError where there is nothing."""
    from urllib.parse import unquote, urlsplit

    path = Path(unquote(urlsplit(url).path))
    if not path.exists():
        raise SpecError(f"requirement {str(path)!r} does not exist", hint="a path of a requirement counts from the current directory")
    return path
