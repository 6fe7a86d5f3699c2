"""What a site or a user has configured for every run, as far as plugins need it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class EnvironmentSettings:
    """``environment:`` what a run gets that names none, and how environments are built.

    ``kind`` is an environment plugin or ``auto``, ``interpreter`` a Python, ``image`` the base of built images (a file or a
    reference such as ``docker://debian:12-slim``), ``channels`` the conda channels, ``layout`` is ``split``, ``single`` or
    ``flat``. ``stores`` are the site's stores of images, read-only, in the order in which they are looked through, and
    ``trusted`` the users beside root and a store's owner whose files in there are used. ``binds`` are directories that every
    container sees, ``scratch`` is where is built (node-local, with room), ``build_on`` the compute target that builds.
    ``sharens`` has the ranks of a node share one container's mounts; ``cuda`` is the CUDA version of the compute nodes' driver.
    """

    kind: str = "auto"
    interpreter: str = ""
    image: str = ""
    channels: tuple[str, ...] = ("conda-forge",)
    layout: str = "split"
    stores: tuple[str, ...] = ()
    trusted: tuple[str, ...] = ()
    binds: tuple[str, ...] = ()
    scratch: str = ""
    build_on: str = ""
    sharens: bool = False
    cuda: str = ""
