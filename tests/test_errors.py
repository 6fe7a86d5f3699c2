"""An error says what to do next, wherever it is seen."""

from __future__ import annotations

import pickle
import subprocess
import sys

from hpcest.errors import HpcestError, UnknownNameError


def test_python_prints_the_hint_of_an_error_that_nobody_catches() -> None:
    program = "from hpcest.errors import UnknownNameError\nraise UnknownNameError('kind', 'hsot', ['host'])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    expected = ["hpcest.errors.UnknownNameError: kind 'hsot' is not known"]
    expected += ["Hint: did you mean 'host'?"] if sys.version_info >= (3, 11) else []  # Python 3.10 knows no notes
    assert done.stderr.splitlines()[-len(expected) :] == expected


def test_a_hint_may_be_changed_and_stands_beside_other_notes() -> None:
    error = HpcestError("it broke", hint="mend it")
    error.__notes__.append("of somebody else")
    error.hint += " soon"
    assert error.__notes__ == ["Hint: mend it soon", "of somebody else"]
    error.hint = ""
    assert (error.__notes__, str(error)) == (["of somebody else"], "it broke")
    assert UnknownNameError("kind", "x", ()).hint == "known: none"
    assert pickle.loads(pickle.dumps(HpcestError("it broke", hint="mend it"))).hint == "mend it"
