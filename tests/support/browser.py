"""A headless Chromium that opens pages from disk, and where on the screen a page's points are."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path
from typing import Any

import pytest

__all__ = ["Browser", "opened_browser"]

_POINT = """
const [section, name, place] = arguments;
const figure = document.querySelectorAll('[data-figure="frontier"]')[section];
figure.scrollIntoView({block: "center"});
const view = [...Bokeh.index.roots].find((one) => figure.contains(one.el));
const {x, y} = view.model.document.get_model_by_name(name).data;
const box = view.el.getBoundingClientRect();
return [box.left + view.frame.x_scale.compute(x[place]), box.top + view.frame.y_scale.compute(y[place])];
"""
_HOVERED = """
const hidden = [];
const look = (node) => {
  if (node.shadowRoot) look(node.shadowRoot);
  for (const child of node.children ?? []) {
    if (child.classList?.contains("bk-Tooltip") && getComputedStyle(child).display !== "none") {
      hidden.push((child.shadowRoot ?? child).textContent);
    }
    look(child);
  }
};
look(document.body);
return hidden.join(" ");
"""


class Browser:
    """One page at a time.

    Parameters
    ----------
    driver
        Selenium's.
    """

    def __init__(self, driver: Any) -> None:
        self.driver = driver

    def open(self, page: Path, *, width: int = 1440, height: int = 1000, dark: bool = False) -> None:
        """Open a page of the report and wait until it is drawn."""
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        # what other pages said
        self.driver.get_log("browser")
        self.driver.get_log("performance")
        self.driver.get(page.resolve().as_uri())
        self.wait("return document.body.dataset.ready")

    def wait(self, script: str, seconds: float = 60) -> Any:
        """Return what a script returns once that is something."""
        end = time.monotonic() + seconds
        while not (found := self.driver.execute_script(script)):
            assert time.monotonic() < end, f"never true: {script}"
            time.sleep(0.05)
        return found

    def run(self, script: str, *arguments: Any) -> Any:
        """Return what a script returns."""
        return self.driver.execute_script(script, *arguments)

    def text(self, selector: str) -> str:
        """Return the text of the first element of a selector."""
        return self.run("return document.querySelector(arguments[0])?.innerText ?? ''", selector)

    def texts(self, selector: str) -> list[str]:
        """Return the texts of all elements of a selector."""
        return self.run("return [...document.querySelectorAll(arguments[0])].map((one) => one.innerText)", selector)

    def click(self, selector: str, place: int = 0) -> None:
        """Click an element."""
        self.run("document.querySelectorAll(arguments[0])[arguments[1]].click()", selector, place)

    def give(self, selector: str, value: Any, event: str = "input") -> None:
        """Give an input or a choice a value, as a hand does."""
        script = (
            "const one = document.querySelector(arguments[0]); one.value = arguments[1];"
            "one.dispatchEvent(new Event(arguments[2], {bubbles: true}))"
        )
        self.run(script, selector, value, event)

    def point_at(self, source: str, place: int, *, section: int = 0, click: bool = False) -> None:
        """Move the pointer to a point of the frontier's figure, and click where asked."""
        from selenium.webdriver.common.action_chains import ActionChains

        x, y = self.run(_POINT, section, source, place)
        chain = ActionChains(self.driver)
        chain.w3c_actions.pointer_action.move_to_location(round(x), round(y))
        if click:
            chain.w3c_actions.pointer_action.click()
        chain.perform()

    def hovered(self) -> str:
        """Return the text beside the pointer."""
        return self.wait(_HOVERED)

    def column(self, source: str, name: str) -> list[Any]:
        """Return a column of a source of the first frontier."""
        found = "Bokeh.documents.map((one) => one.get_model_by_name(arguments[0])).find(Boolean)"
        return self.run(f"return [...{found}.data[arguments[1]]]", source, name)

    def complaints(self) -> list[str]:
        """Return what the console holds that is more than news."""
        return [entry["message"] for entry in self.driver.get_log("browser") if entry["level"] not in ("INFO", "DEBUG")]

    def asked(self) -> list[str]:
        """Return the addresses that were asked for, but for those inside the page and on the disk."""
        messages = [json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance")]
        sent = [one["params"]["request"]["url"] for one in messages if one["method"] == "Network.requestWillBeSent"]
        return [url for url in sent if not url.startswith(("file:", "data:", "blob:"))]


def opened_browser() -> Browser:
    """Return a headless Chromium, or skip the test where none is installed."""
    webdriver = pytest.importorskip("selenium.webdriver")
    program, driver = shutil.which("chromium") or shutil.which("google-chrome"), shutil.which("chromedriver")
    if program is None or driver is None:
        pytest.skip("no Chromium with its driver is installed")
    options = webdriver.ChromeOptions()
    options.binary_location = program
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    return Browser(webdriver.Chrome(options=options, service=webdriver.ChromeService(driver)))
