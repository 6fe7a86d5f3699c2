"""The files of an input on a node: those that its list names, or, where it has none, those that are there now."""

import errno
import glob
import os
import stat

from hpcest.onnode.record import get_json

MOST_LOOKS = 10000


class DataError(Exception):
    """Data that is not there, has no room, or can't be put where it should be."""


def files_of(name, facts):
    """(root, [(name, size, time in ns), …]) of the input ``name``. Raises DataError where there are none."""
    listed = get_json(facts["manifest"]) if facts.get("manifest") else None
    if listed:
        root, files = listed["root"], [(entry[0], entry[1], entry[2]) for entry in listed["files"]]
    else:
        root, files = facts.get("root") or "", list(_found(facts))
        if files and not root:
            root = os.path.commonpath([os.path.dirname(path) for path, _, _ in files])
            root = facts["path"] if facts.get("path") and os.path.isdir(facts["path"]) else root
        files = [(os.path.relpath(path, root), size, stamp) for path, size, stamp in files]
    if not files:
        raise DataError("input %r: there is no file in %s on %s" % (name, ", ".join(facts["paths"]), os.uname()[1]))
    for path, _, _ in files:
        if os.path.isabs(path) or ".." in path.split("/"):
            raise DataError("input %r: the file %r is not below %s" % (name, path, root))
    return root, files


def _found(facts):
    for pattern in facts["paths"]:
        for match in [pattern] if os.path.exists(pattern) else sorted(glob.glob(pattern, recursive=True)):
            walked = [[match]] if os.path.isfile(match) else ([os.path.join(w, n) for n in names] for w, _, names in os.walk(match))
            for paths in walked:
                for path in paths:
                    size, stamp = _stat(path)
                    if size is not None:
                        yield path, size, stamp


def check(name, facts):
    """Raise DataError for a file that has gone since the run was submitted; return the first that is another, and how many are.

    Of very many only the first ten thousand are looked at.
    """
    root, files = files_of(name, facts)
    changed = []
    for path, size, stamp in files[:MOST_LOOKS]:
        file = os.path.join(root, path)
        try:
            found = os.stat(file)
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
                raise DataError("input %r: %s can't be read: %s" % (name, file, error.strerror)) from error
            found = None
        if found is None or not stat.S_ISREG(found.st_mode):
            raise DataError("input %r: the file %s is gone; it was there when the run was submitted" % (name, file))
        if not _may_be_read(found) and not os.access(file, os.R_OK):
            raise DataError("input %r: %s can't be read: %s" % (name, file, os.strerror(errno.EACCES)))
        if (found.st_size, found.st_mtime_ns) != (size, stamp):
            changed.append(file)
    return (changed[0], len(changed)) if changed else None


def _may_be_read(found):
    """Whether that is plain from a file's own facts; to ask costs as much again as to have them."""
    return bool(found.st_mode & (stat.S_IRUSR if found.st_uid == os.getuid() else stat.S_IROTH))


def _stat(path):
    try:
        found = os.stat(path)
    except OSError:
        return None, None
    return (found.st_size, found.st_mtime_ns) if stat.S_ISREG(found.st_mode) else (None, None)


def link_all(name, facts, target):
    """Make the folder ``target`` with a link to each file of the input, under its name. Raises DataError."""
    if os.path.isdir(target):
        return  # of an earlier attempt, whole
    root, files = files_of(name, facts)
    beside = "%s.%d.tmp" % (target, os.getpid())
    try:
        os.makedirs(beside)
        for path, _, _ in files:
            link = os.path.join(beside, path)
            if os.path.dirname(path):
                os.makedirs(os.path.dirname(link), exist_ok=True)
            os.symlink(os.path.join(root, path), link)
        os.rename(beside, target)
    except OSError as error:
        raise DataError("input %r: its links can't be made in %s: %s" % (name, target, error.strerror)) from error
