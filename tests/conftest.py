"""GPU tests say why they are skipped; every test gets its own cache and working directory for what it writes."""

import json
import os
import shutil

import pytest
import torch


def pytest_collection_modifyitems(items):
    if torch.cuda.is_available():
        return
    reason = "torch was built without CUDA" if torch.version.cuda is None else "torch sees no GPU"
    for item in items:
        if item.get_closest_marker("cuda"):
            item.add_marker(pytest.mark.skip(reason=f"needs a GPU: {reason}"))


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.getbasetemp() / "cache"))


@pytest.fixture
def capture():
    """A function that records `step()` as a CUDA graph after one warm-up: (graph, what the recorded step returned)."""

    def record(step):
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            step()
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            captured = step()
        return graph, captured

    return record


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    """A headless Chromium, driven by Selenium, 1280 pixels wide. `browser.requests()`: addresses asked for since then.

    Without one the test is skipped, or fails where PYGAN_NEEDS_BROWSER is set, as it is in .ci/run.
    """
    webdriver = _need("selenium.webdriver", "pip install '.[test]'")
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    driver_path = shutil.which("chromedriver")
    if not (chromium and driver_path):
        _lack("Chromium and its driver are not installed (Debian: apt-get install chromium chromium-driver)")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    quiet = ("background-networking", "component-update", "sync", "gpu", "quic", "dev-shm-usage")
    for flag in ("headless=new", "no-sandbox", "no-first-run", *(f"disable-{name}" for name in quiet)):
        options.add_argument(f"--{flag}")
    options.add_argument("--window-size=1280,1000")
    options.add_argument(f"--user-data-dir={tmp_path_factory.mktemp('chromium')}")
    options.set_capability("goog:loggingPrefs", {"performance": "ALL", "browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(executable_path=driver_path))

    def requests():
        found = []
        for entry in driver.get_log("performance"):
            message = json.loads(entry["message"])["message"]
            if message["method"] == "Network.requestWillBeSent":
                found.append(message["params"]["request"]["url"])
        return [url for url in found if not url.startswith(("data:", "blob:", "chrome"))]

    driver.requests = requests
    yield driver
    driver.quit()


def _need(module, how):
    try:
        return __import__(module, fromlist=["x"])
    except ImportError:
        _lack(f"{module} is not installed: {how}")


def _lack(reason):
    if os.environ.get("PYGAN_NEEDS_BROWSER"):
        pytest.fail(reason)
    pytest.skip(reason)
