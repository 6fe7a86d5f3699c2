"""Variables whose values are secrets: they reach the program, and the record has only their names."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace

from hpcest.model.spec import RunSpec

MASK = "***"
_SECRET = re.compile(r"token(?!iz)|secret|passw|api_?key|credential|private_?key", re.IGNORECASE)  # but TOKENIZERS_PARALLELISM is none


def is_secret(name: str) -> bool:
    """Whether a variable's name says that its value must not be recorded."""
    return bool(_SECRET.search(name))


def masked(variables: Mapping[str, str]) -> dict[str, str]:
    """``variables`` with the values of secrets replaced by ``***``."""
    return {name: MASK if is_secret(name) and value else value for name, value in variables.items()}


def secrets(variables: Mapping[str, str]) -> dict[str, str]:
    """The secrets among ``variables``."""
    return {name: value for name, value in variables.items() if is_secret(name) and value}


def without_secrets(spec: RunSpec) -> RunSpec:
    """``spec`` as it may be recorded: no values of secrets, no passwords in the URLs of packages, channels and images."""
    asked = spec.environment
    if any("://" in line for line in (*asked.pip, *asked.conda, *asked.channels, *asked.system, *asked.steps, asked.image)):
        from hpcest.environments.secrets import strip

        asked = replace(
            asked,
            pip=tuple(map(strip, asked.pip)),
            conda=tuple(map(strip, asked.conda)),
            channels=tuple(map(strip, asked.channels)),
            system=tuple(map(strip, asked.system)),
            steps=tuple(map(strip, asked.steps)),
            image=strip(asked.image),
        )
    environment = replace(asked, variables=masked(asked.variables))
    return replace(spec, environment=environment, environment_variables=masked(spec.environment_variables))
