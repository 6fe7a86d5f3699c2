"""Solving with the real solver: what is chosen, and what is said where nothing can be."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys

import pytest

from hpcest.environments.conda.channels import channels_of
from hpcest.environments.conda.solving import CondaRequest, moment, virtual_packages
from hpcest.errors import EnvironmentBuildError, SpecError
from tests.environments.channel import library, write_channel
from tests.environments.conda.conftest import PASSWORD, TOKEN, USER, Channels


def versions(channels: Channels, *specs: str, **options: str) -> dict[str, str]:
    return {one.name: one.version for one in channels.solve(*specs, **options)}


def failure(channels: Channels, *specs: str, among: tuple[str, ...] = ()) -> EnvironmentBuildError:
    with pytest.raises(EnvironmentBuildError) as caught:
        channels.solve(*specs, channels=among)
    return caught.value


def test_all_that_is_needed_is_found_and_said(channels: Channels) -> None:
    found = channels.solve("hp-app", "python")
    assert [one.name for one in found] == ["hp-app", "hp-data", "hp-lib", "python"]
    assert {one.version for one in found if one.name == "hp-lib"} == {"2.0"}
    assert found[0].url == f"{channels.url}/noarch/hp-app-0.1-0.tar.bz2"
    assert (found[0].channel, found[0].subdir, found[-1].subdir) == (channels.url, "noarch", "linux-64")
    assert all(len(one.sha256) == 64 and len(one.md5) == 32 and one.size > 0 for one in found)
    assert channels.said[0].startswith("solve: 4 conda packages, 0.")


def test_an_upper_bound_holds(channels: Channels) -> None:
    assert versions(channels, "hp-lib <2")["hp-lib"] == "1.0"


@pytest.mark.parametrize(
    ("newest", "version"),
    [
        ("2023-11-16", "1.0"),
        ("2023-11-16T22:00:00", "1.0"),
        ("2023-11-17", "2.0"),
        ("2023-11-16T23:00:00+01:00", "1.0"),
        ("2023-11-17T00:00:00Z", "2.0"),
    ],
)
def test_what_is_newer_can_be_left_out(channels: Channels, newest: str, version: str) -> None:
    assert versions(channels, "hp-lib", newest=newest)["hp-lib"] == version


def test_a_date_that_leaves_nothing_is_named(channels: Channels) -> None:
    with pytest.raises(EnvironmentBuildError, match="cutoff") as caught:
        channels.solve("hp-lib", newest="2023-11-10")
    assert "2023-11-10" in caught.value.hint


def test_the_first_channel_wins_even_with_an_older_version(channels: Channels) -> None:
    other = write_channel(channels.folder / "other", [library("3.0")])
    assert [one.version for one in channels.solve("hp-lib", channels=[channels.url, other]) if one.name == "hp-lib"] == ["2.0"]
    assert [one.version for one in channels.solve("hp-lib", channels=[other, channels.url]) if one.name == "hp-lib"] == ["3.0"]


def test_a_spec_can_name_its_channel(channels: Channels) -> None:
    write_channel(channels.folder / "other", [library("3.0")])
    found = {one.name: one for one in channels.solve("other::hp-lib", "demo::python")}
    assert found["hp-lib"].version == "3.0"
    assert found["hp-lib"].channel.endswith("/other")


def test_an_unknown_package_is_answered_with_the_nearest_names(channels: Channels) -> None:
    error = failure(channels, "hp-ap", "python")
    assert error.message.startswith("conda package 'hp-ap' is in none of the channels")
    assert error.hint.startswith("did you mean 'hp-app'")
    assert failure(channels, "qqqq").hint == "check the name, or add the channel that has it"


def test_a_contradiction_comes_with_the_solvers_tree(channels: Channels) -> None:
    error = failure(channels, "hp-conflict")
    assert "├─ hp-lib >=2" in error.message
    assert "hp-lib >=1,<2, which cannot be installed" in error.message
    assert "loosen or remove" in error.hint
    assert "hp-lib 9.*" in failure(channels, "hp-lib=9").message


def test_a_gpu_driver_has_to_be_announced(channels: Channels) -> None:
    error = failure(channels, "hp-cuda")
    assert "__cuda >=12" in error.message
    assert "CUDA version" in error.hint
    assert [one.name for one in channels.solve("hp-cuda", cuda="12.4")] == ["hp-cuda"]


@pytest.mark.parametrize(
    ("url", "words", "hint"),
    [
        ("/nosuch/channel", "/nosuch/channel", "there is no channel"),
        ("http://{server}/nosuch", "404", "there is no channel"),
        ("http://{server}/private/demo", "401", "wants credentials"),
        ("http://127.0.0.1:9/chan", "refused", "can't reach the channel"),
        ("http://host.invalid/chan", "host.invalid", "can't reach the channel"),
    ],
)
def test_a_wrong_channel_is_named(channels: Channels, server: str, url: str, words: str, hint: str) -> None:
    error = failure(channels, "hp-lib", among=(url.format(server=server),))
    assert error.message.startswith(f"the conda channels ({url.format(server=server)}) can't be used")
    assert words in error.message
    assert hint in error.hint


def test_a_damaged_index_is_told_from_an_absent_one(channels: Channels) -> None:
    (channels.folder / "demo" / "noarch" / "repodata.json").write_text("{ bad")
    assert "can't be read" in failure(channels, "hp-lib").hint


@pytest.mark.parametrize("place", [f"{USER}:{PASSWORD}@{{}}/private/demo", f"{{}}/t/{TOKEN}/demo"])
def test_credentials_open_a_channel_and_stay_out_of_the_packages(channels: Channels, server: str, place: str) -> None:
    found = channels.solve("hp-app", channels=[f"http://{place.format(server)}"])
    assert len(found) == 4
    assert all(secret not in repr(found) for secret in (PASSWORD, TOKEN, USER))
    assert {one.channel for one in found} <= {f"http://{server}/private/demo", f"http://{server}/demo"}


def test_a_wrong_password_is_not_shown(channels: Channels, server: str) -> None:
    error = failure(channels, "hp-app", among=(f"http://{USER}:wrong-pw@{server}/private/demo",))
    assert "wrong-pw" not in error.message + error.hint
    assert "wants credentials" in error.hint


def test_a_running_event_loop_is_no_obstacle(channels: Channels) -> None:
    """A notebook has one."""

    async def cell() -> int:
        return len(channels.solve("hp-app"))

    assert asyncio.run(cell()) == 4


def test_the_same_request_has_one_key_and_no_secrets() -> None:
    plain = CondaRequest(channels_of(["https://host/chan"], {}), ("a", "b"))
    secret = CondaRequest(channels_of(["https://bob:hunter22@host/chan"], {}), ("b", "a"))
    assert plain.key() == secret.key()
    assert plain.key() != CondaRequest(plain.channels, ("a",)).key()
    assert plain.key() != CondaRequest(plain.channels, plain.specs, virtual=virtual_packages("linux-64", glibc="2.28")).key()


def test_times_are_utc() -> None:
    assert moment("") is None
    assert str(moment("2026-05-02")) == "2026-05-02 00:00:00+00:00"
    assert moment("2026-05-02T12:00:00+02:00") == moment("2026-05-02T10:00:00Z")
    with pytest.raises(SpecError, match="'May' is not a date"):
        moment("May")


def test_without_py_rattler_the_error_says_how_to_get_it() -> None:
    code = """
import sys
sys.path = [entry for entry in sys.path if "site-packages" not in entry]
from hpcest.environments.conda import extra
print(extra.missing())
try:
    extra.require()
except Exception as error:
    print(type(error).__name__, error.hint)
"""
    env = {**os.environ, "PYTHONPATH": os.getcwd()}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env, check=False)
    assert done.stdout.splitlines() == [
        "py-rattler is not installed, which conda packages need; pip install 'hpcest[conda]'",
        "EnvironmentBuildError pip install 'hpcest[conda]'",
    ], done.stderr


def test_reading_specs_does_not_load_py_rattler() -> None:
    """Keys are computed on each start of a command."""
    rooms = ("specfile", "matchspecs", "channels", "lockfile", "solving", "linking", "activation")
    lines = "; ".join(f"import hpcest.environments.conda.{room}" for room in rooms)
    code = f"import sys; {lines}; sys.exit('rattler' in sys.modules or 'asyncio' in sys.modules and 2)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
