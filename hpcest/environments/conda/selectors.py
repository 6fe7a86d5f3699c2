"""Selectors, the comments such as ``# [linux]`` that keep a line of a conda file for some platforms only."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable

_SELECTOR = re.compile(r"^(?P<body>.*?\S)\s+#\s*\[(?P<condition>[^\[\]#]*)\][^'\"]*$")
_MACHINES = {"64": ("x86_64", "x86"), "32": ("x86",)}
_SYSTEMS = {"linux": ("linux", "unix"), "osx": ("osx", "unix"), "win": ("win",)}
_KNOWN = (
    "linux", "osx", "win", "unix", "linux64", "osx64", "win64", "x86", "x86_64", "aarch64", "arm64", "ppc64le", "py", "py2k", "py3k",
)  # fmt: skip
_PYTHON = re.compile(r"^\s*-\s*['\"]?(?:[\w./:-]+::)?python\s*={0,2}\s*(\d+)\.(\d+)", re.MULTILINE)
_COMPARE: dict[type[ast.cmpop], Callable[[int, int], bool]] = {
    ast.Eq: lambda a, b: a == b, ast.NotEq: lambda a, b: a != b, ast.Lt: lambda a, b: a < b,
    ast.LtE: lambda a, b: a <= b, ast.Gt: lambda a, b: a > b, ast.GtE: lambda a, b: a >= b,
}  # fmt: skip


class UnreadableSelectorError(ValueError):
    """A selector that can't be evaluated. ``line`` is its line, ``hint`` what could be written instead."""

    def __init__(self, problem: str, line: int, hint: str) -> None:
        super().__init__(problem)
        self.line, self.hint = line, hint


def select(text: str, platform: str) -> str:
    """``text`` with the lines blanked whose selector is not true for ``platform`` (``linux-64``).

    What is indented below such a line goes with it; line numbers stay. ``py`` is the Python that a line of
    the text pins (``- python=3.11`` is 311). Raises UnreadableSelectorError.
    """
    names = _names(platform, _PYTHON.search(text))
    lines, dropped = [], -1
    for number, line in enumerate(text.split("\n"), 1):
        indent = len(line) - len(line.lstrip())
        if line.strip() and indent <= dropped:
            dropped = -1
        found = None if line.lstrip().startswith("#") else _SELECTOR.match(line)
        if dropped < 0 and found and not _holds(found["condition"], names, number):
            dropped = indent
        lines.append("" if dropped >= 0 else line)
    return "\n".join(lines)


def _names(platform: str, python: re.Match[str] | None) -> dict[str, bool | int]:
    system, _, machine = platform.partition("-")
    true = {*_SYSTEMS.get(system, ()), *_MACHINES.get(machine, (machine,)), *([f"{system}64"] if machine == "64" else [])}
    names: dict[str, bool | int] = {name: name in true for name in _KNOWN}
    del names["py"], names["py2k"], names["py3k"]
    if python:
        names.update(py=int(python[1] + python[2]), py2k=python[1] == "2", py3k=python[1] == "3")
    return names


def _holds(condition: str, names: dict[str, bool | int], line: int) -> bool:
    try:
        return bool(_value(ast.parse(condition.strip(), mode="eval").body, names))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        pass
    except KeyError as error:
        if str(error.args[0]).startswith("py"):
            raise UnreadableSelectorError(
                f"the selector [{condition}] asks for the Python version, which the file doesn't pin",
                line,
                "add a dependency such as python=3.11, or remove the selector",
            ) from None
    hint = f"known: {', '.join(_KNOWN)}, with and, or, not and comparisons of py; write another comment without brackets"
    raise UnreadableSelectorError(f"the selector [{condition}] can't be read", line, hint)


def _value(node: ast.expr, names: dict[str, bool | int]) -> bool | int:
    if isinstance(node, ast.Name):
        if node.id not in names and node.id not in _KNOWN:
            raise ValueError(node.id)
        return names[node.id]
    if isinstance(node, ast.Constant) and type(node.value) is int:
        return node.value
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        return not _value(node.operand, names)
    if isinstance(node, ast.BoolOp):
        values = [bool(_value(one, names)) for one in node.values]
        return all(values) if isinstance(node.op, ast.And) else any(values)
    if isinstance(node, ast.Compare) and len(node.ops) == 1 and type(node.ops[0]) in _COMPARE:
        return _COMPARE[type(node.ops[0])](_value(node.left, names), _value(node.comparators[0], names))
    raise ValueError(ast.dump(node))
