"""Files that appear whole or not at all: what was there before stays, and nothing is left beside it."""

from pathlib import Path

import pyarrow as pa
import pytest

from lit_pref.errors import SetupError
from lit_pref.parquet_log import write_parquet
from lit_pref.preferences import writing
from lit_pref.whole_file import write_text, write_whole


def test_a_file_is_written_with_its_folder_and_replaced(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "x.txt"
    for text in ("ü\r\nend\n", "new"):
        write_text(path, text)
        assert path.read_bytes() == text.encode()
        assert [file.name for file in path.parent.iterdir()] == ["x.txt"]


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt(), ValueError("x")])
def test_a_failure_in_between_leaves_the_old_file_alone(tmp_path: Path, error: BaseException) -> None:
    path = tmp_path / "x.txt"
    path.write_text("old")

    def half(part: Path) -> None:
        part.write_text("ha")
        raise error

    with pytest.raises(SetupError if isinstance(error, OSError) else type(error)) as caught:
        write_whole(path, half)
    if isinstance(error, OSError):
        assert f"{path}: this file cannot be written (No space left on device)." in str(caught.value)
        assert "Fix: make room on the disk" in str(caught.value)
        assert str(caught.value).endswith("What it held before is still there.")
    assert [(file.name, file.read_text()) for file in tmp_path.iterdir()] == [("x.txt", "old")]


def test_a_folder_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    path = tmp_path / "file" / "x"
    with pytest.raises(SetupError, match="What it held before"):
        write_parquet(pa.table({"a": [1]}), path)
    with pytest.raises(SetupError, match="the same command goes on from there"):
        writing.write_text(path, "text")
