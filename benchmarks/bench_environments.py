"""Environments in containers beside Apptainer's own builds: building, changing, finding again, starting, asking at once.

Needs Apptainer on PATH, a base image with a Python (``--image FILE``, or HPCEST_BENCH_IMAGE), a package index that can be
reached, and for Apptainer's own builds, whose definition files have a ``%post``, a range in /etc/subuid. Run it as an ordinary user.
Every build begins with empty caches unless its row says otherwise, so two of the rows have the network in them.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median

from benchmarks.common import ROOT, Table, options, own_environment, program, side_by_side
from hpcest.environments.apptainer.containeruv import certificates

PACKAGES = ("scikit-learn", "pandas")
ONE_MORE = "tabulate"
PROCESSES = 8

_DEFINITION = """\
Bootstrap: localimage
From: {base}
{files}
%post
    set -e
    export PIP_NO_INPUT=1 PIP_DISABLE_PIP_VERSION_CHECK=1 {variables}
    python3 -m venv /opt/env
    /opt/env/bin/pip install --quiet --no-cache-dir {packages}
"""


class Site:
    """A workspace with a script, and hpcest with caches of its own: nothing of the user's is used or changed."""

    def __init__(self, folder: Path, image: Path) -> None:
        self.folder, self.image = folder, image
        self.source = folder / "source"
        self.source.mkdir()
        (self.source / "train.py").write_text("print('hello')\n")
        # A folder of this machine can't be seen by a definition file; with it the two would not install the same.
        kept = {name: value for name, value in own_environment(folder).items() if not name.endswith("_FIND_LINKS")}
        self.env = {**kept, "UV_CACHE_DIR": str(folder / "uv"), "TMPDIR": str(folder / "tmp")}
        (folder / "tmp").mkdir()
        self.workspace("workspace")

    def workspace(self, name: str) -> None:
        """Make a new workspace the one that is used: it has built nothing."""
        where = self.folder / name
        self.env["HPCEST_WORKSPACE"] = str(where)
        program([sys.executable, "-m", "hpcest", "init", str(where)], self.env, ROOT)()
        (where / ".hpcest" / "config.yaml").write_text(f"environment:\n  image: {self.image}\n")

    def forget_downloads(self) -> None:
        """Empty uv's cache."""
        shutil.rmtree(self.folder / "uv", ignore_errors=True)

    def submit(self, *words: str) -> Callable[[], str]:
        """``hpcest submit --dry-run``: it prepares the environment and makes the plan, and starts nothing."""
        return program([sys.executable, "-m", "hpcest", "submit", "--dry-run", "--json", "train.py", *words], self.env, self.source)

    def prefix(self, *packages: str) -> list[str]:
        """The words before a program's own in the environment of ``packages``."""
        words: list[str] = json.loads(self.submit(*wanted(*packages))())["plan"]["launch"]["prefix"]
        return words

    def apptainers_own(self, *packages: str) -> Callable[[], str]:
        """``apptainer build`` of a definition file that installs ``packages`` with pip, with its default compression."""
        authorities = certificates(self.env)
        files = f"\n%files\n    {authorities} /etc/bench-certificates.pem\n" if authorities else ""
        variables: dict[str, str] = {name: self.env[name] for name in ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL") if name in self.env}
        variables |= {"PIP_CERT": "/etc/bench-certificates.pem"} if authorities else {}
        shown = " ".join(f"{name}='{value}'" for name, value in variables.items())
        recipe = self.folder / "own.def"
        recipe.write_text(_DEFINITION.format(base=self.image, files=files, variables=shown, packages=" ".join(packages)))
        env = {**self.env, "APPTAINER_TMPDIR": self.env["TMPDIR"]}
        return program(["apptainer", "-q", "build", "--force", str(self.folder / "own.sif"), str(recipe)], env, self.folder)


def wanted(*packages: str) -> list[str]:
    """The options that ask for pip packages in a container."""
    return ["--env", "apptainer", *(word for package in packages for word in ("--pip", package))]


def timed(action: Callable[[], object]) -> float:
    """How many milliseconds ``action`` takes."""
    began = time.perf_counter()
    action()
    return (time.perf_counter() - began) * 1000


def built_in(site: Site) -> float:
    """How many seconds the newest image of the workspace took to be there: what follows is the removal of scratch files."""
    manifests = Path(site.env["HPCEST_WORKSPACE"], ".hpcest", "environments").glob("v1/images/*/manifest.json")
    newest = max((json.loads(path.read_text()) for path in manifests), key=lambda one: float(one["created"]))
    return float(newest["seconds"])


def bench_build(table: Table, site: Site, rounds: int) -> None:
    """The first build beside Apptainer's own, in turn; then one package more, and all of it from the caches."""
    ours: list[float] = []
    theirs: list[float] = []
    ready = 0.0
    for number in range(rounds):
        site.workspace(f"built{number}")
        site.forget_downloads()
        ours.append(timed(site.submit(*wanted(*PACKAGES))))
        ready = built_in(site)
        theirs.append(timed(site.apptainers_own(*PACKAGES)))
    what = f"build of {' + '.join(PACKAGES)}"
    own, other = median(ours), median(theirs)
    table.add(f"{what}, split", own / 1000, "s", beside=("definition file", other / 1000), target=1 / 3)
    table.add("of that, until it was there", ready, "s")
    more = timed(site.submit(*wanted(*PACKAGES, ONE_MORE)))
    ready = built_in(site)
    changed = timed(site.apptainers_own(*PACKAGES, ONE_MORE))
    table.add("the same with one package more, afterwards", more / 1000, "s", beside=("definition file", changed / 1000))
    table.add("of that, until it was there", ready, "s")
    layer = next(site.folder.glob("built0/.hpcest/environments/v1/images/*/env.sqfs")).stat().st_size
    whole = (site.folder / "own.sif").stat().st_size
    table.add("what it takes on the disk, beside its base", layer / 2**20, "MB", beside=("definition file, whole", whole / 2**20))


def bench_again(table: Table, site: Site, rounds: int) -> None:
    """Asking for an environment that is there, beside the environment ``host``; whole commands, started anew each time."""
    took = side_by_side({"hit": site.submit(*wanted(*PACKAGES)), "host": site.submit("--env", "host")}, rounds)
    more = took["hit"] - took["host"]
    table.add("hpcest submit --dry-run, environment found", took["hit"], beside=("host", took["host"]))
    table.add("what that is more", more, target=50)


def bench_start(table: Table, site: Site, rounds: int) -> None:
    """A program in the container beside the same in the base alone."""
    prefix = site.prefix(*PACKAGES)
    actions = {
        "ours": program([*prefix, "true"], site.env, site.folder),
        "bare": program(["apptainer", "-q", "exec", str(site.image), "true"], site.env, site.folder),
    }
    took = side_by_side(actions, rounds)
    table.add("start of `true` in the container", took["ours"], beside=("apptainer exec base", took["bare"]))
    table.add("what that is more", took["ours"] - took["bare"], target=100)


def bench_at_once(table: Table, site: Site) -> None:
    """Several processes ask for one environment that nobody has built yet."""
    site.workspace("alone")
    alone = timed(site.submit(*wanted(*PACKAGES)))
    site.workspace("together")
    ask = site.submit(*wanted(*PACKAGES))
    began = time.perf_counter()
    with ThreadPoolExecutor(PROCESSES) as pool:
        plans = list(pool.map(lambda _: json.loads(ask()), range(PROCESSES)))
    together = (time.perf_counter() - began) * 1000
    used = {plan["plan"]["environment"] for plan in plans}
    logs = list(Path(site.env["HPCEST_WORKSPACE"]).glob(".hpcest/environments/v1/**/*.log"))
    builds = sum("install:" in path.read_text(errors="replace") for path in logs)
    table.add(f"builds that {PROCESSES} processes at once made", builds, "", beside=f"{len(used)} environment used", target=1)
    table.add("until the last of them had it", together / 1000, "s", beside=("one alone, downloads cached", alone / 1000))


def usable(image: Path | None, env: Mapping[str, str]) -> str:
    """Why nothing can be measured here; empty if it can."""
    if image is None or not image.exists():
        return "no base image: name one with --image or HPCEST_BENCH_IMAGE, a .sif with a Python and venv in it"
    if not shutil.which("apptainer"):
        return "no apptainer on PATH"
    done = subprocess.run(
        ["apptainer", "-q", "exec", str(image), "python3", "-m", "venv", "--help"], env=env, capture_output=True, check=False
    )
    return f"{image} can't be started, or has no Python with venv: {done.stderr.decode(errors='replace')}" if done.returncode else ""


def main() -> None:
    """Measure and print."""
    parser = options(__doc__ or "", rounds=9)
    parser.add_argument("--image", type=Path, help="the base image, a file (default: HPCEST_BENCH_IMAGE)")
    parser.add_argument("--builds", type=int, default=1, help="how often the first build is measured (default: 1)")
    given = parser.parse_args()
    named = given.image or (Path(os.environ["HPCEST_BENCH_IMAGE"]) if os.environ.get("HPCEST_BENCH_IMAGE") else None)
    image = named.resolve() if named else None
    if why := usable(image, os.environ):
        print(f"nothing to be measured here: {why}")
        return
    assert image is not None
    table = Table("Environments beside Apptainer's own builds", as_json=given.as_json)
    with tempfile.TemporaryDirectory(prefix="hpcest-bench-", dir=os.environ.get("HPCEST_BENCH_DIR"), ignore_cleanup_errors=True) as name:
        site = Site(Path(name), image)
        bench_build(table, site, given.builds)
        bench_again(table, site, given.rounds)
        bench_start(table, site, given.rounds)
        bench_at_once(table, site)
    table.end()


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    main()
