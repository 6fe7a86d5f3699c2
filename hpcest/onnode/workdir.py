"""The working directory of a run: laid out from its snapshot before, tidied of what is unchanged after.

A snapshot is a manifest and a store of objects. The manifest is one JSON object, its file named by the
sha256 of its bytes (``hpcest.lifecycle.snapshot`` writes it, sorted, without blanks)::

    {"format": 1,
     "files": [[path, executable, size, sha256], ...],
     "links": [[path, target], ...],            symbolic links, targets kept as they are
     "dirs":  [path, ...]}                      directories with nothing in them

Paths are relative, with ``/``; a name that isn't UTF-8 has its odd bytes as lone surrogates (Python's
surrogateescape), whatever the locale is. The object with sha256 ``abcd…`` is the file ``ab/cd…``.
"""

import collections
import json
import os
import shutil
import stat
import time

FORMAT = 1
_THROUGH = (b"outputs", b"logs")
_TRIAL, _QUICK_S, _THREADS = 32, 0.002, 8
_CHUNK = 1 << 20


class LayoutError(Exception):
    """A snapshot that can't be laid out: the manifest or an object is damaged, or the disk refuses."""


def read_manifest(path):
    """The manifest in the file ``path``, its paths as bytes. Raises LayoutError for one that can't be right.

    No path of it leads out of the directory that it is laid out in, not by ``..`` and not by a link.
    """
    try:
        with open(path, encoding="utf-8") as stream:
            data = json.load(stream)
        if data["format"] != FORMAT:
            raise LayoutError("%s has format %r, this version of hpcest knows %d" % (path, data["format"], FORMAT))
        files = [(_inside(name), bool(executable), int(size), _hex(digest)) for name, executable, size, digest in data["files"]]
        links = [(_inside(name), _encode(target)) for name, target in data["links"]]
        dirs = [_inside(name) for name in data["dirs"]]
    except OSError as error:
        raise LayoutError("the snapshot's manifest can't be read: %s" % error) from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise LayoutError("the snapshot's manifest %s is damaged: %s" % (path, error)) from error
    manifest = {"files": files, "links": links, "dirs": dirs}
    leaves = [entry[0] for entry in files + links]
    ends = set(leaves)
    clash = _folders(manifest) & ends
    if clash or len(ends) != len(leaves):
        raise LayoutError("the snapshot's manifest %s is damaged: a path is there twice" % path)
    return manifest


def lay_out(manifest_path, objects_root, work, outputs, logs, stamp):
    """Make ``work`` from a snapshot: copies, never links to the store, all with the time ``stamp``.

    ``stamp`` is in seconds since the epoch, used without its fraction since not every file system keeps
    one. ``work/outputs`` and ``work/logs`` are links to the directories ``outputs`` and ``logs``; what the
    snapshot has below those names is put there. What is already there stays as it is, so a second attempt
    finds what the first one wrote. Raises LayoutError; a ``work`` that was not there is then still not there.
    """
    manifest = read_manifest(manifest_path)
    objects, work = _path(objects_root), _path(work)
    here, through = _split(manifest)
    try:
        os.makedirs(os.path.dirname(os.path.abspath(work)), exist_ok=True)
        for name, target in zip(_THROUGH, (_path(outputs), _path(logs))):
            os.makedirs(target, exist_ok=True)
            write_tree(through[name], objects, target, int(stamp))
        here["links"] += [(name, _leading_to(_path(target), work)) for name, target in zip(_THROUGH, (outputs, logs))]
        if os.path.islink(work) or (os.path.lexists(work) and os.listdir(work)):
            write_tree(here, objects, work, int(stamp))
        else:
            write_new_tree(here, objects, work, int(stamp))
    except OSError as error:
        raise LayoutError("the working directory can't be laid out: %s" % error) from error


def tidy(manifest_path, work, stamp):
    """Remove from ``work`` what is still as it was laid out, and ``work`` itself when nothing is left.

    A file is unchanged when it has its size and the time ``stamp``. Bytecode that Python cached for the
    snapshot's modules goes too. Never leaves ``work`` through a link, and never fails: what the program
    deleted, replaced or locked is left as it is. Returns whether ``work`` is gone.
    """
    work = _path(work)
    try:
        manifest = read_manifest(manifest_path)
    except LayoutError:
        return not os.path.lexists(work)
    if os.path.islink(work):
        return False
    folders = _RealFolders(work)
    for path, _, size, _ in manifest["files"]:
        if folders.has(os.path.dirname(path)):
            _remove_unchanged(os.path.join(work, path), size, int(stamp))
    for path, target in manifest["links"]:
        if folders.has(os.path.dirname(path)) and _target(os.path.join(work, path)) == target:
            _quietly(os.unlink, os.path.join(work, path))
    for name in _THROUGH:
        if folders.has(b"") and os.path.basename(_target(os.path.join(work, name)) or b"") == name:
            _quietly(os.unlink, os.path.join(work, name))
    _remove_bytecode(manifest, work, folders)
    for path in sorted(_folders(manifest) | set(manifest["dirs"]), key=len, reverse=True):  # the deepest first
        if folders.has(path):
            _quietly(os.rmdir, os.path.join(work, path))
    _quietly(os.rmdir, work)
    return not os.path.lexists(work)


def write_new_tree(manifest, objects, target, stamp=None):
    """Like ``write_tree``, for a ``target`` that is not there yet or empty: it appears whole, or not at all."""
    beside = target.rstrip(b"/") + b".tmp"
    shutil.rmtree(beside, ignore_errors=True)  # of an attempt that was killed
    try:
        os.makedirs(beside)
        write_tree(manifest, objects, beside, stamp)
        os.rename(beside, target)
    except BaseException:
        shutil.rmtree(beside, ignore_errors=True)
        raise


def write_tree(manifest, objects, target, stamp=None):
    """Write the files, links and directories that ``target`` (bytes) has not yet. Raises LayoutError or OSError.

    With ``stamp`` the files get that time, in whole seconds, else the present one.
    """
    folders = _RealFolders(target)
    missing = [entry for entry in manifest["files"] if folders.make(os.path.dirname(entry[0])) and _free(target, entry[0])]

    for_each(lambda entry: _copy(entry, objects, target, stamp), missing)
    for path in manifest["dirs"]:
        folders.make(path)
    for path, where in manifest["links"]:
        if folders.make(os.path.dirname(path)) and _free(target, path):
            os.symlink(where, os.path.join(target, path))


def for_each(action, items):
    """Call ``action`` with each of ``items``, stopping at the first exception, which is raised.

    One after the other where that is quick; by several threads where the first ones show that the file
    system makes them wait.
    """
    began = time.monotonic()
    for item in items[:_TRIAL]:
        action(item)
    rest = items[_TRIAL:]
    if time.monotonic() - began < _TRIAL * _QUICK_S:
        for item in rest:
            action(item)
        return
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(_THREADS) as pool:
        waiting = [pool.submit(action, item) for item in rest]
        try:
            for done in waiting:
                done.result()
        except BaseException:
            for other in waiting:
                other.cancel()
            raise


def _copy(entry, objects, folder, stamp):
    """Copy an object into ``folder`` by way of a name beside the file, so that half a file is never found."""
    path, executable, size, digest = entry
    source, target = os.path.join(objects, digest[:2], digest[2:]), os.path.join(folder, path)
    try:
        reading = os.open(source, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise LayoutError(_damaged(source, path, "can't be read: %s" % error.strerror)) from error
    beside = os.path.join(os.path.dirname(target), b".hpcest-%s.tmp" % os.urandom(6).hex().encode())
    try:
        found = os.fstat(reading)
        if found.st_size != size:
            raise LayoutError(_damaged(source, path, "has %d bytes, not %d" % (found.st_size, size)))
        writing = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, _mode(executable, found.st_mode))
        try:
            while True:
                data = os.read(reading, _CHUNK)
                if not data:
                    break
                while data:
                    data = data[os.write(writing, data) :]
            if stamp is not None:
                os.utime(writing, (stamp, stamp))
        finally:
            os.close(writing)  # a network file system may say only now that the disk is full
        os.rename(beside, target)
    except BaseException as error:
        _quietly(os.unlink, beside)
        if isinstance(error, OSError):
            raise LayoutError("can't write %s: %s" % (_shown(target), error.strerror)) from error
        raise
    finally:
        os.close(reading)


def _mode(executable, found):
    """The mode of a copy, before the umask: what others may not read in the store they may not read here."""
    mode = 0o777 if executable else 0o666
    return mode & ~(0 if found & 0o040 else 0o070) & ~(0 if found & 0o004 else 0o007)


def _damaged(source, path, what):
    remedy = "remove the folder snapshots/cache of the workspace to have the source stored again"
    return "the snapshot's object %s for %s %s; %s" % (_shown(source), _shown(path), what, remedy)


class _RealFolders:
    """Which folders below ``root`` are folders, and not links that lead elsewhere. Each is looked at once."""

    def __init__(self, root):
        self.root = os.path.abspath(root)
        self.known = {}

    def has(self, path):
        """Whether ``path``, and all above it, is a folder itself."""
        return self._all(path, lambda part: None)

    def make(self, path):
        """Have the folder ``path``; False where something else has its place."""
        return self._all(path, os.mkdir)

    def _all(self, path, prepare):
        if self.known.get(path):
            return True
        slashes = [place for place, letter in enumerate(path) if letter == 0x2F]
        for end in [0] + slashes + [len(path)]:
            part, full = path[:end], os.path.join(self.root, path[:end])
            if not self.known.get(part):
                try:
                    prepare(full)
                except FileExistsError:
                    pass
                self.known[part] = _is_folder(full, follow=not part)
            if not self.known[part]:
                return False
        return True


def _is_folder(path, follow):
    try:
        return stat.S_ISDIR(os.stat(path, follow_symlinks=follow).st_mode)
    except OSError:
        return False


def _remove_unchanged(path, size, stamp):
    try:
        found = os.lstat(path)
        if stat.S_ISREG(found.st_mode) and found.st_size == size and found.st_mtime_ns == stamp * 10**9:
            os.unlink(path)
    except OSError:
        pass  # deleted or locked by the program


def _remove_bytecode(manifest, work, folders):
    """Remove what Python put into ``__pycache__`` for the modules of the snapshot."""
    modules = collections.defaultdict(set)
    for path, _, _, _ in manifest["files"]:
        folder, name = os.path.split(path)
        if name.endswith(b".py"):
            modules[folder].add(name[:-3])
    for folder, names in modules.items():
        cache = os.path.join(folder, b"__pycache__")
        if not folders.has(cache):
            continue
        try:
            found = os.listdir(os.path.join(work, cache))
        except OSError:
            continue
        for name in found:
            if name.endswith(b".pyc") and name.partition(b".")[0] in names:
                _quietly(os.unlink, os.path.join(work, cache, name))
        _quietly(os.rmdir, os.path.join(work, cache))


def _split(manifest):
    """The manifest in two: what goes to ``work``, and what lies below each of outputs and logs.

    A file or link that is itself called outputs or logs has to give way to the run's own.
    """
    here, through = _nothing(), {name: _nothing() for name in _THROUGH}
    for kind in ("files", "links"):
        for entry in manifest[kind]:
            first, slash, rest = entry[0].partition(b"/")
            if first not in _THROUGH:
                here[kind].append(entry)
            elif slash:
                through[first][kind].append((rest,) + entry[1:])
    for path in manifest["dirs"]:
        first, slash, rest = path.partition(b"/")
        if first not in _THROUGH:
            here["dirs"].append(path)
        elif slash:
            through[first]["dirs"].append(rest)
    return here, through


def _nothing():
    return collections.defaultdict(list)  # a manifest to fill


def _folders(manifest):
    """Every directory above a path of the manifest."""
    found = set()
    for path in [entry[0] for entry in manifest["files"] + manifest["links"]] + manifest["dirs"]:
        above = os.path.dirname(path)
        while above and above not in found:
            found.add(above)
            above = os.path.dirname(above)
    return found


def _leading_to(target, work):
    """The text of a link in ``work`` to ``target``: relative between neighbours, so that the run can be moved."""
    target, work = os.path.abspath(target), os.path.abspath(work)
    if os.path.dirname(target) == os.path.dirname(work):
        return b"../" + os.path.basename(target)
    return target


def _inside(name):
    """``name`` as bytes. Raises ValueError unless it is a plain relative path."""
    path = _encode(name)
    if not path or b"\0" in path or any(part in (b"", b".", b"..") for part in path.split(b"/")):
        raise ValueError("the path %r is not one inside a directory" % name)
    return path


def _hex(digest):
    if len(digest) != 64 or digest.strip("0123456789abcdef"):
        raise ValueError("%r is no sha256" % digest)
    return digest.encode()


def _encode(name):
    return name.encode("utf-8", "surrogateescape")


def _path(path):
    return os.fsencode(os.fspath(path))


def _shown(path):
    """``path`` for a message: odd bytes and newlines spelt out."""
    return repr(path.decode("utf-8", "surrogateescape"))


def _target(path):
    try:
        return os.readlink(path)
    except OSError:
        return None


def _free(target, path):
    return not os.path.lexists(os.path.join(target, path))


def _quietly(action, path):
    try:
        action(path)
    except OSError:
        pass
