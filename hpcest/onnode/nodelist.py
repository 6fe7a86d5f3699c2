"""The hosts in what Slurm writes for several: ``n[1-3,07],login``."""

import re

_PART = re.compile(r"(?:\[[^]]*\]|[^,\[])+")
_PIECE = re.compile(r"([^\[]*)(?:\[([^]]*)\])?")


def host_names(text):
    """The names of the hosts, in the order in which they are written."""
    found = []
    for part in _PART.findall(text):
        names = [""]
        for plain, ranges in _PIECE.findall(part):
            names = [name + plain + number for name in names for number in (_numbers(ranges) if ranges else [""])]
        found.extend(names)
    return found


def _numbers(ranges):
    """``1-3,07`` as the texts of its numbers, as wide as the first of each range."""
    for one in ranges.split(","):
        low, dash, high = one.partition("-")
        if dash and low.isdigit() and high.isdigit():
            for number in range(int(low), int(high) + 1):
                yield "%0*d" % (len(low), number)
        else:
            yield one
