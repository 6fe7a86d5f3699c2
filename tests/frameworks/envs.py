"""The Pythons with the real frameworks. Each framework has one of its own, so that their versions don't fight."""

from __future__ import annotations

from pathlib import Path

from hpcest.testing import python_with

#: Name → what is installed, step by step.
STEPS: dict[str, tuple[tuple[str, ...], ...]] = {
    "torch": (("torch==2.13.0", "numpy"),),
    # Keras 2 asks for the package tensorflow, which is tensorflow-cpu three times over.
    "tensorflow": (("tensorflow-cpu==2.21.*",), ("--no-deps", "tf-keras==2.21.*")),
    "sklearn": (("scikit-learn", "joblib", "pandas", "threadpoolctl"),),
}


def framework_env(name: str) -> Path:
    """The Python of a framework, a key of STEPS; the nodes of the test cluster have it too."""
    return python_with(name, *STEPS[name])


def used_by_runs(name: str) -> list[str]:
    """The options of ``hpcest submit`` for a run in the environment ``name``, whatever version its job file would install."""
    prefix = framework_env(name).parents[1]
    settings = ("environment.kind=existing", f"environment.prefix={prefix}", 'framework_version=""')
    return [word for setting in settings for word in ("--set", setting)]
