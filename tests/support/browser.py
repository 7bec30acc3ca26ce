"""A headless Chromium that has no network, and tells what pages ask for and complain of."""

from __future__ import annotations

import importlib.util
import json
import shutil
from contextlib import contextmanager
from dataclasses import dataclass, field

CHROMIUM = next(filter(None, map(shutil.which, ["chromium", "chromium-browser", "google-chrome"])), None)
DRIVER = shutil.which("chromedriver")


def why_not():
    """Why there is no browser here, `None` if there is one."""
    if CHROMIUM is None or DRIVER is None:
        return "NO CHROMIUM: install chromium and its driver (apt-get install chromium chromium-driver)"
    if importlib.util.find_spec("selenium") is None:
        return "NO SELENIUM: pip install selenium"
    return None


@dataclass
class Seen:
    """What a page was when it was drawn."""

    #: What was asked for, other than the page itself.
    requests: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)


@contextmanager
def browsing():
    """A browser."""
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for argument in (
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--disable-background-networking",
        "--host-resolver-rules=MAP * ~NOTFOUND",
        "--window-size=1280,1600",
    ):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    try:
        yield driver
    finally:
        driver.quit()


def opened(driver, path, scheme="light"):
    """Open a page in a scheme of colours, and wait until it is drawn."""
    from selenium.webdriver.support.ui import WebDriverWait

    for name in ("browser", "performance"):
        driver.get_log(name)
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    driver.get(path.resolve().as_uri())
    WebDriverWait(driver, 30).until(lambda driver: driver.execute_script("return document.body.dataset.drawn") == "yes")
    return seen(driver, path)


def seen(driver, path):
    """What has been asked for and complained of since the last time."""
    result = Seen()
    for entry in driver.get_log("performance"):
        message = json.loads(entry["message"])["message"]
        if message["method"] == "Network.requestWillBeSent":
            url = message["params"]["request"]["url"]
            if url != path.resolve().as_uri() and not url.startswith(("data:", "blob:")):
                result.requests.append(url)
    result.complaints = [entry["message"] for entry in driver.get_log("browser")]
    return result
