"""What Apptainer says when it fails: the line that matters, and the advice that goes with it."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from hpcest.errors import EnvironmentBuildError

_ELSE = "or use another kind of environment, such as venv"
_LOGIN = "check the name, or log in first: apptainer registry login --username NAME docker://REGISTRY"
_ADVICE = (
    (
        r"mkdir /tmp/|failed to create temporary directory|/tmp.*(permission denied|read-only)",
        "Apptainer needs a /tmp that you can write to, whatever TMPDIR says",
    ),
    (
        r"no space left|quota exceeded",
        "free some space, or have it build elsewhere: environment: {scratch: DIR} in the configuration, on a local disk with room",
    ),
    (r"noexec", "have it build elsewhere: environment: {scratch: DIR} in the configuration, on a disk that programs may be started from"),
    (
        r"subuid|newuidmap|fakeroot|change uid and gids",
        "this step needs a range for you in /etc/subuid and /etc/subgid: ask the site, or use a base image that has what it installs",
    ),
    (r"read the squashfs|not a valid squashfs|corrupt|unexpected EOF", "the file is damaged or cut short: get it anew"),
    (r"/dev/fuse|squashfuse|fusermount", f"images are mounted with FUSE here: the site must allow /dev/fuse, {_ELSE}"),
    (r"user namespace|clone.*operation not permitted|max_user_namespaces", f"this host forbids user namespaces: ask the site, {_ELSE}"),
    (r"x509|certificate|tls:", "a proxy that inspects traffic is likely: set SSL_CERT_FILE to the file with its certificate authority"),
    (r"toomanyrequests|rate limit", "the registry limits anonymous downloads: log in, or name a mirror"),
    (r"manifest unknown|not found: manifest|name not known", "check the image's name and tag"),
    (r"unauthorized|authentication required|denied: requested access|access to the resource is denied", _LOGIN),
    (
        r"no such host|dial tcp|connection refused|timeout|network is unreachable|deadline exceeded",
        "this machine can't reach the registry: build on one that can, name an image file in environment: {image: …}, or do without a "
        "container (--env venv)",
    ),
    (r"could not open image|image format not recognized|unknown image format|while reading", "the file is no image, or is damaged"),
)
_NOISE = re.compile(r"^(INFO|WARNING|DEBUG|VERBOSE):")


def decisive(text: str | Sequence[str]) -> str:
    """What it failed of: Apptainer's own FATAL line, else the last lines."""
    lines = [line.strip() for line in (text.splitlines() if isinstance(text, str) else text) if line.strip()]
    fatal = [line.partition("FATAL:")[2].strip() for line in lines if "FATAL:" in line]
    rest = [line for line in lines if not _NOISE.match(line)]
    return " ".join(fatal[-1:]) or "\n".join(rest[-5:]) or "it said nothing"


@contextlib.contextmanager
def explained() -> Iterator[None]:
    """Around a step of Apptainer's own: where it fails, the error has its words without the frills, and the advice that goes with them."""
    try:
        yield
    except EnvironmentBuildError as error:
        step, mark, said = error.message.partition(" failed: ")
        words = re.sub(r"(FATAL:|ERROR:)\s+|While performing build: |conveyor failed to get: ", "", said)
        advice = remedy(said)
        if "%post" in said:  # its own words are in the log alone
            words = "\n".join([*last_lines(error.log), words])
        message = f"{step}{mark}{words}" if mark else error.message
        raise EnvironmentBuildError(message, hint=advice or error.hint, log=error.log) from None


def last_lines(log: str, count: int = 6) -> list[str]:
    """What a step said before Apptainer gave up."""
    with contextlib.suppress(OSError, IndexError):
        lines = [line.partition("] ")[2] for line in Path(log).read_text(encoding="utf-8").splitlines()]
        begins = max(number for number, line in enumerate(lines) if line.startswith("$ "))
        said = [line for line in lines[begins + 1 :] if not _NOISE.match(line) and not line.startswith(("FATAL:", "failed at "))]
        return said[-count:]
    return []


def remedy(words: str) -> str:
    """The next step after a failure that is known by its words; empty for others."""
    return next((advice for pattern, advice in _ADVICE if re.search(pattern, words, re.IGNORECASE)), "")
