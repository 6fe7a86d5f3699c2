"""Conda files as people write them: what is read, what is dropped, and what an error says."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest

from hpcest.environments.conda.channels import channels_of
from hpcest.environments.conda.matchspecs import normalise
from hpcest.environments.conda.specfile import CondaFile, read_file, read_mapping, read_text
from hpcest.errors import ConfigError, SpecError


def read(text: str, *, platform: str = "linux-64", path: Path = Path("/srv/env.yml")) -> CondaFile:
    return read_text(textwrap.dedent(text), path, platform=platform)


#: Files in the manner of public projects, and what each comes to for linux-64.
FILES = {
    "geo": (
        """
        # Geospatial stack
        name: geo
        channels:
          - conda-forge
          - nodefaults
        dependencies:
          - python=3.11.*
          - geopandas>=0.14,<1
          - "rasterio >=1.3"
          - gdal  # heavy
          - pip
        """,
        ("gdal", "geopandas >=0.14,<1", "pip", "python 3.11.*", "rasterio >=1.3"),
        (),
    ),
    "torch": (
        """
        name: torch
        channels: [pytorch, nvidia, conda-forge]
        dependencies:
          - python=3.10
          - pytorch::pytorch=2.1.2=py3.10_cuda12.1_cudnn8.9.2_0
          - pytorch-cuda=12.1
          - numpy<2
          - pip:
              - lightning==2.1.*
              - git+https://host/me/thing.git@v1#egg=thing
        """,
        ("numpy <2", "python 3.10.*", "pytorch-cuda 12.1.*", "pytorch::pytorch ==2.1.2 py3.10_cuda12.1_cudnn8.9.2_0"),
        ("lightning==2.1.*", "git+https://host/me/thing.git@v1#egg=thing"),
    ),
    "selectors": (
        """
        name: portable
        channels:
          - conda-forge
        dependencies:
          - python >=3.9
          - pywin32   # [win]
          - libgcc-ng # [linux]
          - libcxx    # [osx]
          - mkl       # [x86_64 and not osx] is faster there
          - sysroot_linux-64 # [linux64]
          - openblas  # [aarch64 or ppc64le]
          - uvloop    # [unix]
        """,
        ("libgcc-ng", "mkl", "python >=3.9", "sysroot_linux-64", "uvloop"),
        (),
    ),
    "python selectors": (
        """
        dependencies:
          - python=3.10
          - dataclasses      # [py<37]
          - tomli            # [py<=310 and linux]
          - importlib-resources # [not py3k]
        """,
        ("python 3.10.*", "tomli"),
        (),
    ),
    "a pip section for elsewhere": (
        """
        dependencies:
          - numpy
          - pip:   # [osx]
            - tensorflow-macos
            - tensorflow-metal
          - pip:   # [not osx]
            - tensorflow
        """,
        ("numpy",),
        ("tensorflow",),
    ),
    "exported": (
        """
        name: base
        channels:
          - defaults
        dependencies:
          - _libgcc_mutex=0.1=main
          - ca-certificates=2023.08.22=h06a4308_0
          - openssl=3.0.12=h7f8727e_0
          - tzdata=2023c=h04d1e81_0
          - pip:
            - absl-py==2.0.0
        prefix: /home/someone/miniconda3/envs/base
        """,
        (
            "_libgcc_mutex ==0.1 main",
            "ca-certificates ==2023.08.22 h06a4308_0",
            "openssl ==3.0.12 h7f8727e_0",
            "tzdata ==2023c h04d1e81_0",
        ),
        ("absl-py==2.0.0",),
    ),
    "bioinformatics": (
        """
        channels:
          - conda-forge
          - bioconda
        dependencies:
          - bioconda::samtools =1.17
          - bioconda::bwa 0.7.17
          - r-base=4.3
          - bioconductor-deseq2>=1.40
          - perl-list-moreutils
        """,
        ("bioconda::bwa ==0.7.17", "bioconda::samtools 1.17.*", "bioconductor-deseq2 >=1.40", "perl-list-moreutils", "r-base 4.3.*"),
        (),
    ),
    "mpi": (
        """
        dependencies:
        - 'mpich=4.1=external_*'
        - mpi4py
        - "h5py>=3.8=mpi_mpich*"
        - blas=*=openblas
        """,
        ("blas * openblas", "h5py >=3.8 mpi_mpich*", "mpi4py", "mpich ==4.1 external_*"),
        (),
    ),
    "pip options": (
        """
        dependencies:
          - python=3.11
          - pip
          - pip:
            - --extra-index-url https://download.host/whl/cpu
            - --find-links wheels
            - torch==2.3.0+cpu
            - ./local-package
        """,
        ("pip", "python 3.11.*"),
        ("--extra-index-url https://download.host/whl/cpu", "--find-links /srv/wheels", "torch==2.3.0+cpu", "/srv/local-package"),
    ),
    "quotes and alternatives": (
        """
        dependencies:
          - "python>=3.9,<3.13"
          - 'scikit-learn[version=">=1.3"]'
          - dask >=2023.1,!=2023.5.1
          - jupyterlab =4
          - nodejs 18.*|20.*
        """,
        ("dask >=2023.1,!=2023.5.1", "jupyterlab 4.*", "nodejs 18.*|20.*", "python >=3.9,<3.13", "scikit-learn >=1.3"),
        (),
    ),
    "windows line ends": (
        "name: x\r\ndependencies:\r\n  - numpy\r\n  - scipy # [linux]\r\n  - pywin32 # [win]\r\n",
        ("numpy", "scipy"),
        (),
    ),
    "nothing": ("name: empty\ndependencies: []\n", (), ()),
}


@pytest.mark.parametrize("name", FILES)
def test_files_of_real_life(name: str) -> None:
    text, conda, pip = FILES[name]
    found = read(text)
    assert normalise(found.dependencies) == conda
    assert found.pip == pip


def test_name_prefix_and_variables_are_kept_apart() -> None:
    found = read("name: x\nprefix: /home/me/x\nvariables:\n  LEVEL: 3\n  MODE: 'yes'\ndependencies: [numpy]\n")
    assert (found.name, found.prefix, found.dependencies) == ("x", "/home/me/x", ("numpy",))
    assert found.variables == {"LEVEL": "3", "MODE": "yes"}


def test_selectors_follow_the_platform() -> None:
    text = FILES["selectors"][0]
    assert normalise(read(text, platform="osx-arm64").dependencies) == ("libcxx", "python >=3.9", "uvloop")
    assert normalise(read(text, platform="linux-aarch64").dependencies) == ("libgcc-ng", "openblas", "python >=3.9", "uvloop")
    assert normalise(read(text, platform="win-64").dependencies) == ("mkl", "python >=3.9", "pywin32")


def test_credentials_are_kept_for_use_and_never_shown() -> None:
    text = """
        channels: ["https://bob:hunter22@host/chan", "https://host/t/${TOKEN}/other"]
        dependencies:
          - pip:
            - --index-url https://bob:hunter22@host/simple
        """
    found = read(text)
    assert "hunter22" not in repr(found)
    assert found.pip == ("--index-url https://bob:hunter22@host/simple",)
    real = [channel.real for channel in channels_of(found.channels, {"TOKEN": "tok"})]
    assert real == ["https://bob:hunter22@host/chan", "https://host/t/tok/other"]


def test_requirements_files_are_read_where_they_stand(tmp_path: Path) -> None:
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "dev.txt").write_text("-r ../base.txt\npytest  # tests\n./here\n\n")
    (tmp_path / "base.txt").write_text("six==1.16 \\\n  --hash=sha256:aa\n")
    (tmp_path / "env.yml").write_text("dependencies:\n- pip:\n  - -r more/dev.txt\n  - last\n")
    found = read_file(tmp_path / "env.yml")
    assert found.pip == ("six==1.16    --hash=sha256:aa", "pytest", str(tmp_path / "more" / "here"), "last")


def test_a_requirements_file_that_includes_itself_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("-r a.txt\n")
    (tmp_path / "env.yml").write_text("dependencies:\n- pip:\n  - -r a.txt\n")
    with pytest.raises(SpecError, match=r"env\.yml:3: the requirements file .* includes itself"):
        read_file(tmp_path / "env.yml")


def test_values_that_were_read_already_will_do(tmp_path: Path) -> None:
    value = {"channels": ["a"], "dependencies": ["numpy", {"pip": ["./x"]}]}
    assert read_mapping(value, tmp_path).pip == (str(tmp_path / "x"),)
    with pytest.raises(SpecError, match=r"^the conda specification: key 'dependencys' is not known") as caught:
        read_mapping({"dependencys": []}, tmp_path)
    assert caught.value.hint == "did you mean 'dependencies'?"


@pytest.mark.parametrize(
    ("text", "line", "words", "hint"),
    [
        ("dependencies:\n - numpy # [foo]\n", 2, "the selector [foo] can't be read", "known: linux"),
        ("dependencies:\n - a\n - b # [linux and]\n", 3, "[linux and]", "known: linux"),
        ("dependencies:\n - b # [__import__('os')]\n", 2, "can't be read", "known: linux"),
        ("dependencies:\n - b # [py>39]\n", 2, "doesn't pin", "python=3.11"),
        ("name: x\ndependncies: []\n", 2, "key 'dependncies' is not known", "did you mean 'dependencies'?"),
        ("name: x\n", 1, "no key 'dependencies'", "dependencies: []"),
        ("- numpy\n", 1, "not a conda specification", "dependencies"),
        ("", 1, "not a conda specification", "dependencies"),
        ("dependencies:\n - numpy: 1.2\n", 2, "is a mapping", "numpy=1.2"),
        ("dependencies:\n -\n", 2, "dependencies[0] must be a text, and is empty", "write a text"),
        ("dependencies:\n - yes\n", 2, "read as true", "quotes"),
        ("dependencies: numpy\n", 1, "must be a list, not 'numpy'", "'- '"),
        ("dependencies: []\nchannels: conda-forge\n", 2, "must be a list", "'- '"),
        ("dependencies:\n - a\n - numpy >=1 <2\n", 3, "'numpy >=1 <2'", "comma"),
        ("dependencies:\n - pip: foo\n", 2, "must be a list", "'- '"),
        ("dependencies:\n - pip:\n   - a\n   - -r no.txt\n", 4, "'/srv/no.txt' can't be read", "after -r"),
        ("dependencies: []\nvariables: [A]\n", 2, "variables must be a mapping", "NAME: value"),
        ("dependencies: [\n", 1, "not valid YAML", "close what is open"),
    ],
)
def test_an_error_says_where_what_and_what_next(text: str, line: int, words: str, hint: str) -> None:
    with pytest.raises((SpecError, ConfigError)) as caught:
        read(text)
    assert caught.value.message.startswith(f"/srv/env.yml:{line}: ")
    assert words in caught.value.message
    assert hint in caught.value.hint


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nosuch\.yml: can't be read"):
        read_file(tmp_path / "nosuch.yml")


def test_an_error_never_shows_credentials() -> None:
    with pytest.raises(SpecError) as caught:
        read("dependencies: []\nchannels: https://bob:hunter22@host/chan\n")
    assert "hunter22" not in caught.value.message + caught.value.hint
