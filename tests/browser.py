"""A real Chromium for the tests of the page; where none is installed they are skipped."""
from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from selenium import webdriver

CHROMIUM = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
)


def find_chromium() -> tuple[str, str] | None:
    """The paths of Chromium and of its driver; None where one of them is not installed."""
    browser = next(filter(None, map(shutil.which, CHROMIUM)), None)
    driver = shutil.which("chromedriver")
    return (browser, driver) if browser and driver else None


@contextlib.contextmanager
def started_chromium(programs: tuple[str, str], profile: Path) -> Iterator[webdriver.Chrome]:
    """A running Chromium without a window.

    programs: what `find_chromium` returned. profile: a new folder for the browser's own files.
    """
    options = webdriver.ChromeOptions()
    options.binary_location, driver = programs
    for flag in (*FLAGS, f"--user-data-dir={profile}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    # The path is given, so that selenium does not look for a driver on the network.
    running = webdriver.Chrome(options, webdriver.ChromeService(driver))
    try:
        yield running
    finally:
        running.quit()


@pytest.fixture(scope="session")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[webdriver.Chrome]:
    programs = find_chromium()
    if not programs:
        pytest.skip("no chromium and chromedriver on the PATH: the page is not tested")
    with started_chromium(programs, tmp_path_factory.mktemp("chromium")) as running:
        yield running
