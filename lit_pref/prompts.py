"""Prompts to answer: from a file, the hub or the tiny world to token ids, just as prompts of training pairs become ids.

Knows nothing about models or responses.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from transformers import PreTrainedTokenizerBase

from . import world
from .data.excerpts import excerpt
from .data.fields import FieldCheck, Policy
from .data.reading import read
from .data.report import headline
from .data.rows import BadRow, DataError, Problem, Record, Row, Text
from .data.streams import Opened
from .encoding import Encoder
from .errors import ConfigError
from .rendering import Renderer, Template, Unusable

_WORLD = re.compile(r"world:request(@\d+)?/(train|test|safe)")
#: Chat templates are rendered with a response behind the prompt, as in training, and this one is thrown away.
_STAND_IN = [{"role": "assistant", "content": "Yes."}]
#: Ends every error about prompts, whichever command reads them.
NOTHING = "Nothing was generated."


class Prompt(NamedTuple):
    """A prompt.

    Attributes:
        number: its row in the source, from 0; its name for life, and in draws.
        id: its name in the data, if they give one.
        text: text or chat turns, as the source has them.
        ids: tokens; an answer begins behind the last.
    """

    number: int
    id: str | None
    text: Text
    ids: list[int]


@contextmanager
def nothing_generated() -> Iterator[None]:
    """While prompts are read, errors say that nothing was generated; the files of pairs speak of training."""
    try:
        yield
    except DataError as error:
        message = str(error).replace("Nothing was trained.", NOTHING)
        raise DataError(message, error.cases) from error


@nothing_generated()
def read_prompts(
    source: str,
    tokenizer: PreTrainedTokenizerBase,
    template: Template | None = None,
    column: str = "prompt",
    id_column: str = "id",
    limit: int | None = None,
) -> list[Prompt]:
    """Read and encode prompts.

    Args:
        source: JSONL, JSON, CSV or Parquet as for ``data.path``, a text file with a prompt a line (.txt), or the tiny
            world's requests: world:request/train, world:request/test, world:request/safe.
        tokenizer: of the model that will answer.
        template: how a prompt is rendered; that of training, so that the model meets what it was trained on.
        column: holds the prompt, text or chat turns.
        id_column: holds names; may be missing.
        limit: how many prompts to take, the first ones; all by default.

    Raises:
        DataError: prompts that cannot be used, with file and line.
        ConfigError: the tiny world has no such prompts, or a chat no template.
    """
    encoder = Encoder(tokenizer, template or Template(), max_length=1)  # prompts are never cut
    prompts: list[Prompt] = []
    problems: list[Problem] = []
    for record in _records(source, column):
        if limit is not None and len(prompts) >= limit:
            break
        if isinstance(record, Problem):
            problems += [record] if record.action == "refuse" else []
            continue
        try:
            prompts.append(_prompt(record, encoder, column, id_column))
        except BadRow as bad:
            problems.append(bad.at(record.number, record.where))
    if problems:
        more = f" ({len(problems) - 1} more such prompts)" if len(problems) > 1 else ""
        message = f"{headline(problems[0])}\n  Fix: {problems[0].fix}{more}.\n  {NOTHING}"
        raise DataError(message, [problem.case for problem in problems])
    if not prompts:
        raise DataError.of_file("no-prompts", source, "there is no prompt here.", "name another source")
    return prompts


def stop_tokens(model: Any, tokenizer: PreTrainedTokenizerBase, template: Template | None = None) -> frozenset[int]:
    """Tokens that end a response: all that model and tokenizer name, and the one with which a chat ends a turn."""
    found = {tokenizer.eos_token_id}
    for config in (model.config, getattr(model, "generation_config", None)):
        ends = getattr(config, "eos_token_id", None)
        found |= set(ends) if isinstance(ends, list) else {ends}
    template = template or Template()
    if template.chat or tokenizer.chat_template:
        found.add(_end_of_turn(Renderer(tokenizer, template)))
    return frozenset(int(token) for token in found if token is not None)


def _end_of_turn(render: Renderer) -> int | None:
    """The special token that the chat template writes behind an answer, if it writes one."""
    try:
        answer = render(Row(0, "", [{"role": "user", "content": "Yes?"}], _STAND_IN, _STAND_IN)).chosen
    except Unusable:
        return None
    return int(render.tokenizer.get_vocab()[render.special.findall(answer.text)[-1]]) if answer.ended else None


def _records(source: str, column: str) -> Iterator[Record | Problem]:
    match = _WORLD.fullmatch(source)
    if match:
        for number, text in enumerate(world.prompts("request", match[2])):
            yield Record(number, f"{source} row {number}", {column: text})
    elif world.is_world(source):
        raise ConfigError(
            f"the tiny world has no prompts {source!r}.\n"
            "  Choices: world:request/train, world:request/test, world:request/safe"
        )
    elif source.removesuffix(".gz").endswith(".txt"):
        yield from _lines(Path(source).expanduser(), column)
    else:
        yield from read(source)


def _lines(path: Path, column: str) -> Iterator[Record]:
    if not path.exists():
        raise DataError.of_file("no-such-file", path, "no such file.", "check the path")
    opened = Opened(path)
    number = 0
    try:
        for line, raw in enumerate(opened.lines(), 1):
            try:
                text = raw.decode("utf-8").rstrip("\r\n")
            except UnicodeDecodeError as error:
                message = f"byte 0x{raw[error.start]:02x} in this line is not UTF-8."
                raise DataError.of_file("not-utf8", f"{path}:{line}", message, "save the file as UTF-8") from error
            if text.strip():
                yield Record(number, f"{path}:{line}", {column: text})
                number += 1
    finally:
        opened.close()


def _prompt(record: Record, encoder: Encoder, column: str, id_column: str) -> Prompt:
    check = FieldCheck(Policy())
    if column not in record.fields:
        message = f"there is no column {excerpt(column)} here; there are {excerpt(', '.join(record.fields), 200)}."
        raise BadRow("missing-field", column, "missing", message, "name the column that holds prompts")
    text = check.content(record.fields[column], column)
    if not (text if isinstance(text, str) else text[-1]["content"]).strip():
        raise BadRow("empty-prompt", column, '""', "the prompt is empty.", "fill it or drop the row")
    if isinstance(text, list) and text[-1]["role"] == "assistant":
        message = "the chat ends with the assistant's turn, so there is nothing left to answer."
        raise BadRow("ends-with-answer", column, "", message, "end it with the user's turn")
    name = check.id(record.fields.get(id_column), id_column)
    return Prompt(record.number, name, text, _ids(record, text, encoder))


def _ids(record: Record, text: Text, encoder: Encoder) -> list[int]:
    chat = isinstance(text, list) or encoder.render.template.format == "chat"
    answer: Text = _STAND_IN if chat else ""
    try:
        part = encoder.render(Row(record.number, record.where, text, answer, answer)).prompt
    except Unusable as reason:
        fix = "use another chat template or drop the row"
        raise BadRow("chat-template", None, "", f"{reason}.", fix) from reason
    return encoder.prompt(part)
