"""Packages in containers: pip's, conda's, both, and what makes two requests the same."""

from __future__ import annotations

import os
import re
from dataclasses import replace
from pathlib import Path

import pytest

from hpcest.environments.wish import read_text
from tests.environments.apptainer.conftest import Offline, Site
from tests.environments.channel import demo_packages, library, write_channel
from tests.environments.conftest import MakeWheel


def test_pip_packages_are_installed_over_the_base(site: Site, offline: Offline) -> None:
    """The packages and their programs are there; what was built lies in the store alone."""
    lock = site.build(*offline, "alpha")
    assert site.python(lock, "import alpha, sys; print(alpha.__file__, sys.prefix)").split() == [
        "/opt/hpcest/env/lib/python3.11/site-packages/alpha/__init__.py",
        "/opt/hpcest/env",
    ]
    assert site.run(lock, "say-alpha").stdout == "hello from alpha\n"
    assert [package.requirement for package in read_text(lock.text, "3.11.2").pip] == ["alpha==1.0", "beta==2.0"]
    assert "Installed 2 packages" in site.image(lock).log.read_text()
    site.nothing_left()


def test_one_package_more_compiles_that_one(site: Site, offline: Offline) -> None:
    """The rest is taken from the image before, and comes to the same bytes as where nothing was there before."""
    site.build(*offline, "beta")
    site.said.clear()
    more = site.build(*offline, "alpha")
    (compiled,) = [line for line in site.said if line.startswith("compile: ")]
    anew = site.beside("other").build(*offline, "alpha")

    counts = re.findall(r"\d+", compiled)[:2]
    assert int(counts[0]) < int(counts[1]), compiled
    assert more.key == anew.key
    assert more.facts["sha256"] == anew.facts["sha256"]
    code = "import alpha, importlib.util, os; print(os.path.exists(importlib.util.cache_from_source(alpha.__file__)))"
    assert site.python(more, code) == "True"


def test_the_second_time_is_one_line(site: Site, offline: Offline) -> None:
    """A known request says that it is known, and since when."""
    first = site.build(*offline, "alpha", name="mine")
    site.said.clear()
    assert site.build(*offline, "alpha", name="mine") == first
    (line,) = site.said
    assert line.startswith(f"environment mine {first.key[:12]} cached, resolved ")


def test_conda_packages_are_linked_for_their_place(site: Site) -> None:
    """Prefixes in files point into the container, programs run, and activation's variables are set."""
    lock = site.build(conda=("hp-app", "python"))
    assert site.run(lock, "hp-lib").stdout == "hp-lib 2.0 /opt/hpcest/env\n"
    assert site.run(lock, "hp-where").stdout == "prefix=/opt/hpcest/env\n"
    names = ["CONDA_PREFIX", "HP_DATA_HOME", "HP_DATA_LEVEL"]
    assert site.python(lock, f"import os; print(*map(os.environ.get, {names}))") == "/opt/hpcest/env /opt/hpcest/env/share/hp 3"
    site.nothing_left()


def test_pip_leaves_what_conda_brings(site: Site, offline: Offline, wheels: Path, make_wheel: MakeWheel) -> None:
    """A package that both have stays conda's, also where no index has conda's version; programs are pip's and conda's."""
    make_wheel(wheels, "hp_lib", "3.0")
    make_wheel(wheels, "wants", "1.0", requires=["hp_lib"])
    lock = site.build(*offline, "alpha", "wants", conda=("hp-lib",))
    assert site.run(lock, "hp-lib").stdout.startswith("hp-lib 2.0")
    assert site.run(lock, "say-alpha").stdout == "hello from alpha\n"
    assert [one.name for one in read_text(lock.text, "").pip] == ["alpha", "beta", "wants"]


def test_names_of_conda_do_not_count_for_pip(site: Site, offline: Offline, wheels: Path, make_wheel: MakeWheel, tmp_path: Path) -> None:
    """A conda package that is no Python package does not keep pip from one of the same name."""
    data = replace(library("2.0"), name="beta", version="2024a", noarch="generic", depends=(), entry_points=(), files={})
    channel = write_channel(tmp_path / "more", [*demo_packages("3.11"), data])
    lock = site.build(*offline, "beta", conda=("beta", "python"), channels=(channel,))
    assert site.python(lock, "import beta; print(beta.__file__)").startswith("/opt/hpcest/env")


def test_a_conflict_between_pip_and_conda_names_both(site: Site, offline: Offline, wheels: Path, make_wheel: MakeWheel) -> None:
    """The error says what conda brings, and what to do."""
    make_wheel(wheels, "wants_new", "1.0", requires=["hp_lib>=3"])
    error = site.refusal(*offline, "wants-new", conda=("hp-lib",))
    assert "conda brings hp-lib 2.0, which pip leaves as it is" in error.message
    assert "loosen the pip requirement" in error.hint
    site.nothing_left()


def test_a_project_of_this_machine_is_installed(site: Site, package_source: Path, wheels: Path) -> None:
    """A folder with a pyproject.toml, and a wheel by its path, are seen where they are built in."""
    lock = site.build(str(package_source), "--no-index", str(wheels / "beta-1.0-py3-none-any.whl"))
    assert site.python(lock, "import beta, local; print(local.VALUE, beta.X)") == "1 1"


def test_names_order_and_comments_make_no_other_request(site: Site, offline: Offline) -> None:
    """Two spellings of one request have one key, so the second builds nothing."""
    first = site.build(*offline, "alpha  # needed", name="one", conda=("hp-lib", "hp-data=1.0"))
    site.said.clear()
    second = site.build(*offline, "Alpha", name="two", conda=("hp-data 1.0.*", "hp-lib", "hp-lib"))
    assert (second.key, second.facts["spec_key"]) == (first.key, first.facts["spec_key"])
    assert len(site.said) == 1


def test_another_base_is_another_environment(site: Site, offline: Offline, tmp_path: Path) -> None:
    """The content of the base counts, not its name."""
    first = site.build(*offline, "beta")
    same = tmp_path / "same.sif"
    os.link(site.settings.image, same) if os.stat(site.settings.image).st_dev == os.stat(tmp_path).st_dev and os.geteuid() == 0 else (
        same.write_bytes(Path(site.settings.image).read_bytes())
    )
    assert site.build(*offline, "beta", image=str(same)).key == first.key
    other = tmp_path / "other.sif"
    other.write_bytes(Path(site.settings.image).read_bytes() + b"\0" * 4096)
    third = site.build(*offline, "beta", image=str(other))
    assert third.key != first.key
    assert third.facts["spec_key"] != first.facts["spec_key"]


def test_a_lock_gives_the_same_bytes_in_another_workspace(site: Site, offline: Offline) -> None:
    """From the text of a lock, under another umask: the same key, and the same digest of the layer."""
    first = site.build(*offline, "alpha", conda=("hp-app", "python"))
    before = os.umask(0o077)
    try:
        beside = site.beside("second")
        second = beside.build(*offline, "alpha", conda=("hp-app", "python"), locked=first.text)
    finally:
        os.umask(before)
    assert (second.key, second.facts["sha256"]) == (first.key, first.facts["sha256"])
    assert not any(line.startswith(("solve", "resolve")) for line in beside.said)


def test_a_lock_keeps_its_versions_when_the_index_moves_on(site: Site, offline: Offline, wheels: Path, make_wheel: MakeWheel) -> None:
    """A newer version changes nothing for a lock, nor for a request that was answered."""
    first = site.build(*offline, "beta")
    make_wheel(wheels, "beta", "3.0")
    assert site.build(*offline, "beta").key == first.key
    assert site.beside("locked").build(*offline, "beta", locked=first.text).key == first.key
    assert site.beside("anew").build(*offline, "beta").key != first.key


def test_a_lock_that_is_damaged_is_refused(site: Site, offline: Offline) -> None:
    """Its line is named."""
    error = site.refusal(*offline, "beta", locked="# pip packages, locked by hpcest for Python 3.11\nnonsense\n")
    assert "nonsense" in error.message


@pytest.mark.parametrize("layout", ["split", "single"])
def test_layouts_run_alike(site: Site, offline: Offline, layout: str) -> None:
    """A layer over the base, or one SIF with both."""
    lock = site.build(*offline, "alpha", layout=layout)
    assert site.run(lock, "say-alpha").stdout == "hello from alpha\n"
    assert lock.facts["file"] == {"split": "env.sqfs", "single": "env.sif"}[layout]
    site.nothing_left()
