"""The panel of the own words in a real browser, with a real service that keeps profiles."""
from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from tests.service_fixtures import Service, serving
from tests.test_page import Page, contrast

TEXT = "We met Zofia Kowalczyk. Zofia Kowalczyk went home."


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("store") / "profiles.sqlite"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, tiny_bundle: Path, store: Path) -> Iterator[Service]:
    with serving(tmp_path_factory.mktemp("page"), tiny_bundle, "--profiles", str(store)) as running:
        yield running


class Panel(Page):
    """The page with the panel of the own words."""

    def part(self, name: str) -> Any:
        return self.browser.find_element(By.ID, name)

    def own(self) -> dict[str, str]:
        """Return the words that are listed, with their counts."""
        script = """return Object.fromEntries([...document.querySelectorAll("#own li")].map(
            (item) => [".word", ".count"].map((part) => item.querySelector(part).textContent)))"""
        return self.browser.execute_script(script)

    def said(self, beginning: str) -> None:
        self.wait(lambda: self.part("learned").text.startswith(beginning), beginning)

    def teach(self, text: str) -> None:
        self.part("lesson").send_keys(text)
        self.part("learn").click()
        self.said(f"{len(text.split())} words learnt.")

    def suggests(self, typed: str, words: list[str]) -> None:
        self.text.clear()
        self.type(typed)
        self.wait(lambda: self.words() == words, f"the words {words}")


@pytest.fixture
def page(chromium: Any, server: Service) -> Iterator[Panel]:
    page = Panel(chromium, server.url)
    yield page
    chromium.execute_script("localStorage.clear()")
    assert [entry for entry in chromium.get_log("browser") if entry["level"] == "SEVERE"] == []


def content(store: Path) -> bytes:
    return b"".join(file.read_bytes() for file in store.parent.iterdir())


def test_text_is_taught_its_words_are_forgotten_and_all_of_it_with_one_button(page: Panel, store: Path) -> None:
    assert not page.part("sent").is_displayed() and not page.part("erase").is_displayed()
    page.suggests("We met Zofia Kow", [])
    page.teach(TEXT)
    page.wait(lambda: page.own().get("Kowalczyk") == "2", "the own words")
    page.suggests("We met Zofia Kow", ["Kowalczyk"])
    page.wait(lambda: "from your text" in page.buttons()[0].accessible_name, "the mark")
    page.browser.refresh()
    page = Panel(page.browser, page.url)
    page.wait(lambda: "Zofia" in page.own(), "the own words again")
    (forget,) = [button for button in page.browser.find_elements(By.CSS_SELECTOR, "#own button")
                 if button.accessible_name == "Forget Kowalczyk"]
    assert b"Kowalczyk" in content(store)
    forget.click()
    page.said("“Kowalczyk” is forgotten.")
    page.wait(lambda: "Kowalczyk" not in page.own(), "the other own words")
    assert b"Kowalczyk" not in content(store)
    page.suggests("We met Zofia Kow", [])
    page.teach("The Vistula again.")
    page.part("undo").click()
    page.said("Taken back.")
    page.wait(lambda: "Vistula" not in page.own(), "the words without it")
    assert b"Zofia" in content(store) and b"Vistula" not in content(store)
    page.part("erase").click()
    page.said("Everything is forgotten.")
    assert page.own() == {} and not page.part("erase").is_displayed()
    assert b"Zofia" not in content(store)


def test_finished_sentences_are_learned_only_where_the_switch_is_on(page: Panel, store: Path) -> None:
    assert not page.part("learning").is_selected()
    page.type("We met Barnaby. ")
    page.wait(lambda: page.words(), "suggestions")
    page.part("learning").click()
    page.browser.refresh()
    page = Panel(page.browser, page.url)
    assert page.part("learning").is_selected()
    page.type("We met Zofya. Then we went to Xanten")
    page.said("Learnt: “We met Zofya.”")
    page.wait(lambda: page.own().get("Zofya") == "1", "the own words")
    assert "Xanten" not in page.own() and "Barnaby" not in page.own()
    page.type(*[Keys.ARROW_LEFT] * len("a. Then we went to Xanten"), Keys.BACKSPACE, "i")  # a slip is corrected
    page.wait(lambda: page.own().get("Zofia") == "1" and "Zofya" not in page.own(), "the corrected word")
    page.part("undo").click()
    page.said("Taken back.")
    page.part("clear").click()
    page.type("Xanten is a town. ")
    page.said("Learnt: “Xanten is a town.”")
    page.wait(lambda: "Xanten" in page.own() and "Zofia" not in page.own(), "the words without what was taken back")
    assert b"Barnaby" not in content(store)
    page.part("erase").click()
    page.said("Everything is forgotten.")


@pytest.mark.parametrize("width", [360, 1440])
def test_the_panel_fits_and_can_be_read(page: Panel, width: int) -> None:
    page.teach(TEXT + " " + "Donaudampfschifffahrtsgesellschaftskapitänswitwe" * 2)
    size = {"width": width, "height": 740, "deviceScaleFactor": 1, "mobile": False}
    page.browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    try:
        scrolls = "const page = document.documentElement; return page.scrollWidth > page.clientWidth"
        assert not page.browser.execute_script(scrolls)
        for button in page.browser.find_elements(By.CSS_SELECTOR, "#kept button:not([hidden])"):
            assert button.rect["height"] >= 44
        for selector in ("#kept p", "#own .count", "#own .word", "#learned"):
            assert contrast(page.browser, selector) >= 4.5, selector
    finally:
        page.browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
        page.part("erase").click()
        page.said("Everything is forgotten.")
