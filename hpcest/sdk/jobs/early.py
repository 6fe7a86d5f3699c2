"""Job files as early versions of Azure ML's CLI wrote them: what they said then, as it is said now."""

from __future__ import annotations

from typing import Any

from hpcest.errors import ConfigError
from hpcest.kit.yamlfile import Document

#: What an input's place was called → the type that it has then.
_PLACES = {"file": "uri_file", "folder": "uri_folder", "dataset": "", "local_path": ""}


def modernise(document: Document) -> None:
    """Change the values of a document in place. Raises ConfigError for what can't be said any more."""
    value = document.value
    code, compute, inputs = value.get("code"), value.get("compute"), value.get("inputs")
    if isinstance(code, dict) and set(code) in ({"local_path"}, {"directory"}):
        value["code"] = next(iter(code.values()))
    if isinstance(compute, dict) and "target" in compute:
        value["compute"] = compute.pop("target")
        if compute:
            value["resources"] = {**(value.get("resources") or {}), **compute}
    if isinstance(value.get("environment"), dict):
        _environment(document, value["environment"])
    for name, given in inputs.items() if isinstance(inputs, dict) else ():
        if isinstance(given, dict):
            inputs[name] = _input(document, name, given)


def _environment(document: Document, environment: dict[str, Any]) -> None:
    docker = environment.pop("docker", None)
    if isinstance(docker, dict):
        build = docker.get("build") or {}
        if "image" in docker:
            environment["image"] = docker["image"]
        elif "dockerfile" in build:
            environment["build"] = {"path": ".", "dockerfile_path": str(build["dockerfile"]).removeprefix("file:")}
        else:
            raise ConfigError(
                f"{document.where('environment.docker')}: environment.docker names no image", hint="write environment: {image: …}"
            )
    built = environment.get("build")
    if isinstance(built, dict) and "local_path" in built:
        environment["build"] = {"path": built["local_path"], **{key: text for key, text in built.items() if key != "local_path"}}


def _input(document: Document, name: str, given: dict[str, Any]) -> dict[str, Any]:
    made, data = dict(given), given.get("data")
    if "data" in made and "path" not in made:
        del made["data"]
        made.update(data if isinstance(data, dict) else {"path": data})
    for key, kind in _PLACES.items():
        if key in made and "path" not in made:
            made = {**({"type": kind} if kind else {}), "path": made.pop(key), **made}
    if isinstance(made.get("datastore"), str) and "path" not in made and "directory" in made:
        store = made.pop("datastore").removeprefix("azureml:")
        made["path"] = f"azureml://datastores/{store}/paths/{str(made.pop('directory')).lstrip('/')}"
    return made
