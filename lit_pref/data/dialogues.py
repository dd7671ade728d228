"""Splitting two dialogues into the prompt they share and the two responses: Anthropic text, or chat turns.

Knows nothing about files or columns; the texts it is given are already known to be clean.
"""

from typing import NamedTuple

from .excerpts import excerpt
from .rows import BadRow, Message, Text

HUMAN = "\n\nHuman:"
ASSISTANT = "\n\nAssistant:"
_TURNS_FIX = "end each side with one assistant turn after the same prompt, or drop the row"
_PROMPT_FIX = "take the prompt from the chats with --data.columns.prompt=null, or drop the row"


class Split(NamedTuple):
    """A pair, taken apart."""

    prompt: Text
    chosen: Text
    rejected: Text


def split_text(chosen: str, rejected: str) -> Split:
    """Take apart two texts with an implicit prompt.

    The prompt ends behind the last "\\n\\nAssistant:" that both dialogues share; the responses keep the
    blank in front of their first word. Texts that are no dialogues have the empty prompt.
    """
    end = shared_end(chosen, rejected)
    if not end:
        if chosen.lstrip().startswith("Human:") or rejected.lstrip().startswith("Human:"):
            raise _different_prompts(excerpt(chosen.lstrip()), excerpt(rejected.lstrip()))
        return Split("", chosen, rejected)
    for field, response in (("chosen", chosen[end:]), ("rejected", rejected[end:])):
        turn = next((marker for marker in (HUMAN, ASSISTANT) if marker in response), None)
        if turn:
            # Another turn would be trained as if the assistant had written it, the user's words included.
            found = excerpt(response[response.index(turn) :].lstrip())
            message = "the response goes on with another turn behind the place where the two dialogues part."
            raise BadRow("extra-turns", field, found, message, _TURNS_FIX)
    return Split(chosen[:end], chosen[end:], rejected[end:])


def shared_end(chosen: str, rejected: str) -> int:
    """Where the prompt of two dialogues ends: behind their last common "\\n\\nAssistant:", or 0."""
    end, start = 0, 0
    while (found := chosen.find(ASSISTANT, start)) >= 0:
        start = found + len(ASSISTANT)
        if chosen[end:start] != rejected[end:start]:
            break
        end = start
    return end


def split_chat(prompt: Text | None, chosen: list[Message], rejected: list[Message]) -> Split:
    """Take apart two chats, with the prompt given as turns, as one user text, or not at all.

    Each side may repeat the prompt's turns or hold only its response: what both share is the prompt, and
    what is left of each side must be one assistant turn.
    """
    turns = [] if prompt is None else _as_turns(prompt, chosen, rejected)
    chosen, rejected = _after(turns, chosen, "chosen"), _after(turns, rejected, "rejected")
    # Equal sides share every turn; the last one is still their response.
    shared = min(_shared_turns(chosen, rejected), max(len(chosen), len(rejected)) - 1)
    _check_responses(chosen[:shared], chosen[shared:], rejected[shared:])
    if not shared:
        message = "a chat pair without a prompt: no chat template can start there."
        raise BadRow("empty-chat-prompt", "prompt", "", message, "add the user turn or drop the row")
    return Split(chosen[:shared], chosen[shared:], rejected[shared:])


def _after(prompt: list[Message], turns: list[Message], field: str) -> list[Message]:
    """A side's whole chat: as it is where it repeats the prompt, behind the prompt where it is a response."""
    if turns[: len(prompt)] == prompt:
        return turns
    if turns[0]["role"] == "assistant":
        return prompt + turns
    message = "this side starts with turns other than the prompt's."
    found = f"{_turn(turns[0])} where the prompt has {_turn(prompt[0])}"
    raise BadRow("prompts-differ", field, found, message, _PROMPT_FIX)


def _as_turns(prompt: Text, chosen: list[Message], rejected: list[Message]) -> list[Message]:
    """The prompt as turns; none where it is a text that both chats already hold as their user turn."""
    if isinstance(prompt, list):
        return prompt
    opening = [{"role": "user", "content": prompt}]
    if all(turns[0]["role"] == "assistant" for turns in (chosen, rejected)):
        return opening
    shared = chosen[: _shared_turns(chosen, rejected)]
    users = [turn["content"].strip() for turn in shared if turn["role"] == "user"]
    if users and prompt.strip() in (users[0], users[-1]):
        return []
    found = excerpt(prompt)
    message = "the prompt is not the user turn of the chosen and rejected chats, so it is unclear which is meant."
    raise BadRow("prompts-differ", "prompt", found, message, _PROMPT_FIX)


def _shared_turns(chosen: list[Message], rejected: list[Message]) -> int:
    turns = enumerate(zip(chosen, rejected, strict=False))
    return next((n for n, (left, right) in turns if left != right), min(len(chosen), len(rejected)))


def _check_responses(prompt: list[Message], chosen: list[Message], rejected: list[Message]) -> None:
    sides = (("chosen", chosen), ("rejected", rejected))
    for field, response in sides:
        if not response:
            message = "the chat ends where the other side's response begins, so there is no response here."
            raise BadRow("empty-response", field, "", message, "add the assistant turn or drop the row")
    if not chosen[0]["role"] == rejected[0]["role"] == "assistant":
        raise _different_prompts(_turn(chosen[0]), _turn(rejected[0]))
    before = [turn for turn in prompt[-1:] if turn["role"] == "assistant"]
    for field, response in sides:
        if len(before + response) > 1:
            message = "a response must be one assistant turn; more would be trained as one response."
            found = " -> ".join(turn["role"] for turn in (before + response)[:6])
            raise BadRow("extra-turns", field, found, message, _TURNS_FIX)


def _turn(turn: Message) -> str:
    return f"{turn['role']} {excerpt(turn['content'])}"


def _different_prompts(left: str, right: str) -> BadRow:
    message = "the two sides start from different prompts; a pair needs the same prompt on both sides."
    found = f"chosen has {left}, rejected has {right}"
    return BadRow("prompts-differ", None, found, message, "pair responses to one prompt, or drop the row")
