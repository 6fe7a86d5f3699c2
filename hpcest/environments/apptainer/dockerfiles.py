"""Dockerfiles in the few plain instructions that spython reads without mistakes; the rest is refused by line and name.

A wrong image is worse than none. So each RUN gets a shell of its own, files are copied when their line is reached and not
before all else, and a variable has the value that it has at that line.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator, Mapping
from os.path import normpath
from pathlib import Path
from typing import NoReturn

from hpcest.environments.secrets import strip
from hpcest.errors import SpecError

_STEP = re.compile(r"\s*([A-Za-z]+)(?:\s+(.*))?", re.DOTALL)
_WORD = re.compile(r"""(?:'[^']*'|"(?:\\.|[^"\\])*"|\\.|[^\s'"\\])+""")
_PIECE = re.compile(
    r"""'(?P<single>[^']*)'|"(?P<double>(?:\\.|[^"\\])*)"|\\(?P<escaped>.)"""
    r"""|\$(?:\{(?P<braced>\w+)(?:(?P<how>:[-+])(?P<other>[^}$]*))?\}|(?P<name>[A-Za-z_]\w*))|(?P<plain>[^'"\\$]+|\$(?!\{))""",
    re.DOTALL,
)
_QUOTED = re.compile(
    r"""\\(?P<escaped>["\\$])|\$(?:\{(?P<braced>\w+)(?:(?P<how>:[-+])(?P<other>[^}$]*))?\}|(?P<name>[A-Za-z_]\w*))"""
    r"""|(?P<plain>[^\\$]+|\\|\$(?!\{))""",
    re.DOTALL,
)
_HEREDOC = re.compile(r"""(?<!<)<<-?["']?[A-Za-z_]""")
_ARCHIVE = re.compile(r"\.(tar|tgz|tbz2?|txz|tar\.\w+)$")
_ESCAPE = re.compile(r"\A(?:[ \t]*#.*\n)*?[ \t]*#[ \t]*escape[ \t]*=[ \t]*[^\\\s]", re.IGNORECASE)
#: What a run brings itself, or has no meaning in a container of Apptainer's.
WITHOUT_EFFECT = ("CMD", "ENTRYPOINT", "EXPOSE", "HEALTHCHECK", "STOPSIGNAL", "VOLUME")
_DONE = ("ADD", "ARG", "COPY", "ENV", "FROM", "LABEL", "MAINTAINER", "RUN", "SHELL", "USER", "WORKDIR")
#: Where copied files wait in the image for their line.
_STAGE = "/.hpcest-copy"
_DOCKER = "build it with docker or podman, and give the result: docker-archive:FILE"


def instructions(text: str) -> Iterator[tuple[int, str, str]]:
    """Line number, instruction and arguments, continued lines joined and comments left out."""
    begun, number = "", 0
    for count, line in enumerate([*text.splitlines(), None], 1):
        if line is not None:
            if not line.strip() or line.lstrip().startswith("#"):
                continue  # also between the lines of one instruction
            number = number if begun else count
            begun += line.rstrip()
            if begun.endswith("\\"):
                begun = begun[:-1] + " "
                continue
        if begun.strip():
            found = _STEP.fullmatch(begun)
            yield (number, found[1].upper(), (found[2] or "").strip()) if found else (number, begun.split()[0], "")
        begun = ""


class Dockerfile:
    """One that is read: ``lines`` for spython, ``environment`` what containers get, ``sources`` the files that it copies.

    ``read`` raises SpecError for what can't be converted; what was found before that line is there then.
    """

    def __init__(self, path: Path, text: str) -> None:
        self.lines: list[str] = []
        self.environment: list[str] = []
        self.sources: list[Path] = []
        self._path, self._text = path, text
        self._line = (0, "", "")
        self._globals: dict[str, str] = {}  # of ARG before FROM
        self._known: dict[str, str] = {}  # what stands between the double quotes of a shell
        self._variables: set[str] = set()
        self._shell = ["/bin/sh", "-c"]
        self._user, self._begun, self._placed, self._staged = "root", False, False, 0

    def read(self) -> None:
        """Go through it. Raises SpecError."""
        if _ESCAPE.match(self._text):
            raise SpecError(f"{self._path}: the directive 'escape' can't be converted for Apptainer", hint="continue lines with \\")
        for line in instructions(self._text):
            self._line = line
            _, name, arguments = line
            if name in WITHOUT_EFFECT:
                continue
            if name not in _DONE:
                self._refuse("leave it out" if name == "ONBUILD" else f"known: {', '.join(sorted((*_DONE, *WITHOUT_EFFECT)))}")
            if not arguments or not (self._begun or name in ("ARG", "FROM")):
                self._refuse("begin with FROM" if arguments else f"write something after {name}")
            try:
                getattr(self, f"_do_{name.lower()}")(arguments)
            except ValueError as error:
                self._refuse(str(error))
        if not self._begun:
            raise SpecError(f"{self._path} has no line FROM", hint="a Dockerfile begins with it")
        if self._staged:
            self._run(f"rm -rf {_STAGE}")

    def _refuse(self, hint: str) -> NoReturn:
        number, name, arguments = self._line
        shown = strip(f"{name} {arguments}")[:60].strip()
        raise SpecError(f"{self._path}:{number}: {shown!r} can't be converted for Apptainer", hint=hint)

    def _run(self, line: str) -> None:
        self.lines.append(f"RUN {line}\n")

    # ------------------------------------------------------------------ instructions; each raises ValueError with what to write instead
    def _do_from(self, arguments: str) -> None:
        if self._begun:
            raise ValueError(f"one stage can be converted, and a second one begins here: {_DOCKER}")
        if arguments.startswith("--"):
            raise ValueError("leave out the options of FROM")
        image = plain_text(shell_text(arguments.split(maxsplit=1)[0], self._globals))
        if image == "scratch" or not image:
            raise ValueError("begin with an image that has a shell")
        self._begun = True
        self.lines.append(f"FROM {image}\n")

    def _do_arg(self, arguments: str) -> None:
        for word in _words(arguments):
            name, given, value = word.partition("=")
            known = self._known if self._begun else self._globals
            if not given and name not in self._globals:
                raise ValueError(f"nobody says what it is: write its value, ARG {name}=VALUE")
            if name in self._variables:
                continue  # ENV wins
            known[name] = shell_text(value, known) if given else self._globals[name]
            if self._begun:
                self._run(f"export {_assignment(name, known[name])}")

    def _do_env(self, arguments: str) -> None:
        for name, body in [(name, shell_text(value, self._known)) for name, value in _pairs(arguments)]:
            line = f"export {_assignment(name, body)}"
            self._run(line)
            self.environment.append(line)
            self._variables.add(name)
            self._known.pop(name, None)
            if not _asks(body):
                self._known[name] = body

    def _do_label(self, arguments: str) -> None:
        for pair in _pairs(arguments):
            name, value = (plain_text(shell_text(text, self._known)) for text in pair)
            if not name or re.search(r"\s", name):
                raise ValueError("write the label's name without spaces")
            self.lines.append(f"LABEL {name} {value}\n")

    def _do_maintainer(self, arguments: str) -> None:
        self.lines.append(f"LABEL maintainer {arguments}\n")

    def _do_user(self, arguments: str) -> None:
        self._user = plain_text(shell_text(arguments, self._known)).partition(":")[0]

    def _do_shell(self, arguments: str) -> None:
        words = _list(arguments)
        if not words:
            raise ValueError('write SHELL ["/bin/bash", "-c"]')
        self._shell = words

    def _do_workdir(self, arguments: str) -> None:
        body = shell_text(arguments, self._known)
        self._placed = self._placed or body.startswith(("/", "$"))
        if not self._placed:
            raise ValueError("write the whole path: it can't be told which directory the image begins in")
        self._run(f'mkdir -p "{body}"')
        self._run(f'cd "{body}"')

    def _do_run(self, arguments: str) -> None:
        if re.match(r"--\w", arguments):
            raise ValueError("leave out the options of RUN")
        if _HEREDOC.search(arguments):
            raise ValueError("a heredoc: write a plain command line")
        if self._user not in ("root", "0"):
            raise ValueError(f"it would be run by {self._user!r}, and Apptainer knows root alone here: move it before USER")
        self._run(shlex.join(_list(arguments) or [*self._shell, arguments]))

    def _do_add(self, arguments: str) -> None:
        if "://" in arguments or arguments.startswith("git@"):
            raise ValueError("fetch it with RUN")
        self._do_copy(arguments)

    def _do_copy(self, arguments: str) -> None:
        _, name, _ = self._line
        if re.match(r"--\w", arguments):
            raise ValueError(f"leave out the options of {name}")
        if _HEREDOC.search(arguments):
            raise ValueError("a heredoc: write the text into a file beside the Dockerfile")
        *given, to = _list(arguments) or arguments.split()
        target = shell_text(to, self._known)
        found = [path for word in given for path in self._beside(plain_text(shell_text(word, self._known)))]
        self.sources += found
        if not (self._placed or target.startswith(("/", "$"))):
            raise ValueError("write the whole path of the target, or a WORKDIR before it")
        if not found or (len(found) > 1 and not target.endswith("/")):
            raise ValueError("write a directory with a / at its end after several files" if found else f"write {name} SOURCE TARGET")
        for path in found:
            self._copy(path, target)

    def _beside(self, word: str) -> list[Path]:
        """What is there of that name, or of that pattern."""
        folder, name = self._path.parent, normpath(word.lstrip("/") or ".")
        if name.split("/")[0] == "..":
            raise ValueError("copy what lies in the folder of the Dockerfile, or below")
        found = sorted(folder.glob(name)) if re.search(r"[*?\[]", name) else [folder / name]
        if not found or not found[0].exists():
            raise ValueError(f"there is no {word!r} beside the Dockerfile")
        return found

    def _copy(self, path: Path, target: str) -> None:
        source = str(path.relative_to(self._path.parent))
        if re.search(r"[\s*?\[\\'\"]", source):
            raise ValueError(f"give {source!r} a name without spaces, quotes and wildcards")
        if self._line[1] == "ADD" and _ARCHIVE.search(source):
            raise ValueError("unpack the archive with RUN: it would be copied as it is")
        if path.is_dir() and (self._path.parent / ".dockerignore").exists():
            raise ValueError("name the files to copy: .dockerignore would not be heeded for a folder")
        stage, into = f"{_STAGE}/{self._staged}", f'"{target.rstrip("/")}/{_literal(path.name)}"'
        self._staged += 1
        self.lines.append(f"COPY {source} {stage}\n")
        if path.is_dir():
            self._run(f'mkdir -p "{target}"')
            self._run(f'cp -a {stage}/. "{target}"')
        elif target.endswith("/"):
            self._run(f'mkdir -p "{target}"')
            self._run(f"cp -a {stage} {into}")
        else:
            self._run(f'mkdir -p "$(dirname "{target}")"')
            self._run(f'if [ -d "{target}" ]; then cp -a {stage} {into}; else cp -a {stage} "{target}"; fi')


def _list(arguments: str) -> list[str]:
    """The words of ``["a", "b"]``; none where that is something else, which Docker takes as it is written."""
    try:
        found = json.loads(arguments)
    except ValueError:
        return []
    return found if isinstance(found, list) and all(isinstance(word, str) for word in found) else []


def _words(arguments: str) -> list[str]:
    words = _WORD.findall(arguments)
    if re.sub(r"\s", "", "".join(words)) != re.sub(r"\s", "", arguments):
        raise ValueError("close the quotes")
    return words


def _pairs(arguments: str) -> list[tuple[str, str]]:
    """Names and values, as written: ``A=1 B="two words"``, or the old ``A all the rest``."""
    words = _words(arguments)
    if "=" not in words[0]:
        if len(words) == 1:
            raise ValueError("write NAME=VALUE")
        return [(words[0], arguments[len(words[0]) :].strip())]
    if not all("=" in word for word in words):
        raise ValueError("write NAME=VALUE for each, with quotes around values that have spaces")
    return [(name, value) for name, _, value in (word.partition("=") for word in words)]


def _literal(text: str) -> str:
    """``text`` as it stands between the double quotes of a shell."""
    return re.sub(r'([\\"$`])', r"\\\1", text)


def shell_text(text: str, known: Mapping[str, str], *, quoted: bool = False) -> str:
    """What a word of a Dockerfile is between the double quotes of a shell, what is ``known`` put in; ValueError if it can't be read."""
    parts, end = [], 0
    pattern = _QUOTED if quoted else _PIECE
    while end < len(text):
        found = pattern.match(text, end)
        if found is None:
            raise ValueError("close the quotes" if text[end] in "'\"" else f"write it without {text[end : end + 12]!r}")
        end, piece = found.end(), found.groupdict()
        if name := piece["braced"] or piece["name"]:
            parts.append(_variable(name, piece["how"], shell_text(piece["other"] or "", known, quoted=True), known))
        elif piece.get("double") is not None:
            parts.append(shell_text(piece["double"], known, quoted=True))
        else:
            parts.append(_literal(next(value for value in (piece.get("single"), piece["escaped"], piece["plain"]) if value is not None)))
    return "".join(parts)


def _variable(name: str, how: str | None, other: str, known: Mapping[str, str]) -> str:
    if name not in known:
        return f"${{{name}{how}{other}}}" if how else f"${{{name}}}"
    if how == ":+":
        return other if known[name] else ""
    return known[name] or (other if how else "")


def _asks(body: str) -> bool:
    """Whether it depends on a variable that the base image may have."""
    return "$" in re.sub(r"\\.", "", body)


def plain_text(body: str) -> str:
    """The text that a shell would make of it; ValueError where that depends on a variable of the base image."""
    if _asks(body):
        raise ValueError("write the value in place of the variable: it is none of ARG or ENV")
    return re.sub(r"\\(.)", r"\1", body)


def _assignment(name: str, body: str) -> str:
    if not re.fullmatch(r"[A-Za-z_]\w*", name):
        raise ValueError("name variables with letters, digits and _")
    return f"{name}={body}" if re.fullmatch(r"[\w./:@%+,-]+", body) else f'{name}="{body}"'
