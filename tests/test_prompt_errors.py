"""Errors about prompts do not speak of training, whichever layer finds them."""

from pathlib import Path

import pytest
from transformers import PreTrainedTokenizerBase

from lit_pref.data.rows import DataError
from lit_pref.prompts import read_prompts


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("none.txt", None),
        ("none.jsonl", None),
        ("empty.txt", b"\n"),
        ("latin.txt", b"N\xe4?\n"),
        ("torn.jsonl", b'{"prompt": "a"}\n{"prompt": \n'),
        ("null.jsonl", b'{"prompt": null}\n'),
        ("broken.json", b"[{"),
    ],
)
def test_nothing_was_generated(
    name: str, content: bytes | None, tokenizer: PreTrainedTokenizerBase, tmp_path: Path
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError) as caught:
        read_prompts(str(tmp_path / name), tokenizer)
    assert str(tmp_path / name) in str(caught.value)
    assert str(caught.value).endswith("\n  Nothing was generated.")
    assert "trained" not in str(caught.value)
    assert caught.value.cases
