"""A headless Chromium that tests speak to by its DevTools protocol. Knows one page; nothing of what is on it."""

import asyncio
import base64
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import aiohttp

NAMES = ("chromium", "chromium-browser", "google-chrome")
OPTIONS = "--headless=new --no-sandbox --disable-gpu --disable-dev-shm-usage --no-first-run --remote-debugging-port=0"
#: All text of a page, that of shadow roots included, which the page's source does not hold.
TEXT = """(() => {
  const found = [];
  const walk = (node) => {
    if (node.nodeType === Node.TEXT_NODE && node.data.trim()) found.push(node.data.trim());
    if (["STYLE", "SCRIPT", "TEMPLATE"].includes(node.nodeName)) return;
    if (node.shadowRoot) walk(node.shadowRoot);
    node.childNodes.forEach(walk);
  };
  walk(document.body);
  return found.join("\\n");
})()"""


def chromium() -> str | None:
    """Where a Chromium is; None where there is none."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


class Browser:
    """Opens pages one after another, and remembers what went wrong on them.

    Args:
        profile: folder of its own.
        size: of the window, width and height.

    Attributes:
        errors: exceptions and errors that pages left in the console.
    """

    def __init__(self, profile: Path, size: tuple[int, int] = (1400, 1600)) -> None:
        program = chromium()
        assert program is not None
        self.errors: list[str] = []
        self._sent = 0
        self._loop = asyncio.new_event_loop()
        self._session: aiohttp.ClientSession | None = None
        options = [*OPTIONS.split(), f"--user-data-dir={profile}", f"--window-size={size[0]},{size[1]}"]
        self._process = subprocess.Popen(
            [program, *options, "about:blank"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            start_new_session=True,
        )  # fmt: skip
        try:
            port = self._port(profile / "DevToolsActivePort")
            self._loop.run_until_complete(self._connect(f"http://127.0.0.1:{port}/json/list"))
            for domain in ("Page", "Runtime", "Log"):
                self.call(f"{domain}.enable")
        except BaseException:
            self.close()
            raise

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """One command of the protocol, and its result."""
        return self._loop.run_until_complete(asyncio.wait_for(self._call(method, params), 60))

    def open(self, url: str) -> None:
        """Begin to load a page, anew even where only what follows # differs."""
        self.call("Page.navigate", url="about:blank")
        self.call("Page.navigate", url=url)

    def value(self, script: str) -> Any:
        """What an expression of JavaScript is on the page now; None where it throws."""
        found = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        return found["result"].get("value") if "exceptionDetails" not in found else None

    def until(self, *words: str, gone: Sequence[str] = (), seconds: float = 40.0) -> str:
        """The page's text, as soon as all of these words are in it and none of those that are to go.

        Raises:
            AssertionError: names those that never came or went.
        """
        end = time.monotonic() + seconds
        while True:
            text = str(self.value(TEXT) or "")
            missing = [word for word in words if word not in text]
            left = [word for word in gone if word in text]
            if not missing and not left:
                return text
            assert time.monotonic() < end, f"missing: {missing}; still there: {left}; on the page: {text[:3000]}"
            time.sleep(0.3)

    def picture(self, path: Path) -> None:
        """Save what the window shows."""
        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot")["data"]))

    def close(self) -> None:
        """End the browser with all of its processes."""
        if self._session is not None:
            self._loop.run_until_complete(self._session.close())
            self._session = None
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)  # it keeps nothing that would have to be saved
        self._process.wait()
        self._loop.close()

    def _port(self, file: Path) -> int:
        end = time.monotonic() + 40
        while True:
            try:
                return int(file.read_text().splitlines()[0])
            except (OSError, IndexError, ValueError):
                assert self._process.poll() is None, "Chromium ended"
                assert time.monotonic() < end, "Chromium does not answer"
                time.sleep(0.1)

    async def _connect(self, url: str) -> None:
        self._session = aiohttp.ClientSession()
        async with self._session.get(url) as answer:
            pages = [page for page in await answer.json(content_type=None) if page["type"] == "page"]
        self._socket = await self._session.ws_connect(pages[0]["webSocketDebuggerUrl"], max_msg_size=0)

    async def _call(self, method: str, params: dict[str, Any]) -> dict[str, Any]:
        self._sent += 1
        await self._socket.send_json({"id": self._sent, "method": method, "params": params})
        while True:
            said = json.loads((await self._socket.receive()).data)
            if said.get("id") == self._sent:
                assert "error" not in said, said
                return said["result"]
            self._remember(said.get("method"), said.get("params", {}))

    def _remember(self, event: str | None, params: dict[str, Any]) -> None:
        if event == "Runtime.exceptionThrown":
            details = params["exceptionDetails"]
            self.errors.append(details.get("exception", {}).get("description") or details["text"])
        elif event == "Log.entryAdded" and params["entry"]["level"] == "error":
            self.errors.append(f"{params['entry']['text']} {params['entry'].get('url', '')}")
