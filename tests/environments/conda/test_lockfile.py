"""Locks of conda packages: readable, complete, and the same for the same packages."""

from __future__ import annotations

from dataclasses import replace

import pytest
from rattler.explicit_environment import ExplicitEnvironmentSpec

from hpcest.environments.conda.lockfile import CondaPackage, key_of_packages, read_text, text_of

NUMPY = CondaPackage(
    name="numpy",
    version="1.26.4",
    build="py311h64a7726_0",
    subdir="linux-64",
    channel="https://host/conda-forge",
    url="https://host/conda-forge/linux-64/numpy-1.26.4-py311h64a7726_0.conda",
    sha256="ab" * 32,
    md5="cd" * 16,
    size=8065890,
)
OLD = CondaPackage("old-lib", "1.0", "0", "noarch", "file:///srv/c%20d", "file:///srv/c%20d/noarch/old-lib-1.0-0.tar.bz2", md5="ef" * 16)


def test_a_lock_is_lines_that_conda_reads_too() -> None:
    assert text_of([OLD, NUMPY], "linux-64") == (
        "# conda packages, locked by hpcest\n"
        "# platform: linux-64\n"
        "@EXPLICIT\n"
        f"# numpy 1.26.4 py311h64a7726_0, 8065890 bytes, md5 {'cd' * 16}\n"
        f"https://host/conda-forge/linux-64/numpy-1.26.4-py311h64a7726_0.conda#sha256:{'ab' * 32}\n"
        "# old-lib 1.0 0\n"
        f"file:///srv/c%20d/noarch/old-lib-1.0-0.tar.bz2#{'ef' * 16}\n"
    )


def test_what_was_written_is_read() -> None:
    assert read_text(text_of([OLD, NUMPY], "linux-64")) == (NUMPY, OLD)
    assert len(ExplicitEnvironmentSpec.from_str(text_of([NUMPY], "linux-64")).packages) == 1


def test_comments_are_not_needed() -> None:
    (found,) = read_text(f"# made by hand\n\n{NUMPY.url}#sha256:{NUMPY.sha256}")
    assert found == replace(NUMPY, md5="", size=0)


def test_the_key_has_names_and_digests_whichever_channel() -> None:
    assert key_of_packages([OLD, NUMPY]) == [
        ["numpy-1.26.4-py311h64a7726_0.conda", "ab" * 32],
        ["old-lib-1.0-0.tar.bz2", f"md5:{'ef' * 16}"],
    ]
    mirror = replace(NUMPY, channel="https://mirror", url=NUMPY.url.replace("host", "mirror"))
    assert key_of_packages([NUMPY]) == key_of_packages([mirror])


@pytest.mark.parametrize(
    "line",
    [
        "numpy==1.26",
        "https://host/c/linux-64/numpy-1.26.4-0.conda",
        "https://host/c/linux-64/numpy-1.26.4-0.conda#sha256:abc",
        f"https://host/c/linux-64/..%2f..%2fevil-1-0.conda#{'ab' * 16}",
        f"https://host/c/linux-64/numpy.conda#{'ab' * 16}",
    ],
)
def test_a_line_without_archive_or_hash_is_refused(line: str) -> None:
    with pytest.raises(ValueError, match="line 2"):
        read_text(f"@EXPLICIT\n{line}\n")
