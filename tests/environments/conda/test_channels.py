"""Channels: what names stand for, and that credentials are used without ever being shown."""

from __future__ import annotations

from pathlib import Path

import pytest

from hpcest.environments.conda.channels import channels_of, fetched, hide, recorded
from hpcest.errors import SpecError


@pytest.mark.parametrize(
    ("name", "urls"),
    [
        ("conda-forge", ["https://conda.anaconda.org/conda-forge"]),
        ("conda-forge/label/dev", ["https://conda.anaconda.org/conda-forge/label/dev"]),
        ("https://host/chan/", ["https://host/chan"]),
        ("https://host/chan/linux-64", ["https://host/chan"]),
        ("/srv/my chan", ["file:///srv/my%20chan"]),
        ("../chan", ["file:///base/chan"]),
        ("file:///srv/chan/noarch/", ["file:///srv/chan"]),
        ("defaults", ["https://repo.anaconda.com/pkgs/main", "https://repo.anaconda.com/pkgs/r"]),
    ],
)
def test_a_channel_is_a_name_a_url_or_a_path(name: str, urls: list[str]) -> None:
    assert [channel.public for channel in channels_of([name], {}, folder=Path("/base/here"))] == urls


def test_names_lie_below_the_alias() -> None:
    assert [channel.real for channel in channels_of(["lab"], {}, alias="https://mirror/conda/")] == ["https://mirror/conda/lab"]


def test_order_is_priority_and_nothing_comes_twice() -> None:
    found = channels_of(["b", "nodefaults", "a", "https://conda.anaconda.org/b"], {})
    assert [channel.name for channel in found] == ["b", "a"]
    assert [channel.name for channel in channels_of(["nodefaults"], {})] == ["conda-forge"]


@pytest.mark.parametrize("name", ["", "a b", "https://", "https://host/a b", "local", "a//b", "a;b"])
def test_nonsense_is_refused(name: str) -> None:
    with pytest.raises(SpecError, match="channel"):
        channels_of([name], {})


@pytest.mark.parametrize(
    ("written", "real"),
    [
        ("https://bob:${PASS}@host/chan", "https://bob:hunter22@host/chan"),
        ("https://bob:hunter22@host/chan", "https://bob:hunter22@host/chan"),
        ("https://host/t/${PASS}/chan", "https://host/t/hunter22/chan"),
        ("https://host/t/hunter22/chan", "https://host/t/hunter22/chan"),
    ],
)
def test_credentials_are_for_fetching_only(written: str, real: str) -> None:
    found = channels_of([written], {"PASS": "hunter22"})
    (channel,) = found
    assert (channel.public, channel.real) == ("https://host/chan", real)
    assert "hunter22" not in repr(found)
    archive = f"{real}/noarch/x-1-0.conda"
    assert recorded(archive, found) == "https://host/chan/noarch/x-1-0.conda"
    assert fetched(recorded(archive, found), found, {}) == archive
    assert "hunter22" not in hide(f"could not get {archive}: hunter22 was refused", found)


def test_a_variable_that_is_not_set_is_named() -> None:
    with pytest.raises(SpecError, match="NO_SUCH") as caught:
        channels_of(["https://host/t/${NO_SUCH}/chan"], {})
    assert "export NO_SUCH" in caught.value.hint
