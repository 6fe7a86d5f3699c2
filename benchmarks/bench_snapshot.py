"""What a snapshot costs: of a new tree, of an unchanged one beside a plain walk, and after one change.

python -m benchmarks.bench_snapshot [--files 10000] [--json]
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.common import Table, options, side_by_side
from hpcest.lifecycle.snapshot import take_snapshot
from hpcest.model.folders import RunFolder, WorkspaceFolder
from hpcest.onnode import workdir

SETTLE_S = 2.2  # what was written just before a snapshot is read once more by the next one


def make_tree(root: Path, files: int) -> None:
    """Python files of about a kilobyte, twenty to a folder, and ignore files with a dozen lines."""
    for number in range(files):
        folder = root / f"package{number // 500}" / f"module{number // 20}"
        if number % 20 == 0:
            folder.mkdir(parents=True)
        (folder / f"file{number}.py").write_text(f"value = {number}\n" * 60)
    (root / ".gitignore").write_text(
        "\n".join(["*.log", "*.ckpt", "/data/", "!keep.log", "build/", "dist", "*.so", "wandb/", "tmp*", "[ab].bin"])
    )


def walk(root: Path) -> None:
    """What an unchanged snapshot is measured by."""
    for folder, _, names in os.walk(root):
        for name in names:
            os.stat(os.path.join(folder, name))


def milliseconds(action: Callable[[], object]) -> float:
    """How long it took, once."""
    began = time.perf_counter()
    action()
    return 1e3 * (time.perf_counter() - began)


def measure(base: Path, files: int, rounds: int, table: Table) -> None:
    """A tree on its way from its first snapshot to a node and back."""
    source, run, workspace = base / "source", RunFolder(base / "run"), WorkspaceFolder(base)
    make_tree(source, files)
    table.add(f"first snapshot of {files:,} files", milliseconds(lambda: take_snapshot(source, workspace)))
    time.sleep(SETTLE_S)
    table.add("the second, which reads them once more", milliseconds(lambda: take_snapshot(source, workspace)))
    took = side_by_side({"snapshot": lambda: take_snapshot(source, workspace), "walk": lambda: walk(source)}, rounds)
    table.add("unchanged", took["snapshot"], beside=("os.walk with os.stat", took["walk"]), target=3)
    (source / "package0" / "module0" / "file0.py").write_text("value = 'changed'\n")
    began = time.perf_counter()
    changed = take_snapshot(source, workspace)
    table.add("after one change", 1e3 * (time.perf_counter() - began), beside=f"{changed.copied} file copied")
    manifest, stamp = workspace.manifest(changed.digest), 1_700_000_000
    laid_out = milliseconds(lambda: workdir.lay_out(manifest, workspace.objects, run.work, run.outputs, run.logs, stamp))
    table.add("laid out on a node", laid_out)
    table.add("tidied there", milliseconds(lambda: workdir.tidy(manifest, run.work, stamp)))


def main() -> None:
    """Measure and print."""
    parser = options(__doc__ or "", rounds=9)
    parser.add_argument("--files", type=int, default=10_000, help="how many files the tree has (default: 10,000)")
    given = parser.parse_args()
    table = Table("Snapshots", as_json=given.as_json)
    with tempfile.TemporaryDirectory(prefix="hpcest-bench-") as name:
        measure(Path(name), given.files, given.rounds, table)
    table.end()


if __name__ == "__main__":
    main()
