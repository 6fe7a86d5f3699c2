"""The files of a run: where each lies in its folder, and how one comes to be there whole."""

import errno
import os

# Where the artifacts of a run lie in its folder. Any other name is kept below ``artifacts/``.
ARTIFACT_FOLDERS = ("outputs", "logs", "user_logs", "system_logs")
_CHUNK = 1 << 20


def artifact_path(folder, name):
    """The path of the artifact ``name`` in the run folder. Raises ValueError if it would leave it, or can be no file's name."""
    if not isinstance(name, (str, os.PathLike)) or "\0" in str(name):
        raise ValueError("%r can't be the name of a file" % (name,))
    parts = str(name).replace("\\", "/").split("/")
    if os.path.isabs(str(name)) or ".." in parts or not [part for part in parts if part not in ("", ".")]:
        raise ValueError("artifact name %r must be a relative path without '..'" % (name,))
    parts = [part for part in parts if part not in ("", ".")]
    if parts[0] not in ARTIFACT_FOLDERS:
        parts.insert(0, "artifacts")
    return os.path.join(str(folder), *parts)


def artifact_names(folder):
    """The names of all artifacts in the run folder, sorted. Links are named, not followed."""
    names: list = []
    for top in ARTIFACT_FOLDERS + ("artifacts",):
        root = os.path.join(str(folder), top)
        for where, folders, files in os.walk(root):
            links = [name for name in folders if os.path.islink(os.path.join(where, name))]
            below = os.path.relpath(where, root if top == "artifacts" else str(folder))
            names.extend(os.path.normpath(os.path.join(below, name)) for name in files + links)
    return sorted(names)


def place_of(folder, name):
    """The path of the artifact ``name``, to be written: the folders above it are there.

    Raises ValueError for a name that can be no file's, or would leave the run folder, by a link too; OSError, also for a run
    that was deleted, which must not come back as a folder with one file in it.
    """
    target = artifact_path(folder, name)
    try:
        os.fsencode(target)
    except UnicodeEncodeError:
        raise ValueError("%r can't be the name of a file" % (name,)) from None
    root = os.path.realpath(folder)
    if not os.path.isfile(os.path.join(root, "run.json")):
        raise FileNotFoundError(errno.ENOENT, "the run's folder is gone", folder)
    if os.path.commonpath([root, os.path.realpath(os.path.dirname(target))]) != root:
        raise ValueError("artifact name %r leads out of the run folder, by a link" % (name,))
    os.makedirs(os.path.dirname(target), exist_ok=True)
    return target


def keep(source, target):
    """Copy a file, or what a stream holds (a text as UTF-8), to ``target``, which appears whole. Raises OSError."""
    import shutil  # brings a dozen modules along, which a program that only logs does without

    if not hasattr(source, "read") and os.path.exists(target) and os.path.samefile(source, target):
        return  # already live in the run folder
    beside = "%s.%d.part" % (target, os.getpid())
    try:
        if hasattr(source, "read"):
            with open(beside, "wb") as stream:
                part = source.read(_CHUNK)
                while part:
                    stream.write(part.encode("utf-8", "surrogatepass") if isinstance(part, str) else part)
                    part = source.read(_CHUNK)
        else:
            shutil.copyfile(source, beside)
        os.replace(beside, target)
    except BaseException:
        try:
            os.unlink(beside)
        except OSError:
            pass
        raise


def stamped(folder, name, suffix):
    """The name of a new artifact in ``folder``, after the metric ``name``: ``images/loss_1795229012109688.png``."""
    import time

    stem = "".join(char if char.isalnum() or char in "-_." else "_" for char in name)[:100]
    return "%s/%s_%d%s" % (folder, stem.encode("ascii", "replace").decode().replace("?", "_"), time.time_ns() // 1000, suffix)
