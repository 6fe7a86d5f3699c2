"""Names for runs: short enough to type, unique without asking anyone."""

import os

_LETTERS = "abcdefghjkmnpqrstvwxyz"  # no i, l, o, u: they are misread, or spell words
_SYMBOLS = "0123456789" + _LETTERS


def new_run_id():
    """Eight letters and digits that start with a letter (about 10**12 of them).

    Whoever makes a run folder with it must make the folder exclusively and draw again if it exists.
    """
    draw = os.urandom(8)
    return _LETTERS[draw[0] % len(_LETTERS)] + "".join(_SYMBOLS[byte % len(_SYMBOLS)] for byte in draw[1:])


def may_be_id(name):
    """Whether somebody may call a run so: it becomes the name of a folder, and a word on command lines."""
    return name[:1].isalpha() and name.replace("-", "_").replace(".", "_").isidentifier() and len(name) <= 200
