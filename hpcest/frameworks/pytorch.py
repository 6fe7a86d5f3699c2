"""The framework ``pytorch``: distributed training by ranks that the cluster starts, or by torchrun on each node."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar

from hpcest.contracts import Framework
from hpcest.errors import SpecError, UnknownNameError
from hpcest.frameworks.checkpoints import newest
from hpcest.frameworks.script import Script, command_argv
from hpcest.hookspecs import hookimpl
from hpcest.model.plan import Activation, Program
from hpcest.model.spec import RunSpec

BACKENDS = ("nccl", "gloo", "mpi", "ucc", "xccl")
LAUNCHERS = ("ranks", "torchrun")

#: Around torchrun. It reads what its processes have printed so far, which may end in the middle of a line: here lines are passed
#: on when they are whole. And it ends with 1 whatever happened, with a traceback of its own: this ends as the process that failed
#: first, and its last words are that one's.
_AGENT = """\
import glob, os, sys

from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.run import main


class Whole:
    def __init__(self, stream):
        self._stream, self._parts = stream, {}

    def __getattr__(self, name):
        return getattr(self._stream, name)

    def write(self, text):
        head, mark, line = text.partition("]:")
        if not (mark and head.startswith("[")):
            return self._stream.write(text)
        line = self._parts.pop(head, "") + line
        if line.endswith("\\n"):
            self._stream.write(head + mark + line)
        else:
            self._parts[head] = line
        return len(text)

    def finish(self):
        for head, line in self._parts.items():
            self._stream.write(head + "]:" + line + "\\n")


def last_lines(folder, count):
    logs = sorted(glob.glob(glob.escape(folder) + "/*/attempt_*/" + local_rank + "/stderr.log"), key=os.path.getmtime)
    with open(logs[-1], errors="replace") as log:
        return "".join(log.readlines()[-count:])


sys.stdout, sys.stderr = streams = Whole(sys.stdout), Whole(sys.stderr)
try:
    main()
except ChildFailedError as error:
    # Found dead at the same moment: one that was aborted because another has left did not begin it.
    first, failure = min(error.failures.items(), key=lambda found: (found[1].timestamp, found[1].exitcode < 0))
    code, local_rank = failure.exitcode, str(failure.local_rank)
    how = "exited with code %d" % code if code >= 0 else "was ended by signal %d" % -code
    for stream in streams:
        stream.finish()
    print("\\nrank %d failed first on this node: it %s. The end of its stderr:" % (first, how), file=sys.stderr)
    try:
        sys.stderr.write(last_lines(sys.argv[1].partition("=")[2], 14))
    except (OSError, IndexError):
        pass
    sys.exit(code if code >= 0 else 128 - code)
for stream in streams:
    stream.finish()
"""


@dataclass(frozen=True)
class PyTorchOptions:
    """What a run may say beyond its distribution."""

    launcher: str = field(
        default="ranks", metadata={"help": "ranks: the cluster starts every process; torchrun: it starts one agent on each node"}
    )
    max_restarts: int = field(default=0, metadata={"help": "torchrun: how often it starts all processes again after one has failed"})


class PyTorch(Script):
    """Every process has what ``init_process_group()`` reads: RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR and MASTER_PORT."""

    name = "pytorch"
    distributions: ClassVar[tuple[str, ...]] = ("pytorch", "mpi")
    Options = PyTorchOptions
    options: PyTorchOptions
    presets: ClassVar[Path | None] = Path(__file__).with_name("presets") / "pytorch.yaml"

    def check(self, spec: RunSpec) -> None:
        """As for a script; and torchrun starts scripts alone. Raises SpecError."""
        super().check(spec)
        options, backend = self.options, spec.distribution.backend if spec.distribution else ""
        if backend and backend not in BACKENDS:
            raise UnknownNameError("backend of torch.distributed", backend, BACKENDS)
        if options.launcher not in LAUNCHERS:
            raise UnknownNameError("launcher of the framework 'pytorch'", options.launcher, LAUNCHERS)
        if options.launcher == "torchrun":
            self._check_torchrun(spec)
        elif options.max_restarts:
            raise SpecError("max_restarts is for torchrun, and this run starts its ranks itself", hint="add the option launcher=torchrun")

    def _check_torchrun(self, spec: RunSpec) -> None:
        if not spec.command.script.endswith(".py"):
            raise SpecError("torchrun starts Python scripts alone", hint="give an entry script, or write torchrun into the command line")
        if spec.distribution and spec.distribution.kind != "pytorch":
            raise SpecError("torchrun and MPI exclude each other", hint="leave one of them out")
        if self.options.max_restarts < 0:
            raise SpecError(f"max_restarts must be a whole number from 0 up, not {self.options.max_restarts}")

    def program(self, spec: RunSpec, activation: Activation) -> Program:
        """The argv of a rank, or of torchrun on a node."""
        plain = super().program(spec, activation)
        is_mpi = spec.distribution is not None and spec.distribution.kind == "mpi"
        backend = spec.distribution.backend if spec.distribution else ""
        told = {**plain.variables, "HPCEST_BACKEND": backend or ("nccl" if spec.resources.gpus else "gloo")}
        if self.options.launcher == "torchrun":
            threads = {"OMP_NUM_THREADS": str(spec.resources.cpus)} if spec.resources.cpus else {}
            # The store that agents share keeps the addresses of the processes that failed, and the new ones call those (seen in 2.13).
            store = {"TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"} if self.options.max_restarts else {}
            told = {**told, **threads, **store}
            argv = self._torchrun(spec, activation)
            return replace(plain, argv=argv, variables=told, per="node", meets=True, helpers={"torchrun.py": _AGENT})
        threads = {"OMP_NUM_THREADS": "$HPCEST_CPUS"}
        return replace(plain, variables=told, rank_variables=threads, meets=spec.ranks > 1 and not is_mpi)

    def _torchrun(self, spec: RunSpec, activation: Activation) -> tuple[str, ...]:
        agent = {
            "log-dir": "$HPCEST_RUN_DIR/user_logs/torchrun/$NODE_RANK.$HPCEST_ATTEMPT",
            "nnodes": str(spec.resources.nodes),
            "nproc-per-node": str(spec.resources.procs_per_node),
            "rdzv-backend": "c10d",
            "rdzv-endpoint": "$MASTER_ADDR:$MASTER_PORT",
            "rdzv-id": "$HPCEST_RUN_ID.$HPCEST_ATTEMPT",
            "max-restarts": str(self.options.max_restarts),
            "tee": "3",  # each line of the log begins with its process; without this they would be mixed
        }
        words = [f"--{name}={value}" for name, value in agent.items()]
        script = command_argv(spec.command, activation.python)[1:]
        return (activation.python, "$HPCEST_HELPERS/torchrun.py", *words, *script)

    def checkpoint(self, outputs: Path) -> Path | None:
        """The newest file that torch.save, Lightning or safetensors wrote, or a folder of torch.distributed.checkpoint."""
        return newest(outputs, files=("*.pt", "*.pth", "*.ckpt", "*.safetensors"), folders=("*/.metadata",))


@hookimpl
def hpcest_register_frameworks() -> Sequence[type[Framework]]:
    """The classes of this module."""
    return [PyTorch]
