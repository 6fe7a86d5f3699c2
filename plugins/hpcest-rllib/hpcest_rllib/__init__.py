"""Ray RLlib for hpcest: commands of hpcest import ``framework``, users the names below, which are loaded when they are used."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hpcest_rllib.estimator import Ray, ReinforcementLearningEstimator, RLlib, WorkerConfiguration

__all__ = ["RLlib", "Ray", "ReinforcementLearningEstimator", "WorkerConfiguration"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'hpcest_rllib' has no attribute {name!r}")
    from hpcest_rllib import estimator

    return getattr(estimator, name)
