"""Judges by asking an OpenAI-compatible server. Knows nothing of what the template says, or of sockets."""

from __future__ import annotations

import json
import urllib.parse
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ..errors import ConfigError
from .base import Item, Judge, Label, Verdict, slug
from .evaluation import Evaluation
from .parsing import VERSION, check_labels
from .prompting import Template, disarmed
from .replies import read_body
from .secret import EnvironmentKey

if TYPE_CHECKING:
    import torch


#: Raise this when texts are prepared in another way.
TEXTS_VERSION = 1


class EndpointJudge(Judge):
    """Asks a server for a label: OpenAI's chat completions, as vLLM and others serve them.

    The server tokenises the question, so what request or response spell of special tokens gets a space inside.

    Nothing that a server does stops a training: each item gets its verdict before the deadline, `error` where
    none could be had. Of the key only the variable's name is known here. Servers are not batch-invariant as a rule:
    even greedy answers may differ a little from run to run.

    Verdicts kept on disk do not depend on `url`, so that a judge that moves to another port or machine keeps them.
    Where two servers know different models by one name, give each its own `server`.

    Args:
        url: base address, such as http://localhost:8000/v1.
        model: name under which the server knows the model.
        template: the question, with {prompt}, {response} and {nonce}; None: our own.
        template_file: a file that holds it.
        labels: what each answer stands for.
        key_env: name of the environment variable that holds the key; None: none is sent.
        concurrency: most requests at once.
        timeout_s: seconds for one request, from connecting to the last byte.
        deadline_s: seconds for a whole evaluation, from `prepare`, else from the first item; the longest that a
            server which is down can hold a training.
        backoff_s: seconds before the first repetition; doubled each time, at most 30, with jitter.
        allow_other_model: accept a reply that names another model than the one asked for; the verdict's reason names
            it. What is kept on disk is not asked again when the server changes what answers under the name.
        max_tokens: most tokens of an answer; one that is cut there is unparseable.
        max_characters: longer responses lose their middle before they are sent.
        seed: sent along, and seeds the jitter.
        server: what tells the server apart in fingerprints, such as "vllm 0.11" or "the 8-bit weights".
        extra_body: more keys of the request, such as {structured_outputs: {choice: ["0", "1"]}} of vLLM.
    """

    def __init__(
        self,
        url: str,
        model: str,
        template: str | None = None,
        template_file: str | None = None,
        labels: dict[str, Label] | None = None,
        key_env: str | None = "OPENAI_API_KEY",
        concurrency: int = 8,
        timeout_s: float = 60.0,
        deadline_s: float = 600.0,
        backoff_s: float = 0.5,
        allow_other_model: bool = False,
        max_tokens: int = 16,
        max_characters: int = 24_000,
        seed: int = 0,
        server: str | None = None,
        extra_body: dict[str, Any] | None = None,
    ) -> None:
        self.url, self.model = _checked(url), model
        self.template = Template(template, template_file)
        self.labels: dict[str, Label] = labels or {"0": "refusal", "1": "compliance"}
        check_labels(type(self).__name__, self.labels)
        numbers = (concurrency, timeout_s, deadline_s, backoff_s, max_tokens, max_characters)
        if min(numbers) <= 0:
            raise ConfigError(
                "EndpointJudge: concurrency, timeout_s, deadline_s, backoff_s, max_tokens and max_characters "
                "have to be positive."
            )
        self.key = EnvironmentKey(key_env)
        self.concurrency, self.timeout_s, self.deadline_s, self.backoff_s = (
            concurrency,
            timeout_s,
            deadline_s,
            backoff_s,
        )
        self.allow_other_model, self.max_characters, self.seed = allow_other_model, max_characters, seed
        self.server, self.max_tokens, self.extra_body = server, max_tokens, dict(extra_body or {})
        self.name = f"{slug(model)}_{self.template.hash[:8]}"
        self._evaluation: Evaluation | None = None

    def facts(self) -> dict[str, Any]:
        return {
            "judge": "endpoint", "parser": VERSION, "labels": self.labels, "template": self.template.hash,
            "model": self.model, "server": self.server, "temperature": 0, "seed": self.seed,
            "max_tokens": self.max_tokens, "max_characters": self.max_characters, "extra_body": self.extra_body,
            "texts": TEXTS_VERSION, "allow_other_model": self.allow_other_model,
        }  # fmt: skip

    def prepare(self, device: torch.device | None = None) -> None:
        """A new evaluation: its clock starts, and what stopped the last one is forgotten."""
        self._evaluation = Evaluation(self)

    def release(self) -> None:
        self._evaluation = None

    def judge(self, items: Sequence[Item]) -> list[Verdict]:
        if self._evaluation is None:
            self.prepare()
        assert self._evaluation is not None
        return self._evaluation.judge(items)

    def reread(self, raw: str) -> Verdict | None:
        found = read_body(raw, self.labels, self.model, self.allow_other_model)
        return None if found.label == "error" else self.verdict(found.label, raw, found.reason)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_evaluation": None}

    def body(self, item: Item) -> bytes:
        """The request about one item."""
        if len(item.response) > self.max_characters:
            half = self.max_characters // 2
            item = item._replace(response=f"{item.response[:half]} [...] {item.response[-half:]}")
        asked = {
            "model": self.model, "messages": [{"role": "user", "content": self.template.render(disarmed(item)).text}],
            "temperature": 0, "seed": self.seed, "max_tokens": self.max_tokens, **self.extra_body,
        }  # fmt: skip
        return json.dumps(asked).encode()


def _checked(url: str) -> str:
    """The address without a slash at its end; ConfigError where it is none, or where it holds a secret."""
    parts = urllib.parse.urlsplit(url)
    if "@" in parts.netloc or parts.query or parts.fragment:  # not quoted: this text goes to a log
        raise ConfigError(
            "EndpointJudge: the url holds a password or a query\n"
            "  Fix: put the key into an environment variable, and its name into key_env."
        )
    if parts.scheme not in ("http", "https") or not parts.netloc:
        raise ConfigError(f"EndpointJudge: url {url!r} is no address\n  Fix: give one such as http://localhost:8000/v1")
    return url.rstrip("/")
