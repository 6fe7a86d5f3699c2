"""A run is found by what people type."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from hpcest.errors import UnknownNameError, UsageError
from hpcest.history.query import resolve

if TYPE_CHECKING:
    from tests.history.conftest import Records


@pytest.fixture
def some(records: Records) -> Records:
    """abcdef01 is the latest, abzz the second, k9 the oldest and of another experiment; a child and a trashed run beside them."""
    records.run("abcdef01", created=records.now - 7200)
    records.run("abzz", created=records.now - 3 * 86400)
    records.run("k9", created=records.now - 4 * 86400, spec={"experiment": "old: one"})
    records.run("child001", created=records.now, kind="child", spec={"parent": "k9"})
    records.run("trash001", created=records.now, events=[{"t": 1, "e": "trash", "v": True}])
    records.refresh()
    return records


@pytest.mark.parametrize(
    ("reference", "run_id"),
    [
        ("abcdef01", "abcdef01"),
        ("abc", "abcdef01"),
        ("abz", "abzz"),
        ("k9", "k9"),
        (" k9 ", "k9"),
        ("child", "child001"),
        ("trash001", "trash001"),
        ("@latest", "abcdef01"),
        ("@1", "abcdef01"),
        ("@2", "abzz"),
        ("@3", "k9"),
        ("@latest:mnist", "abcdef01"),
        ("@2:mnist", "abzz"),
        ("@latest:old: one", "k9"),
    ],
)
def test_what_is_found(some: Records, reference: str, run_id: str) -> None:
    """An id, a unique beginning, the n-th latest, also within an experiment."""
    assert resolve(some.workspace, reference) == run_id


def test_a_run_of_this_moment_is_found(some: Records) -> None:
    """Nobody has to refresh the index first."""
    some.run("newest", created=some.now + 1)
    assert resolve(some.workspace, "newest") == "newest"
    some.run("newer111", created=some.now + 2)
    assert resolve(some.workspace, "@latest") == "newer111"
    assert resolve(some.workspace, "newer") == "newer111"


def test_an_ambiguous_prefix_lists_the_candidates(some: Records) -> None:
    """With experiment and age, newest first, and not too many."""
    with pytest.raises(UsageError, match="run 'ab' is ambiguous: 2 ids start with it") as caught:
        resolve(some.workspace, "ab")
    assert caught.value.hint.splitlines()[1:] == ["  abcdef01  mnist  2 h ago", "  abzz  mnist  3 d ago"]
    for number in range(20):
        some.run(f"ab0{number:02d}")
    with pytest.raises(UsageError) as caught:
        resolve(some.workspace, "ab0")
    assert len(caught.value.hint.splitlines()) == 10
    assert caught.value.hint.endswith("and 12 more")


@pytest.mark.parametrize(
    ("reference", "kind", "hint"),
    [
        ("abcdef02", "run", "did you mean 'abcdef01'?"),
        ("zzzzzzzz", "run", "hpcest runs lists them"),
        ("trash", "run", "hpcest runs lists them"),
        ("@4", "run", "this workspace has 3 runs: hpcest runs lists them"),
        ("@3:mnist", "run", "experiment 'mnist' has 2 runs: hpcest runs lists them"),
        ("@2:old: one", "run", "experiment 'old: one' has 1 run: hpcest runs lists them"),
        ("@latest:minst", "experiment", "did you mean 'mnist'?"),
        ("../../etc", "run", "hpcest runs lists them"),
        ("ab%", "run", "hpcest runs lists them"),
        ("\ud800\ud800", "run", "hpcest runs lists them"),
    ],
)
def test_what_is_not_there(some: Records, reference: str, kind: str, hint: str) -> None:
    """The error says what kind of thing is missing, and the hint what to do; wildcards and paths are only letters."""
    with pytest.raises(UnknownNameError) as caught:
        resolve(some.workspace, reference)
    assert (caught.value.kind, caught.value.hint) == (kind, hint)


@pytest.mark.parametrize("reference", ["a", "", "@", "@0", "@-1", "@last", "@²", "@99999999999999999999", "@:mnist"])
def test_what_names_no_run_at_all(some: Records, reference: str) -> None:
    """Refused with the forms that are allowed."""
    with pytest.raises(UsageError) as caught:
        resolve(some.workspace, reference)
    assert "@latest" in caught.value.hint


def test_an_empty_workspace_says_so(records: Records) -> None:
    """There is nothing to list."""
    for reference, hint in (("@latest", "this workspace has no runs yet"), ("abc", "there are no runs yet")):
        with pytest.raises(UnknownNameError) as caught:
            resolve(records.workspace, reference)
        assert caught.value.hint == hint
