"""Which files a judge's model and tokenizer come from, as facts of a fingerprint. Knows nothing of verdicts."""

from pathlib import Path
from typing import Any

from transformers import AutoConfig, PreTrainedTokenizerBase

from ..errors import SetupError
from ..models import locate
from ..paths import file_sha256
from .base import digest

#: Files of a model's folder that its verdicts depend on.
FILES = ("*.safetensors", "*.json", "*.jinja", "*.model", "*.txt", "*.py")


def source_facts(path: str, revision: str | None, trust_remote_code: bool) -> dict[str, Any]:
    """Of a local folder a hash of its files, so that it may move; of a hub name its commit."""
    source = locate(path)
    if Path(source).is_dir():
        files = sorted({file for pattern in FILES for file in Path(source).glob(pattern)})
        digests = [[file.name, file_sha256(file)] for file in files]
        return {"files": digest(digests), "trust_remote_code": trust_remote_code}  # which may run the folder's own code
    try:
        config = AutoConfig.from_pretrained(source, revision=revision, trust_remote_code=trust_remote_code)
    except (OSError, ValueError) as error:
        raise not_loaded(path, error) from error
    commit = getattr(config, "_commit_hash", None) or revision
    return {"model": path, "revision": commit, "trust_remote_code": trust_remote_code}


def tokenizer_digest(tokenizer: PreTrainedTokenizerBase) -> str:
    """A hash of all that turns text into ids: one vocabulary with other merges or normalisation gives other ids."""
    facts: list[Any] = [type(tokenizer).__name__, {k: str(v) for k, v in tokenizer.special_tokens_map.items()}]
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is not None:
        return digest([*facts, backend.to_str()])
    file = getattr(tokenizer, "vocab_file", None)
    content = file_sha256(Path(file)) if file and Path(file).is_file() else None
    return digest([*facts, tokenizer.get_vocab(), content])


def not_loaded(path: str, error: Exception) -> SetupError:
    """The sentence for a judge's model that is not there."""
    reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return SetupError(
        f"the judge's model {path!r} could not be loaded: {reason}\n"
        "  Fix: give a local folder with the files of a transformers model, or a hub name while online."
    )


def plain_ids(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    """Ids of a text of others: what spells a special token is plain text."""
    ids: list[int] = tokenizer(text, add_special_tokens=False, split_special_tokens=True, verbose=False)["input_ids"]
    return ids


def middle_out(tokenizer: PreTrainedTokenizerBase, ids: list[int], keep: int, mark: str) -> str:
    """A text of about `keep` ids: the first and the last of them, with a mark between."""
    head = (keep + 1) // 2
    tail = keep - head
    parts = [tokenizer.decode(part, skip_special_tokens=False) for part in (ids[:head], ids[len(ids) - tail :])]
    return mark.join(str(part) for part in parts)
