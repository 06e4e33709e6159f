"""The page in a real browser: nothing is fetched, nothing complains, and the filters filter.

Driven through the DevTools protocol over two pipes. ``AXE=path/to/axe.min.js`` adds axe-core's
accessibility rules, from an unpacked copy of that npm package.
"""

from __future__ import annotations

import json
import os
import select
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from carryover.report import site
from page_entries import write

FOUND = (
    shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
)
pytestmark = pytest.mark.skipif(FOUND is None, reason="no chromium is installed")
AXE = os.environ.get("AXE", "")
SECONDS = 60


class Tab:
    """One tab of a browser without a window."""

    def __init__(self, profile: Path) -> None:
        theirs, self.to = os.pipe()
        self.source, ours = os.pipe()
        options = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run"]
        options += ["--disable-background-networking", "--remote-debugging-pipe"]
        options += [f"--user-data-dir={profile}", "about:blank"]
        self.process = subprocess.Popen(
            ["bash", "-c", f'exec "$@" 3<&{theirs} 4>&{ours}', "bash", str(FOUND), *options],
            pass_fds=(theirs, ours),
            stderr=subprocess.DEVNULL,
        )
        os.close(theirs)
        os.close(ours)
        self.pending = b""
        self.number = 0
        self.session = ""
        self.events: list[dict[str, Any]] = []
        pages = [t for t in self.call("Target.getTargets")["targetInfos"] if t["type"] == "page"]
        attached = self.call("Target.attachToTarget", targetId=pages[0]["targetId"], flatten=True)
        self.session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """Send one command; events that come before its answer are kept."""
        self.number += 1
        message: dict[str, Any] = {"id": self.number, "method": method, "params": params}
        if self.session:
            message["sessionId"] = self.session
        os.write(self.to, json.dumps(message).encode() + b"\0")
        while True:
            found = self.read()
            if found.get("id") == self.number:
                assert "error" not in found, found["error"]
                result: dict[str, Any] = found["result"]
                return result
            self.events.append(found)

    def read(self) -> dict[str, Any]:
        while b"\0" not in self.pending:
            ready, _, _ = select.select([self.source], [], [], SECONDS)
            assert ready, f"the browser said nothing for {SECONDS} s"
            self.pending += os.read(self.source, 1 << 16)
        message, self.pending = self.pending.split(b"\0", 1)
        found: dict[str, Any] = json.loads(message)
        return found

    def open(self, url: str) -> None:
        """Load a page anew and forget what came before."""
        self.call("Page.navigate", url="about:blank")
        self.events.clear()
        self.call("Page.navigate", url=url)
        self.wait("document.readyState === 'complete' && location.href !== 'about:blank'")

    def evaluate(self, expression: str) -> Any:
        found = self.call(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def wait(self, condition: str) -> None:
        end = time.monotonic() + SECONDS
        while not self.evaluate(condition):
            assert time.monotonic() < end, condition
            time.sleep(0.02)

    def width(self, pixels: int) -> None:
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=pixels,
            height=844,
            deviceScaleFactor=1,
            mobile=False,
        )

    def close(self) -> None:
        self.session = ""
        os.write(self.to, json.dumps({"id": 0, "method": "Browser.close"}).encode() + b"\0")
        self.process.wait(SECONDS)
        os.close(self.to)
        os.close(self.source)


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The page of the small ledger, on disk."""
    folder = tmp_path_factory.mktemp("page")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        write()
        (folder / "reports" / "index.html").write_text(site.page())
    return (folder / "reports" / "index.html").as_uri()


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tab]:
    tab = Tab(tmp_path_factory.mktemp("profile"))
    yield tab
    tab.close()


@pytest.fixture
def tab(browser: Tab) -> Tab:
    browser.call("Emulation.setScriptExecutionDisabled", value=False)
    browser.call("Emulation.setEmulatedMedia", features=[])
    browser.width(1440)
    return browser


SHOWN = "[...document.querySelectorAll('.claim')].filter(c => c.checkVisibility()).map(c => c.id)"
ALL = ["claim-cuts-t1", "claim-cuts-t2", "claim-cuts-t10"]
ALL += ["claim-sequence-m4", "claim-retrieval-r3"]


def test_nothing_is_fetched_and_nothing_complains(tab: Tab, url: str) -> None:
    tab.open(url)
    tab.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
    asked = [
        event["params"]["request"]["url"]
        for event in tab.events
        if event["method"] == "Network.requestWillBeSent"
    ]
    assert [each for each in asked if not each.startswith("data:")] == [url]
    complaints = ("Runtime.exceptionThrown", "Runtime.consoleAPICalled", "Log.entryAdded")
    assert [event for event in tab.events if event["method"] in complaints] == []
    assert tab.evaluate("[...document.images].every(i => i.complete && i.naturalWidth > 0)")
    assert tab.evaluate("document.images.length") == 36


def test_the_address_chooses_claims(tab: Tab, url: str) -> None:
    tab.open(url)
    assert tab.evaluate(SHOWN) == ALL
    tab.open(f"{url}#study=cuts&verdict=not+reproduced")
    assert tab.evaluate(SHOWN) == ["claim-cuts-t1"]
    assert tab.evaluate("document.querySelector('[name=verdict]').value") == "not reproduced"
    assert tab.evaluate("document.getElementById('count').textContent").startswith("1 of 5 claims")
    tab.open(f"{url}#evidence=released")
    assert tab.evaluate(SHOWN) == ALL[:-1]
    tab.open(f"{url}#verdict=not+run+in+any+preset&evidence=own")
    assert tab.evaluate(SHOWN) == ALL[2:]
    tab.open(f"{url}#study=retrieval")
    assert tab.evaluate(SHOWN) == ALL[-1:]
    assert tab.evaluate("document.getElementById('retrieval').checkVisibility()")
    assert not tab.evaluate("document.getElementById('cuts').checkVisibility()")
    tab.open(f"{url}#study=nonsense&verdict=")
    assert tab.evaluate(SHOWN) == ALL


def test_controls_write_the_address_and_back_undoes_them(tab: Tab, url: str) -> None:
    tab.open(url)
    tab.evaluate(
        "(() => { const s = document.querySelector('[name=evidence]'); s.value = 'published';"
        " s.dispatchEvent(new Event('change', {bubbles: true})) })()"
    )
    tab.wait("location.hash === '#evidence=published'")
    tab.wait(f"{SHOWN}.length === 1")
    tab.evaluate("history.back()")
    tab.wait(f"{SHOWN}.length === 5")
    assert tab.evaluate("document.querySelector('[name=evidence]').value") == ""


def test_show_all_brings_everything_back(tab: Tab, url: str) -> None:
    tab.open(f"{url}#study=sequence&verdict=released+data+agree")
    assert tab.evaluate(SHOWN) == ["claim-sequence-m4"]
    tab.evaluate("document.querySelector('#filters button').click()")
    tab.wait("location.hash === '#studies'")
    tab.wait(f"{SHOWN}.length === 5")


def test_a_number_of_the_scorecard_leads_to_as_many_claims(tab: Tab, url: str) -> None:
    tab.open(url)
    count = tab.evaluate("document.querySelectorAll('.score a[data-filter]').length")
    assert count == 15  # six verdicts of cuts, two of sequence, one of retrieval, six of all
    for i in range(count):
        link = f"document.querySelectorAll('.score a[data-filter]')[{i}]"
        said = int(tab.evaluate(f"{link}.firstChild.textContent"))
        tab.evaluate(f"{link}.click()")
        tab.wait(f"location.hash === {link}.getAttribute('href')")
        tab.wait(f"{SHOWN}.length === {said}")


def test_a_link_to_a_claim_shows_it_whatever_was_filtered(tab: Tab, url: str) -> None:
    tab.open(f"{url}#study=cuts")
    tab.evaluate("location.hash = 'claim-retrieval-r3'")
    tab.wait(f"{SHOWN}.length === 5")
    tab.wait(
        "(r => r.top >= 0 && r.top < innerHeight)"
        "(document.getElementById('claim-retrieval-r3').getBoundingClientRect())"
    )


def test_without_scripts_all_is_there_but_the_filters(tab: Tab, url: str) -> None:
    tab.call("Emulation.setScriptExecutionDisabled", value=True)
    tab.open(f"{url}#study=cuts&verdict=reproduced")
    assert tab.evaluate(SHOWN) == ALL
    assert not tab.evaluate("document.getElementById('filters').checkVisibility()")
    target = "document.querySelector('.score a[data-filter]').getAttribute('href')"
    assert tab.evaluate(target) == "#cuts-claims"
    assert tab.evaluate(f"document.querySelector({target}) !== null")


@pytest.mark.parametrize("pixels", [320, 390, 768, 1440])
def test_no_width_makes_the_page_scroll_sideways(tab: Tab, url: str, pixels: int) -> None:
    tab.width(pixels)
    tab.open(url)
    tab.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
    assert tab.evaluate("document.documentElement.scrollWidth") <= pixels
    smallest = (
        "Math.min(...[...document.querySelectorAll('body *')].filter(e => e.checkVisibility()"
    )
    smallest += " && e.innerText).map(e => parseFloat(getComputedStyle(e).fontSize)))"
    assert tab.evaluate(smallest) >= 13


def test_dark_and_light_follow_the_system(tab: Tab, url: str) -> None:
    back = "getComputedStyle(document.body).backgroundColor"
    for scheme, colour in (("dark", "rgb(21, 24, 27)"), ("light", "rgb(255, 255, 255)")):
        tab.call(
            "Emulation.setEmulatedMedia",
            features=[{"name": "prefers-color-scheme", "value": scheme}],
        )
        tab.open(url)
        assert tab.evaluate(back) == colour


@pytest.mark.skipif(not AXE, reason="AXE does not name a copy of axe-core")
@pytest.mark.parametrize("scheme", ["dark", "light"])
@pytest.mark.parametrize("pixels", [390, 1440])
def test_axe_finds_nothing(tab: Tab, url: str, pixels: int, scheme: str) -> None:
    tab.width(pixels)
    tab.call(
        "Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}]
    )
    tab.open(url)
    tab.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
    tab.evaluate(Path(AXE).read_text() + "; null")
    found = tab.evaluate(
        "axe.run().then(r => r.violations.map(v => `${v.impact} ${v.id}: ${v.nodes[0].html}`))"
    )
    assert found == []
