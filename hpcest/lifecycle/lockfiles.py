"""Lock files to keep in git: what was asked for, what it came to, and on which base image.

The head is made of comments, so that the rest is what uv and conda read too::

    # hpcest environment lock, version 1
    # kind: apptainer
    # key: 3f9d…
    # base: 1a2b…                    (the digest of the base image)
    # origin: docker://debian:12@sha256:1a2b…
    # asked: pip scikit-learn
"""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from pathlib import Path

from hpcest.contracts import Lock
from hpcest.errors import SpecError
from hpcest.kit.files import write_text
from hpcest.model.spec import EnvironmentSpec

FILE_NAME = "environment.lock"
_TITLE = "# hpcest environment lock, version "
_VERSION = 1
_FIELD = re.compile(r"# (kind|key|name|base|reference|origin|python|layout|resolved|asked): ?(.*)")
_CLOCK = "%Y-%m-%dT%H:%M:%SZ"


@dataclass(frozen=True)
class LockFile:
    """A lock as a file has it. ``asked`` is what it was made of, ``resolved`` when (seconds since the epoch).

    ``base`` is the digest that tells the base image on every machine, ``reference`` what that was called, and ``origin`` what gives
    the image that it began with again; empty for a kind without one, ``origin`` also for files.
    """

    kind: str
    key: str
    text: str
    name: str = ""
    base: str = ""
    reference: str = ""
    origin: str = ""
    python: str = ""
    layout: str = ""
    resolved: float = 0.0
    asked: tuple[str, ...] = ()

    def __str__(self) -> str:
        moment = time.strftime(_CLOCK, time.gmtime(self.resolved)) if self.resolved else ""
        facts = {"kind": self.kind, "key": self.key, "name": self.name, "base": self.base, "reference": self.reference}
        more = {"origin": self.origin, "python": self.python, "layout": self.layout, "resolved": moment}
        head = [f"# {name}: {_one_line(value)}" for name, value in {**facts, **more}.items() if value]
        return "\n".join([f"{_TITLE}{_VERSION}", *head, *(f"# asked: {one}" for one in self.asked), "#", self.text])


def _one_line(text: str) -> str:
    return " ".join(text.split())


def lock_file(lock: Lock, spec: EnvironmentSpec) -> LockFile:
    """The lock that ``spec`` came to, as a file has it."""
    facts, has_base = lock.facts, lock.kind == "apptainer"
    return LockFile(
        lock.kind,
        lock.key,
        lock.text,
        name=spec.name,
        base=str(facts.get("identity", "")) if has_base else "",
        reference=str(facts.get("reference", "")) if has_base else "",
        origin=str(facts.get("origin", "")) if has_base else "",
        python=str(facts.get("version") or ""),
        layout=str(facts.get("layout", "")),
        resolved=float(facts.get("resolved") or 0.0),
        asked=asked_of(spec),
    )


def read_lock_file(path: Path) -> LockFile:
    """The lock file ``path``. Raises SpecError."""
    remedy = "write one: hpcest env lock SPEC -o FILE"
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        problem = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise SpecError(f"the lock file {path} can't be read: {(problem or str(error)).lower()}", hint=remedy) from None
    title, _, rest = text.replace("\r\n", "\n").partition("\n")
    if not title.startswith(_TITLE):
        raise SpecError(f"{path} is no lock file of hpcest: it does not begin with {_TITLE.strip()!r}", hint=remedy)
    if title.removeprefix(_TITLE).strip() != str(_VERSION):
        raise SpecError(f"{path} was written by a newer version of hpcest", hint="upgrade hpcest: pip install --upgrade hpcest")
    head, _, body = rest.partition("\n#\n")
    found: dict[str, str] = {}
    asked = []
    for line in head.splitlines():
        field = _FIELD.fullmatch(line)
        if field and field[1] == "asked":
            asked.append(field[2])
        elif field:
            found[field[1]] = field[2]
    if not found.get("kind") or not found.get("key"):
        raise SpecError(f"{path} is damaged: its head names no kind and key", hint="take it from git again, or write it anew")
    return LockFile(**{**found, "text": body, "resolved": _seconds(found.get("resolved", "")), "asked": tuple(asked)})  # type: ignore[arg-type]  # all others are texts


def _seconds(text: str) -> float:
    import calendar

    try:
        return float(calendar.timegm(time.strptime(text, _CLOCK)))
    except ValueError:
        return 0.0


def write_lock_file(path: Path, lock: LockFile) -> None:
    """Write a lock file, by rename. Raises SpecError."""
    try:
        write_text(path, str(lock))
    except OSError as error:
        raise SpecError(f"the lock file {path} can't be written: {error.strerror}", hint="name a file that you can write to") from None


def asked_of(spec: EnvironmentSpec) -> tuple[str, ...]:
    """What decides about the packages of ``spec``, a line each, sorted, whatever the spelling; without secrets and local paths.

    Raises SpecError for what can't be read.
    """
    from hpcest.environments.conda.matchspecs import normalise
    from hpcest.environments.requirements import read
    from hpcest.environments.secrets import strip

    request = read(spec.pip)
    found = [f"conda {one}" for one in normalise(spec.conda)]
    for one in request.wanted:
        text = f"local {one.content[:32]}" if one.kind == "local" else one.text
        found.append(" ".join(["pip", text, *(f"--hash={value}" for value in sorted(one.hashes))]))
    options = request.options
    found += ["pip --pre"] if options.pre else []
    found += [f"pip --no-binary {one}" for one in options.no_binary] + [f"pip --only-binary {one}" for one in options.only_binary]
    found += [f"channel {number} {one}" for number, one in enumerate(spec.channels, 1)] if spec.conda else []
    once = {"image": _image(spec.image), "python": spec.interpreter, "layout": spec.layout}
    found += [f"{name} {value}" for name, value in once.items() if value]
    for name, steps in (("system", spec.system), ("step", spec.steps)):
        found += [f"{name} {number} {_one_line(step)}" for number, step in enumerate(steps, 1)]
    return tuple(sorted(map(strip, found)))


def _image(text: str) -> str:
    """A reference as it is, and of a file its name: it lies elsewhere on another machine, and its content is in the lock."""
    return text if "://" in text or not text or not Path(text).exists() else Path(text).name


def check_fit(lock: LockFile, spec: EnvironmentSpec, path: Path) -> None:
    """Refuse a lock that was made of something else than is asked for. Raises SpecError that names the difference."""
    asked, made_of = set(asked_of(spec)), set(lock.asked)
    differences = [f"{line!r} is not in it" for line in sorted(asked - made_of)]
    differences += [f"it has {line!r}" for line in sorted(made_of - asked)]
    if spec.kind not in ("auto", lock.kind):
        differences.append(f"it is for the kind {lock.kind!r}, and {spec.kind!r} is asked for")
    if differences:
        more = f" (and {len(differences) - 4} more)" if len(differences) > 4 else ""
        raise SpecError(
            f"the lock file {path} does not fit what is asked for: {'; '.join(differences[:4])}{more}",
            hint=f"write it anew: hpcest env lock SPEC -o {path} --update",
        )
