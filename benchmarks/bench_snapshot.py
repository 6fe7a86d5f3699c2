"""What a snapshot costs: of a new tree, of an unchanged one beside a plain walk, and after one change.

Run it as ``python benchmarks/bench_snapshot.py [FILES]`` (10,000 by default); exit code 1 says that a target was missed.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from hpcest.lifecycle.snapshot import take_snapshot
from hpcest.model.folders import RunFolder, WorkspaceFolder
from hpcest.onnode import workdir

ROUNDS = 9
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


def milliseconds(action: Callable[[], object], *, rounds: int = 1) -> float:
    """The shortest time that ``action`` took."""
    times = []
    for _ in range(rounds):
        began = time.perf_counter()
        action()
        times.append(time.perf_counter() - began)
    return min(times) * 1000


def main(files: int) -> int:
    with tempfile.TemporaryDirectory(prefix="hpcest-bench-") as name:
        base = Path(name)
        source, run, workspace = base / "source", RunFolder(base / "run"), WorkspaceFolder(base)
        make_tree(source, files)
        first = milliseconds(lambda: take_snapshot(source, workspace))
        time.sleep(SETTLE_S)
        settling = milliseconds(lambda: take_snapshot(source, workspace))
        unchanged = milliseconds(lambda: take_snapshot(source, workspace), rounds=ROUNDS)
        plain = milliseconds(lambda: walk(source), rounds=ROUNDS)
        (source / "package0" / "module0" / "file0.py").write_text("value = 'changed'\n")
        began = time.perf_counter()
        changed = take_snapshot(source, workspace)
        after_change = (time.perf_counter() - began) * 1000
        manifest, stamp = workspace.manifest(changed.digest), 1_700_000_000
        laid_out = milliseconds(lambda: workdir.lay_out(manifest, workspace.objects, run.work, run.outputs, run.logs, stamp))
        tidied = milliseconds(lambda: workdir.tidy(manifest, run.work, stamp))
    ratio = unchanged / plain
    print(f"{files:,} files: first {first:.0f} ms, read again {settling:.0f} ms")
    print(f"after one change {after_change:.0f} ms, {changed.copied} copied")
    print(f"unchanged {unchanged:.1f} ms, os.walk with os.stat {plain:.1f} ms: {ratio:.2f} times (target: at most 3)")
    print(f"laid out on a node in {laid_out:.0f} ms, tidied in {tidied:.0f} ms")
    return 0 if ratio <= 3 and changed.copied == 1 else 1


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 10_000))
