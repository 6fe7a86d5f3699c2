"""Imports of Azure ML rewritten to hpcest's own names, in place: whatever else stands in the text stays as it is."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from inspect import isclass

from hpcest.errors import HpcestError
from hpcest.sdk.migration.names import REFUSED, counterpart, instead, is_module

_ROOTS = ("azureml", *sorted({".".join(name.split(".")[:3]) for name in REFUSED if name.startswith("azure.")}), "azure.ai.ml")
_PACKAGE = re.compile(
    r"azureml[-_](sdk|core|defaults|train|train-core|widgets|dataset-runtime|dataprep|mlflow|telemetry)\b[\w.,<>=!~*\[\] -]*"
)
_MAGIC = re.compile(r"\s*([%!?]|[\w, .]+=\s*[!%])|.*\S\?{1,2}\s*$")
_CELL_OF_PYTHON = re.compile(r"\s*%%(time|timeit|capture|prun|writefile\s+(-a\s+)?\S*\.py[\"']?)(\s|$)")


@dataclass(frozen=True)
class Left:
    """What ``rewritten`` could not put hpcest's for: ``name`` in ``line`` (from 1), and ``why``, or what to do instead.

    ``name`` is empty for a text that is not Python. A ``note`` is only worth knowing.
    """

    line: int
    name: str
    why: str
    note: bool = False


@dataclass
class Piece:
    """A text of Python, or one cell of a notebook: the ``text`` as it is now, how many ``changes`` were made, what is ``left``.

    Lines are those of the text as it was; ``line_now`` says where one is now.
    """

    text: str
    changes: int = 0
    left: list[Left] = field(default_factory=list)
    shifts: list[tuple[int, int]] = field(default_factory=list)  # a line -> how many lines what is below it has moved down

    def line_now(self, line: int) -> int:
        """Where a line of the text as it was stands in the text as it is."""
        return line + sum(by for above, by in self.shifts if above < line)


def is_azure(module: str) -> bool:
    """Whether a module belongs to Azure ML's SDKs."""
    return any(module == root or module.startswith(root + ".") for root in _ROOTS)


def rewritten(texts: Sequence[str]) -> list[Piece]:
    """``texts``, which know each other's names as a notebook's cells do, with hpcest's imports; all that is left is named by line.

    A text that is no Python, such as a cell of shell, stays as it is.
    """
    sources = [_Source(text) for text in texts]
    names = _Names()
    for source in sources:
        names.learn(source.tree)
    for source in sources:
        names.use(source)
    if names.broken:  # only now is it known which modules keep their old name too
        for source in sources:
            source.edits, source.left = {}, source.unread
            names.use(source)
    for source in sources:
        for node in ast.walk(source.tree):
            if isinstance(node, (ast.Import, ast.ImportFrom)):
                _Statement(node, source, names).rewrite()
        _notes(source)
    return [source.result() for source in sources]


class _Source:
    """A text with its tree, the changes to make, and what can't be changed."""

    def __init__(self, text: str) -> None:
        self.data = text.encode("utf-8", "surrogatepass")
        self.starts = [0, *(found.end() for found in re.finditer(rb"\r\n|\r|\n", self.data))]
        self.edits: dict[tuple[int, int], str] = {}
        self.left: list[Left] = []
        self.tree = self._parsed(text)
        self.unread = [*self.left]

    def _parsed(self, text: str) -> ast.Module:
        error: Exception | None = None
        for attempt in (text, _without_magics(text)):
            try:
                return _parse(attempt)
            except (SyntaxError, ValueError, RecursionError) as wrong:
                error = wrong
        line = getattr(error, "lineno", None) or 1
        if any(is_azure(word) for word in re.findall(r"(?:from|import)\s+([\w.]+)", text)) and not text.lstrip().startswith("%%"):
            self.left.append(Left(line, "", f"not Python 3, and not looked through: {getattr(error, 'msg', None) or error}"))
        return ast.Module(body=[], type_ignores=[])

    def span(self, node: ast.expr | ast.stmt) -> tuple[int, int]:
        """Where a node begins and ends, in bytes."""
        assert node.end_lineno is not None
        assert node.end_col_offset is not None
        return self.starts[node.lineno - 1] + node.col_offset, self.starts[node.end_lineno - 1] + node.end_col_offset

    def result(self) -> Piece:
        """The text with all changes made."""
        data, shifts = self.data, list[tuple[int, int]]()
        for (start, end), new in sorted(self.edits.items(), reverse=True):
            by = new.count("\n") - data.count(b"\n", start, end)
            shifts.append((data.count(b"\n", 0, end) + 1, by))
            data = data[:start] + new.encode() + data[end:]
        left = sorted(self.left, key=lambda one: one.line)
        return Piece(data.decode("utf-8", "surrogatepass"), len(self.edits), left, shifts)


def _parse(text: str) -> ast.Module:
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of others' escapes in texts
        return ast.parse(text)


def _without_magics(text: str) -> str:
    """The text as Python can read it, every line in its place."""
    lines = text.splitlines(keepends=True)
    if lines and lines[0].lstrip().startswith("%%"):
        if not _CELL_OF_PYTHON.match(lines[0]):
            return ""
        lines[0] = "#" + lines[0]
    for number, line in enumerate(lines):
        if _MAGIC.match(line) and not line.lstrip().startswith("#"):
            end = line[len(line.rstrip("\r\n")) :]
            lines[number] = line[: len(line) - len(line.lstrip())].rstrip("\r\n") + "pass" + end
    return "".join(lines)


class _Names:
    """What the names of a program mean: modules of Azure's, and names imported from them."""

    def __init__(self) -> None:
        self.modules: dict[str, set[str]] = {}  # a name in the program -> the modules of Azure's that it is, or leads to
        self.classes: dict[str, tuple[str, str]] = {}  # a name in the program -> Azure's module, and name
        self.others: set[str] = set()  # names in the program that stand for something else too
        self.wanted: dict[str, set[str]] = {}  # a name in the program -> modules that its uses take instead
        self.broken: set[str] = set()  # names in the program that something is left of

    def learn(self, tree: ast.Module) -> None:
        """Take note of what is imported."""
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    if is_azure(alias.name):
                        self.modules.setdefault(alias.asname or alias.name.split(".")[0], set()).add(alias.name if alias.asname else "")
            elif isinstance(node, ast.ImportFrom) and not node.level and is_azure(node.module or ""):
                for alias in node.names:
                    below = f"{node.module}.{alias.name}"
                    if is_module(below):
                        self.modules.setdefault(alias.asname or alias.name, set()).add(below)
                    else:
                        self.classes[alias.asname or alias.name] = (str(node.module), alias.name)
            elif isinstance(node, ast.ImportFrom):
                self.others.update(alias.asname or alias.name for alias in node.names)
            elif isinstance(node, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
                self.others.add(node.name)
            elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                self.others.add(node.id)

    def use(self, source: _Source) -> None:
        """Rewrite ``azureml.core.Run`` where a module was imported, and look whether hpcest's classes have what is used of them."""
        inner = {node.value for node in ast.walk(source.tree) if isinstance(node, ast.Attribute)}
        for node in ast.walk(source.tree):
            if isinstance(node, ast.Attribute) and node not in inner:
                chain = _chain(node)
                if chain and chain[0][0] in self.modules:
                    self._of_module(chain, source)
                elif chain and chain[0][0] in self.classes.keys() - self.others:
                    lacking = _lacking(*self.classes[chain[0][0]], [name for name, _ in chain[1:]])
                    if lacking:
                        source.left.append(Left(node.lineno, *lacking))

    def _of_module(self, chain: list[tuple[str, ast.expr]], source: _Source) -> None:
        root = chain[0][0]
        known = next(iter(self.modules[root]))
        path = [known or root]
        for number, (name, node) in enumerate(chain[1:], 1):
            module = ".".join(path)
            where, called = counterpart(module, name)
            if where:
                start = source.span(chain[0][1])[0]
                new = f"{root}.{called}" if known and where == "hpcest" and root not in self.broken else f"{where}.{called}"
                source.edits[start, source.span(node)[1]] = new
                self.wanted.setdefault(root, set()).add(where)
                lacking = _lacking(module, name, [more for more, _ in chain[number + 1 :]])
                if lacking:
                    source.left.append(Left(node.lineno, *lacking))
                return
            path.append(name)
            if not is_module(".".join(path)) and (is_azure(".".join(path)) or is_azure(module)):
                source.left.append(_no(node.lineno, module, name))
                self.broken.add(root)
                return


def _chain(node: ast.expr) -> list[tuple[str, ast.expr]]:
    """``a.b.c`` as names with their nodes; empty for what does not begin with a name."""
    found: list[tuple[str, ast.expr]] = []
    while isinstance(node, ast.Attribute):
        found.append((node.attr, node))
        node = node.value
    return [(node.id, node), *reversed(found)] if isinstance(node, ast.Name) else []


def _lacking(module: str, name: str, attributes: Iterable[str]) -> tuple[str, str] | None:
    """The first attribute that is used of a class, and hpcest's has not, with what to do; None if there is none."""
    where, called = counterpart(module, name)
    if not where.startswith("hpcest"):
        return None
    try:
        thing = getattr(import_module(where), called)
    except (AttributeError, ImportError):
        return None  # a plugin's, which need not be here
    spelt = called
    for attribute in attributes:
        if not isclass(thing):
            return None
        try:
            thing, spelt = getattr(thing, attribute), f"{spelt}.{attribute}"
        except HpcestError as error:
            return f"{name}.{attribute}", (error.message.removeprefix(f"{spelt}.{attribute}: ") + f"; {error.hint}").removesuffix("; ")
        except AttributeError:
            from difflib import get_close_matches

            near = get_close_matches(attribute, [one for one in dir(thing) if not one.startswith("_")], n=1)
            return f"{name}.{attribute}", f"hpcest's {spelt} has no {attribute}" + (f"; did you mean {near[0]!r}?" if near else "")
    return None


def _no(line: int, module: str, name: str) -> Left:
    return Left(line, f"{module}.{name}", instead(module, name))


class _Statement:
    """One import, and what takes its place."""

    def __init__(self, node: ast.Import | ast.ImportFrom, source: _Source, names: _Names) -> None:
        self.node, self.source, self.names = node, source, names
        self.new: dict[str, list[str]] = {}  # how a statement begins -> the names in it

    def rewrite(self) -> None:
        """Put the change, and what is left, into the source."""
        if isinstance(self.node, ast.Import):
            if not any(is_azure(alias.name) for alias in self.node.names):
                return
            for alias in self.node.names:
                self._module(alias.name, alias.asname, f"import {alias.name}" + (f" as {alias.asname}" if alias.asname else ""))
            statements = list(self.new)
        else:
            if self.node.level or not is_azure(self.node.module or ""):
                return
            self._from(self.node)
            if self._same(self.node):
                return
            statements = [f"{begin}{', '.join(names)}" for begin, names in self.new.items()]
        self._put(statements)

    def _module(self, module: str, asname: str | None, original: str) -> None:
        """What takes the place of one imported module."""
        root = asname or module.partition(".")[0]
        if not is_azure(module):
            self.new[original] = []
            return
        if not is_module(module) or root in self.names.broken:
            self.new[original] = []
            if not is_module(module):
                above, _, last = module.rpartition(".")
                self.source.left.append(_no(self.node.lineno, above, last))
                return
        self._imports(root, asname)

    def _imports(self, root: str, asname: str | None) -> None:
        """The imports of what the uses of a module take instead; where the module stays as well, of nothing else."""
        stays = root in self.names.broken
        for where in sorted(self.names.wanted.get(root) or ({} if stays else {"hpcest"})):
            renamed = asname and where == "hpcest" and not stays
            self.new[f"import {where} as {asname}" if renamed else f"import {where}"] = []

    def _from(self, node: ast.ImportFrom) -> None:
        module = str(node.module)
        for alias in node.names:
            shown = f"{alias.name} as {alias.asname}" if alias.asname else alias.name
            where, called = counterpart(module, alias.name)
            known = alias.asname or alias.name
            if where:
                self.new.setdefault(f"from {where} import ", []).append(called if called == known else f"{called} as {known}")
            elif is_module(f"{module}.{alias.name}"):
                if known in self.names.broken:
                    self.new.setdefault(f"from {module} import ", []).append(shown)
                self._imports(known, known)
            else:
                self.new.setdefault(f"from {module} import ", []).append(shown)
                if alias.name == "*":
                    self.source.left.append(Left(node.lineno, f"{module}.*", "import what you use by its name"))
                else:
                    self.source.left.append(_no(node.lineno, module, alias.name))

    def _same(self, node: ast.ImportFrom) -> bool:
        """Whether nothing is to be done, or the module's name alone: then comments and line breaks stay as they are."""
        if list(self.new) == [f"from {node.module} import "]:
            return True
        (begin, *more) = self.new
        written = [f"{alias.name} as {alias.asname}" if alias.asname else alias.name for alias in node.names]
        if more or self.new[begin] != written or not begin.startswith("from "):
            return False
        start, end = self.source.span(node)
        found = re.match(rb"from\s+([\w.]+)", self.source.data[start:end])
        assert found is not None
        self.source.edits[start + found.start(1), start + found.end(1)] = begin.split()[1]
        return True

    def _put(self, statements: list[str]) -> None:
        source = self.source
        start, end = source.span(self.node)
        line = source.data[source.starts[self.node.lineno - 1] : start]
        assert self.node.end_lineno is not None
        rest = source.data[end : [*source.starts, len(source.data)][self.node.end_lineno]].strip()
        if line.strip() or rest.startswith(b";"):
            text = "; ".join(statements)
        else:
            newline = "\r\n" if b"\r\n" in source.data else "\n"
            indent = line.decode()
            kept = [one for one in statements if any(map(is_azure, one.split()))]  # first, so that what is left is where the reader looks
            others = [one for one in statements if one not in kept]
            text = (newline + indent).join([*kept, *_comments(source.data[start:end]), *others])
        if text != source.data[start:end].decode():
            source.edits[start, end] = text


def _comments(statement: bytes) -> Iterator[str]:
    """The comments inside a statement of several lines; they go above what takes its place."""
    return (found.group().decode().strip() for found in re.finditer(rb"#[^\r\n]*", statement))


def _notes(source: _Source) -> None:
    """Packages of Azure's among the texts: nothing of hpcest needs them in an environment."""
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and _PACKAGE.fullmatch(node.value):
            why = "leave the package out: a run needs nothing of hpcest's in its environment"
            source.left.append(Left(node.lineno, repr(node.value), why, note=True))
