"""Chainer for hpcest: commands of hpcest import ``framework``, users ``Chainer``, which is loaded when it is used."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hpcest_chainer.estimator import Chainer

__all__ = ["Chainer"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'hpcest_chainer' has no attribute {name!r}")
    from hpcest_chainer import estimator

    return getattr(estimator, name)
