"""What runs have logged, as event files of TensorBoard: for runs whose programs wrote none themselves."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hpcest.errors import HpcestError, SpecError
from hpcest.onnode.events import read_run

if TYPE_CHECKING:
    from hpcest.onnode.metrics import Metrics
    from hpcest.sdk.run import Run


def export_to_tensorboard(run_data: Run | Sequence[Run], logs_path: str | Path, logger: Any = None, recursive: bool = True) -> None:
    """Write the numbers that one run or several have logged below ``logs_path``, in a folder for each, for TensorBoard to show.

    Scalars are at the steps that were given with them, else counted from 0, as lists and the columns of tables are.
    ``recursive`` takes the runs below as well, in folders of their own; ``logger`` gets a line for each run. What was written
    for a run before is replaced. Raises HpcestError where TensorBoard is not installed, and where nothing can be written.
    """
    runs: list[Any] = [*run_data] if isinstance(run_data, (list, tuple)) else [run_data]
    if not runs or not all(hasattr(run, "folder") for run in runs):
        raise SpecError(f"{run_data!r} is no run", hint="export_to_tensorboard(run, 'logs'), or a list of runs")
    for run in runs:
        for one in [run, *(run.get_children(recursive=True) if recursive else ())]:
            place = Path(logs_path, one.id)
            count = _write(place / "events.out.tfevents.0.hpcest", read_run(one.folder)[1])
            if logger is not None:
                logger.info("run %s: %d values in %s", one.id, count, place)


def _write(path: Path, metrics: Metrics) -> int:
    event, summary, writer = _formats()
    count = 0
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "wb") as stream:
            records = writer(stream)
            records.write(event(wall_time=time.time(), file_version="brain.Event:2").SerializeToString())
            for tag, moment, step, value in _numbers(metrics):
                values = summary(value=[summary.Value(tag=tag, simple_value=value)])
                records.write(event(wall_time=moment, step=step, summary=values).SerializeToString())
                count += 1
    except OSError as error:
        raise HpcestError(f"{path} can't be written: {error.strerror or error}") from error
    return count


def _formats() -> tuple[Any, Any, Any]:
    """TensorBoard's own events, summaries, and writer of records."""
    try:
        made = import_module("tensorboard.compat.proto.event_pb2").Event, import_module("tensorboard.compat.proto.summary_pb2").Summary
        return (*made, import_module("tensorboard.summary.writer.record_writer").RecordWriter)
    except ImportError as error:
        raise HpcestError(f"TensorBoard is not installed here: {error}", hint="pip install tensorboard") from error


def _numbers(metrics: Metrics) -> Iterator[tuple[str, float, int, float]]:
    """Tag, time, step and value of all that is a number."""
    for name in metrics.names():
        series = metrics.series(name)
        for place, (moment, step, value) in enumerate(series):
            if isinstance(value, (int, float)):
                yield name, moment, int(step) if isinstance(step, (int, float)) else place, value
        if not series:
            found = metrics.value(name)
            columns = {f"{name}/{column}": values for column, values in found.items()} if isinstance(found, dict) else {name: found}
            for tag, values in columns.items():
                for place, value in enumerate(values if isinstance(values, list) else [values]):
                    if isinstance(value, (int, float)):
                        yield tag, 0.0, place, value
