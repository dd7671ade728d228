"""One evaluation by an endpoint: its clock, its retries, and what ends it. Knows nothing of HTTP or templates."""

from __future__ import annotations

import json
import threading
import time
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING

from .base import Item, Verdict, digest
from .patience import Circuit, Leave, backoff, retry_after
from .replies import Outcome, outcome
from .transport import Reply, Unreachable, request
from .workers import work_through

if TYPE_CHECKING:
    from .endpoint import EndpointJudge

#: Failures to reach the server, one after another, after which it is left alone for a while.
FAILURES = 5
#: Of a reply, so much is kept.
KEPT_CHARACTERS = 4000


class Evaluation:
    """What the threads of one evaluation share."""

    def __init__(self, judge: EndpointJudge) -> None:
        self.of = judge
        self.until = time.monotonic() + judge.deadline_s
        self.interrupted = threading.Event()
        self.circuit = Circuit(FAILURES, judge.backoff_s * 2, self.interrupted)
        self.stopped = ""
        self.halted = threading.Event()  # ends the waits of the other threads
        self.lock = threading.Lock()
        self.warnings: dict[str, bool] = {}  # whether each has been said

    def judge(self, items: Sequence[Item]) -> list[Verdict]:
        found: list[Verdict | None] = [None] * len(items)

        def one(i: int) -> None:
            try:
                found[i] = self._one(items[i])
            except Exception as error:  # whatever it is, it is this item's verdict
                found[i] = self._verdict(Outcome("error", f"{self.of.url}: asking failed: {type(error).__name__}"))

        work_through(len(items), self.of.concurrency, one, self.interrupted)
        for text in [text for text, said in self.warnings.items() if not said]:
            self.warnings[text] = True
            warnings.warn(text, stacklevel=3)
        lost = self.of.verdict("error", reason="interrupted")
        return [lost if verdict is None else verdict for verdict in found]

    def _one(self, item: Item) -> Verdict:
        if not item.response.strip():
            return self.of.verdict("unparseable", reason="empty response")
        salt = digest([self.of.seed, *item])
        body, attempt = self.of.body(item), 0
        last = f"{self.of.url} was not asked: its {FAILURES} last requests failed"
        while True:
            if self.stopped:
                return self._verdict(Outcome("error", self.stopped))
            leave = self.circuit.enter(self.until)
            if leave is None:
                return self._late(last)
            reply, failure = self._ask(body, leave)
            if failure and (attempt == 0 or time.monotonic() < self.until):  # a last try cut short says little
                last = failure
            wait = backoff(self.of.backoff_s, attempt, salt)
            if reply is not None:
                result = outcome(reply, self.of.labels, self.of.model, self.of.allow_other_model)
                if not result.again:
                    return self._settled(reply, result)
                last = f"{self.of.url}: {result.reason}"
                wait = max(wait, retry_after(reply.headers.get("retry-after")))
            if time.monotonic() + wait >= self.until:
                return self._late(last)
            self.halted.wait(wait)
            attempt += 1

    def _ask(self, body: bytes, leave: Leave) -> tuple[Reply | None, str]:
        seconds = max(0.01, min(self.of.timeout_s, self.until - time.monotonic()))
        headers = {"Content-Type": "application/json", "Accept": "application/json", **self.of.key.header()}
        try:
            reply = request(f"{self.of.url}/chat/completions", body, headers, seconds)
        except Unreachable as error:
            self.circuit.failed(leave)
            return None, f"{self.of.url}: {error}"
        except BaseException:
            self.circuit.failed(leave)  # or a trial would never end, and nobody could ask again
            raise
        self.circuit.succeeded()
        if reply.status != 200:  # before what the server says is cut, perhaps in the middle of a key
            reply = reply._replace(body=self.of.key.redact(reply.body))
        return reply, ""

    def _settled(self, reply: Reply, result: Outcome) -> Verdict:
        if result.warning:
            self._warn(result.warning)
        if result.label == "error" and not result.stop:
            result = result._replace(reason=f"{self.of.url}: {result.reason}")
        if result.stop:
            with self.lock:
                if not self.stopped:
                    self.stopped = self._why(reply, result)
                    self.halted.set()
                    self._warn(f"judging stopped. {self.stopped}")
            result = result._replace(reason=self.stopped)
        return self._verdict(result, reply.body)

    def _why(self, reply: Reply, result: Outcome) -> str:
        """The reason to stop, with what to do."""
        reason = f"{self.of.url}: {result.reason}"
        if reply.status in (401, 403):
            return f"{reason}. Fix: {self.of.key.advice()}."
        if reply.status == 404:
            return f"{reason}. Fix: model {self.of.model!r} or the address is wrong; {self._served()}."
        return reason

    def _served(self) -> str:
        try:
            seconds = max(0.01, min(5.0, self.of.timeout_s, self.until - time.monotonic()))
            reply = request(f"{self.of.url}/models", None, self.of.key.header(), seconds)
            names = [str(entry["id"]) for entry in json.loads(reply.body)["data"]][:10]
        except (Unreachable, ValueError, KeyError, TypeError):
            return "the server lists no models at /models"
        return f"the server has {', '.join(map(repr, names)) or 'no models'}"

    def _late(self, last: str) -> Verdict:
        return self._verdict(Outcome("error", f"no verdict before the deadline of {self.of.deadline_s:g} s; {last}"))

    def _verdict(self, result: Outcome, raw: str = "") -> Verdict:
        redact = self.of.key.redact
        return self.of.verdict(result.label, redact(raw)[:KEPT_CHARACTERS], redact(result.reason))

    def _warn(self, text: str) -> None:
        """To be said once an evaluation, and by the caller's thread."""
        self.warnings.setdefault(f"{self.of.name}: {self.of.key.redact(text)}", False)
