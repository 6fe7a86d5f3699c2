"""Files that a program keeps: where they may go, and what can be a file's name."""

from __future__ import annotations

import io
import shutil
from pathlib import Path
from typing import Any

import pytest

from hpcest.onnode.run import Run


def test_an_upload_does_not_leave_the_run_by_a_link(run: Run, tmp_path: Path) -> None:
    """Of its folder, or of the file itself: that is replaced."""
    (tmp_path / "else").mkdir()
    (tmp_path / "else" / "kept").write_text("kept")
    outputs = Path(run.folder, "outputs")
    outputs.mkdir()
    (outputs / "out").symlink_to(tmp_path / "else")
    (outputs / "file").symlink_to(tmp_path / "else" / "kept")
    for name in ("outputs/out/x", "outputs/out/deep/x"):
        with pytest.raises(ValueError, match="leads out of the run folder, by a link"):
            run.upload_file(name, io.BytesIO(b"x"))
    run.upload_file("outputs/file", io.BytesIO(b"new"))
    assert sorted(path.name for path in (tmp_path / "else").iterdir()) == ["kept"]
    assert (tmp_path / "else" / "kept").read_text() == "kept"
    assert (outputs / "file").read_text() == "new"


@pytest.mark.parametrize("name", [None, 3, "a\0b", "\ud800"])
def test_what_can_be_no_files_name(run: Run, name: Any) -> None:
    with pytest.raises(ValueError, match="can't be the name of a file"):
        run.upload_file(name, io.BytesIO(b"x"))


def test_a_stream_of_text_is_kept_too(run: Run) -> None:
    run.upload_file("outputs/t", io.StringIO("caf\u00e9 \ud800"))
    assert Path(run.folder, "outputs/t").read_bytes() == b"caf\xc3\xa9 \xed\xa0\x80"


def test_a_run_whose_folder_is_gone_does_not_come_back_with_a_file(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.rmtree(run.folder)
    (tmp_path / "x.png").write_text("x")
    run.upload_file("x", io.BytesIO(b"x"))
    run.log_image("i", path=str(tmp_path / "x.png"))
    assert not any(Path(run.folder, name).exists() for name in ("artifacts", "images"))
    assert "the run's folder is gone" in capsys.readouterr().err
