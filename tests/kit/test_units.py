"""Times, memory and signals in every form that people and Slurm write them."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpcest.errors import SpecError
from hpcest.kit.units import format_memory, format_time, parse_memory, parse_signal, parse_time


@pytest.mark.parametrize(
    ("written", "seconds"),
    [
        ("2:00:00", 7200),
        ("00:00:30", 30),
        ("48:00:00", 172800),
        ("30:00", 1800),
        ("1-00:00:00", 86400),
        ("1-12", 129600),
        ("1-12:30", 131400),
        ("7-0:0:1", 604801),
        ("90m", 5400),
        ("2h30m", 9000),
        ("1d 2h 3m 4s", 93784),
        ("1.5h", 5400),
        ("2 hours 30 minutes", 9000),
        ("45 sec", 45),
        ("10MIN", 600),
        (" 2h ", 7200),
        ("0:00", 0),
    ],
)
@pytest.mark.parametrize("bare", ["s", "min"])
def test_a_time_with_its_unit_means_the_same_everywhere(written: str, seconds: int, bare: Any) -> None:
    assert parse_time(written, bare=bare) == seconds


@pytest.mark.parametrize("written", ["30", 30, 30.0, " 30 "])
def test_a_bare_number_is_seconds_or_minutes_as_asked(written: Any) -> None:
    assert (parse_time(written), parse_time(written, bare="s"), parse_time(written, bare="min")) == (30, 30, 1800)


@pytest.mark.parametrize(
    "written",
    ["", " ", "soon", "-5", -5, "1:2:3:4", "1-", "-1:00", "2:", "30m2h", "2h2h", "2h-30m", "1.5", 1.5, "1e3", "2:00:00h", "٣", "5 weeks",
     "UNLIMITED", True, None, [], "9" * 15 + "d", "1" * 5000, float("nan"), float("inf"), 10**13],
)  # fmt: skip
def test_what_is_no_time_is_refused_with_the_forms(written: Any) -> None:
    with pytest.raises(SpecError) as caught:
        parse_time(written)
    assert caught.value.message == f"time {written!r} can't be read"
    assert caught.value.hint == "write it as 2:00:00, 1-12:00:00, 30:00 (minutes:seconds), 2h30m, 90m, 45s or 1.5d"


@pytest.mark.parametrize(
    ("seconds", "written"),
    [
        (0, "0:00:00"),
        (59, "0:00:59"),
        (7200, "2:00:00"),
        (36000, "10:00:00"),
        (86399, "23:59:59"),
        (86400, "1-00:00:00"),
        (129661, "1-12:01:01"),
    ],
)
def test_a_time_is_written_as_slurm_writes_it(seconds: int, written: str) -> None:
    assert format_time(seconds) == written


@given(st.integers(0, 10**12), st.sampled_from(["s", "min"]))
def test_a_written_time_is_read_back(seconds: int, bare: Any) -> None:
    assert parse_time(format_time(seconds), bare=bare) == seconds


@pytest.mark.parametrize(
    ("written", "megabytes"),
    [
        ("4G", 4096),
        ("4g", 4096),
        ("4GB", 4096),
        ("4 GiB", 4096),
        ("4Gi", 4096),
        ("500M", 500),
        ("500MB", 500),
        ("1T", 1048576),
        ("1P", 1024**3),
        ("1.5G", 1536),
        ("0.1G", 103),
        ("512K", 1),
        ("4096", 4096),
        (4096, 4096),
        (4096.0, 4096),
        ("0", 0),
    ],
)
def test_memory_is_megabytes_of_1024_rounded_up(written: Any, megabytes: int) -> None:
    assert parse_memory(written) == megabytes


@pytest.mark.parametrize(
    "written", ["", "much", "-1", -1, "4X", "4 4", "4G per node", "G", True, None, "9" * 15 + "P", "1" * 5000, float("nan")]
)
def test_what_is_no_memory_is_refused_with_the_forms(written: Any) -> None:
    with pytest.raises(SpecError) as caught:
        parse_memory(written)
    assert caught.value.message == f"memory {written!r} can't be read"
    assert caught.value.hint == "write it as 4G, 500M, 1.5T or 4096 (megabytes)"


@pytest.mark.parametrize(
    ("megabytes", "written"), [(0, "0M"), (500, "500M"), (1500, "1500M"), (4096, "4G"), (1048576, "1T"), (1049600, "1025G")]
)
def test_memory_is_written_in_the_largest_exact_unit(megabytes: int, written: str) -> None:
    assert format_memory(megabytes) == written


@given(st.integers(0, 10**12))
def test_written_memory_is_read_back(megabytes: int) -> None:
    assert parse_memory(format_memory(megabytes)) == megabytes


@pytest.mark.parametrize(
    ("written", "name", "seconds"),
    [
        ("USR1", "USR1", None),
        ("usr1@120", "USR1", 120),
        ("SIGTERM@0", "TERM", 0),
        ("B:USR2@60", "USR2", 60),
        ("R:SIGHUP", "HUP", None),
        ("RTMIN", "RTMIN", None),
        ("BUS@5", "BUS", 5),
        (" 10@60 ", "10", 60),
        ("@120", "", 120),
        ("", "", None),
    ],
)
def test_a_signal_has_a_name_and_may_come_so_many_seconds_ahead(written: str, name: str, seconds: int | None) -> None:
    assert parse_signal(written) == (name, seconds)


@pytest.mark.parametrize(
    ("written", "why"),
    [
        ("USR1@", ""),
        ("USR1@soon", ""),
        ("USR1@-5", ""),
        ("USR1@1@2", ""),
        ("USR1@٣", ""),
        ("USR9@60", ": there is no signal 'USR9'"),
        ("SIG", ": there is no signal 'SIG'"),
        ("999", ": 999 is not a valid Signals"),
        ("True", ": there is no signal 'TRUE'"),
    ],
)
def test_what_is_no_signal_is_refused_with_the_forms(written: str, why: str) -> None:
    with pytest.raises(SpecError) as caught:
        parse_signal(written)
    assert caught.value.message == f"signal {written!r} can't be read{why}"
    assert caught.value.hint == "write it as USR1, or USR1@120: 120 seconds before the time limit"
