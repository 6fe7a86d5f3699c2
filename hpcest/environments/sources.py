"""Where pip packages come from: what the spec says, else the user's uv and pip settings, for either tool."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hpcest.environments.requirements import Options
from hpcest.environments.secrets import expand, strip

#: Settings of the tools that aim an installation elsewhere than at the environment being built.
_AIMED_ELSEWHERE = (
    "PYTHONPATH", "PYTHONHOME", "PYTHONSTARTUP", "VIRTUAL_ENV", "CONDA_PREFIX", "__PYVENV_LAUNCHER__",
    "PIP_TARGET", "PIP_PREFIX", "PIP_ROOT", "PIP_PYTHON", "PIP_REQUIRE_VIRTUALENV", "PIP_REQUIRE_HASHES", "PIP_REQUIREMENT",
    "PIP_EDITABLE", "PIP_REPORT", "PIP_DRY_RUN", "PIP_NO_DEPS", "PIP_QUIET",
    "UV_PYTHON", "UV_SYSTEM_PYTHON", "UV_PROJECT", "UV_PROJECT_ENVIRONMENT", "UV_WORKING_DIR", "UV_REQUIRE_HASHES",
    "UV_VENV_SEED", "UV_INDEX_URL", "UV_EXTRA_INDEX_URL",
)  # fmt: skip
#: Settings of the tools that change which versions are chosen: part of the request.
_CHOOSING = (
    "UV_CONSTRAINT", "UV_EXCLUDE_NEWER", "UV_INDEX_STRATEGY", "UV_NO_BINARY", "UV_ONLY_BINARY", "UV_OVERRIDE", "UV_PRERELEASE",
    "UV_RESOLUTION", "UV_TORCH_BACKEND", "PIP_CONSTRAINT", "PIP_NO_BINARY", "PIP_ONLY_BINARY", "PIP_PRE", "PIP_PREFER_BINARY",
)  # fmt: skip


@dataclass(frozen=True)
class Sources:
    """What an installer is told about indexes. URLs may hold secrets and ``${NAME}``."""

    index_url: str = ""
    extra_index_urls: tuple[str, ...] = ()
    find_links: tuple[str, ...] = ()
    no_index: bool = False
    options: Options = field(default_factory=Options)
    choosing: tuple[tuple[str, str], ...] = ()

    @property
    def urls(self) -> tuple[str, ...]:
        """Every URL of an index or of links."""
        return tuple(url for url in (self.index_url, *self.extra_index_urls, *self.find_links) if url)

    def key(self) -> dict[str, Any]:
        """What makes it another request, without secrets."""
        return {
            "index": strip(self.index_url),
            "extra": [strip(url) for url in self.extra_index_urls],
            "links": [strip(url) for url in self.find_links],
            "none": self.no_index,
            "pre": self.options.pre,
            "binary": [sorted(self.options.no_binary), sorted(self.options.only_binary)],
            "choosing": [[name, strip(value)] for name, value in self.choosing],
        }

    def arguments(self) -> list[str]:
        """The options that uv and pip spell alike. URLs aren't among them: everyone can list arguments."""
        words = ["--no-index"] if self.no_index else []
        words += [f"--no-binary={name}" for name in self.options.no_binary]
        return words + [f"--only-binary={name}" for name in self.options.only_binary]

    def variables(self, variables: Mapping[str, str]) -> dict[str, str]:
        """The environment of the tools: the user's, with these sources and nothing that aims elsewhere."""
        env = {name: value for name, value in variables.items() if name not in _AIMED_ELSEWHERE}
        env.update(PIP_USER="0", PIP_NO_INPUT="1", PIP_DISABLE_PIP_VERSION_CHECK="1", PYTHONNOUSERSITE="1", PYTHONUTF8="1")
        env.update(UV_PYTHON_DOWNLOADS="never", UV_NO_PROGRESS="1", NO_COLOR="1", PIP_NO_COLOR="1", PIP_PROGRESS_BAR="off")
        if not env.keys() & {"UV_SYSTEM_CERTS", "UV_NATIVE_TLS"}:  # inspecting proxies are common on clusters
            env.update(UV_SYSTEM_CERTS="1", UV_NATIVE_TLS="1")
        extra = [expand(url, variables) for url in self.extra_index_urls]
        links = [expand(url, variables) for url in self.find_links]
        given = {
            "UV_DEFAULT_INDEX": expand(self.index_url, variables),
            "PIP_INDEX_URL": expand(self.index_url, variables),
            "UV_INDEX": " ".join(extra),
            "PIP_EXTRA_INDEX_URL": " ".join(re.sub(r"^[\w.-]+=", "", url) for url in extra),
            "UV_FIND_LINKS": ",".join(links),
            "PIP_FIND_LINKS": " ".join(links),
            "UV_INSECURE_HOST": " ".join(self.options.trusted_hosts),
            "PIP_TRUSTED_HOST": " ".join(self.options.trusted_hosts),
        }
        env.update({name: value for name, value in given.items() if value})
        return env


def gather(options: Options, variables: Mapping[str, str] = os.environ) -> Sources:
    """The sources of a request: its own options first, then UV_*, PIP_* and pip's configuration files.

    As with pip, an index of the request replaces the default one, while further indexes and links add to
    those of the settings. pip's index is left alone where uv has a configuration of its own.
    """
    pip = {} if _uv_is_configured(variables) else _pip_settings(variables)
    index = variables.get("UV_DEFAULT_INDEX") or variables.get("UV_INDEX_URL") or pip.get("index-url", "")
    extra = variables.get("UV_INDEX") or variables.get("UV_EXTRA_INDEX_URL") or pip.get("extra-index-url", "")
    own_links = variables.get("UV_FIND_LINKS", "")
    links = own_links.split(",") if own_links else pip.get("find-links", "").split()
    return Sources(
        index_url=options.index_url or index,
        extra_index_urls=(*options.extra_index_urls, *extra.split()),
        find_links=(*options.find_links, *(_as_url(link) for link in links if link)),
        no_index=options.no_index or pip.get("no-index", "").lower() in ("1", "true", "yes", "on"),
        options=options,
        choosing=tuple((name, variables[name]) for name in _CHOOSING if variables.get(name)),
    )


def _as_url(link: str) -> str:
    return link if "://" in link else Path(os.path.abspath(os.path.expanduser(link))).as_uri()


def _pip_settings(variables: Mapping[str, str]) -> dict[str, str]:
    """pip's own settings, as pip finds them: its files, the later ones stronger, then PIP_* variables."""
    from configparser import Error, RawConfigParser

    found: dict[str, str] = {}
    for path in _pip_files(variables):
        parser = RawConfigParser()
        try:
            parser.read(path, encoding="utf-8")
        except (Error, OSError, UnicodeDecodeError):
            continue  # pip says what is wrong with it
        for section in ("global", "install"):
            if parser.has_section(section):
                found.update({name.replace("_", "-"): value for name, value in parser.items(section)})
    names = ("index-url", "extra-index-url", "find-links", "no-index")
    own = {name: variables.get("PIP_" + name.upper().replace("-", "_"), "") for name in names}
    return {**found, **{name: value for name, value in own.items() if value}}


def _pip_files(variables: Mapping[str, str]) -> Iterator[Path]:
    named = variables.get("PIP_CONFIG_FILE", "")
    if named == os.devnull:
        return
    home = Path(os.path.expanduser("~"))
    for folder in reversed(variables.get("XDG_CONFIG_DIRS", "/etc/xdg").split(":")):
        yield Path(folder, "pip", "pip.conf")
    yield Path("/etc/pip.conf")
    yield home / ".pip" / "pip.conf"
    yield Path(variables.get("XDG_CONFIG_HOME") or home / ".config", "pip", "pip.conf")
    if named:
        yield Path(named)


def _uv_is_configured(variables: Mapping[str, str]) -> bool:
    """True where a configuration file of uv says something about indexes."""
    home = Path(variables.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config"))
    named = variables.get("UV_CONFIG_FILE")
    for path in [home / "uv" / "uv.toml", Path("/etc/uv/uv.toml"), *([Path(named)] if named else [])]:
        try:
            text = path.read_text(encoding="utf-8", errors="replace")
        except OSError:
            continue
        if re.search(r"^\s*(\[\[index\]\]|(extra-)?index(-url)?\s*=|find-links\s*=)", text, re.MULTILINE):
            return True
    return False
