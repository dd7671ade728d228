"""Prompts become the ids that training gives them, from every kind of source, or are refused with file and line."""

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from lit_pref import world
from lit_pref.data.datamodule import PreferenceData
from lit_pref.data.rows import DataError
from lit_pref.errors import ConfigError
from lit_pref.prompts import read_prompts, stop_tokens
from lit_pref.rendering import Template

CHAT = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Yes or no?"}]
PROMPTS: list[Any] = ["Would you say </s> yes?", "How?\n", "", "Äh — 123 "]


def write(path: Path, rows: list[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


@pytest.mark.parametrize("template", [{}, {"plain": "Q: {prompt}\nA:"}, {"format": "chat"}])
@pytest.mark.parametrize("chat", [False, True])
def test_ids_are_those_of_training(
    chat: bool, template: dict[str, Any], model_folder: Path, tokenizer: PreTrainedTokenizerBase, tmp_path: Path
) -> None:
    """With the begin of sequence, the chat template, and special tokens that a text spells and does not mean."""
    texts = [PROMPTS[0], PROMPTS[1], PROMPTS[3]]
    rows = [{"prompt": [*CHAT[:1], {"role": "user", "content": text}] if chat else text} for text in texts]
    pairs = [{**row, "chosen": " yes", "rejected": " no"} for row in rows]
    data = PreferenceData(
        write(tmp_path / "pairs.jsonl", pairs), tokenizer=str(model_folder), val_size=0, template=Template(**template)
    )
    data.setup("predict")
    assert data.train is not None
    trained = [list(data.train[i].prompt) for i in range(3)]
    found = read_prompts(write(tmp_path / "prompts.jsonl", rows), tokenizer, Template(**template))
    assert [prompt.ids for prompt in found] == trained
    assert [prompt.text for prompt in found] == [row["prompt"] for row in rows]
    assert [prompt.number for prompt in found] == [0, 1, 2]


def test_every_kind_of_source(tokenizer: PreTrainedTokenizerBase, tmp_path: Path) -> None:
    questions = ["One?", "Two, or\nthree?", "Four?"]
    rows = [{"name": f"q{i}", "question": text} for i, text in enumerate(questions)]
    write(tmp_path / "a.jsonl", rows)
    (tmp_path / "a.json").write_text(json.dumps(rows))
    quoted = [f'q{i},"{text}"\n' for i, text in enumerate(questions)]
    (tmp_path / "a.csv").write_text("name,question\n" + "".join(quoted))
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet")
    found = [
        read_prompts(str(tmp_path / f"a.{ending}"), tokenizer, column="question", id_column="name")
        for ending in ("jsonl", "json", "csv", "parquet")
    ]
    assert [prompt.text for prompt in found[0]] == questions
    assert [prompt.id for prompt in found[0]] == ["q0", "q1", "q2"]
    assert found[0] == found[1] == found[2] == found[3]
    assert read_prompts(str(tmp_path / "a.csv"), tokenizer, column="question", limit=2)[-1].text == questions[1]

    (tmp_path / "a.txt").write_bytes("One?\r\n\n  Zwei – drei?\n".encode())
    lines = read_prompts(str(tmp_path / "a.txt"), tokenizer)
    assert [(prompt.number, prompt.text) for prompt in lines] == [(0, "One?"), (1, "  Zwei – drei?")]
    assert lines[0].ids == found[0][0].ids
    assert lines[0].id is None


def test_prompts_of_the_tiny_world(tokenizer: PreTrainedTokenizerBase) -> None:
    for split in ("train", "test", "safe"):
        found = read_prompts(f"world:request/{split}", tokenizer)
        assert [prompt.text for prompt in found] == world.prompts("request", split)
    assert read_prompts("world:request@3/test", tokenizer, limit=5) == read_prompts(
        "world:request/test", tokenizer, limit=5
    )
    for name in ("world:request/tset", "world:agreement", "world:request"):
        with pytest.raises(ConfigError, match="Choices: world:request/train, world:request/test"):
            read_prompts(name, tokenizer)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"question": "?"}, 'p.jsonl:2 (row 1) field "prompt": missing — there is no column "prompt" here; there are'),
        ({"prompt": None}, "p.jsonl:2 (row 1)"),
        ({"prompt": "  "}, "the prompt is empty"),
        ({"prompt": "a\x00b"}, "a control character"),
        ({"prompt": [{"role": "boss", "content": "Go"}]}, "unknown role"),
        ({"prompt": [*CHAT, {"role": "assistant", "content": "No"}]}, "ends with the assistant's turn"),
        ({"prompt": "x", "id": 1.5}, "an id is text or a whole number"),
    ],
)
def test_rows_that_cannot_be_answered_are_named(
    row: dict[str, Any], message: str, tokenizer: PreTrainedTokenizerBase, tmp_path: Path
) -> None:
    path = write(tmp_path / "p.jsonl", [{"prompt": "Fine?"}, row])
    with pytest.raises(DataError) as error:
        read_prompts(path, tokenizer)
    assert message in str(error.value)
    assert f"{path}:2" in str(error.value)
    assert "Fix: " in str(error.value)
    assert str(error.value).endswith("Nothing was generated.")
    assert read_prompts(path, tokenizer, limit=1)[0].text == "Fine?", "what is not asked for is not judged"


def test_sources_that_are_none(tokenizer: PreTrainedTokenizerBase, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file"):
        read_prompts(str(tmp_path / "none.txt"), tokenizer)
    with pytest.raises(DataError, match="no such file"):
        read_prompts(str(tmp_path / "none.jsonl"), tokenizer)
    (tmp_path / "empty.txt").write_text("\n\n")
    with pytest.raises(DataError, match="no prompt here"):
        read_prompts(str(tmp_path / "empty.txt"), tokenizer)
    (tmp_path / "latin.txt").write_bytes(b"Yes?\nN\xe4?\n")
    with pytest.raises(DataError, match=r"latin.txt:2: byte 0xe4"):
        read_prompts(str(tmp_path / "latin.txt"), tokenizer)
    path = write(tmp_path / "broken.jsonl", [{"prompt": "a"}])
    Path(path).write_text('{"prompt": "a"}\n{"prompt": \n')
    with pytest.raises(DataError, match=r"broken.jsonl:2"):
        read_prompts(path, tokenizer)


def test_a_chat_needs_a_template(tokenizer: PreTrainedTokenizerBase, tmp_path: Path) -> None:
    path = write(tmp_path / "p.jsonl", [{"prompt": CHAT}])
    refusing = Template(chat="{{ raise_exception('no system turns') }}")
    with pytest.raises(DataError, match="the chat template refuses it: no system turns"):
        read_prompts(path, tokenizer, refusing)


def test_all_tokens_that_end_a_response(
    small_model: Callable[..., PreTrainedModel], tokenizer: PreTrainedTokenizerBase
) -> None:
    ids = tokenizer.get_vocab()
    model = small_model()
    assert stop_tokens(model, tokenizer) == {ids["</s>"], ids["<|end|>"]}
    assert stop_tokens(model, tokenizer, Template(chat="{{ messages[-1].content }}")) == {ids["</s>"]}
    named = SimpleNamespace(
        config=SimpleNamespace(eos_token_id=None), generation_config=SimpleNamespace(eos_token_id=[9, 8])
    )
    assert stop_tokens(named, tokenizer) == {ids["</s>"], ids["<|end|>"], 8, 9}
