"""A real Chromium, driven through ChromeDriver by the few WebDriver commands that the tests need (W3C WebDriver)."""

import asyncio
import base64
import re
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final, Literal

import httpx

from tests.support.process import start_process

FLAGS: Final = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--force-device-scale-factor=1",
    "--lang=en-US",
)
ELEMENT: Final = "element-6066-11e4-a52e-4f735466cecf"
"""The key of an element's id in WebDriver's JSON."""
CHROMIUM: Final = shutil.which("chromium")
CHROMEDRIVER: Final = shutil.which("chromedriver")


class Browser:
    """One window."""

    def __init__(self, http: httpx.AsyncClient, session: str) -> None:
        self._http = http
        self._session = session

    async def command(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        """Send one WebDriver command and return its value; raises AssertionError with what the driver says."""
        response = await self._http.request(method, f"{self._session}/{path}", json=body if method == "POST" else None)
        value = response.json()["value"]
        assert response.status_code == 200, f"{path}: {value.get('error')}: {value.get('message')}"
        return value

    async def devtools(self, name: str, **params: Any) -> Any:
        """Send one command of the DevTools protocol."""
        return await self.command("POST", "goog/cdp/execute", {"cmd": name, "params": params})

    async def open(self, url: str) -> None:
        await self.command("POST", "url", {"url": url})

    async def run(self, script: str, *arguments: object) -> Any:
        """Run a function's body in the page and return what it returns."""
        return await self.command("POST", "execute/sync", {"script": script, "args": list(arguments)})

    async def until(self, expression: str, *arguments: object, timeout: float = 10.0) -> Any:
        """Wait until an expression over ``a``, the arguments, is true in the page, and return it."""
        script = (
            "const a = [...arguments], done = a.pop();"
            f"const look = () => {{ let found; try {{ found = {expression}; }} catch {{ found = null; }}"
            "found ? done(found) : setTimeout(look, 16); }; look();"
        )
        await self.command("POST", "timeouts", {"script": int(timeout * 1000)})
        try:
            return await self.command("POST", "execute/async", {"script": script, "args": list(arguments)})
        except AssertionError as error:
            text = await self.run("return document.body.innerText")
            raise AssertionError(f"never true: {expression} {arguments}; the page says:\n{text}") from error

    async def find(self, selector: str) -> str:
        found = await self.command("POST", "element", {"using": "css selector", "value": selector})
        return str(found[ELEMENT])

    async def click(self, selector: str) -> None:
        await self.command("POST", f"element/{await self.find(selector)}/click", {})

    async def type(self, selector: str, text: str) -> None:
        await self.command("POST", f"element/{await self.find(selector)}/value", {"text": text})

    async def press(self, *keys: str) -> None:
        """Press keys, one after another, where the focus is; ``\\ue004`` is Tab, ``\\ue007`` Enter."""
        actions = [{"type": kind, "value": key} for key in keys for kind in ("keyDown", "keyUp")]
        await self.command("POST", "actions", {"actions": [{"type": "key", "id": "keyboard", "actions": actions}]})

    async def text(self, selector: str = "body") -> str:
        return str(await self.command("GET", f"element/{await self.find(selector)}/text"))

    async def complaints(self) -> list[str]:
        """Return the errors in the console since the last call; those of a refused connection are not the page's."""
        entries = await self.command("POST", "se/log", {"type": "browser"})
        return [entry["message"] for entry in entries if entry["level"] == "SEVERE"]

    async def look(self, width: int, height: int, *, scheme: Literal["light", "dark"], phone: bool = False) -> None:
        """Be a screen of that size, with a system of that color scheme."""
        await self.devtools(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=2 if phone else 1,
            mobile=phone,
        )
        await self.devtools("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])

    async def screenshot(self, *, most: int | None = None) -> bytes:
        """Return the whole page as PNG, also what is below the fold, as far as `most` pixels down."""
        clip: dict[str, Any] = {}
        if most is not None:
            width, height = await self.run("return [innerWidth, document.documentElement.scrollHeight]")
            clip["clip"] = {"x": 0, "y": 0, "width": width, "height": min(most, height), "scale": 1}
        found = await self.devtools("Page.captureScreenshot", format="png", captureBeyondViewport=True, **clip)
        return base64.b64decode(found["data"])


@asynccontextmanager
async def browser(*flags: str) -> AsyncIterator[Browser]:
    """Start ChromeDriver and a Chromium with an empty profile and further `flags`; both end with the block."""
    assert CHROMIUM
    assert CHROMEDRIVER
    driver = await start_process(
        CHROMEDRIVER, "--port=0", stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL
    )
    try:
        with tempfile.TemporaryDirectory(prefix="ollama-proxy-chromium-", ignore_cleanup_errors=True) as profile:
            async with httpx.AsyncClient(base_url=await _url(driver), timeout=60, trust_env=False) as http:
                options = {"binary": CHROMIUM, "args": [*FLAGS, *flags, f"--user-data-dir={profile}"]}
                capabilities = {"goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"}}
                made = await http.post("/session", json={"capabilities": {"alwaysMatch": capabilities}})
                assert made.status_code == 200, made.text
                session = f"/session/{made.json()['value']['sessionId']}"
                try:
                    yield Browser(http, session)
                finally:
                    await http.delete(session)
    finally:
        driver.terminate()
        await driver.wait()


async def _url(driver: asyncio.subprocess.Process) -> str:
    assert driver.stdout is not None
    async with asyncio.timeout(20):
        async for line in driver.stdout:
            if match := re.search(rb"started successfully on port (\d+)", line):
                return f"http://127.0.0.1:{match[1].decode()}"
    raise AssertionError("ChromeDriver did not start")
