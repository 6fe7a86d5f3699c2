"""A request has the answer that was kept for it, until it is forgotten."""

from __future__ import annotations

import pytest

from hpcest.environments.store.specs import Specs
from hpcest.environments.store.store import Store
from hpcest.errors import SpecError
from tests.environments.store.helpers import key


def test_an_answer_is_kept_replaced_and_forgotten(store: Store) -> None:
    specs = Specs(store)
    assert specs.read(key()) is None
    first = specs.keep(key(), key("lock"), lock="numpy==2.0\n", facts={"tool": "uv"})
    assert specs.read(key()) == first
    second = specs.keep(key(), key("other"))
    assert Specs(store).read(key()) == second
    assert second.resolved >= first.resolved > 0
    assert specs.forget(key())
    assert not specs.forget(key())
    assert specs.read(key()) is None


@pytest.mark.parametrize("text", ["", "{", "null", "[]", '{"lock_key": "../x", "resolved": 1, "lock": "", "facts": {}}'])
def test_a_damaged_memo_counts_as_none_and_is_replaced(store: Store, text: str) -> None:
    specs = Specs(store)
    specs.keep(key(), key("lock"))
    store.layout.spec(key()).write_text(text)
    assert specs.read(key()) is None
    specs.keep(key(), key("lock"))
    assert specs.read(key())


def test_what_is_no_key_is_refused(store: Store) -> None:
    for call in (Specs(store).read, Specs(store).forget):
        with pytest.raises(SpecError, match="is no key"):
            call("../x")
    with pytest.raises(SpecError, match="is no key"):
        Specs(store).keep(key(), "../x")
