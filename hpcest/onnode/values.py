"""What can be logged: names, and values of any library, as JSON says them."""

import json
import math
import operator

# What pandas calls what is not there, and NumPy: to compare them tells nothing.
_MISSING = ("NAType", "NaTType", "MaskedConstant")


def checked_name(name):
    """The name of a metric as a text. Raises TypeError for one that nobody could ask for."""
    if isinstance(name, (int, float)):
        return str(name)
    if not isinstance(name, str) or not name.strip():
        raise TypeError("the name of a metric must be a text that is not empty, not %r" % (name,))
    return name


def scalar(name, value):
    """``value`` as a JSON scalar; numbers of other libraries by their value. Raises TypeError, or what the library raises.

    A value that is missing (pandas' NA and NaT, a masked one) is None, a moment its text in ISO 8601.
    """
    if value is None or isinstance(value, (str, bool, int, float)):
        return value
    if type(value).__name__ in _MISSING:
        return None
    item = getattr(value, "item", None)
    if callable(item):
        try:
            value = item()
        except Exception as error:  # a ValueError of NumPy and pandas, a RuntimeError of PyTorch, for more than one element
            raise TypeError("metric %r: %s; use log_list for several values" % (name, error)) from None
        if value is None or isinstance(value, (str, bool, int, float)):
            return value
    try:
        return operator.index(value)  # TensorFlow's tensors have __index__, but only those of whole numbers can do it
    except TypeError:
        pass
    if hasattr(type(value), "__float__") and not _is_complex(value):
        return _float(name, value)
    if callable(getattr(value, "isoformat", None)):
        return value.isoformat()
    raise TypeError("metric %r: %s is neither a number nor a text; use log_list, log_row or log_table" % (name, type(value).__name__))


def _is_complex(value):
    """Whether it has an imaginary part, which NumPy's own numbers of this kind drop with a warning."""
    import numbers  # which a program that logs plain numbers does without

    return isinstance(value, numbers.Complex) and not isinstance(value, numbers.Real)


def _float(name, value):
    found = float(value)
    if math.isinf(found) and value != found:
        raise TypeError("metric %r: %s of this size is beyond all floats; log it as a text" % (name, type(value).__name__))
    return found


def step_of(value):
    """The step of a metric: a whole number, or another one. Raises TypeError."""
    found = scalar("step", value)
    if isinstance(found, bool) or not isinstance(found, (int, float)) or not math.isfinite(found):
        raise TypeError("step must be a number, not %r" % (value,))
    return int(found) if found == int(found) else found


def spelt(name, value):
    """A scalar as JSON; the usual types are spelt here, for json.dumps takes several times as long."""
    value = scalar(name, value)
    if isinstance(value, float) and math.isfinite(value):
        return float.__repr__(value)  # NumPy's own repr says that it is NumPy's
    return repr(value) if type(value) is int else json.dumps(value)  # NaN and infinities in JSON's spelling


def column(name, items):
    """One column of a table: a list of scalars, or one scalar."""
    if isinstance(items, (str, bytes)) or not hasattr(items, "__iter__"):
        return scalar(name, items)
    return several(name, items)


def several(name, items):
    """The scalars in anything that can be iterated over; one scalar is a list of one."""
    if isinstance(items, (str, bytes)) or getattr(items, "shape", None) == ():  # an array without a dimension can't be iterated over
        return [scalar(name, items)]
    return [scalar(name, item) for item in items]


def plain(value):
    """``value`` as JSON values all through: arrays as lists, keys as texts. Raises TypeError for what has no counterpart."""
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(item) for item in value]
    if value is None or isinstance(value, (str, bool, int, float)):
        return value
    if callable(getattr(value, "tolist", None)):
        return plain(value.tolist())
    return scalar("value", value)
