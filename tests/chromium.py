"""A headless Chromium, driven by its DevTools protocol through a pipe: it needs no other package.

with Chromium() as browser:
    browser.open(path)
    browser.run("document.title")
"""

import json
import os
import shutil
import subprocess
import tempfile
import time
from base64 import b64decode
from collections.abc import Iterator
from pathlib import Path
from select import select
from typing import Any

__all__ = ["KEYS", "Chromium", "found"]

PATIENCE = 60  # seconds
NAMES = ("chromium", "chromium-browser", "google-chrome")
OPTIONS = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage")
OPTIONS += ("--no-first-run", "--disable-background-networking", "--remote-debugging-pipe")
KEYS = {"Tab": (9, ""), "Enter": (13, "\r"), " ": (32, " ")}  # code, the text that it types


def found() -> str | None:
    """The program, where there is one."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


class Chromium:
    """One page. `events`: all that the browser has said of it, in order."""

    def __init__(self) -> None:
        program = found()
        assert program is not None
        self.events: list[dict[str, Any]] = []
        self._profile = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        commands, self._write = os.pipe()
        self._read, answers = os.pipe()
        # the browser reads what it is told on descriptor 3 and answers on 4
        redirect = f'exec "$@" 3<&{commands} 4>&{answers}'
        profile = f"--user-data-dir={self._profile.name}"
        self._process = subprocess.Popen(
            ["bash", "-c", redirect, "bash", program, *OPTIONS, profile],
            pass_fds=(commands, answers),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(commands)
        os.close(answers)
        os.set_blocking(self._write, False)
        self._messages = self._received()
        self._last, self._session = 0, ""

    def __enter__(self) -> "Chromium":
        target = self.send("Target.createTarget", url="about:blank")["targetId"]
        attached = self.send("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.send(f"{domain}.enable")
        self.shown()
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait(PATIENCE)
        os.close(self._write)
        os.close(self._read)
        self._profile.cleanup()

    def _received(self) -> Iterator[dict[str, Any]]:
        """Messages end in a NUL."""
        rest = b""
        while select([self._read], [], [], PATIENCE)[0]:
            if not (chunk := os.read(self._read, 1 << 20)):
                return
            *whole, rest = (rest + chunk).split(b"\0")
            yield from map(json.loads, whole)

    def send(self, method: str, **parameters: Any) -> dict[str, Any]:
        """The browser's answer to one command; events that come before it are kept."""
        self._last += 1
        message = {"id": self._last, "method": method, "params": parameters}
        message |= {"sessionId": self._session} if self._session else {}
        rest, deadline = json.dumps(message).encode() + b"\0", time.monotonic() + PATIENCE
        while rest and select([], [self._write], [], PATIENCE)[1]:
            rest = rest[os.write(self._write, rest) :]
        for answer in self._messages:
            if answer.get("id") == self._last:
                assert "error" not in answer, (method, answer["error"])
                return dict(answer["result"])
            self.events.append(answer)
            if time.monotonic() > deadline:
                break
        raise AssertionError(f"no answer from the browser to {method}")

    def open(self, path: Path) -> None:
        """Opens a file and waits until it is loaded with all its pictures."""
        self.events.clear()
        self.send("Page.navigate", url=path.as_uri())
        loaded = "document.readyState === 'complete' ? done() : addEventListener('load', done)"
        self.run(f"new Promise((done) => {{ {loaded} }})")

    def run(self, code: str) -> Any:
        """The value of an expression of JavaScript, awaited."""
        options = {"returnByValue": True, "awaitPromise": True}
        answer = self.send("Runtime.evaluate", expression=code, **options)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def click(self, x: float, y: float) -> None:
        for kind in ("mousePressed", "mouseReleased"):
            where = {"x": x, "y": y, "button": "left", "clickCount": 1}
            self.send("Input.dispatchMouseEvent", type=kind, **where)

    def press(self, key: str) -> None:
        code, text = KEYS[key]
        what = {"key": key, "windowsVirtualKeyCode": code}
        self.send("Input.dispatchKeyEvent", type="keyDown", text=text, **what)
        self.send("Input.dispatchKeyEvent", type="keyUp", **what)

    def shown(self, *, scheme: str = "light", media: str = "screen", width: int = 1280) -> None:
        """Light or dark, on screen or in print, so many CSS pixels wide."""
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.send("Emulation.setEmulatedMedia", media=media, features=features)
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
        self.send("Emulation.setDeviceMetricsOverride", **size)

    def pdf(self) -> bytes:
        printed = self.send("Page.printToPDF", preferCSSPageSize=True, printBackground=False)
        return b64decode(printed["data"])
