"""What activating a conda prefix would set: its scripts are run once, when it is built, and never at a start."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path

from hpcest.errors import EnvironmentBuildError
from hpcest.kit import process

TIME_LIMIT_S = 60.0
# What a shell changes by itself, what is set here, and what the caller puts together from several sources.
_NOT_OURS = frozenset((
    "_", "SHLVL", "PWD", "OLDPWD", "PATH", "PS1", "PS2", "IFS", "BASHOPTS", "SHELLOPTS", "BASH_VERSION", "PROMPT_COMMAND", "HOME",
    "CONDA_PREFIX", "CONDA_SHLVL", "CONDA_DEFAULT_ENV",
))  # fmt: skip
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# $1 is the prefix, $2 what separates the two listings; the scripts' own words go to the errors.
_SCRIPT = """
CONDA_PREFIX=$1 CONDA_DEFAULT_ENV=$1 CONDA_SHLVL=1 PATH=$1/bin:$PATH; export CONDA_PREFIX CONDA_DEFAULT_ENV CONDA_SHLVL PATH
mark=$2; set --
env -0 && printf '%s\\0' "$mark" || exit 3
for script in "$CONDA_PREFIX"/etc/conda/activate.d/*.sh; do
    [ -f "$script" ] && . "$script" >&2
done
env -0
"""


def variables_of(folder: Path, prefix: str, command: Sequence[str] = (), *, timeout: float = TIME_LIMIT_S) -> dict[str, str]:
    """The variables that activating the prefix in ``folder`` sets, where programs see it at ``prefix``.

    ``command`` starts a program there (``apptainer exec …``); nothing where it is this machine. What packages
    (``etc/conda/env_vars.d``) and the environment (``conda-meta/state``) declare is there too; PATH is not:
    ``prefix/bin`` belongs to the front of it. Raises EnvironmentBuildError.
    """
    declared = _declared(folder)
    scripts = sorted(folder.glob("etc/conda/activate.d/*.sh"))
    if not scripts:
        return declared
    mark = f"hpcest-{secrets.token_hex(8)}"
    shell = ["sh", "-c", 'exec "$(command -v bash || echo sh)" -c "$0" hpcest "$@"', _SCRIPT, prefix, mark]
    done = process.run([*command, *shell], env=_clean(command), timeout=timeout)
    before, found, after = done.out.partition(f"{mark}\0")
    if not done.ok or not found or not after:
        names = ", ".join(script.name for script in scripts)
        words = done.err.strip()[-1000:] or f"the shell ended with code {done.code}"
        raise EnvironmentBuildError(
            f"the activation scripts of the conda packages ({names}) failed: {words}",
            hint="leave out the package that the script belongs to",
        )
    was, now = _listing(before), _listing(after)
    return {**{name: value for name, value in now.items() if was.get(name) != value and name not in _NOT_OURS}, **declared}


def _clean(command: Sequence[str]) -> dict[str, str]:
    """The environment of the shell: nothing of the submitter's, but for the programs of ``command`` where there is one."""
    if command:
        return dict(os.environ)
    return {"PATH": _PATH, "HOME": "/nonexistent", "LANG": "C.UTF-8"}


def _listing(text: str) -> dict[str, str]:
    pairs = (item.partition("=") for item in text.split("\0") if "=" in item)
    return {name: value for name, _, value in pairs if not name.startswith("BASH_FUNC_")}


def _declared(folder: Path) -> dict[str, str]:
    """The variables in the JSON files of the packages, the environment's own last. Raises EnvironmentBuildError."""
    found: dict[str, str] = {}
    files = sorted(folder.glob("etc/conda/env_vars.d/*.json"))
    for path in [*files, folder / "conda-meta" / "state"]:
        try:
            value = json.loads(path.read_text(encoding="utf-8"))
            own = value.get("env_vars", {}) if path.name == "state" else value
            found.update(_texts(own))
        except FileNotFoundError:
            continue
        except (ValueError, AttributeError) as error:
            raise EnvironmentBuildError(
                f"the variables in {path.relative_to(folder)} of the environment can't be read: {error}",
                hint="leave out the package that the file belongs to",
            ) from error
    return {name: value for name, value in found.items() if value != "***unset***"}  # conda's own mark


def _texts(value: Mapping[str, object]) -> dict[str, str]:
    return {str(name): str(one) for name, one in value.items()}
