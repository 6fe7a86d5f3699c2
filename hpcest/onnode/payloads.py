"""What is logged as a file: images, and the typed payloads of Azure ML (confusion matrices, accuracy tables, …).

Each takes a moment to write, so this is only imported for them.
"""

import json
import os

from hpcest.onnode.artifacts import artifact_path, keep, place_of, stamped
from hpcest.onnode.values import plain

KINDS = ("confusion_matrix", "accuracy_table", "residuals", "predictions")


def keep_image(folder, name, path, plot):
    """Keep an image in the run folder; return the artifact's name. Raises what is wrong with it, and OSError."""
    if path is not None and not isinstance(path, (str, bytes, os.PathLike)):
        path, plot = None, path if plot is None else plot  # log_image('name', figure)
    if (path is None) == (plot is None):
        raise ValueError("log_image(%r) takes either path= or plot=" % name)
    if path is not None:
        path = os.fsdecode(path)
        if not os.path.isfile(path):
            raise FileNotFoundError("log_image(%r): there is no file %r" % (name, path))
        artifact = stamped("images", name, os.path.splitext(path)[1])
        keep(path, place_of(folder, artifact))
        return artifact
    artifact = stamped("images", name, ".png")
    target = place_of(folder, artifact)
    _saver(name, plot)(target)
    return artifact


def _saver(name, plot):
    """What writes a plot to a path: pyplot and figures can, axes have a figure, images of Pillow have ``save``."""
    for owner, method in ((plot, "savefig"), (getattr(plot, "figure", None), "savefig"), (plot, "save")):
        if callable(getattr(owner, method, None)):
            return getattr(owner, method)
    raise TypeError("log_image(%r): %s is no plot: give a matplotlib figure, pyplot, or a path" % (name, type(plot).__name__))


def keep_payload(folder, kind, name, value):
    """Keep a typed payload (a dict, its JSON text, or the path of a file with it); return the artifact's name.

    Raises ValueError for what is no payload of this kind, OSError.
    """
    payload = _payload(value)
    if not isinstance(payload, dict) or "data" not in payload or "schema_version" not in payload:
        raise ValueError("a payload has schema_type, schema_version and data, and this is %s" % _described(payload))
    if payload.get("schema_type") != kind:
        raise ValueError("the payload's schema_type is %r, not %r" % (payload.get("schema_type"), kind))
    artifact = stamped(kind, name, ".json")
    text = json.dumps(plain(payload))
    target = place_of(folder, artifact)
    beside = "%s.%d.part" % (target, os.getpid())
    with open(beside, "w", encoding="utf-8") as stream:
        stream.write(text)
    os.replace(beside, target)
    return artifact


def content_of(folder, value):
    """What the typed payload holds whose artifact's name ``value`` is; any other value as it is."""
    if not isinstance(value, str) or value.partition("/")[0] not in KINDS or not value.endswith(".json"):
        return value
    try:
        with open(artifact_path(folder, value), encoding="utf-8") as stream:
            return json.load(stream)
    except (OSError, ValueError):
        return value


def _payload(value):
    if not isinstance(value, (str, bytes, os.PathLike)):
        return value
    text = os.fsdecode(value)
    if not text.lstrip().startswith(("{", "[")):
        if not os.path.isfile(text):
            raise ValueError("%.200r is neither JSON nor the path of a file" % text)
        with open(text, encoding="utf-8") as stream:
            text = stream.read()
    return json.loads(text)


def _described(payload):
    if isinstance(payload, dict):
        return "a dict with %s" % (", ".join(sorted(map(str, payload))[:8]) or "nothing")
    return type(payload).__name__
