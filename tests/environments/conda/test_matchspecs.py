"""Match specs: what is the same, what is refused, and that py-rattler reads each the way we do."""

from __future__ import annotations

import pytest
import rattler

from hpcest.environments.conda.matchspecs import normalise, parse
from hpcest.errors import SpecError

SPELT = [
    ("NumPy", "numpy"),
    ("numpy=1.26", "numpy 1.26.*"),
    ("numpy = 1.26", "numpy 1.26.*"),
    ("numpy 1.26", "numpy ==1.26"),
    ("numpy==1.26", "numpy ==1.26"),
    ("numpy==1.26.*", "numpy 1.26.*"),
    ("python=3.11.*", "python 3.11.*"),
    ("numpy 1.26*", "numpy 1.26.*"),
    ("numpy >= 1.2 , < 2", "numpy >=1.2,<2"),
    ("numpy<2,>=1.2", "numpy >=1.2,<2"),
    ("numpy>=1.2,>=1.2,<2", "numpy >=1.2,<2"),
    ("numpy (>=1.2)", "numpy >=1.2"),
    ("numpy>=1.2.*", "numpy >=1.2"),
    ("numpy!=1.3.*", "numpy !=1.3.*"),
    ("numpy~=1.2", "numpy ~=1.2"),
    ("numpy 1.27.*|1.26.*", "numpy 1.26.*|1.27.*"),
    ("numpy *", "numpy"),
    ("numpy=1.26=py311*", "numpy ==1.26 py311*"),
    ("numpy 1.26.4 py311h64a7726_0", "numpy ==1.26.4 py311h64a7726_0"),
    ("mpich=*=external_*", "mpich * external_*"),
    ("hdf5=1.14.*=mpi_openmpi*", "hdf5 1.14.* mpi_openmpi*"),
    ("pytorch[build=*cuda*]", "pytorch * *cuda*"),
    ("_libgcc_mutex=0.1=conda_forge", "_libgcc_mutex ==0.1 conda_forge"),
    ("pytorch::pytorch", "pytorch::pytorch"),
    ("conda-forge::NumPy[version='>=1']", "conda-forge::numpy >=1"),
    ("numpy[version='>=1,<2', channel=conda-forge]", "conda-forge::numpy >=1,<2"),
    ("conda-forge/linux-64::numpy", "conda-forge/linux-64::numpy"),
    ("https://host/chan/::numpy=1", "https://host/chan::numpy 1.*"),
    ("numpy[subdir=linux-64,build_number='>3']", 'numpy[build_number=">3",subdir="linux-64"]'),
    ("jpeg 9e", "jpeg ==9e"),
]


@pytest.mark.parametrize(("written", "spelt"), SPELT)
def test_one_request_has_one_spelling(written: str, spelt: str) -> None:
    assert str(parse(written)) == spelt
    assert str(parse(spelt)) == spelt


#: What py-rattler itself can't read, or keeps in the order in which it was written.
OWN = (
    "numpy<2,>=1.2",
    "numpy>=1.2,>=1.2,<2",
    "numpy 1.27.*|1.26.*",
    "numpy *",
    "pytorch[build=*cuda*]",
    "numpy[subdir=linux-64,build_number='>3']",
)


@pytest.mark.parametrize(("written", "spelt"), SPELT)
def test_the_solver_understands_the_same(written: str, spelt: str) -> None:
    read = rattler.MatchSpec(spelt, strict=True).to_canonical_string()
    if written not in OWN:
        assert read == rattler.MatchSpec(written).to_canonical_string()


def test_keys_need_neither_order_nor_duplicates() -> None:
    assert normalise(["numpy =1.26", "Python 3.11.*", "numpy 1.26.*"]) == ("numpy 1.26.*", "python 3.11.*")


@pytest.mark.parametrize(
    ("spec", "words", "hint"),
    [
        ("", "no package name", "name"),
        ("*", "no package name", "name"),
        ("numpy*", "no package name", "name"),
        ("::numpy", "no channel", "channel::name"),
        ("nu mpy", "the version 'mpy'", "name=1.2"),
        ("numpy>=", "the version '>='", "name=1.2"),
        ("numpy=>1", "the version '=>1'", "name=1.2"),
        ("numpy===1", "the version '===1'", "name=1.2"),
        ("numpy>=1,", "lacks a version", "name=1.2"),
        ("numpy >=1.2 <2", "without a comma", "put a comma"),
        ("numpy 1.2 py3 x", "too many words: 'x'", "name=1.2"),
        ("numpy[foo=1]", "the key 'foo'", "known: version, build"),
        ("numpy[version", "no package name", "name"),
        ("numpy[md5=xx]", "the md5 'xx'", "32 hexadecimal"),
        ("numpy=1=py/3", "the build 'py/3'", "py311_0"),
        ("https://host/chan/noarch/x-1-0.conda", "URL of an archive", "https://host/channel::name"),
    ],
)
def test_nonsense_is_refused_by_name(spec: str, words: str, hint: str) -> None:
    with pytest.raises(SpecError) as caught:
        parse(spec)
    assert words in caught.value.message
    assert repr(spec) in caught.value.message
    assert hint in caught.value.hint


def test_credentials_in_a_spec_are_refused_and_not_shown() -> None:
    with pytest.raises(SpecError) as caught:
        parse("https://bob:hunter22@host/chan::numpy")
    assert "hunter22" not in caught.value.message + caught.value.hint
    assert "list of channels" in caught.value.hint
