"""Apptainer for the tests: the machine's own where it has one that runs, else Debian's newest, unpacked beside the machine's libraries."""

from __future__ import annotations

import os
import pwd
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.cluster.commands import ClusterError, call
from tests.cluster.install import PATH

PREFIX = Path("/opt/apptainer")
"""Outside of the clusters' folder, because it stays when they go. It holds the software (``root``), ``bin`` and ``images``."""

BIN = PREFIX / "bin"
FUSE = Path("/dev/fuse")
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
USERS = ("hpcest-ci", "alice")
"""Who builds images in the tests, beside HPCEST_CLUSTER_USER."""

RANGE = 65536
PACKAGES = {
    "sid": ["apptainer"],
    "trixie": ["libc6", "libseccomp2", "libsqlite3-0", "libfuse3-4", "squashfuse", "libsquashfuse0"],
}
"""Apptainer is in no stable Debian; what it needs and Debian 12 has too old comes with it and is seen by nobody else."""

PROGRAMS = ["bin/apptainer", "bin/squashfuse", "bin/squashfuse_ll", "lib/x86_64-linux-gnu/apptainer/bin/starter"]


def ensure_apptainer() -> Path:
    """The program; installed where it is missing, usable by every user afterwards.

    :raises ClusterError: It can't be installed; the message names the step and ends with its output.
    """
    ensure_users()
    with step("opening /dev/fuse to users"):
        if not FUSE.exists():
            os.mknod(FUSE, 0o666 | stat.S_IFCHR, os.makedev(10, 229))
        FUSE.chmod(0o666)
    if found := find():
        return found
    PREFIX.mkdir(mode=0o755, parents=True, exist_ok=True)
    _unpack(PREFIX / "root")
    _enter(BIN / "apptainer", PREFIX / "root/usr/bin/apptainer")
    with step("starting it"):
        call([str(BIN / "apptainer"), "--version"])
    return BIN / "apptainer"


def find() -> Path | None:
    """The first ``apptainer`` that runs: of the machine's own, then of ours."""
    program = shutil.which("apptainer", path=f"{PATH}:{BIN}")
    return Path(program) if program and call([program, "--version"], check=False).returncode == 0 else None


def env() -> str:
    """What a shell sources to find Apptainer."""
    return f'case ":$PATH:" in *:{BIN}:*) ;; *) export PATH="$PATH:{BIN}" ;; esac\n'


def ensure_users() -> None:
    """Each user of the tests who exists has ids to give to the users in a container, as ``useradd`` gives them."""
    for user in sorted({*USERS, os.environ.get("HPCEST_CLUSTER_USER", "alice")}):
        try:
            number = pwd.getpwnam(user).pw_uid
        except KeyError:
            continue
        for path in (Path("/etc/subuid"), Path("/etc/subgid")):
            _ensure_range(path, user, number)


def _ensure_range(path: Path, user: str, number: int) -> None:
    text = path.read_text() if path.exists() else ""
    rows = [line.split(":") for line in text.splitlines() if line.count(":") == 2]
    if any(name in (user, str(number)) for name, _, _ in rows):
        return
    first = max([100_000, *(int(start) + int(count) for _, start, count in rows)])
    with path.open("a") as file:
        file.write("" if not text or text.endswith("\n") else "\n")
        file.write(f"{user}:{first}:{RANGE}\n")


def mirror() -> str:
    """Where this machine's apt finds Debian itself.

    :raises ClusterError: Its sources name no Debian archive of its own release.
    """
    release = codename()
    listing = ["apt-get", "indextargets", "--format", "$(RELEASE) $(COMPONENT) $(REPO_URI)", "Created-By: Packages"]
    for line in call(listing).stdout.splitlines():
        suite, component, address = line.split(" ", 2)
        if suite in (release, "stable", "oldstable") and component == "main":
            return address.rstrip("/")
    raise ClusterError(f"apt's sources have no component main of Debian {release}: Apptainer and the base images come from there")


def codename() -> str:
    """The Debian release of this machine, say ``bookworm``."""
    for line in Path("/etc/os-release").read_text().splitlines():
        if line.startswith("VERSION_CODENAME="):
            return line.partition("=")[2].strip('"')
    raise ClusterError("/etc/os-release has no VERSION_CODENAME: Apptainer is installed on Debian only; elsewhere put one on PATH")


def _unpack(root: Path) -> None:
    """All packages in one folder, whose programs use the loader and the libraries that came with them."""
    with tempfile.TemporaryDirectory(dir=PREFIX, prefix=".unpack-") as name:
        work = Path(name)
        download(work / "packages", PACKAGES)
        fresh = work / "root"
        with step("unpacking the packages"):
            for package in sorted((work / "packages").glob("*.deb")):
                call(["dpkg-deb", "-x", str(package), str(fresh)])
        with step("pointing the programs to their libraries"):
            for program in PROGRAMS:
                _relink(fresh / "usr" / program, root)
        with step("placing the settings"):
            _configure(fresh, root)
        fresh.chmod(0o755)
        shutil.rmtree(root, ignore_errors=True)
        fresh.rename(root)


def download(folder: Path, packages: dict[str, list[str]]) -> None:
    """Packages of other releases than the machine's, from the machine's mirror, without telling its apt about them.

    :raises ClusterError: The mirror lacks one.
    """
    folder.mkdir(parents=True)
    sources = folder / "sources.list"
    with step("finding the mirror"):
        sources.write_text("".join(f"deb [signed-by={KEYRING}] {mirror()} {release} main\n" for release in packages))
    (folder / "lists").mkdir()
    settings = {
        "Dir::Etc::sourcelist": sources,
        "Dir::Etc::sourceparts": "/dev/null",
        "Dir::Etc::preferencesparts": "/dev/null",
        "Dir::State::lists": folder / "lists",
        "Dir::Cache": folder / "cache",
        "APT::Sandbox::User": "root",
    }
    apt = ["apt-get", "-q", *(f"-o{name}={value}" for name, value in settings.items())]
    with step(f"reading the lists of {', '.join(packages)}"):
        call([*apt, "-o", "APT::Update::Error-Mode=any", "update"], timeout=300)
    with step("downloading the packages"):
        wanted = [f"{package}/{release}" for release, names in packages.items() for package in names]
        call(["env", "-C", str(folder), *apt, "download", *wanted], timeout=300)


def _relink(program: Path, root: Path) -> None:
    call(["patchelf", "--set-interpreter", f"{root}/usr/lib64/ld-linux-x86-64.so.2", str(program)])
    call(["patchelf", "--force-rpath", "--set-rpath", f"{root}/usr/lib/x86_64-linux-gnu", str(program)])


def _configure(fresh: Path, root: Path) -> None:
    """Apptainer works out where its settings are from where it lies itself, the starter from where that lies."""
    conf = fresh / "etc/apptainer/apptainer.conf"
    search = f"{root}/usr/bin:$PATH:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"
    conf.write_text(f"{conf.read_text()}\n# Its own squashfuse goes first.\nbinary path = {search}\n")
    for place in ("usr/etc", "usr/lib/etc"):
        shutil.copytree(fresh / "etc/apptainer", fresh / place / "apptainer", symlinks=True)
    for place in ("usr/lib", "usr"):
        (fresh / place / "var/lib/apptainer/mnt/session").mkdir(parents=True, exist_ok=True)


def _enter(link: Path, program: Path) -> None:
    """A name on PATH, replaced in one step."""
    link.parent.mkdir(mode=0o755, exist_ok=True)
    beside = link.with_name(f".{link.name}.new")
    beside.unlink(missing_ok=True)
    beside.symlink_to(program)
    beside.rename(link)


@contextmanager
def step(what: str) -> Iterator[None]:
    try:
        yield
    except (ClusterError, OSError, shutil.Error) as failure:
        raise ClusterError(f"Apptainer for the tests, {what}: {failure}") from failure
