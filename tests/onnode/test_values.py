"""Values that are no plain numbers: taken by what they are, or refused with a reason, and never changed."""

from __future__ import annotations

import math
from datetime import datetime
from decimal import Decimal
from typing import Any

import pytest

from hpcest.onnode.events import read_run
from hpcest.onnode.run import Run


class Tensor:
    """A value of another library: it has ``item()``, as NumPy's and PyTorch's have."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def item(self) -> Any:
        return self.value


@pytest.mark.parametrize("step", ["epoch 3", math.nan, math.inf, True, [1]])
def test_a_step_is_a_number(run: Run, step: Any, capsys: pytest.CaptureFixture[str]) -> None:
    run.log("x", 1, step=step)
    run.log("x", 2, step=2.0)
    run.log("x", 3, step=2.5)
    assert [point[1:] for point in read_run(run.folder)[1].series("x")] == [(2, 2), (2.5, 3)]
    assert ("metric 'step': list is neither" if isinstance(step, list) else "step must be a number, not") in capsys.readouterr().err


class NAType:
    """Comparing pandas' missing value with anything gives neither True nor False."""

    def __eq__(self, other: object) -> Any:
        return self

    def __bool__(self) -> bool:
        raise TypeError("boolean value of NA is ambiguous")

    __hash__ = None  # type: ignore[assignment]  # as pandas has it


class Imaginary(complex):
    """As NumPy's: it can be made a float, without what is imaginary of it."""

    def __float__(self) -> float:
        return self.real


def test_what_tables_of_other_libraries_hold(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    """A missing value is None and a moment a text, so that no table is lost for them."""
    moment = datetime(2020, 1, 2, 3, 4, 5)
    run.log_table("t", {"day": [moment, NAType()], "n": [1, Tensor(None)], "d": [moment.date(), None]})
    assert run.get_metrics() == {"t": {"day": ["2020-01-02T03:04:05", None], "n": [1, None], "d": ["2020-01-02", None]}}
    assert capsys.readouterr().err == ""


def test_a_number_that_no_float_can_be_is_refused_and_not_changed(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    run.log("huge", Decimal(10) ** 400)
    run.log("infinite", Decimal("Infinity"))
    run.log("imaginary", Imaginary(1, 2))
    assert run.get_metrics() == {"infinite": math.inf}
    said = capsys.readouterr().err
    assert "Decimal of this size is beyond all floats" in said
    assert "Imaginary is neither a number nor a text" in said


def test_tensors_of_several_elements_are_pointed_to_log_list(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    """PyTorch's own word for them is no ValueError."""

    class Several:
        def item(self) -> float:
            raise RuntimeError("a Tensor with 3 elements cannot be converted to Scalar")

    run.log("x", Several())
    assert "a Tensor with 3 elements cannot be converted to Scalar; use log_list for several values" in capsys.readouterr().err
