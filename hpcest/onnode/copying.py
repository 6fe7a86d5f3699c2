"""Copying what is kept: a file, or a folder with all that belongs to it, as few bytes as the file system allows.

A program may put any link into its outputs. One that stays within the run folder is as good as the file; one that leads
out of it is refused, for who copies may read more than who wrote the link.
"""

import fcntl
import os
import shutil
import stat
from pathlib import Path

_FICLONE = 0x40049409  # of <linux/fs.h>
_CHUNK = 1 << 22


class Refused(ValueError):
    """What can't be done as it was asked for; ``hint`` is what to do."""

    def __init__(self, message, hint=""):
        super().__init__("%s; %s" % (message, hint) if hint else message)
        self.message, self.hint = message, hint


def why_not(path, root):
    """Why ``path`` can't be copied as a file that lies below ``root``; empty where it can."""
    try:
        real = path.resolve(strict=True)
        mode = real.stat().st_mode
    except (OSError, RuntimeError):  # RuntimeError: Python's word for a loop of links, before 3.13
        return "is a link that leads nowhere"
    if not is_inside(real, root.resolve()):
        return "is a link that leads out of the run folder, to %s" % real
    if stat.S_ISREG(mode):
        return ""
    return "is a folder" if stat.S_ISDIR(mode) else "is a pipe, a socket or a device"


def is_inside(path, root):
    """Whether ``path`` is ``root`` or below it, by the names alone."""
    return path == root or root in path.parents


def clone(source, target):
    """Copy a file; where the file system can, both share their blocks until one is written to (XFS, Btrfs, …).

    Else the kernel copies it, or the server of a network file system, where they can.
    """
    with open(source, "rb", buffering=0) as reading, open(target, "wb", buffering=0) as writing:
        try:
            return fcntl.ioctl(writing.fileno(), _FICLONE, reading.fileno())
        except OSError:
            pass
        if not _copied_below(reading.fileno(), writing.fileno()):
            reading.seek(0)
            writing.seek(0)
            writing.truncate()
            shutil.copyfileobj(reading, writing, _CHUNK)
    return target


def _copied_below(source, target):
    """Whether the kernel has copied the whole file; false where it can't."""
    left = os.fstat(source).st_size
    done = left  # a file without a size may have a content, such as those of /proc
    try:
        while left and done:
            done = os.copy_file_range(source, target, min(left, _CHUNK << 6))
            left -= done
    except (OSError, AttributeError):  # no such call in the kernel, the file system or the C library
        return False
    return bool(done)


def share(source, target):
    """Have one file under both names, which nobody may write to any more; a clone where that can't be.

    Root may write to any file, and a file of somebody else can't be made read-only: these are cloned.
    """
    found = source.stat()
    if os.geteuid() != 0 and found.st_uid == os.geteuid():
        try:
            os.link(source.resolve(), target)
            target.chmod(stat.S_IMODE(found.st_mode) & ~0o222)
            return target
        except OSError:  # another file system, or one without links
            try:
                target.unlink()
            except FileNotFoundError:
                pass
    return clone(source, target)


def copy_whole(source, target, root=None, put=shutil.copyfile, _above=()):
    """Copy a file, or a folder with everything in it, to ``target``, which is new or a folder to add to. All are ``Path``s.

    Links are copied as what they lead to, so that the copy is complete, unless they lead to something within
    the folder itself. With ``root`` nothing may lead out of it. Raises Refused for that, for links that
    lead nowhere or in a circle, and for pipes and the like; OSError. ``put`` is how each file is copied.
    """
    _check(source, root)
    if not source.is_dir():
        put(source, target)
        return
    top = source.resolve()
    if top in _above:
        raise Refused("the links in %r lead in a circle, by %r" % (str(_above[0]), str(top)), "remove one of them")
    target.mkdir(exist_ok=True)
    for path in _below(source):
        here = target / path.relative_to(source)
        _check(path, root)
        if path.is_symlink() and is_inside(path.resolve(), top):
            try:
                here.unlink()
            except FileNotFoundError:
                pass
            here.symlink_to(os.path.relpath(path.resolve(), path.parent.resolve()))
        elif not path.is_dir():
            put(path, here)
        elif path.is_symlink():
            copy_whole(path.resolve(), here, root, put, (*_above, top))
        else:
            here.mkdir(exist_ok=True)


def _below(folder):
    """Everything below ``folder``, a folder before what is in it; links are named, not followed."""
    for where, folders, names in os.walk(folder):
        for name in sorted(folders + names):
            yield Path(where, name)


def _check(path, root):
    problem = why_not(path, root if root is not None else Path("/"))
    if problem and problem != "is a folder":
        raise Refused("%r %s, so the copy would not be complete" % (str(path), problem), "replace it by a plain file, or remove it")
