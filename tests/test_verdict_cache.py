"""The cache of verdicts: several processes, damaged files, folders that cannot be written to."""

import multiprocessing
import os
import pickle
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from lit_pref.judges import Item, Judge, KeywordJudge, Label, Verdict, VerdictCache, judge_items
from lit_pref.judges.parsing import parse_label

LABELS: dict[str, Label] = {"0": "refusal", "1": "compliance"}


class Scripted(Judge):
    """Says what stands in the response, and remembers what it was asked."""

    def __init__(self, version: int = 1, template: str = "t") -> None:
        self.name, self.version, self.template = "scripted", version, template
        self.asked: list[list[Item]] = []

    def facts(self) -> dict[str, Any]:
        return {"parser": self.version, "template": self.template}

    def judge(self, items: Sequence[Item]) -> list[Verdict]:
        self.asked.append(list(items))
        return [self.reread(item.response) or self.verdict("error") for item in items]

    def reread(self, raw: str) -> Verdict | None:
        label, reason = parse_label(raw, LABELS)
        return self.verdict("error" if raw == "down" else label, raw, reason)


ITEMS = [Item("p", "0"), Item("p", "1"), Item("q", "0"), Item("p", "down"), Item("p", "hm")]


@pytest.fixture
def cache(tmp_path: Path) -> VerdictCache:
    return VerdictCache(tmp_path / "deep" / "verdicts.sqlite")


def test_only_what_is_missing_is_asked_and_equal_items_once(cache):
    first = Scripted()
    verdicts = judge_items(first, ITEMS + ITEMS, cache)
    assert first.asked == [ITEMS]
    assert [v.label for v in verdicts] == ["refusal", "compliance", "refusal", "error", "unparseable"] * 2
    assert not any(v.cached for v in verdicts)
    second = Scripted()
    again = judge_items(second, ITEMS[::-1], cache)
    assert second.asked == [[Item("p", "down")]], "an error is never kept"
    assert [v.cached for v in again] == [True, False, True, True, True]
    assert [v._replace(cached=False) for v in again] == verdicts[:5][::-1]


def test_another_judge_or_text_is_another_key(cache):
    judge_items(Scripted(), ITEMS[:1], cache)
    for judge, item in [
        (Scripted(template="u"), ITEMS[0]),
        (Scripted(), Item("p ", "0")),
        (Scripted(), Item("", "p0")),
    ]:
        judge_items(judge, [item], cache)
        assert judge.asked == [[item]]


def test_a_new_parser_reads_the_old_outputs(cache):
    judge_items(Scripted(), ITEMS[:3], cache)
    newer = Scripted(version=2)
    verdicts = judge_items(newer, ITEMS[:3], cache)
    assert newer.asked == []
    assert {(v.judge, v.cached) for v in verdicts} == {(newer.fingerprint, True)}
    assert KeywordJudge().reread("sorry") is None


def test_batches_are_written_as_they_come(cache):
    class Dies(Scripted):
        def judge(self, items):
            if len(self.asked) == 2:
                raise KeyboardInterrupt
            return super().judge(items)

    items = [Item("p", f"1 {i}") for i in range(10)]
    done: list[int] = []
    with pytest.raises(KeyboardInterrupt):
        judge_items(Dies(), items, cache, batch_size=3, advance=done.append)
    assert done == [0, 3, 3]
    rest = Scripted()
    judge_items(rest, items, cache, batch_size=3)
    assert sum(rest.asked, []) == items[6:]  # noqa: RUF017


def test_a_signal_ends_the_judging_between_batches():
    judge, answers = Scripted(), iter([False, True])
    verdicts = judge_items(judge, ITEMS[:3], batch_size=1, stop=lambda: next(answers))
    assert [v.label for v in verdicts] == ["refusal", "error", "error"]
    assert "stopped" in verdicts[-1].reason
    assert judge_items(judge, []) == []


def test_odd_texts_are_kept(cache):
    items = [Item("\x00\ud800", "0 \ud800'; DROP TABLE verdicts"), Item("ü" * 10_000, "1\n\r\t\U0001f600")]
    judge_items(Scripted(), items, cache)
    assert all(v.cached for v in judge_items(Scripted(), items, cache))


def test_a_cache_is_pickled_without_its_connection(cache):
    judge_items(Scripted(), ITEMS, cache)
    assert judge_items(Scripted(), ITEMS[:1], pickle.loads(pickle.dumps(cache)))[0].cached


def _many(path: str, start: int, barrier: Any) -> None:
    barrier.wait(30)
    items = [Item("p", f"{i % 2} {i}") for i in range(start, start + 120)]
    verdicts = judge_items(Scripted(), items, VerdictCache(path), batch_size=5)
    os._exit(0 if all(v.label in ("refusal", "compliance") for v in verdicts) else 1)


@pytest.mark.filterwarnings("ignore:.*multi-threaded")
def test_several_processes_at_once(tmp_path):
    context = multiprocessing.get_context("fork")
    barrier = context.Barrier(4)
    path = str(tmp_path / "v.sqlite")
    workers = [context.Process(target=_many, args=(path, 40 * k, barrier)) for k in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert [worker.exitcode for worker in workers] == [0] * 4
    judge = Scripted()
    assert all(
        v.cached for v in judge_items(judge, [Item("p", f"{i % 2} {i}") for i in range(240)], VerdictCache(path))
    )
    assert sqlite3.connect(path).execute("SELECT count(*) FROM verdicts").fetchone() == (240,)
    assert sqlite3.connect(path).execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert not list(tmp_path.glob("*damaged*"))


@pytest.mark.filterwarnings("ignore:.*multi-threaded")
def test_a_fork_opens_the_file_for_itself(cache):
    judge_items(Scripted(), ITEMS[:1], cache)
    context = multiprocessing.get_context("fork")

    def child() -> None:
        judge_items(Scripted(), ITEMS[1:2], cache)
        os._exit(0)

    process = context.Process(target=child)
    process.start()
    process.join(30)
    assert process.exitcode == 0
    assert all(v.cached for v in judge_items(Scripted(), ITEMS[:2], cache))


KILLED = """
import sys, time
sys.path.insert(0, {tests!r})
from test_verdict_cache import Item, Scripted, VerdictCache, judge_items
class Slow(Scripted):
    def judge(self, items):
        if len(self.asked) == 3:
            print("ready", flush=True)
            time.sleep(60)
        return super().judge(items)
judge_items(Slow(), [Item("p", f"1 {{i}}") for i in range(100)], VerdictCache({path!r}), batch_size=10)
"""


def test_a_kill_loses_a_batch_at_most(tmp_path):
    path = str(tmp_path / "v.sqlite")
    code = KILLED.format(tests=str(Path(__file__).parent), path=path)
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGKILL)
    verdicts = judge_items(Scripted(), [Item("p", f"1 {i}") for i in range(100)], VerdictCache(path))
    assert sum(v.cached for v in verdicts) == 30


@pytest.mark.parametrize(
    "content", [b"this is no database at all, but it is long enough" * 10, b"SQLite format 3\x00junk"]
)
def test_a_damaged_file_is_moved_aside_with_a_sentence(content, tmp_path, capsys):
    path = tmp_path / "v.sqlite"
    path.write_bytes(content)
    (tmp_path / "v.sqlite-wal").write_bytes(b"old")
    verdicts = judge_items(Scripted(), ITEMS[:2], VerdictCache(path))
    assert [v.label for v in verdicts] == ["refusal", "compliance"]
    assert "damaged" in capsys.readouterr().out
    (aside,) = tmp_path.glob("*damaged*")
    assert aside.read_bytes() == content
    assert all(v.cached for v in judge_items(Scripted(), ITEMS[:2], VerdictCache(path)))


def test_damage_that_shows_in_use(tmp_path, capsys):
    path = tmp_path / "v.sqlite"
    cache = VerdictCache(path)
    items = [Item("p", f"1 {i} " + "x" * 500) for i in range(200)]
    judge_items(Scripted(), items, cache)
    cache.close()
    content = bytearray(path.read_bytes())
    content[4096 * 3 :] = b"\xff" * (len(content) - 4096 * 3)  # the first pages are sound, so it opens
    path.write_bytes(content)
    verdicts = judge_items(Scripted(), items, cache)
    assert {v.label for v in verdicts} == {"compliance"}
    assert "damaged" in capsys.readouterr().out
    assert all(v.cached for v in judge_items(Scripted(), items, VerdictCache(path)))


def test_where_nothing_can_be_written_judging_goes_on(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    (tmp_path / "folder.sqlite").mkdir()
    for path in (tmp_path / "file" / "v.sqlite", tmp_path / "folder.sqlite"):
        cache = VerdictCache(path)
        for _ in range(2):
            assert judge_items(Scripted(), ITEMS[:1], cache)[0].label == "refusal"
        said = capsys.readouterr().out
        assert said.count("goes on without keeping") == 1
        assert str(path) in said


def test_a_file_that_became_read_only(cache, capsys, monkeypatch):
    judge_items(Scripted(), ITEMS[:1], cache)
    connection = cache._open()
    connection.execute("PRAGMA query_only=ON")  # what a read-only disk answers, also to the superuser
    verdicts = judge_items(Scripted(), ITEMS[:3], cache)
    assert [v.label for v in verdicts] == ["refusal", "compliance", "refusal"]
    assert "readonly" in capsys.readouterr().out


def test_a_table_of_another_program_is_left_alone(tmp_path, capsys):
    path = tmp_path / "v.sqlite"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE verdicts (something TEXT)")
    assert judge_items(Scripted(), ITEMS[:1], VerdictCache(path))[0].label == "refusal"
    assert "goes on without keeping" in capsys.readouterr().out
    assert sqlite3.connect(path).execute("SELECT * FROM verdicts").fetchall() == []


def test_unknown_labels_on_disk_are_asked_again(cache):
    judge_items(Scripted(), ITEMS[:1], cache)
    with cache._open() as connection:
        connection.execute("UPDATE verdicts SET label = 'nonsense', raw = 'down'")
    judge = Scripted()
    assert judge_items(judge, ITEMS[:1], cache)[0].label == "refusal"
    assert judge.asked == [ITEMS[:1]]


def test_looking_up_is_fast(cache):
    items = [Item("p", f"1 {i}") for i in range(2000)]
    judge_items(Scripted(), items, cache, batch_size=500)
    begin = time.monotonic()
    assert all(v.cached for v in judge_items(Scripted(), items, cache))
    assert time.monotonic() - begin < 2
