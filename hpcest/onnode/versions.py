"""Names as folders, and numbered versions in them: what the registries of models, datasets and environments have in common."""

import os
from urllib.parse import quote, unquote

from hpcest.onnode.record import put_json

#: Says which process writes a version that is not there yet.
OWNER = "owner.json"


def folder_name(name):
    """What a path can't hold, or would not stay in its folder with, is percent-encoded."""
    encoded = quote(name, safe=" ", errors="surrogatepass")
    return encoded.replace(".", "%2E", 1) if encoded.startswith(".") else encoded


def names(root):
    """The names that have a folder in ``root``, sorted; none where it can't be read."""
    return sorted(unquote(entry, errors="surrogatepass") for entry in _entries(root))


def numbers(home, ending=""):
    """The versions in the folder of a name, lowest first: entries that are a number with ``ending`` behind it."""
    found = (entry[: len(entry) - len(ending)] for entry in _entries(home) if entry.endswith(ending))
    return sorted(int(text) for text in found if text.isascii() and text.isdigit() and len(text) < 10)


def publish(beside, facts):
    """Rename the folder ``beside`` of a model to the first number that nobody has or had, with ``facts``; returns the number."""
    home = os.path.dirname(beside)
    while True:
        version = max(numbers(home) + numbers(home, ".deleted"), default=0) + 1
        put_json(os.path.join(beside, "model.json"), dict(facts, version=version))
        try:
            os.rename(beside, os.path.join(home, str(version)))
        except OSError:
            if not os.path.exists(os.path.join(home, str(version))):
                raise
            continue
        try:
            os.unlink(os.path.join(home, str(version), OWNER))
        except FileNotFoundError:
            pass
        return version


def _entries(folder):
    try:
        return os.listdir(folder)
    except OSError:
        return []
