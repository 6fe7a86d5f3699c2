"""The data that stands among the arguments and inputs of a run: entered into its spec, and named where it stood."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hpcest.errors import SpecError
from hpcest.model.spec import DataInput, DataOutput
from hpcest.sdk.inputs import input_text


@dataclass
class Binding:
    """What was found so far: ``data`` and ``outputs`` by name, and ``texts`` that the program is told."""

    data: dict[str, DataInput] = field(default_factory=dict)
    outputs: dict[str, DataOutput] = field(default_factory=dict)
    texts: dict[str, str] = field(default_factory=dict)

    def word(self, value: Any) -> Any:
        """An argument; data becomes the name of the variable with its path."""
        if not hasattr(value, "to_argument"):
            return value
        value.bind(self.data, self.outputs)
        return value.to_argument()

    def params(self, params: Any) -> Any:
        """Script parameters, as a dict or a list, with the names of data in its place."""
        if isinstance(params, Mapping):
            return {name: self.word(value) for name, value in params.items()}
        if isinstance(params, Sequence) and not isinstance(params, (str, bytes)):
            return [self.word(value) for value in params]
        return params

    def inputs(self, inputs: Any) -> None:
        """``inputs`` of an estimator: a list of data, or a dict of name → path or data. Raises SpecError."""
        if isinstance(inputs, Mapping):
            for name, value in inputs.items():
                self._named(str(name), value)
        elif isinstance(inputs, Sequence) and not isinstance(inputs, str) and all(hasattr(value, "bind") for value in inputs):
            for value in inputs:
                value.bind(self.data, self.outputs)
        elif inputs is not None:
            raise SpecError(
                f"inputs must be a dict, not {inputs!r}",
                hint="such as inputs={'name': 'path'}, or a list of data: [dataset.as_named_input('name').as_mount()]",
            )

    def _named(self, name: str, value: Any) -> None:
        from hpcest.sdk.data.configs import DatasetConsumptionConfig, enter

        if hasattr(value, "data_input"):
            DatasetConsumptionConfig(name, value, "mount").bind(self.data, self.outputs)
        elif isinstance(value, DatasetConsumptionConfig):
            DatasetConsumptionConfig(name, value.dataset, value.mode, value.path_on_compute).bind(self.data, self.outputs)
        elif isinstance(value, DataInput):
            enter(self.data, name, value, "input")
        elif hasattr(value, "bind"):
            value.bind(self.data, self.outputs)
        else:
            self.texts[name] = input_text(value, Path.cwd())


def data_named(text: str) -> DataInput | None:
    """The registered data that ``--input NAME=azureml:mnist:2,download`` names; None for any other text, which is a path or value.

    The version and the mode (mount, download or direct) may be left out. Raises SpecError.
    """
    if not text.startswith(("azureml:", "dataset:")) or text.startswith("azureml://"):
        return None
    words, _, mode = text.partition(":")[2].partition(",")
    name, _, version = words.replace("@", ":", 1).partition(":")
    if version not in ("", "latest") and not (version.isascii() and version.isdigit() and int(version)):
        raise SpecError(f"the version {version!r} of dataset {name!r} is no number", hint="give a number, or latest")
    if not name or mode not in ("", "mount", "download", "direct"):
        raise SpecError(
            f"the input {text!r} can't be read", hint="write azureml:NAME, azureml:NAME:VERSION or azureml:NAME:VERSION,download"
        )
    return DataInput(dataset=name, version=int(version) if version.isdigit() else 0, mode=mode or "mount")
