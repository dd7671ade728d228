"""Tokenising by several processes: the bytes of one process, failures in their place, no process left behind."""

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lit_pref.data import pool
from lit_pref.data.cache import write
from lit_pref.data.rows import DataError
from lit_pref.data.tokenized import PairSource, tokenized
from lit_pref.errors import ConfigError, SetupError
from lit_pref.rendering import Template

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere one process does the work")

TURN = [{"role": "user", "content": "p"}]


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Some tens of rows are shared among processes as thousands are."""
    monkeypatch.setattr("lit_pref.data.tokenized.ROWS_PER_CALL", 7)
    monkeypatch.setattr(pool, "CHUNKS_FOR_A_POOL", 3)


def use(monkeypatch: pytest.MonkeyPatch, processes: int) -> None:
    monkeypatch.setattr("lit_pref.data.tokenized.processes", lambda: processes)


def odd_row(i: int) -> dict[str, Any]:
    """Rows of every fate, among them those that only the tokenizer finds out about."""
    row = {"prompt": f"p{i}", "chosen": f"yes {i}", "rejected": f"no {i}", "id": f"n{i}", "chosen_reward": i / 2}
    odd: dict[int, dict[str, Any]] = {
        3: {"chosen": ""}, 5: {"prompt": "p" * 400}, 6: {"chosen": "same", "rejected": "same"},
        8: {"chosen": "a" * 400 + "b", "rejected": "a" * 400 + "c"}, 9: {"prompt": "</s>"}, 10: {"chosen": "a" * 400},
    }  # fmt: skip
    return row | odd.get(i % 13, {})


def lines(path: Path, count: int = 120) -> str:
    path.write_text("".join(json.dumps(odd_row(i)) + "\n" for i in range(count)))
    return str(path)


def files(root: Path) -> dict[str, bytes]:
    return {str(p.relative_to(root)): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()}


def test_any_number_of_processes_writes_the_same_bytes(
    tokenizer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = PairSource(lines(tmp_path / "a.jsonl"), max_length=100, on_bad_row="drop")
    for processes in (1, 2, 5):
        use(monkeypatch, processes)
        tokenized(source, tokenizer, tmp_path / f"{processes}")
    assert files(tmp_path / "1") == files(tmp_path / "2") == files(tmp_path / "5")
    assert not multiprocessing.active_children()


@pytest.mark.parametrize("processes", [1, 3])
def test_bad_rows_are_listed_in_the_order_of_the_file(
    processes: int, tokenizer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(monkeypatch, processes)
    source = PairSource(lines(tmp_path / "a.jsonl"), max_length=100, on_bad_row="drop")
    tokenized(source, tokenizer, tmp_path / "cache", tmp_path / "bad_rows.jsonl")
    listed = [json.loads(line) for line in (tmp_path / "bad_rows.jsonl").read_text().splitlines()]
    assert [row["row"] for row in listed] == [i for i in range(120) if i % 13 in (3, 5, 6, 8)]
    assert {row["case"] for row in listed[:4]} == {
        "empty-response", "prompt-too-long", "identical-responses", "equal-after-cutting",
    }  # fmt: skip


@pytest.mark.parametrize("processes", [1, 2])
def test_an_error_of_a_process_is_that_of_one(
    processes: int, tokenizer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(monkeypatch, processes)
    source = PairSource(lines(tmp_path / "a.jsonl"), template=Template("chat", chat="{% broken"), on_bad_row="drop")
    with pytest.raises(ConfigError, match="no Jinja"):
        tokenized(source, tokenizer, tmp_path / "cache")
    assert not [path for path in (tmp_path / "cache").iterdir() if path.is_dir()]
    assert not multiprocessing.active_children()


@pytest.mark.parametrize("processes", [1, 2])
def test_of_two_errors_the_one_of_the_earlier_row_is_told(processes: int) -> None:
    """The stream is read ahead of the work, yet breaks only after the work on what stood before."""

    def stream() -> Iterator[int]:
        yield from range(10)
        raise DataError("damaged after 10")

    def work(number: int) -> int:
        if number == fails_at:
            raise ConfigError("cannot work on this")
        return number

    fails_at = 9
    with pytest.raises(ConfigError):
        list(pool.worked(work, stream(), processes))
    fails_at = 99
    done = []
    with pytest.raises(DataError, match="damaged"):  # noqa: PT012
        for _, result in pool.worked(work, stream(), processes):
            done.append(result)
    assert done == list(range(10))


def test_a_process_that_is_killed_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SetupError, match="memory"):
        list(pool.worked(lambda _: os.kill(os.getpid(), signal.SIGKILL), range(10), 2))


def test_the_stream_is_not_read_far_ahead() -> None:
    taken = []

    def stream() -> Iterator[int]:
        for number in range(100):
            taken.append(number)
            yield number

    for number, _ in pool.worked(int, stream(), 2):
        assert len(taken) <= number + 2 * 2
    assert taken == list(range(100))


SLOW = """
import signal, sys, time
from pathlib import Path
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell lets commands in its background ignore it
from lit_pref.data import blocks, cache, pool
pool.CHUNKS_FOR_A_POOL = 1

def work(number):
    time.sleep(0.05)
    return blocks.packed([])

folder = Path(sys.argv[1]) / "cache"
results = pool.worked(work, range(1000), 2)
def said():
    for number, block in results:
        print(number, flush=True)
        yield block
cache.write_blocks(folder, said(), {})
"""


def started(folder: Path) -> "subprocess.Popen[str]":
    """A process in the middle of its work, with two helpers, in a group of its own."""
    process = subprocess.Popen(
        [sys.executable, "-c", SLOW, str(folder)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        start_new_session=True,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == "0\n"
    return process


def nobody_left(group: int) -> bool:
    until = time.monotonic() + 20
    while time.monotonic() < until:
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.05)
    return False


def test_a_kill_leaves_neither_half_a_cache_nor_processes(tmp_path: Path) -> None:
    process = started(tmp_path)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    assert nobody_left(process.pid)
    assert not (tmp_path / "cache").exists()
    write(tmp_path / "cache", [], {})
    assert list(tmp_path.iterdir()) == [tmp_path / "cache"], "what was left behind is cleared away"


def test_ctrl_c_ends_all_with_one_traceback(tmp_path: Path) -> None:
    process = started(tmp_path)
    os.killpg(process.pid, signal.SIGINT)  # a terminal sends it to all
    _, error = process.communicate(timeout=60)
    assert error.count("KeyboardInterrupt") == 1
    assert nobody_left(process.pid)
    assert list(tmp_path.iterdir()) == []
