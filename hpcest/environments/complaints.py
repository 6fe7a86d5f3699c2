"""What uv and pip say when they fail: the lines that matter, and the advice that goes with them."""

from __future__ import annotations

import re
from collections.abc import Sequence

LONGEST_LINES = 12
LONGEST_TEXT = 1500
# uv draws its complaints with box characters, or without them where it is newer.
_OPENS = re.compile(r"^\s*(ERROR:|error:|fatal:|\u00d7|The conflict is caused by|.*No solution found|Error:|.*\berror\b:)", re.IGNORECASE)
_GOES_ON = re.compile(r"^(\s+\S|\s*(cause|Caused by|hint|help)\b|[│╰├])", re.IGNORECASE)
_NOISE = re.compile(
    r"^\s*(WARNING|notice|\[notice\]|Looking in|Using Python|note: This error originates|╰─> \[|\[end of output\])", re.IGNORECASE
)
_RETRY = re.compile(r"^\s*WARNING: Retrying .* connection broken by ")

_ADVICE = (
    (
        r"hash(es)? mismatch|do not match the hashes|none of the hashes",
        "a file of the index is not the one that was locked: find out who changed it before you trust it; "
        "to accept it, change the requirement so that it is resolved again",
    ),
    (r"No space left|Disk quota exceeded", "free some space, or put the tools' caches elsewhere with UV_CACHE_DIR or PIP_CACHE_DIR"),
    (
        r"certificate|UnknownIssuer|SSLError|CERTIFICATE_VERIFY",
        "a proxy that inspects traffic is likely: set SSL_CERT_FILE to the file with its certificate authority",
    ),
    (
        r"\b(401|403)\b|Unauthorized|Forbidden",
        "the index wants credentials: write its URL as https://${USER}:${TOKEN}@host/ or use ~/.netrc",
    ),
    (
        r"dns error|Name or service not known|Temporary failure in name|Connection refused|timed? ?out|NewConnectionError|"
        r"Network is unreachable|No route to host|tcp connect error|Could not connect|error sending request|"
        r"ConnectionError|Failed to establish",
        "this machine can't reach the index: check HTTPS_PROXY, name a mirror with PIP_INDEX_URL or --index-url, "
        "or give wheels with --no-index --find-links DIR",
    ),
    (
        r"was not found in the (package registry|provided package locations)|\(from versions: none\)",
        "check the spelling of the name, and that the index in use has the package",
    ),
    (
        r"ResolutionImpossible|conflicting dependencies|we can conclude that|unsatisfiable",
        "loosen or remove one of the requirements named above",
    ),
    (r"No matching distribution|Could not find a version", "ask for a version that the index has"),
    (r"ensurepip|No module named pip", "this Python has no pip: install uv with pip install 'hpcest[fast]'"),
    (
        r"Failed (to )?build|building wheel|metadata-generation-failed|subprocess-exited|command '?\S*(gcc|g\+\+|cc|nvcc)|build backend",
        "the package has no wheel for this Python and could not be built: load a compiler, or ask for a version with a wheel",
    ),
)


def decisive(lines: Sequence[str]) -> str:
    """The lines of a failed tool's output that say why, the last ones where none stands out."""
    kept: list[str] = []
    inside = False
    for line in lines:
        if _NOISE.match(line):
            inside = False
        elif _OPENS.match(line) or (inside and _GOES_ON.match(line)):
            inside = True
            kept.append(re.sub(r"^[\s\u00d7│╰├▶─]*(error:\s*)?", "", line, flags=re.IGNORECASE).rstrip())
    broken = [line.partition(" by ")[2] for line in lines if _RETRY.match(line)]  # pip goes on as if the index were empty
    kept = list(dict.fromkeys(filter(None, [*kept, *broken[-1:]]))) or [line.strip() for line in lines[-5:]]
    return "\n".join(kept[:LONGEST_LINES])[:LONGEST_TEXT]


def hint_for(words: str) -> str:
    """The next step after a failure that is known by its words; empty for others."""
    return next((advice for pattern, advice in _ADVICE if re.search(pattern, words, re.IGNORECASE)), "")
