"""A page as a person has it: it finds things by the names that a screen reader says, clicks, types and looks."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from browser.chromium import Chromium
from waiting import PATIENCE_S, until

_KEYS = {"Tab": 9, "Enter": 13, "Escape": 27, " ": 32, "ArrowDown": 40, "/": 191, "?": 191}
_KEYS |= {letter: ord(letter.upper()) for letter in "cjksx"}

# What people see or hear of an element, and where it is found by that.
_FINDER = """
((kind, name) => {
  const clean = (text) => text.replace(/\\s+/g, " ").trim();
  const seen = (element) => element.checkVisibility({ visibilityProperty: true });
  const fits = (text) => clean(text) === name || clean(text).startsWith(name + " ");
  if (kind === "field") {
    const label = [...document.querySelectorAll("label")].find((one) => fits(one.textContent) && (seen(one)));
    return label ? label.control : null;
  }
  const called = (element) => element.getAttribute("aria-label") ?? element.innerText;
  return [...document.querySelectorAll(kind)].find((one) => seen(one) && fits(called(one))) ?? null;
})
"""

# Where to click an element, once it rests there and nothing covers it; it reports its click.
_AIM = """
(async (element) => {
  element.scrollIntoView({ block: "center", behavior: "instant" });
  const where = () => {
    const { x, y, width, height } = element.getBoundingClientRect();
    return [x + width / 2, y + height / 2];
  };
  const before = where();
  await new Promise((later) => setTimeout(later, 20)); // a tab in the background draws no frames
  const [x, y] = where();
  const top = document.elementFromPoint(x, y);
  if (x !== before[0] || y !== before[1] || !top || !(element.contains(top) || top.contains(element))) return null;
  element.addEventListener("click", () => clicked(""), { once: true, capture: true });
  return [x, y];
})
"""


class Page:
    """One tab. ``troubles``: what a script or the browser complained of; ``requests``: every address asked."""

    def __init__(self, browser: Chromium, session: str, origin: str) -> None:
        self._browser = browser
        self._session = session
        self.origin = origin
        self.troubles: list[str] = []
        self.requests: list[tuple[str, str]] = []
        self._paused: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._clicks = 0
        browser.listen(session, self._hear)

    def _hear(self, method: str, parameters: dict[str, Any]) -> None:
        if method == "Network.requestWillBeSent":
            self.requests.append((parameters["request"]["method"], parameters["request"]["url"]))
        elif method == "Runtime.bindingCalled":
            self._clicks += 1
        elif method == "Fetch.requestPaused":
            self._paused.put_nowait(parameters)
        elif method == "Runtime.exceptionThrown":
            details = parameters["exceptionDetails"]
            self.troubles.append(details.get("exception", {}).get("description") or details["text"])
        elif method == "Runtime.consoleAPICalled" and parameters["type"] in ("error", "warning", "assert"):
            self.troubles.append(
                " ".join(str(one.get("value", one.get("description"))) for one in parameters["args"])
            )
        elif method == "Log.entryAdded" and parameters["entry"]["level"] in ("error", "warning"):
            entry = parameters["entry"]
            self.troubles.append(f"{entry['text']} {entry.get('url', '')}")

    async def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """A command of the DevTools protocol to this tab."""
        return await self._browser.call(method, self._session, **parameters)

    async def run(self, script: str) -> Any:
        """The value of an expression in the page."""
        found = await self.call("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in found:
            raise AssertionError(found["exceptionDetails"].get("exception", {}).get("description", script))
        return found["result"].get("value")

    async def until(self, script: str, what: str = "") -> None:
        """Wait until an expression is true."""
        try:
            await until(lambda: self.run(f"Boolean({script})"))
        except TimeoutError as error:
            text = await self.run("document.body.innerText")
            raise AssertionError(
                f"waited in vain for {what or script}; troubles {self.troubles}; the page:\n{text}"
            ) from error

    async def sees(self, text: str) -> None:
        """Wait until this text stands somewhere in the page."""
        await self.until(f"document.body.innerText.includes({json.dumps(text)})", text)

    async def open(self, address: str) -> None:
        """Load an address of the shop, from ``/`` on, as if typed."""
        await self.call("Page.navigate", url="about:blank")
        await self.call("Page.navigate", url=self.origin + address)
        await self.until("location.href !== 'about:blank' && document.querySelector('main h1')", address)

    async def go(self, fragment: str, lands: str = "") -> None:
        """Follow a link inside the shop; it may lead elsewhere than it says."""
        await self.run(f"location.hash = {json.dumps(fragment)}")
        await self.shows((lands or fragment).removeprefix("#").partition("?")[0])

    async def shows(self, view: str) -> None:
        """Wait until this view is drawn."""
        await self.until(f"document.querySelector('main').dataset.view === {json.dumps(view)}", f"view {view}")

    async def reload(self) -> None:
        """Load the page again."""
        await self.run("window.old = true")
        await self.call("Page.reload")
        await self.until("!window.old && document.querySelector('main h1')", "the page after a reload")

    async def _find(self, kind: str, name: str) -> str:
        found = f"{_FINDER}({json.dumps(kind)}, {json.dumps(name)})"
        await self.until(f"{found} !== null", f"{kind} {name!r}")
        return found

    async def click(self, kind: str, name: str) -> None:
        """Click an ``a``, ``button``, ``summary``, ``field`` … by its name, with the mouse.

        A click that misses because the page was drawn anew meanwhile is made again.
        """
        clicks = self._clicks
        await until(lambda: self._clicks_at(kind, name, clicks))

    async def _clicks_at(self, kind: str, name: str, clicks: int) -> bool:
        found = await self._find(kind, name)
        box = await self.run(f"{_AIM}({found})")
        if box is None:
            return False
        for event in ("mousePressed", "mouseReleased"):
            await self.call(
                "Input.dispatchMouseEvent", type=event, x=box[0], y=box[1], button="left", clickCount=1
            )
        await self.run("true")  # what the page reported of the click comes before this answer
        return self._clicks > clicks

    async def fill(self, label: str, text: str) -> None:
        """Put text in place of what a field has."""
        found = await self._find("field", label)
        await self.run(f"{found}.focus()")
        await self.run(f"{found}.select()")
        await self.type(text)

    async def choose(self, label: str, value: str) -> None:
        """Choose an option by its value."""
        found = await self._find("field", label)
        change = "field.value = value; field.dispatchEvent(new Event('change', {bubbles: true}))"
        await self.run(f"((field, value) => {{ {change} }})({found}, {json.dumps(value)})")

    async def type(self, text: str) -> None:
        """Type where the focus is."""
        await self.call("Input.insertText", text=text)

    async def press(self, key: str, *, shift: bool = False) -> None:
        """Press a key."""
        common = {"key": key, "code": "Space" if key == " " else key, "windowsVirtualKeyCode": _KEYS[key]}
        text = "\r" if key == "Enter" else key if len(key) == 1 else None
        extra = {"text": text} if text else {}
        await self.call("Input.dispatchKeyEvent", type="keyDown", modifiers=8 if shift else 0, **common, **extra)
        await self.call("Input.dispatchKeyEvent", type="keyUp", modifiers=8 if shift else 0, **common)

    async def tab_to(self, name: str) -> None:
        """Press Tab until the element with this name has the focus, as somebody without a mouse."""
        focused = (
            "(document.activeElement.getAttribute('aria-label') ?? document.activeElement.labels?.[0]?.textContent"
        )
        focused += " ?? document.activeElement.textContent ?? '').replace(/\\s+/g, ' ').trim()"
        passed = []
        for _ in range(200):
            await self.press("Tab")
            passed.append(await self.run(focused))
            if passed[-1] == name or passed[-1].startswith(f"{name} "):
                return
        raise AssertionError(f"Tab does not reach {name!r}; it passed {passed}")

    def forgive(self, text: str) -> None:
        """Take out the complaints with this text; there must be one."""
        kept = [trouble for trouble in self.troubles if text not in trouble]
        assert len(kept) < len(self.troubles), f"nobody complained of {text!r}"
        self.troubles[:] = kept

    @asynccontextmanager
    async def holding(self, method: str, pattern: str, stage: str) -> AsyncIterator["Held"]:
        """Stop the next request to an address on its way there (``Request``) or back (``Response``)."""
        await self.call("Fetch.enable", patterns=[{"urlPattern": pattern, "requestStage": stage}])
        try:
            yield Held(self, method, self._paused)
        finally:
            await self.call("Fetch.disable")

    async def picture(self) -> bytes:
        """The whole page as PNG."""
        size = (await self.call("Page.getLayoutMetrics"))["cssContentSize"]
        clip = {"x": 0, "y": 0, "width": size["width"], "height": min(size["height"], 4000), "scale": 1}
        shot = await self.call("Page.captureScreenshot", clip=clip, captureBeyondViewport=True)
        return base64.b64decode(shot["data"])

    async def look(self, *, width: int = 1280, height: int = 900, dark: bool = False) -> None:
        """Set the window's size and the colour scheme."""
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        await self.call("Emulation.setDeviceMetricsOverride", **metrics)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        await self.call("Emulation.setEmulatedMedia", features=[scheme])


class Held:
    """Requests that wait for somebody to say what becomes of them."""

    def __init__(self, page: Page, method: str, paused: asyncio.Queue[dict[str, Any]]) -> None:
        self._page = page
        self._method = method
        self._paused = paused

    async def next(self) -> str:
        """Wait for the request, let others pass; its id."""
        async with asyncio.timeout(PATIENCE_S):
            while (request := await self._paused.get())["request"]["method"] != self._method:
                await self.release(request["requestId"])
        return str(request["requestId"])

    async def release(self, request: str) -> None:
        """Let it go on."""
        await self._page.call("Fetch.continueRequest", requestId=request)

    async def lose(self, request: str) -> None:
        """Cut its connection."""
        await self._page.call("Fetch.failRequest", requestId=request, errorReason="ConnectionReset")


@asynccontextmanager
async def open_page(browser: Chromium, origin: str, downloads: str = "") -> AsyncIterator[Page]:
    """A tab of a person of their own: nothing is shared with other tabs, as in another browser.

    Files that are saved land in the folder ``downloads``.
    """
    async with _open_context(browser) as context:
        if downloads:
            allowed = {"behavior": "allow", "browserContextId": context, "downloadPath": downloads}
            await browser.call("Browser.setDownloadBehavior", **allowed)
        yield await _open_tab(browser, context, origin)


@asynccontextmanager
async def open_pages(browser: Chromium, origin: str, count: int) -> AsyncIterator[list[Page]]:
    """Tabs of one person, in one browser."""
    async with _open_context(browser) as context:
        yield [await _open_tab(browser, context, origin) for _ in range(count)]


@asynccontextmanager
async def _open_context(browser: Chromium) -> AsyncIterator[str]:
    context = (await browser.call("Target.createBrowserContext"))["browserContextId"]
    try:
        yield context
    finally:
        await browser.call("Target.disposeBrowserContext", browserContextId=context)


async def _open_tab(browser: Chromium, context: str, origin: str) -> Page:
    target = await browser.call("Target.createTarget", url="about:blank", browserContextId=context)
    attached = await browser.call("Target.attachToTarget", targetId=target["targetId"], flatten=True)
    page = Page(browser, attached["sessionId"], origin)
    for domain in ("Page", "Runtime", "Log", "Network"):
        await page.call(f"{domain}.enable")
    await page.call("Runtime.addBinding", name="clicked")
    await page.look()
    return page
