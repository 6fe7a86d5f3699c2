"""The base image of a lock in another workspace: the same file, the same digest, or made by the same steps."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from hpcest.contracts import Lock
from hpcest.environments.apptainer.lockedbase import on_base
from hpcest.errors import EnvironmentBuildError
from hpcest.model.spec import EnvironmentSpec
from tests.cluster.fixtures import Apptainer
from tests.environments.apptainer.conftest import Offline, Site

not_as_root = pytest.mark.skipif(os.geteuid() == 0, reason="root in a sandbox can't unpack images; CI runs this as an ordinary user")


def fitting(site: Site, spec: EnvironmentSpec, lock: Lock) -> EnvironmentSpec:
    """What a workspace makes of a spec that comes with the lock of another one."""
    facts = lock.facts
    return on_base(spec, facts["identity"], facts["origin"], store=site.store, settings=site.settings, say=site.said.append)


@not_as_root
def test_system_steps_are_repeated(site: Site, offline: Offline) -> None:
    """The base has other bytes here, and stands for the one of the lock; asked for anew it is another one."""
    spec = EnvironmentSpec(pip=(*offline, "alpha"), system=("date +%s%N > /etc/made",))
    lock = site.kind.resolve(spec, site.workspace, site.said.append)
    other = site.beside("other")
    here = fitting(other, spec, lock)
    assert "made here by the same steps" in other.said[-1]
    again = other.kind.rebuild(here, other.workspace, other.said.append, lock.text)
    assert again.key == lock.key
    assert again.facts["base"] != lock.facts["base"]
    assert other.python(again, "import alpha; print('in')") == "in"
    assert other.kind.prepare(here, other.workspace, other.said.append).key == lock.key
    assert fitting(other, spec, lock) == here
    site.kind.forget(spec, site.workspace)
    assert site.kind.resolve(spec, site.workspace, site.said.append).key != lock.key


@not_as_root
def test_a_recipe_is_repeated(site: Site, apptainer: Apptainer, offline: Offline, tmp_path: Path) -> None:
    """Wherever it lies."""
    recipe = f"Bootstrap: localimage\nFrom: {apptainer.debian}\n%post\n    date +%s%N > /etc/made\n"
    one, two = tmp_path / "one.def", tmp_path / "two.def"
    one.write_text(recipe)
    two.write_text(recipe)
    lock = site.kind.resolve(EnvironmentSpec(pip=(*offline, "alpha"), image=str(one)), site.workspace, site.said.append)
    other = site.beside("other")
    here = fitting(other, EnvironmentSpec(pip=(*offline, "alpha"), image=str(two)), lock)
    assert other.kind.resolve(here, other.workspace, other.said.append, locked=lock.text).key == lock.key


def test_another_file_is_refused(site: Site, apptainer: Apptainer, offline: Offline, tmp_path: Path) -> None:
    """Unless a store has the one of the lock."""
    spec = EnvironmentSpec(pip=(*offline, "alpha"))
    lock = site.kind.resolve(spec, site.workspace, site.said.append)
    tiny = apptainer.build(tmp_path / "tiny.sif", f"docker-archive:{apptainer.docker_archive(tmp_path / 'tiny.tar')}")
    other = site.beside("other", image=str(tiny))
    with pytest.raises(EnvironmentBuildError, match=f"for the base image {lock.facts['base'][:12]}, and {tiny} is") as caught:
        fitting(other, spec, lock)
    assert "publish" in str(caught.value.hint)
    other.build(image=str(apptainer.debian))
    here = fitting(other, spec, lock)
    assert other.kind.resolve(here, other.workspace, other.said.append, locked=lock.text).key == lock.key


def test_archives_are_told_by_their_content(site: Site, apptainer: Apptainer, tmp_path: Path) -> None:
    """Two conversions of one archive differ, and two copies of it are the same base."""
    one, two = (apptainer.docker_archive(tmp_path / name) for name in ("one.tar", "two.tar"))
    mine = site.build(image=f"docker-archive:{one}")
    other = site.beside("other")
    theirs = other.build(image=f"docker-archive:{two}")
    assert mine.key == theirs.key
    assert site.build(image=f"docker-archive:{apptainer.docker_archive(tmp_path / 'else.tar', A='1')}").key != mine.key
