"""What a reply of an OpenAI-compatible server means. Knows nothing of sending, waiting or keys."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from ..data.excerpts import printable
from .base import Label
from .parsing import parse_label
from .transport import Reply

NOT_COMPATIBLE = "not an OpenAI-compatible endpoint"
_TOO_LONG = re.compile(
    r"context[ _]length|context[ _]window|maximum context|max_model_len|too long|too many tokens|prompt is longer", re.I
)


class Outcome(NamedTuple):
    """A label with its reason, or what else to do.

    `again`: it may go better later. `stop`: it will go no better for any item.
    """

    label: Label
    reason: str
    again: bool = False
    stop: bool = False
    warning: str = ""


def outcome(reply: Reply, labels: Mapping[str, Label], model: str, allow_other_model: bool) -> Outcome:
    """What a reply says about one item."""
    if reply.status == 200:
        return read_body(reply.body, labels, model, allow_other_model)
    said = _message(reply.body)
    ending = f": {said}" if said else ""
    if reply.status in (408, 409, 425, 429) or reply.status >= 500:
        return Outcome("error", f"the server answered {reply.status}{ending}", again=True)
    if reply.status in (401, 403, 404):
        return Outcome("error", f"the server answered {reply.status}{ending}", stop=True)
    if reply.status == 413 or (reply.status in (400, 422) and _TOO_LONG.search(reply.body)):
        return Outcome("unparseable", f"too long{ending}")
    if 300 <= reply.status < 400:
        return Outcome("error", f"{NOT_COMPATIBLE}: it redirects ({reply.status})")
    return Outcome("error", f"the server answered {reply.status}{ending}")


def read_body(body: str, labels: Mapping[str, Label], model: str, allow_other_model: bool) -> Outcome:
    """The label in the body of a reply with status 200."""
    try:
        content: Any = json.loads(body)
    except (ValueError, RecursionError):
        html = body.lstrip()[:1] == "<"
        return Outcome("error", f"{NOT_COMPATIBLE}: it sent HTML" if html else "the reply is no valid JSON")
    choices = content.get("choices") if isinstance(content, dict) else None
    if not isinstance(content, dict) or not isinstance(choices, list):
        return Outcome("error", f"{NOT_COMPATIBLE}: its reply has no list of choices")
    served = content.get("model")
    other = f"the server answered with model {served!r} instead of {model!r}"
    if not isinstance(served, str) or served == model:
        other = ""
    elif not allow_other_model:
        return Outcome("error", f"{other}; allow_other_model accepts that", stop=True)
    if not choices:
        return Outcome("unparseable", "the reply has no choices")
    warning = f"{len(choices)} choices; the first counts" if len(choices) > 1 else ""
    first = choices[0] if isinstance(choices[0], dict) else {}
    message = first.get("message")
    text = message.get("content") if isinstance(message, dict) else None
    if not isinstance(text, str):
        return Outcome("unparseable", "the reply has no content", warning=warning)
    if first.get("finish_reason") == "length":
        return Outcome("unparseable", "the answer was cut at max_tokens", warning=warning)
    label, reason = parse_label(text, labels)
    reason = "; ".join(filter(None, (reason, other)))
    return Outcome(label, f"{reason} ({warning})" if warning else reason, warning=warning)


def _message(body: str) -> str:
    """The server's own words, in one short line that cannot steer the terminal it is shown on."""
    try:
        content: Any = json.loads(body)
    except (ValueError, RecursionError):
        return ""
    error = content.get("error", content) if isinstance(content, dict) else None
    message = error.get("message", error.get("detail")) if isinstance(error, dict) else error
    return printable(message)[:300] if isinstance(message, str) else ""
