"""What the paths of files say of the rows in them: ``/{country}/{day:yyyy/MM/dd}/data.csv`` is a column ``country`` and one ``day``."""

import datetime
import re

_DIGITS = {"yyyy": 4, "MM": 2, "dd": 2, "HH": 2, "mm": 2, "ss": 2}
_DIRECTIVES = {"yyyy": "%Y", "MM": "%m", "dd": "%d", "HH": "%H", "mm": "%M", "ss": "%S"}
_PIECE = re.compile(r"yyyy|MM|dd|HH|mm|ss|.", re.DOTALL)
_COLUMN = re.compile(r"\{([^{}:]+)(?::([^{}]+))?\}|([{}])")


class Partitions:
    """A partition format: how the ends of paths are made up. Raises ValueError for one that names no column, or can't be read."""

    def __init__(self, text):
        self.text = text
        self.columns: list = []
        found, last = [], 0
        for match in _COLUMN.finditer(text):
            name, moment, stray = match.groups()
            if stray or name in [column for column, _ in self.columns]:
                raise ValueError("partition_format %r has %s" % (text, "a stray %r" % stray if stray else "two columns %r" % name))
            found.append(_literal(text[last : match.start()]))
            found.append("([^/]+?)" if moment is None else "(%s)" % "".join(map(_piece, _PIECE.findall(moment))))
            self.columns.append(
                (name, moment and "".join(_DIRECTIVES.get(piece, piece.replace("%", "%%")) for piece in _PIECE.findall(moment)))
            )
            last = match.end()
        if not self.columns:
            raise ValueError("partition_format %r names no column, such as {country} or {day:yyyy/MM/dd}" % text)
        found.append(_literal(text[last:]))
        begin = "/" if not text.startswith("/") else ""
        self._pattern = re.compile("(?:^|.*?)%s%s$" % (begin, "".join(found)), re.DOTALL)

    def of(self, path):
        """Column -> value for the file at ``path``: a text, or a moment. Raises ValueError for a path that is made up otherwise."""
        match = self._pattern.match("/" + path.lstrip("/"))
        if match is None:
            raise ValueError("the path %s is not as partition_format %r says" % (path, self.text))
        pairs = zip(self.columns, match.groups())
        return {name: value if moment is None else datetime.datetime.strptime(value, moment) for (name, moment), value in pairs}


def _literal(text):
    """Text that is there as it is; ``*`` is any part of a name."""
    return "[^/]*".join(map(re.escape, text.split("*")))


def _piece(piece):
    return r"\d{%d}" % _DIGITS[piece] if piece in _DIGITS else re.escape(piece)
