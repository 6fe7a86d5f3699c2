"""The plan: what will run, to the last argument. What is printed is the object that is submitted."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Activation:
    """How a program is started inside a built environment.

    ``prefix`` goes before the program's own argv (``apptainer exec IMAGE``); ``python`` is its
    interpreter as seen from inside; ``path`` goes before PATH; ``variables`` are set, ``unset`` removed.
    """

    python: str
    prefix: tuple[str, ...] = ()
    path: tuple[str, ...] = ()
    variables: dict[str, str] = field(default_factory=dict)
    unset: tuple[str, ...] = ()


@dataclass(frozen=True)
class Program:
    """What a framework makes of a run spec: the argv of one rank, and what its ranks need to be told.

    ``per`` says how often it is started: once for each ``process`` or once for each ``node`` (for a
    launcher such as torchrun that starts the processes itself). ``expand`` lets each rank replace
    ``$NAME`` in the argv by its own variables; a shell does that itself, by its own rules. In
    ``rank_variables`` each rank replaces ``$NAME`` too, and leaves out what comes to nothing; the user's own variables win
    over both.

    ``meets`` has the ranks find out before they start that all are there: each then has HPCEST_PEERS, the
    ``host:port`` of every rank. With ``roles``, role → number of ranks in their order, each has TF_CONFIG as well.
    ``servers`` are roles that only serve: they are ended when all other ranks have ended.

    ``helpers`` are files for the node, name → text; a rank finds them in the folder $HPCEST_HELPERS.
    """

    argv: tuple[str, ...]
    variables: dict[str, str] = field(default_factory=dict)
    per: str = "process"
    expand: bool = True
    rank_variables: dict[str, str] = field(default_factory=dict)
    meets: bool = False
    roles: dict[str, int] = field(default_factory=dict)
    servers: tuple[str, ...] = ()
    helpers: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Plan:
    """Everything that a backend needs to start a run.

    ``launch`` is the manifest that the controller on the node reads (``onnode.controller`` documents
    it); ``script`` is the text that is submitted, for backends that have one; ``options`` are the
    compute target's settings as the backend uses them. ``environment`` names the image.
    """

    run_id: str
    compute: str
    backend: str
    launch: dict[str, Any]
    options: dict[str, Any] = field(default_factory=dict)
    environment: str = ""
    script: str = ""
