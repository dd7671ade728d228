"""Opening a data file as plain bytes: gzip by its first bytes, byte order marks, files that are no data.

Knows nothing about rows, and decodes no text.
"""

import gzip
import io
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, cast

from .rows import DataError, Problem

_GZIP = b"\x1f\x8b"
_BOM = b"\xef\xbb\xbf"
_UTF16 = (b"\xff\xfe", b"\xfe\xff")
_HTML = (b"<!doctype", b"<html", b"<head", b"<?xml", b"<body")
_LFS = b"version https://git-lfs.github.com"


class Opened:
    """A file open for reading, past its byte order mark, with notes on what was noticed on the way."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.packed = False
        self.notes: list[Problem] = []
        self.stream = self._unzipped(path)
        start = self._peek()
        if start.startswith(_BOM):
            self.stream.read(len(_BOM))
            self._note("byte-order-mark", "the file starts with a UTF-8 byte order mark; it was skipped")
        self._refuse_no_data(start.removeprefix(_BOM))

    def lines(self) -> Iterator[bytes]:
        """The lines with their endings; a damaged archive is told by the line it breaks at."""
        line = 0
        try:
            for raw in self.stream:
                line += 1
                yield raw
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise self._damaged(f"after line {line}", error) from error

    def read(self) -> bytes:
        """All the bytes, for formats that cannot be read line by line."""
        try:
            return self.stream.read()
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise self._damaged("inside", error) from error

    def seekable(self) -> BinaryIO | None:
        """The file itself from its first byte, for formats read from their end; None where it is packed."""
        if self.packed:
            return None
        self.stream.seek(0)
        return self.stream

    def close(self) -> None:
        """Close the file."""
        self.stream.close()

    def _unzipped(self, path: Path) -> BinaryIO:
        plain = path.open("rb")
        if plain.peek(2)[:2] != _GZIP:
            return plain
        plain.close()
        self.packed = True
        if path.suffix.lower() != ".gz":
            self._note("gzip-bytes", "the file is gzip although its name does not end in .gz; it was unpacked")
        return cast(BinaryIO, io.BufferedReader(gzip.open(path)))

    def _peek(self) -> bytes:
        try:
            return cast(io.BufferedReader, self.stream).peek(256)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise self._damaged("at its start", error) from error

    def _refuse_no_data(self, start: bytes) -> None:
        if not start:
            raise nothing_in(self.path)
        again = "download the file again and look at its first lines"
        if start.lstrip()[:16].lower().startswith(_HTML):
            message = "this looks like HTML, not data: the download probably failed or needs a login."
            raise DataError.of_file("html-page", self.path, message, again)
        if start.startswith(_LFS):
            message = "this is a Git LFS pointer, not the data it stands for."
            raise DataError.of_file("lfs-pointer", self.path, message, "run `git lfs pull`")
        if start.startswith(_UTF16):
            raise DataError.of_file("not-utf8", self.path, "this file is UTF-16.", "save the file as UTF-8")

    def _damaged(self, place: str, error: Exception) -> DataError:
        message = f"this gzip file is damaged or cut off {place} ({error})."
        return DataError.of_file("damaged-gzip", self.path, message, "download or compress it again")

    def _note(self, case: str, message: str) -> None:
        fix = "nothing to do"
        self.notes.append(Problem(case, None, str(self.path), None, "", f"{message}.", fix, "note"))


def nothing_in(where: object) -> DataError:
    """The error for a source without a single row."""
    fix = "Fix: check that the file was written to the end, and that this is the right one."
    return DataError(f"0 rows in {where}.\n  {fix}\n  Nothing was trained.", ["no-rows"])
