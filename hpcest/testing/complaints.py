"""What is wrong with what a framework offers: its program, its versions, its module, and what its ranks were told."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, fields, is_dataclass
from pathlib import Path
from typing import Any

from hpcest.contracts import Framework
from hpcest.errors import HpcestError
from hpcest.kit.process import run
from hpcest.model.plan import Program
from hpcest.testing.bench import is_json

#: Seconds that the import of a plugin's module may take, beyond what hpcest itself imports.
IMPORT_S = 0.3
#: Variables that ranks have in some runs only, by which a program may be told something nevertheless.
SOMETIMES = {
    "CUDA_VISIBLE_DEVICES", "GLOO_SOCKET_IFNAME", "HPCEST_BACKEND", "HPCEST_CHECKPOINT", "HPCEST_CPU_LIMIT", "HPCEST_PEERS",
    "HPCEST_RESUME_FROM", "TF_CONFIG", "TMPDIR",
}  # fmt: skip
_UNTOLD = re.compile(r"\$\{?(RANK|LOCAL_RANK|WORLD_SIZE|NODE_RANK|HPCEST_\w+)\b")
_NAMES = re.compile(r"\$\{?([A-Za-z_]\w*)")
_TEXTS: Sequence[str] = ("variables", "rank_variables", "helpers")
# A second process imports the module, after all that hpcest itself needs for any plugin. It prints the seconds, and what came with it.
_IMPORT = """\
import importlib, importlib.util, json, sys, time
path, module, file = json.loads(sys.argv[1])
sys.path[:] = path
import hpcest, hpcest.contracts, hpcest.errors, hpcest.frameworks.script, hpcest.hookspecs, hpcest.model.plan, hpcest.model.spec
before, began = set(sys.modules), time.monotonic()
try:
    importlib.import_module(module)
except ModuleNotFoundError as error:
    if error.name != module:
        raise
    location = importlib.util.spec_from_file_location(module, file)
    sys.modules[module] = importlib.util.module_from_spec(location)
    location.loader.exec_module(sys.modules[module])
took, tops = time.monotonic() - began, {name.partition(".")[0] for name in {*sys.modules} - before}
found = [name for name in tops if getattr(sys.modules.get(name), "__spec__", None)]  # not what Cython makes up
print("\\n" + json.dumps([took, sorted(set(found) - set(sys.stdlib_module_names))]))
"""


def complaints_of_import(module: str, allowed: Iterable[str]) -> list[str]:
    """What is wrong with importing the module of a plugin: what comes with it, and how long it takes."""
    file, own = getattr(sys.modules.get(module), "__file__", None) or "", module.partition(".")[0]
    told = json.dumps([[entry or os.getcwd() for entry in sys.path], module, file])
    seconds, others = float("inf"), []
    for _ in range(3):  # the first time there may be no bytecode, and the machine may have been busy
        done = run([sys.executable, "-c", _IMPORT, told], timeout=60)
        if done.code:
            return [f"{module} can't be imported by itself: {(done.err.strip() or done.out.strip()).rpartition(chr(10))[2]}"]
        took, tops = json.loads(done.out.splitlines()[-1])
        seconds, others = min(seconds, took), [name for name in tops if name not in {own, "hpcest", *allowed} and name[0] != "_"]
        if seconds <= IMPORT_S or took > 10 * IMPORT_S:
            break
    found = [f"{module} must import nothing but hpcest and the standard library; it imports {', '.join(others)}"] if others else []
    slow = [f"{module} must be imported in {IMPORT_S:g} s; it takes {seconds:.1f} s"] if seconds > IMPORT_S else []
    return found + slow


def complaints_of_program(program: Program) -> list[str]:
    """What a launch manifest could not hold, or no operating system would take."""
    found = []
    if not program.argv or not all(isinstance(word, str) and "\0" not in word for word in program.argv):
        found.append(f"argv must be texts, at least one, and not {program.argv!r}")
    elif not program.argv[0]:
        found.append("argv must begin with a program")
    for name in _TEXTS:
        if not all(isinstance(word, str) and word for word in getattr(program, name)):
            found.append(f"{name} must have names that are texts")
        if not all(isinstance(word, str) and "\0" not in word for word in getattr(program, name).values()):
            found.append(f"{name} must have values that are texts, not {getattr(program, name)!r}")
    if program.per not in ("process", "node"):
        found.append(f"per must be 'process' or 'node', not {program.per!r}")
    if any("/" in name for name in program.helpers):
        found.append("helpers must have names of files, without a folder")
    if set(program.servers) - set(program.roles):
        found.append(f"servers must be roles; there are {sorted(program.roles)}")
    if program.roles and not program.meets:
        found.append("ranks that have roles must meet: meets=True")
    plain = {**asdict(program), "argv": list(program.argv), "servers": list(program.servers)} if is_dataclass(program) else {}
    if not found and not is_json(plain):
        found.append(f"JSON must be able to hold all of {[one.name for one in fields(program)]}")
    return found


def places_of_this_python(program: Program) -> list[str]:
    """Where a program names the Python of the submitting process, which the node or the container may not have."""
    mine = {sys.executable, os.path.realpath(sys.executable)} - {""}
    texts = [("argv", word) for word in program.argv]
    texts += [(f"{name}[{key!r}]", text) for name in _TEXTS[:2] for key, text in getattr(program, name).items()]
    return [f"{place} has {one}" for place, text in texts for one in sorted(mine) if one in re.split(r"[\s:;=,'\"]", text)]


def complaints_of_presets(framework: type[Framework], path: Path) -> list[str]:
    """What is wrong with a file of versions: its shape, and versions that nobody could install."""
    from hpcest.kit.yamlfile import load
    from hpcest.lifecycle.presets import default_version, versions

    value = load(path).value
    if not isinstance(value, dict) or set(value) != {"default", "versions"} or not isinstance(value["versions"], dict):
        return ["it must have the keys 'default' and 'versions', a mapping"]
    if not all(isinstance(version, str) for version in value["versions"]):
        return [f"versions must be texts, in quotes: {', '.join(map(repr, value['versions']))}"]
    if default_version(framework) != str(value["default"]):
        return [f"the default {value['default']!r} must be one of the versions, a text: {', '.join(map(repr, value['versions']))}"]
    return [wrong for version in versions(framework) for wrong in _complaints_of_version(framework, version, value["versions"][version])]


def _complaints_of_version(framework: type[Framework], version: str, said: Any) -> list[str]:
    """What is wrong with a version, each thing once. One may be for machines with GPUs alone, or for those without."""
    from hpcest.environments.requirements import read
    from hpcest.lifecycle.presets import preset

    if not isinstance(said, dict):
        return [f"version {version!r} must be a mapping, not {said!r}"]
    wrong, installs = [], 0
    for gpu, name in ((False, "cpu"), (True, "gpu")):
        if not set(said) - {"cpu", "gpu"} and name not in said:
            continue
        try:
            spec = preset(framework, version, gpu=gpu)
            read(spec.pip, {})
            installs += bool(spec.pip or spec.conda or spec.image or spec.modules or spec.prefix)
        except HpcestError as error:
            wrong.append(f"version {version!r}, {name}: {error.message}")
        except (AttributeError, TypeError, ValueError):
            wrong.append(f"version {version!r}: {name} must be a mapping, not {said[name]!r}")
    if not wrong and not installs:
        wrong.append(f"version {version!r} installs nothing")
    return wrong if len({one.partition(": ")[2] for one in wrong}) > 1 else wrong[:1]


def complaints_of_checkpoint(found: Any, outputs: Path) -> list[str]:
    """What is wrong with an answer of ``checkpoint``: None, or a path below ``outputs`` that has something in it."""
    if found is None:
        return []
    if not isinstance(found, Path):
        return [f"it must be a Path or None, not {found!r}"]
    if outputs not in found.parents:
        return [f"it must lie below the outputs {outputs}, which {found} does not"]
    if not found.exists():
        return [f"it must be there, which {found} is not"]
    inside = [path for path in found.rglob("*") if path.is_file()] if found.is_dir() else [found]
    return [] if any(path.stat().st_size for path in inside) else [f"it must not be empty, which {found.relative_to(outputs)} is"]


def unlike(found: Sequence[Mapping[str, Any]], program: Program, run_id: str, shape: tuple[int, int]) -> list[str]:
    """What is not as it should be of ranks that were started on so many nodes, with so many on each."""
    size = shape[0] * shape[1]
    environs = [one["environ"] for one in found]
    if [environ["RANK"] for environ in environs] != [str(rank) for rank in range(size)]:
        return [f"there must be the ranks 0 to {size - 1}, and not {[environ['RANK'] for environ in environs]}"]
    of_ranks: dict[str, list[str]] = {}
    for rank, one in enumerate(found):
        for text in [*_mislaid(one["environ"], rank, run_id, shape), *_unserved(one, program, size)]:
            of_ranks.setdefault(text, []).append(str(rank))
    wrong = [f"rank{'s' if len(ranks) > 1 else ''} {', '.join(ranks)}: {text}" for text, ranks in of_ranks.items()]
    if len({(environ["MASTER_ADDR"], environ["MASTER_PORT"]) for environ in environs}) != 1:
        wrong.append("all ranks must have one MASTER_ADDR and MASTER_PORT")
    return wrong + _unknown_names(program, {name for environ in environs for name in environ})


def _mislaid(environ: Mapping[str, str], rank: int, run_id: str, shape: tuple[int, int]) -> list[str]:
    """What a rank is not told, or wrongly, of where it is."""
    nodes, per_node = shape
    expected = {
        "WORLD_SIZE": nodes * per_node, "LOCAL_RANK": rank % per_node, "LOCAL_WORLD_SIZE": per_node, "NODE_RANK": rank // per_node,
        "HPCEST_NODE_COUNT": nodes, "HPCEST_RUN_ID": run_id, "HPCEST_ATTEMPT": 0,
        "OMPI_COMM_WORLD_RANK": rank, "OMPI_COMM_WORLD_SIZE": nodes * per_node,
        "OMPI_COMM_WORLD_LOCAL_RANK": rank % per_node, "OMPI_COMM_WORLD_LOCAL_SIZE": per_node,
    }  # fmt: skip
    wrong = [f"{name} is {environ.get(name)!r}, not {value}" for name, value in expected.items() if environ.get(name) != str(value)]
    needed = ("MASTER_ADDR", "MASTER_PORT", "HPCEST_OUTPUT_DIR", "HPCEST_CPUS")
    return wrong + [f"there is no {name}" for name in needed if not environ.get(name)]


def _unserved(one: Mapping[str, Any], program: Program, size: int) -> list[str]:
    """What a rank lacks of what the program says that it gets."""
    environ, helpers = one["environ"], one["environ"].get("HPCEST_HELPERS", "")
    wrong = [f"the program's {name} is missing" for name in program.variables if environ.get(name) != program.variables[name]]
    told = [name for name, text in program.rank_variables.items() if all(map(environ.get, _NAMES.findall(text)))]
    wrong += [f"{name}, one of rank_variables, is missing" for name in told if name not in environ]
    wrong += [f"the helper {name} is missing" for name in program.helpers if not os.path.isfile(os.path.join(helpers, name))]
    if program.expand and (left := [word for word in one["argv"] if _UNTOLD.search(word)]):
        wrong.append(f"nothing has replaced the variables in these words of its argv: {left}")
    helped = [word for word in one["argv"] if helpers and word.startswith(helpers + os.sep)]
    wrong += [f"its argv names the helper {os.path.basename(word)}, which there is not" for word in helped if not os.path.exists(word)]
    if program.meets and len(set(environ.get("HPCEST_PEERS", "").split(","))) != size:
        wrong.append("HPCEST_PEERS has no address for each rank")
    return wrong


def _unknown_names(program: Program, had: set[str]) -> list[str]:
    """Variables by which a program means to be told something, and that no rank has."""
    from difflib import get_close_matches

    known, wrong = {*had, *SOMETIMES}, []
    for name, text in program.rank_variables.items():
        for missing in [one for one in _NAMES.findall(text) if one not in known and not one.startswith("SLURM_")]:
            near = get_close_matches(missing, known, n=1)
            wrong.append(f"rank_variables[{name!r}] names ${missing}, which no rank has" + (f"; {near[0]} is meant?" if near else ""))
    return wrong
