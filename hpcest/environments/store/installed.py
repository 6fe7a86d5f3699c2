"""The full check of a virtual environment or a conda prefix: its Python starts, and what installers recorded is as it was."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import re
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from packaging.utils import canonicalize_name

from hpcest.environments.images import BAD, Place
from hpcest.environments.store.digests import chunks_of
from hpcest.environments.store.entries import label
from hpcest.environments.store.layout import failure
from hpcest.environments.store.verify import Verdict
from hpcest.kit.process import Finished, run

#: Seconds: a Python on a cold network file system can take ten.
TIME_LIMIT_S = 60.0
#: Sentences about files that one environment gets; where a folder is gone, thousands would be true.
MOST_SAID = 20
_NO_ANSWER = 124
_ALGORITHMS = ("sha256", "sha384", "sha512")
#: What a file may be, as (algorithm, digest in hex): two packages may have written it, of which the last one counts. None: anything.
_Allowed = dict[str, set[tuple[str, str]]]


def verify_place(place: Place) -> Verdict:
    """Check the image that is named at a place. Changes nothing in it; a damaged one is named no more, so that it is built again.

    One whose Python this machine does not have, or where that gives no answer, is a problem too, and is left as it is.
    Raises EnvironmentBuildError.
    """
    seen, manifest = place.seen(), place.manifest()
    called = label(str(manifest.get("key") or place.folder.name.partition("-")[0]), str(manifest.get("name") or ""))
    if seen is None:
        return Verdict(called, (f"{called}: it was removed just now",))
    try:
        image, wrong = place.inspect()
        elsewhere = _elsewhere(manifest, place) if wrong else ""
        if elsewhere:
            return Verdict(called, (f"{called}: {elsewhere}",))
        started = _start(image.python) if image and manifest.get("python") != "" else None
        if started and started.code == _NO_ANSWER:
            return Verdict(called, (f"{called}: its Python gave no answer in {TIME_LIMIT_S:g} s; it is left as it is",))
        problems = [wrong] if wrong else []
        if started and not started.ok:
            problems.append(f"its Python does not start: {_last_line(started)}")
        problems += problems_of(image.folder, manifest.get("packages") or ()) if image else []
        aside = place.take_away(seen, BAD) if problems else None
    except OSError as error:
        raise failure(called, place.folder, error) from error
    return Verdict(called, tuple(f"{called}: {problem}" for problem in problems), (aside,) if aside else ())


def _elsewhere(manifest: dict[str, Any], place: Place) -> str:
    """Why its Python can't be there: another machine with the same workspace may have it."""
    base, folder = str(manifest.get("base") or ""), place.named(manifest)
    there = folder is not None and os.path.lexists(folder / "bin" / "python")
    return f"its Python {base} is not on this machine; it is left as it is" if there and base and not os.path.exists(base) else ""


def _start(python: Path) -> Finished:
    return run([python, "-I", "-B", "-c", ""], timeout=TIME_LIMIT_S)


def _last_line(done: Finished) -> str:
    return (done.err.strip() or done.out.strip() or f"exit code {done.code}").splitlines()[-1][:200]


def problems_of(folder: Path, packages: Iterable[object]) -> list[str]:
    """What is not as conda (``conda-meta``) and pip or uv (``RECORD``) have recorded it, in sentences without a subject.

    ``packages`` are the names, with or without versions, that have to be there. What nobody recorded may be anything.
    Raises OSError.
    """
    allowed: _Allowed = {}
    problems: list[str] = []
    names = {*_conda(folder, allowed, problems), *_wheels(folder, allowed, problems)}
    wanted = {canonicalize_name(found[0]): str(line) for line in packages if (found := re.match(r"[\w.-]+", str(line)))}
    problems += [f"its package {wanted[name]} is gone" for name in sorted({*wanted} - names)]
    files = [f"its {path} {wrong}" for path, digests in sorted(allowed.items()) if (wrong := _differs(folder / path, digests))]
    rest = len(files) - MOST_SAID
    return [*problems, *files[:MOST_SAID], *([f"{rest} more of its files are gone or changed"] if rest > 0 else [])]


def _conda(folder: Path, allowed: _Allowed, problems: list[str]) -> Iterable[str]:
    """Collect what conda's packages recorded; returns their names."""
    for record in sorted(folder.glob("conda-meta/*.json")):
        yield canonicalize_name(record.name.rsplit("-", 2)[0])
        try:
            paths = [dict(one) for one in json.loads(record.read_bytes())["paths_data"]["paths"]]
            known = {str(one["_path"]): _digest_of(one) for one in paths if one.get("path_type") not in ("directory", "pyc_file")}
        except (ValueError, TypeError, KeyError, AttributeError):
            problems.append(f"its conda-meta/{record.name} can't be read")
            continue
        for path, digest in known.items():
            _allow(allowed, path, digest)


def _digest_of(path: dict[str, Any]) -> tuple[str, str] | None:
    """What the file is in this prefix; None where that is not recorded, as for links."""
    digest = path.get("sha256_in_prefix") or ("" if path.get("prefix_placeholder") else path.get("sha256"))
    return ("sha256", str(digest)) if digest and path.get("path_type") != "softlink" else None


def _wheels(folder: Path, allowed: _Allowed, problems: list[str]) -> Iterable[str]:
    """Collect what pip or uv recorded of packages that are none of conda's; returns the names of all."""
    for info in sorted(folder.glob("lib/python3*/site-packages/*.dist-info")):
        yield canonicalize_name(info.name.partition("-")[0])
        record = info / "RECORD"
        if any(os.path.normpath(info.relative_to(folder) / name) in allowed for name in ("RECORD", "METADATA")):
            continue  # conda's own: what it recorded is what it was before it was linked
        try:
            rows = [row for row in csv.reader(io.StringIO(record.read_text(encoding="utf-8"))) if row]
            hashes = [(row[0], *row[1].partition("=")[::2]) for row in rows if row[1]]
        except FileNotFoundError:
            problems.append(f"its {record.relative_to(folder)} is gone")
            continue
        except (ValueError, IndexError, csv.Error):
            problems.append(f"its {record.relative_to(folder)} can't be read")
            continue
        for path, algorithm, digest in hashes:
            place = os.path.relpath(os.path.normpath(info.parent / path), folder)
            if not place.startswith(".."):
                _allow(allowed, place, (algorithm, _hex(digest)) if algorithm in _ALGORITHMS else None)


def _hex(digest: str) -> str:
    """The hex of what a RECORD has in URL-safe base 64 without padding; itself where it is no such thing."""
    import base64

    try:
        return base64.urlsafe_b64decode(digest + "=" * (-len(digest) % 4)).hex()
    except ValueError:
        return digest


def _allow(allowed: _Allowed, path: str, digest: tuple[str, str] | None) -> None:
    known = allowed.setdefault(path, set())
    if digest:
        known.add(digest)


def _differs(path: Path, digests: set[tuple[str, str]]) -> str:
    """How a file differs from all that it may be: the end of a sentence, empty where it does not. Raises OSError."""
    try:
        facts = os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return "is gone"
    if not digests:
        return ""
    if not stat.S_ISREG(facts.st_mode) and not path.is_file():
        return "is no file any more"
    with open(path, "rb", buffering=0) as stream:
        sums = {algorithm: hashlib.new(algorithm) for algorithm, _ in digests}
        for chunk in chunks_of(stream.fileno()):
            for one in sums.values():
                one.update(chunk)
    same = any(sums[algorithm].hexdigest() == digest for algorithm, digest in digests)
    return "" if same else "has another content than was installed"
