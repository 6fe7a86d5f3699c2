"""Requirement lines: what is the same, what is refused, and what may be recorded."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from hpcest.environments.contents import digest_of
from hpcest.environments.requirements import Options, Wanted, read
from hpcest.errors import SpecError


def texts(*lines: str, **variables: str) -> list[str]:
    return [one.text for one in read(lines, variables).wanted]


def only(line: str, **variables: str) -> Wanted:
    (one,) = read([line], variables).wanted
    return one


def test_order_is_kept_while_duplicates_comments_and_blank_lines_are_dropped() -> None:
    assert texts("zeta", "# a comment", "", "alpha  # why", "  ", "Zeta") == ["zeta", "alpha"]


@pytest.mark.parametrize(
    ("line", "spelt"),
    [
        ("Foo_Bar.baz", "foo-bar-baz"),
        ("six == 1.16.0", "six==1.16.0"),
        ("six<2,>=1", "six<2,>=1"),
        ("six >=1, <2", "six<2,>=1"),
        ("x[B_b, a]", "x[a,b-b]"),
        ("six;python_version<'3'", 'six ; python_version < "3"'),
        ("x[A]@https://host/x-1.tar.gz", "x[a] @ https://host/x-1.tar.gz"),
        ("git+https://host/x@main#egg=x", "git+https://host/x@main#egg=x"),
    ],
)
def test_one_requirement_has_one_spelling(line: str, spelt: str) -> None:
    assert only(line).text == spelt


def test_a_line_can_go_on_after_a_backslash() -> None:
    one = only("six==1.16.0 \\\n    --hash=sha256:aa \\\n    --hash sha256:bb")
    assert one.hashes == ("sha256:aa", "sha256:bb")
    assert one.text == "six==1.16.0"
    (joined,) = read(["six==1.16.0 \\", "  --hash=sha256:aa"]).wanted
    assert joined.hashes == ("sha256:aa",)
    assert joined.real == "six==1.16.0 --hash=sha256:aa"


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        ("six", "index"),
        ("six @ https://host/six-1.0-py3-none-any.whl", "url"),
        ("https://host/six-1.0-py3-none-any.whl", "url"),
        ("six @ git+https://host/six", "vcs"),
        ("git+ssh://git@host/six.git@v1", "vcs"),
        ("hg+https://host/six", "vcs"),
    ],
)
def test_each_line_says_where_its_package_comes_from(line: str, kind: str) -> None:
    assert only(line).kind == kind


def test_paths_count_from_the_current_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my code").mkdir()
    (tmp_path / "x-1.0-py3-none-any.whl").touch()
    code = (tmp_path / "my code").as_uri()
    assert texts("./my code", "x-1.0-py3-none-any.whl", f"y @ {code}", "${HERE}/my code", HERE=str(tmp_path)) == [
        code,
        (tmp_path / "x-1.0-py3-none-any.whl").as_uri(),
        f"y @ {code}",
    ]
    assert {one.kind for one in read(["./my code", "x-1.0-py3-none-any.whl"]).wanted} == {"local"}


def test_options_are_told_from_requirements(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    lines = ["-i https://one/simple", "--extra-index-url=https://two", "--extra-index-url https://three", "-f 'my wheels'"]
    lines += ["--find-links https://four", "--no-index", "--pre", "--no-binary mpi4py", "--only-binary=:all:", "--trusted-host h", "six"]
    request = read(lines)
    assert [one.text for one in request.wanted] == ["six"]
    assert request.options == Options(
        index_url="https://one/simple",
        extra_index_urls=("https://two", "https://three"),
        find_links=((tmp_path / "my wheels").as_uri(), "https://four"),
        no_index=True,
        pre=True,
        no_binary=("mpi4py",),
        only_binary=(":all:",),
        trusted_hosts=("h",),
    )


@pytest.mark.parametrize(
    ("line", "hint"),
    [
        ("six=1.0", "=="),
        ("six==", "name==1.2"),
        ("two words", "name==1.2"),
        ("-r more.txt", "where the spec is made"),
        ("--constraint=more.txt", "where the spec is made"),
        ("-e .", "without -e"),
        ("-egit+https://host/x", "without -e"),
        ("--frobnicate", "--index-url"),
        ("--index-url", "VALUE"),
        ("-f 'open", "quotes"),
        ("six --global-option=x", "--hash"),
        ("./nowhere", "current directory"),
        ("six==${NOT_SET}", "export NOT_SET"),
    ],
)
def test_a_line_that_cannot_be_used_is_refused_with_the_next_step(line: str, hint: str) -> None:
    with pytest.raises(SpecError) as caught:
        read(["fine", line], {})
    assert hint in caught.value.hint
    assert any(word in caught.value.message for word in (line, line.partition("=")[0], "nowhere", "NOT_SET"))


@pytest.mark.parametrize(
    "line",
    ["x @ https://me:hush@host/x y", "-r https://me:hush@host/x.txt", "https://me:hush@host/x.whl --foo", "--frob https://me:hush@host/"],
)
def test_a_refusal_shows_no_credentials(line: str) -> None:
    with pytest.raises(SpecError) as caught:
        read([line])
    assert "hush" not in caught.value.message + caught.value.hint


def test_variables_stand_for_secrets_that_are_not_recorded() -> None:
    one = only("x @ https://${USER}:${TOKEN}@host/${TOKEN}/x.whl", USER="me", TOKEN="hush")
    assert one.text == "x @ https://host/${TOKEN}/x.whl"
    assert one.real == "x @ https://${USER}:${TOKEN}@host/${TOKEN}/x.whl"


def test_variables_elsewhere_are_part_of_the_request() -> None:
    assert texts("six==${SIX}", SIX="1.16.0") == ["six==1.16.0"]


class TestContents:
    def test_content_counts_and_dates_do_not(self, tmp_path: Path) -> None:
        (tmp_path / "code.py").write_text("1")
        before = digest_of(tmp_path)
        os.utime(tmp_path / "code.py", (1, 1))
        assert digest_of(tmp_path) == before
        (tmp_path / "code.py").write_text("2")
        assert digest_of(tmp_path) != before

    def test_a_name_counts(self, tmp_path: Path) -> None:
        (tmp_path / "one.py").write_text("1")
        before = digest_of(tmp_path)
        (tmp_path / "one.py").rename(tmp_path / "two.py")
        assert digest_of(tmp_path) != before

    def test_what_tools_leave_behind_does_not_count(self, tmp_path: Path) -> None:
        (tmp_path / "code.py").write_text("1")
        before = digest_of(tmp_path)
        for name in (".git/HEAD", "__pycache__/x.pyc", "x.egg-info/PKG-INFO", "build/lib/code.py", "dist/x.whl", "code.pyc"):
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text("new")
        assert digest_of(tmp_path) == before
        (tmp_path / "package" / "build").mkdir(parents=True)
        (tmp_path / "package" / "build" / "real.py").write_text("code")
        assert digest_of(tmp_path) != before

    def test_files_cannot_be_shifted_into_each_other(self, tmp_path: Path) -> None:
        (tmp_path / "a").write_text("bc")
        (tmp_path / "d").write_text("")
        before = digest_of(tmp_path)
        (tmp_path / "a").write_text("b")
        (tmp_path / "d").write_text("c")
        assert digest_of(tmp_path) != before

    def test_an_archive_is_told_by_its_size_and_date(self, tmp_path: Path) -> None:
        archive = tmp_path / "x.whl"
        archive.write_bytes(b"1")
        before = digest_of(archive)
        os.utime(archive, (1, 1))
        assert digest_of(archive) != before
