"""Where environments are built: a folder of one's own, in a place that will do."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from hpcest.environments.apptainer.room import place_for
from hpcest.environments.room import check_room, scratch
from hpcest.errors import EnvironmentBuildError

ROOT = Path(__file__).parents[2]
_IN_NOEXEC = """
import sys
from hpcest.environments.apptainer.room import place_for
from hpcest.errors import EnvironmentBuildError
print(place_for("", {"TMPDIR": sys.argv[1]}, print))
try:
    place_for(sys.argv[1], {}, print)
except EnvironmentBuildError as error:
    print(error.message)
"""


def test_a_folder_of_ones_own_that_goes_again(tmp_path: Path) -> None:
    """In what is configured, else where TMPDIR says, for nobody else to look into."""
    wanted, variable = tmp_path / "wanted", tmp_path / "variable"
    for place, arguments in ((wanted, (str(wanted),)), (variable, ("", {"TMPDIR": str(variable)}))):
        place.mkdir()
        with scratch(*arguments) as folder:
            assert folder.parent == place
            assert folder.stat().st_mode & 0o777 == 0o700
            (folder / "read only").mkdir(mode=0o500)
        end = time.monotonic() + 20
        while list(place.iterdir()):  # nobody waits for its removal
            assert time.monotonic() < end
            time.sleep(0.02)


def test_a_place_that_is_not_there() -> None:
    """It is named, and how to name another."""
    with pytest.raises(EnvironmentBuildError, match="/proc/nowhere") as caught, scratch("/proc/nowhere"):
        pass
    assert "scratch: DIR" in caught.value.hint


def test_too_little_room_is_said_before_anything_is_begun(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentBuildError, match=r"building it needs .* are free"):
        check_room(tmp_path, 1 << 60, "building it")


@pytest.mark.parametrize("place", ["/dev", "/dev/shm", "/dev/shm/../shm/deep", "/proc/self", "/sys"])
def test_what_containers_have_of_their_own_is_no_place_for_them(place: str) -> None:
    """Another is taken for that of TMPDIR, and it is said; that of the configuration is refused."""
    said: list[str] = []
    other = place_for("", {"TMPDIR": place}, said.append)
    assert other in ("/tmp", "/var/tmp")
    assert len(said) == 1
    assert said[0].startswith(f"built in {other}, not in {place}: containers have a /")
    with pytest.raises(EnvironmentBuildError, match=place) as caught:
        place_for(place, {}, said.append)
    assert "scratch: DIR" in caught.value.hint
    assert len(said) == 1


def test_any_other_place_will_do(tmp_path: Path) -> None:
    """Also one that is not there, which is said when it is used."""
    for place in (str(tmp_path), str(tmp_path / "none"), "/device"):
        assert place_for(place, {}, pytest.fail) == place_for("", {"TMPDIR": place}, pytest.fail) == place


def test_a_place_without_programs(tmp_path: Path) -> None:
    """A file system that is mounted noexec is passed over, and refused where it is configured."""
    lines = 'mount -t tmpfs -o noexec none "$1" && exec "$2" -c "$3" "$1"'
    start = ["unshare", "-m", *(["-r"] if os.geteuid() else []), "/bin/sh", "-c", lines, "sh", str(tmp_path), sys.executable, _IN_NOEXEC]
    done = subprocess.run(start, capture_output=True, text=True, check=False, env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert done.returncode == 0, done.stderr
    told, other, refused = done.stdout.splitlines()
    assert other in ("/tmp", "/var/tmp")
    assert told == f"built in {other}, not in {tmp_path}: it is mounted noexec, so no program can be started there"
    assert refused.startswith(f"containers can't be built in {tmp_path}: it is mounted noexec")
