"""`python -m tests.picture FILE.png`: the README's picture of the page, taken from a real service by a real browser."""
from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from selenium.webdriver.common.by import By
from selenium.webdriver.support.wait import WebDriverWait

from tests.browser import find_chromium, started_chromium
from tests.harness.waiting import PATIENCE
from tests.service_fixtures import serving

TEXT = "Sorry, I'm running late. See you at the "
WIDTH, HEIGHT = 780, 740  # pixels


def take(picture: Path) -> int:
    programs = find_chromium()
    if not programs:
        print("picture: chromium and chromedriver are not installed", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory() as folder, serving(Path(folder), None) as service:
        with started_chromium(programs, Path(folder) / "profile") as browser:
            browser.set_window_size(WIDTH, HEIGHT)
            browser.get(service.url)
            browser.find_element(By.ID, "text").send_keys(TEXT)
            WebDriverWait(browser, PATIENCE).until(
                lambda page: len(page.find_elements(By.CSS_SELECTOR, "#words button")) == 5
            )
            browser.save_screenshot(str(picture))
    return 0


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m tests.picture FILE.png")
    sys.exit(take(Path(sys.argv[1])))
