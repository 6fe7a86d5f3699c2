"""What to install for a version of a framework: data that comes with the framework, and that a site can change.

A framework's file, or ``frameworks: {NAME: …}`` of the configuration, which goes before it::

    default: "2.9"
    versions:
      "2.9":
        python: "3.12"              # for both
        cpu: {pip: [torch==2.9.*, torchvision==0.24.*]}
        gpu: {modules: [PyTorch/2.9-CUDA-12.8]}

``cpu`` and ``gpu`` are what stands below ``environment:`` in a job file.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from hpcest.config import FrameworkSettings
from hpcest.contracts import Framework
from hpcest.errors import ConfigError, SpecError, UnknownNameError
from hpcest.kit.codec import decode
from hpcest.kit.yamlfile import load
from hpcest.lifecycle.context import Context
from hpcest.model.spec import EnvironmentSpec, RunSpec

#: The property of a run that says which version of its framework was installed for it.
PROPERTY = "hpcest.framework_version"
_NAME = re.compile(r"[A-Za-z0-9][\w.-]*")


def with_preset(context: Context, spec: RunSpec) -> RunSpec:
    """``spec`` with what its ``framework_version`` needs in its environment, and the version among its properties.

    What the user asks for goes before what the preset says of the same package. Raises UnknownNameError, ConfigError.
    """
    if not spec.framework_version:
        return spec
    kind, site = context.plugins.framework(spec.framework), context.config.frameworks.get(spec.framework)
    wanted = "" if spec.framework_version == "default" else spec.framework_version
    found = preset(kind, wanted, gpu=bool(spec.resources.gpus), site=site)
    named = {_name(line) for line in spec.environment.pip}
    found = replace(found, pip=tuple(line for line in found.pip if line.startswith("-") or _name(line) not in named))
    properties = {**spec.properties, PROPERTY: wanted or default_version(kind, site)}
    return replace(spec, framework_version="", environment=found.merged(spec.environment), properties=properties)


def _name(line: str) -> str:
    from packaging.utils import canonicalize_name

    found = _NAME.match(line)
    return canonicalize_name(found[0]) if found else ""


def versions(kind: type[Framework], site: FrameworkSettings | None = None) -> list[str]:
    """The versions that are known, the newest first. ``site`` is what the configuration has under the framework's name."""
    return sorted(_all(kind, site), key=_order, reverse=True)


def _all(kind: type[Framework], site: FrameworkSettings | None) -> dict[str, Any]:
    """Every version; one that the site gives nothing for, ``{}``, is not to be used there."""
    known = {**_file(kind.presets).get("versions", {}), **(site.versions if site else {})}
    return {name: value for name, value in known.items() if value}


def default_version(kind: type[Framework], site: FrameworkSettings | None = None) -> str:
    """The version that is taken where none is named; empty for a framework without presets."""
    known = versions(kind, site)
    named = (site.default if site else "") or str(_file(kind.presets).get("default") or "")
    return named if named in known else next(iter(known), "")


def preset(kind: type[Framework], version: str, *, gpu: bool, site: FrameworkSettings | None = None) -> EnvironmentSpec:
    """What a version needs around it, on machines with GPUs or without. Raises UnknownNameError, ConfigError.

    A version may be a part of one (``2`` for the newest 2.x), or longer than it (``2.9.1``), which is asked for exactly then.
    """
    known = versions(kind, site)
    wanted = version or default_version(kind, site)
    name = next((one for one in known if one == wanted), "") or next((one for one in known if f"{one}.".startswith(f"{wanted}.")), "")
    longer = "" if name else next((one for one in known if f"{wanted}.".startswith(f"{one}.")), "")
    if not name and not longer:
        hint = f"known: {', '.join(known)}; for others name the packages yourself" if known else "name the packages yourself"
        raise UnknownNameError(f"version of {kind.name}", wanted, known, hint=hint)
    parts = dict(_all(kind, site)[name or longer])
    own = parts.pop("gpu" if gpu else "cpu", None)
    parts.pop("cpu" if gpu else "gpu", None)
    if own is None and not parts:
        raise SpecError(f"{kind.name} {wanted} is not known for machines {'with' if gpu else 'without'} GPUs")
    spec = _spec(f"{kind.name} {name or longer}", {**parts, **(own or {})})
    exact = spec if name else _exactly(spec, longer, wanted)
    if exact == spec and not name:
        raise SpecError(f"what is known of {kind.name} {longer} installs no {wanted} of it", hint=f"ask for {longer}, or name the packages")
    return exact


def _spec(label: str, values: dict[str, Any]) -> EnvironmentSpec:
    """An environment spec from the keys of a job file's ``environment:``."""
    if "python" in values:
        values["interpreter"] = str(values.pop("python"))
    try:
        return decode(EnvironmentSpec, values)
    except (SpecError, UnknownNameError) as error:
        raise ConfigError(f"the preset of {label}: {error.message}", hint=error.hint) from None


def _exactly(spec: EnvironmentSpec, known: str, wanted: str) -> EnvironmentSpec:
    """The preset of ``2.9`` for ``2.9.1``: what is asked for as ==2.9.* is asked for as ==2.9.1."""

    def exact(lines: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(line.replace(f"=={known}.*", f"=={wanted}").replace(f"={known}.*", f"={wanted}") for line in lines)

    return replace(spec, pip=exact(spec.pip), conda=exact(spec.conda))


def _order(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part.isdigit())


@cache
def _file(path: Path | None) -> Mapping[str, Any]:
    """A framework's own file; a mapping, for it is tested."""
    value = load(path).value if path else {}
    return value if isinstance(value, dict) else {}
