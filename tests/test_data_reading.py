"""Reading: every format gives the same rows, and every kind of damage is told with its place and a cure.

The D numbers are those of the catalogue of bad inputs the validator is built against.
"""

import gzip
import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from lit_pref.data.fingerprint import fingerprint
from lit_pref.data.reading import read
from lit_pref.data.report import RowReport
from lit_pref.data.rows import DataError, Problem, Record
from lit_pref.data.sources import resolve
from lit_pref.data.validation import validate

GOOD = '{"prompt": "p", "chosen": "yes", "rejected": "no"}\n'
OTHER = '{"prompt": "q", "chosen": "ja", "rejected": "nein"}\n'
PAIRS = [json.loads(GOOD), json.loads(OTHER)]


def put(folder: Path, name: str, data: bytes | str) -> Path:
    path = folder / name
    path.write_bytes(data if isinstance(data, bytes) else data.encode("utf-8", "surrogatepass"))
    return path


def records(source: Path | str, split: str = "train") -> list[dict[str, Any]]:
    return [item.fields for item in read(str(source), split) if isinstance(item, Record)]


def problems(source: Path | str) -> list[Problem]:
    return [item for item in validate(read(str(source))) if isinstance(item, Problem)]


def parquet(folder: Path, name: str = "a.parquet", rows: list[dict[str, Any]] = PAIRS) -> Path:
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    pq.write_table(pa.Table.from_pylist(rows), folder / name)
    return folder / name


# --- formats -----------------------------------------------------------------------------------------------

CSV = 'prompt,chosen,rejected\np,yes,no\nq,"ja",nein\n'
COLUMNS = json.dumps({name: [row[name] for row in PAIRS] for name in PAIRS[0]})


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.jsonl", GOOD + OTHER),
        ("a.ndjson", GOOD + OTHER.rstrip()),
        ("a.jsonl", (GOOD + OTHER).replace("\n", "\r\n")),
        ("a.json", json.dumps(PAIRS)),
        ("a.json", json.dumps(PAIRS, indent=2)),
        ("a.json", json.dumps({"data": PAIRS})),
        ("a.json", COLUMNS),
        ("a.json", GOOD + OTHER),
        ("a.csv", CSV),
        ("a.csv", CSV.replace("\n", "\r\n")),
    ],
)
@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gz"])
def test_formats_give_the_same_rows(tmp_path: Path, name: str, text: str, packed: bool) -> None:
    data = text.encode()
    path = put(tmp_path, f"{name}.gz" if packed else name, gzip.compress(data) if packed else data)
    assert records(path) == PAIRS


@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gz"])
def test_parquet_gives_the_same_rows(tmp_path: Path, packed: bool) -> None:
    path = parquet(tmp_path)
    if packed:
        path = put(tmp_path, "b.parquet.gz", gzip.compress(path.read_bytes()))
    assert records(path) == PAIRS
    assert [item.where for item in read(str(path))] == [f"{path} row 0", f"{path} row 1"]


def test_a_missing_number_of_pandas_is_missing(tmp_path: Path) -> None:
    rows = [{"chosen": "a", "chosen_reward": 1.5}, {"chosen": "b", "chosen_reward": float("nan")}]
    assert [row["chosen_reward"] for row in records(parquet(tmp_path, rows=rows))] == [1.5, None]


def test_chats_written_as_text_are_refused(tmp_path: Path) -> None:
    chat = '"[{""role"": ""user"", ""content"": ""q""}, {""role"": ""assistant"", ""content"": ""a""}]"'
    path = put(tmp_path, "a.csv", f"chosen,rejected\n{chat},{chat}\n[1] a list of sources,[x] no chat\n")
    (problem, row) = list(validate(read(str(path))))[:2]
    assert isinstance(problem, Problem)
    assert (problem.case, problem.action, problem.field) == ("chat-as-text", "refuse", "chosen")
    assert row.number == 1


def test_parquet_keeps_chat_turns(tmp_path: Path) -> None:
    turns = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "yo"}]
    assert records(parquet(tmp_path, rows=[{"chosen": turns}])) == [{"chosen": turns}]


def test_one_pretty_object_is_one_row(tmp_path: Path) -> None:
    assert records(put(tmp_path, "a.json", json.dumps(PAIRS[0], indent=1))) == PAIRS[:1]


@pytest.mark.parametrize(
    ("name", "text", "lines"),
    [
        ("a.jsonl", f"{GOOD}\n{OTHER}", [1, 3]),  # the blank line counts as a line, not as a row
        ("a.json", json.dumps(PAIRS, indent=1), [2, 7]),
        ("a.csv", 'prompt,chosen,rejected\n"p\np",a,b\nq,c,d\n', [2, 4]),  # a quoted value over two lines
    ],
)
def test_rows_are_numbered_from_0_and_lines_from_1(tmp_path: Path, name: str, text: str, lines: list[int]) -> None:
    path = put(tmp_path, name, text)
    found = [item for item in read(str(path)) if isinstance(item, Record)]
    assert [(r.number, r.where) for r in found] == [(n, f"{path}:{line}") for n, line in enumerate(lines)]


# --- damage in one row: told, counted, the other rows are read ---------------------------------------------

BROKEN_ROWS = {
    "D1 cut off": ('{"prompt": "p", "chosen": "he', ":2:30", "broken-json", ["ends inside", "restore"]),
    "D1 middle": ('{"prompt": "p" "chosen": "x"}', ":2:16", "broken-json", ['"p" "chosen": "x"', "not JSON"]),
    "D2 single quotes": ("{'prompt': 'p'}", ":2:2", "broken-json", ["JSON needs double quotes"]),
    "D2 trailing comma": ('{"prompt": "p",}', ":2:1", "broken-json", ["trailing comma", "delete the comma"]),
    "D2 None": ('{"chosen": None}', ":2:12", "broken-json", ["Python's word", "null"]),
    "two objects": (f"{GOOD.strip()} {GOOD.strip()}", ":2:52", "broken-json", ["second value", "own line"]),
    "raw tab": ('{"prompt": "a\tb"}', ":2:14", "broken-json", ["control character", "escape"]),
    "digits": ('{"chosen": %s}' % ("9" * 5000), ":2", "broken-json", ["thousands of digits"]),
    "brackets": ("[" * 200_000, ":2", "broken-json", ["brackets"]),
    "D24 Latin-1": (
        b'{"prompt": "caf\xe9"}',
        ":2:16",
        "not-utf8",
        ["0xe9", "byte 16", "save the file as UTF-8"],
    ),
    "D27 list": ('["a", "b"]', ":2", "not-an-object", ["a list", "one object"]),
    "number": ("17", ":2", "not-an-object", ["17 (a number)"]),
    "D28 twice": (
        '{"chosen": "a", "chosen": "b"}',
        ":2:1",
        "duplicate-key",
        ['"chosen"', "twice", "keep one"],
    ),
}


@pytest.mark.parametrize("name", BROKEN_ROWS)
def test_broken_line_is_told_and_the_rest_read(tmp_path: Path, name: str) -> None:
    line, place, case, fragments = BROKEN_ROWS[name]
    raw = line if isinstance(line, bytes) else line.encode()
    path = put(tmp_path, "a.jsonl", GOOD.encode() + raw + b"\n" + OTHER.encode())
    report = RowReport(str(path))
    rows = list(report.collect(validate(read(str(path)))))
    (problem,) = report.removed
    assert (problem.case, problem.number, problem.action) == (case, 1, "refuse")
    assert problem.where.startswith(f"{path}{place}")
    assert [row.number for row in rows] == [0, 2]
    assert (report.total, report.kept, report.refused) == (3, 2, 1)
    with pytest.raises(DataError) as error:
        report.raise_if_refused("error")
    for fragment in (f"{path}{place}", "(row 1)", "2 of 3 rows are fine", "on_bad_row=drop", *fragments):
        assert fragment in str(error.value)


def test_csv_row_of_another_width(tmp_path: Path) -> None:
    path = put(tmp_path, "a.csv", CSV + "only,two\n")
    (problem,) = problems(path)
    assert (problem.case, problem.number, problem.where) == ("csv-width", 2, f"{path}:4")
    assert "2 values" in problem.message
    assert "3 columns" in problem.message


def test_csv_value_longer_than_the_modules_own_limit(tmp_path: Path) -> None:
    path = put(tmp_path, "a.csv", f"prompt,chosen,rejected\np,{'x' * 150_000},b\n")
    assert len(records(path)[0]["chosen"]) == 150_000


def test_lone_surrogate_has_line_and_field(tmp_path: Path) -> None:  # D22
    path = put(tmp_path, "a.jsonl", GOOD + r'{"prompt": "p", "chosen": "a\ud800", "rejected": "b"}')
    (problem,) = problems(path)
    assert (problem.case, problem.where, problem.field) == ("lone-surrogate", f"{path}:2", "chosen")
    assert "\\ud800 at character 2" in problem.found


# --- damage to a whole file: always raised -----------------------------------------------------------------

BROKEN_FILES = {
    "D9 empty": ("a.jsonl", b"", "no-rows", ["0 rows in", "a.jsonl"]),
    "D9 blank lines": ("a.jsonl", b"\n \n", "no-rows", ["0 rows in"]),
    "D9 empty array": ("a.json", b"[]", "no-rows", ["0 rows in"]),
    "D9 header only": ("a.csv", b"chosen,rejected\n", "no-rows", ["0 rows in"]),
    "D24 csv": ("a.csv", b"chosen,rejected\na,b\ncaf\xe9,b\n", "not-utf8", ["a.csv:3", "0xe9", "byte 4"]),
    "D24 json": ("a.json", b'[\n"caf\xe9"]', "not-utf8", ["a.json:2", "0xe9", "UTF-8"]),
    "UTF-16": ("a.jsonl", GOOD.encode("utf-16"), "not-utf8", ["UTF-16", "save the file as UTF-8"]),
    "D26 HTML": ("a.jsonl", b"\n<!DOCTYPE html><html>", "html-page", ["looks like HTML", "download"]),
    "D26 in csv": ("a.csv", b"<html><body>404", "html-page", ["looks like HTML"]),
    "D26 in parquet": ("a.parquet", b"<html>", "html-page", ["looks like HTML"]),
    "LFS": ("a.jsonl", b"version https://git-lfs.github.com/spec/v1\n", "lfs-pointer", ["git lfs pull"]),
    "D27 array": (
        "a.jsonl",
        json.dumps(PAIRS).encode(),
        "json-array",
        ["JSON array", "a.json,", "a.jsonl:1"],
    ),
    "D27 pretty": (
        "a.jsonl",
        json.dumps(PAIRS[0], indent=1).encode(),
        "pretty-json",
        ["several lines", "a.json"],
    ),
    "D1 json": ("a.json", b'[{"a": 1},\n\n {"a": "x', "broken-json", ["a.json:3:10", "ends inside"]),
    "D2 json": ("a.json", b'[{"a": 1},\n]', "broken-json", ["a.json:2:1", "trailing comma"]),
    "json tail": ("a.json", b'[{"a": 1}] x', "broken-json", ["a.json:1:12", "not JSON"]),
    "columns": (
        "a.json",
        b'{"chosen": ["a"], "rejected": ["b", "c"]}',
        "uneven-columns",
        ["differ in length"],
    ),
    "csv quote": ("a.csv", b'chosen,rejected\na,b\n"c,d\n', "broken-csv", ["a.csv:3", "close every quote"]),
    "csv header": ("a.csv", b"chosen,chosen\na,b\n", "duplicate-column", ["a.csv:1", '"chosen"']),
    "gzip cut": ("a.jsonl.gz", gzip.compress(GOOD.encode() * 999)[:-9], "damaged-gzip", ["cut off", "again"]),
    "parquet": ("a.parquet", b"PAR1 nonsense PAR1", "broken-parquet", ["Parquet", "again"]),
    "suffix": ("a.xlsx", b"PK", "unknown-format", ["JSONL, JSON, CSV or Parquet"]),
}


@pytest.mark.parametrize("name", BROKEN_FILES)
def test_broken_file_raises(tmp_path: Path, name: str) -> None:
    file, data, case, fragments = BROKEN_FILES[name]
    path = put(tmp_path, file, data)
    with pytest.raises(DataError) as error:
        list(read(str(path)))
    assert error.value.cases == (case,)
    for fragment in (str(path), "Fix: ", "Nothing was trained.", *fragments):
        assert fragment in str(error.value)


# --- oddities that are accepted, and said ------------------------------------------------------------------

ACCEPTED = {
    "D3 blank line": ("a.jsonl", f"{GOOD} \n{OTHER}".encode(), "blank-line", ":2"),
    "D23 BOM": ("a.jsonl", b"\xef\xbb\xbf" + (GOOD + OTHER).encode(), "byte-order-mark", ""),
    "D23 BOM csv": ("a.csv", b"\xef\xbb\xbf" + CSV.encode(), "byte-order-mark", ""),
    "D25 gzip": ("a.jsonl", gzip.compress((GOOD + OTHER).encode()), "gzip-bytes", ""),
    "lines in .json": ("a.json", (GOOD + OTHER).encode(), "json-lines", ""),
}


@pytest.mark.parametrize("name", ACCEPTED)
def test_accepted_with_a_note(tmp_path: Path, name: str) -> None:
    file, data, case, place = ACCEPTED[name]
    path = put(tmp_path, file, data)
    report = RowReport(str(path))
    assert len(list(report.collect(validate(read(str(path)))))) == 2
    assert [(p.case, p.action, p.where) for p in problems(path)] == [(case, "note", f"{path}{place}")]
    assert f"note: {path}{place}: " in report.summary()
    report.raise_if_refused("error")


def test_plain_bytes_named_gz_are_read(tmp_path: Path) -> None:
    assert records(put(tmp_path, "a.jsonl.gz", GOOD)) == PAIRS[:1]


def test_nan_in_a_column_nobody_uses_is_let_through(tmp_path: Path) -> None:  # D29
    path = put(tmp_path, "a.jsonl", '{"prompt": "p", "chosen": "a", "rejected": "b", "loss": NaN}')
    assert problems(path) == []


# --- sources -----------------------------------------------------------------------------------------------


def test_folder_reads_files_by_name_and_numbers_on(tmp_path: Path) -> None:
    put(tmp_path, "b.csv", CSV)
    put(tmp_path, "a.jsonl", GOOD + "{broken\n")
    put(tmp_path, "README.md", "no data")
    put(tmp_path, "dataset_infos.json", "{}")
    items = list(read(str(tmp_path)))
    assert [item.number for item in items] == [0, 1, 2, 3]
    assert [Path(item.where).name for item in items] == ["a.jsonl:1", "a.jsonl:2:2", "b.csv:2", "b.csv:3"]


def test_folder_with_split_names(tmp_path: Path) -> None:
    for name in ("train-0.jsonl", "train-1.jsonl", "dev.jsonl", "test.jsonl", "values.jsonl"):
        put(tmp_path, name, GOOD)
    names = {split: [p.name for p in resolve(str(tmp_path), split).files] for split in ("train", "validation")}
    assert names == {"train": ["train-0.jsonl", "train-1.jsonl"], "validation": ["dev.jsonl"]}


@pytest.mark.parametrize(
    ("files", "split", "fragments"),
    [
        (["train.jsonl"], "validation", ['split "validation"', "it has train"]),
        (["a.jsonl"], "test", ['split "test"', "it has train"]),
        (["a.jsonl"], "train_prefs", ['split "train_prefs"']),
        (["notes.md"], "train", ["no data file", "notes.md"]),
        ([], "train", ["no data file", "nothing"]),
    ],
)
def test_folder_without_the_split(tmp_path: Path, files: list[str], split: str, fragments: list[str]) -> None:
    for name in files:
        put(tmp_path, name, GOOD)
    with pytest.raises(DataError) as error:
        list(read(str(tmp_path), split))
    for fragment in (str(tmp_path), "Fix: ", *fragments):
        assert fragment in str(error.value)


@pytest.mark.parametrize("empty", ["", "\n\n"])
def test_empty_file_among_others_is_not_passed_over(tmp_path: Path, empty: str) -> None:
    put(tmp_path, "a.jsonl", GOOD)
    put(tmp_path, "b.jsonl", empty)
    with pytest.raises(DataError, match=r"0 rows in .*b\.jsonl"):
        list(read(str(tmp_path)))


@pytest.mark.parametrize("source", ["./nope.jsonl", "../nope", "data.jsonl", "some/where.parquet", "~/nope"])
def test_missing_file_never_asks_the_hub(source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("datasets.load_dataset", lambda *_, **__: pytest.fail("asked the hub"))
    with pytest.raises(DataError) as error:
        list(read(source))
    assert f"{source}: no such file or folder" in str(error.value)


def test_missing_file_in_a_folder_that_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "data").mkdir()
    monkeypatch.chdir(tmp_path)  # "data/pairs" has the shape of a hub name
    with pytest.raises(DataError, match="data/pairs: no such file or folder"):
        list(read("data/pairs"))


def test_missing_file_names_its_neighbour(tmp_path: Path) -> None:
    put(tmp_path, "train.jsonl", GOOD)
    with pytest.raises(DataError, match=r"did you mean .*train\.jsonl"):
        list(read(str(tmp_path / "trian.jsonl")))


def test_saved_dataset(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    both = datasets.DatasetDict({"train": datasets.Dataset.from_list(PAIRS)})
    both["train"].save_to_disk(tmp_path / "one")
    both.save_to_disk(tmp_path / "dict")
    assert records(tmp_path / "one") == records(tmp_path / "dict") == PAIRS
    assert next(read(str(tmp_path / "dict"))).where == f"{tmp_path / 'dict'}[train] row 0"
    assert fingerprint(str(tmp_path / "one")) == fingerprint(str(tmp_path / "dict"))
    with pytest.raises(DataError, match="it has train"):
        list(read(str(tmp_path / "dict"), "test"))


def test_hub_name_goes_to_datasets(monkeypatch: pytest.MonkeyPatch) -> None:
    datasets = pytest.importorskip("datasets")
    asked: list[Any] = []

    def load_dataset(*args: Any, **options: Any) -> Any:
        asked.append((*args, options))
        return datasets.Dataset.from_list(PAIRS)

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    items = list(read("owner/name:config", "test_prefs"))
    assert asked == [("owner/name", "config", {"split": "test_prefs"})]
    assert [item.where for item in items] == [f"owner/name:config[test_prefs] row {n}" for n in (0, 1)]
    assert [item.fields for item in items if isinstance(item, Record)] == PAIRS
    assert resolve("owner/name").files == []


def test_hub_fingerprint_is_the_data_sets_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("datasets.load_dataset", lambda *_, **__: SimpleNamespace(_fingerprint="f00"))
    assert fingerprint("owner/name") == "f00"


def test_hub_data_set_without_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: datasets.Dataset.from_dict({"chosen": []}))
    with pytest.raises(DataError, match="0 rows in owner/name"):
        list(read("owner/name"))


def test_hub_failure_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def load_dataset(*_: Any, **__: Any) -> Any:
        raise ConnectionError("Couldn't reach\n'owner/name' \x1b[31mon the Hub\x1b[0m")

    monkeypatch.setattr("datasets.load_dataset", load_dataset)
    with pytest.raises(DataError) as error:
        list(read("owner/name", "test"))
    for fragment in (
        "owner/name: there is no local file",
        '"test"',
        "ConnectionError",
        "on the Hub",
        "network",
    ):
        assert fragment in str(error.value)
    assert "\x1b" not in str(error.value)


def test_fingerprint_is_that_of_the_bytes(tmp_path: Path) -> None:
    first, same = put(tmp_path, "a.jsonl", GOOD), put(tmp_path, "b.jsonl", GOOD)
    before = fingerprint(str(first))
    assert fingerprint(str(same)) == before  # names and times do not matter, how the bytes are read does
    assert fingerprint(str(put(tmp_path, "a.csv", GOOD))) != before
    put(tmp_path, "a.jsonl", GOOD.replace("yes", "yed"))  # same size
    assert fingerprint(str(first)) != before


def test_reading_loads_no_heavy_library(tmp_path: Path) -> None:
    path = put(tmp_path, "a.jsonl", GOOD)
    code = (
        "import sys; from lit_pref.data import reading, report, validation;"
        f"assert len(list(validation.validate(reading.read({str(path)!r})))) == 1;"
        "print({'torch', 'lightning', 'transformers', 'datasets', 'pyarrow', 'numpy'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.stdout.strip(), done.stderr) == ("set()", "")
