"""The page at / in a real browser, asking a real service."""
from __future__ import annotations

import json
import re
import shutil
import unicodedata

import httpx
import pytest
from selenium.common.exceptions import StaleElementReferenceException
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.wait import WebDriverWait

from tests.service_fixtures import PATIENCE, serving
from tests.word_cases import COMPLETED, TYPED

# Answers come when the test lets them: window.answers[n](), or window.answers[n](true) for a failure.
HOLD_ANSWERS = """
window.answers = [];
const real = window.fetch;
window.fetch = (address, options) => new Promise((resolve, reject) => {
  const {signal, ...rest} = options;  // an answer that is on its way cannot be stopped
  answers.push((fail) => fail ? reject(new TypeError("no network")) : real(address, rest).then(resolve));
});
"""


class Page:
    """What a user sees and does."""

    def __init__(self, browser, url: str):
        self.browser = browser
        self.url = url
        browser.get(url)
        self.text = browser.find_element(By.ID, "text")

    def wait(self, condition, what: str):
        # The page may draw its suggestions anew between two looks at them.
        waiting = WebDriverWait(self.browser, PATIENCE, 0.05, ignored_exceptions=[StaleElementReferenceException])
        return waiting.until(lambda _: condition(), what)

    def type(self, *keys: str) -> None:
        self.text.send_keys(*keys)

    def press(self, *keys: str) -> None:
        """Presses keys together, wherever the focus is."""
        chain = ActionChains(self.browser)
        for key in keys:
            chain.key_down(key)
        for key in reversed(keys):
            chain.key_up(key)
        chain.perform()

    @property
    def value(self) -> str:
        return self.text.get_property("value")

    def buttons(self):
        return self.browser.find_elements(By.CSS_SELECTOR, "#words button")

    def words(self) -> list[str]:
        script = "return [...document.querySelectorAll('#words .word')].map((word) => word.textContent)"
        return self.browser.execute_script(script)

    def offers(self, expected: list[str]) -> None:
        self.wait(lambda: self.words() == expected, f"the words {expected}")

    def first_words(self) -> list[str]:
        return [phrase.split()[0] for phrase in self.words()]

    def ghost(self) -> str:
        """The grey text after the caret."""
        return self.browser.execute_script("return document.getElementById('ghost').textContent")

    def remember(self, history: str) -> None:
        """Writes the user's own text into its panel."""
        self.browser.find_element(By.ID, "history").send_keys(history)
        self.text.click()

    def notice(self) -> str:
        return self.browser.find_element(By.ID, "notice").text


@pytest.fixture(scope="module")
def server(tmp_path_factory, tiny_bundle):
    """A service of a model that learns from what is written: on the invented text alone that would not pay."""
    folder = tmp_path_factory.mktemp("page")
    bundle = shutil.copytree(tiny_bundle, folder / "bundle")
    metadata = json.loads((bundle / "bundle.json").read_text())
    metadata.update(cache={"theta": 4.0, "weight": 0.3, "size": 2000}, sha256="")
    (bundle / "bundle.json").write_text(json.dumps(metadata))
    with serving(folder, bundle) as running:
        yield running


@pytest.fixture(scope="module")
def http(server):
    with httpx.Client(base_url=server.url, timeout=PATIENCE) as client:
        yield client


@pytest.fixture
def page(chromium, server):
    page = Page(chromium, server.url)
    yield page
    chromium.execute_script("localStorage.clear()")
    faults = [entry for entry in chromium.get_log("browser") if entry["level"] == "SEVERE"]
    assert faults == []


@pytest.fixture
def ask(http):
    """The words that the service has for a text, but for the one that is typed."""

    def ask(text: str, partial: str = "", **fields) -> list[str]:
        question = {"text": text, "partial": partial, "max_words": 4, "k": 6 if partial else 5, **fields}
        found = http.post("/v1/next-words", json=question).json()["words"]
        return [word["word"] for word in found if word["word"] != partial][:5]

    return ask


def test_suggestions_follow_the_typing(page, ask):
    page.offers(ask(""))
    page.type("I went to ")
    page.offers(ask("I went to "))
    page.type("s")
    narrowed = ask("I went to ", "s")
    page.offers(narrowed)
    assert narrowed and all(word.lower().startswith("s") for word in narrowed)
    page.type(Keys.BACKSPACE)
    page.offers(ask("I went to "))


def test_suggestions_follow_the_caret(page, ask):
    page.type("I went to the store today", *[Keys.ARROW_LEFT] * len("ore today"))
    words = ask("I went to the ", "st")
    assert words
    page.offers(words)


def test_shares_of_the_words_that_fit_what_is_typed_are_bars_and_numbers(page, http):
    page.type("I went to the s")
    question = {"text": "I went to the ", "partial": "s", "max_words": 4, "k": 6}
    found = http.post("/v1/next-words", json=question).json()["words"][:5]
    page.offers([word["word"] for word in found])
    shares = [word["share"] for word in found]
    assert shares[0] > 1.1 * found[0]["probability"]
    shown = [percent.text for percent in page.browser.find_elements(By.CSS_SELECTOR, "#words .percent")]
    percents = [100 * share for share in shares]
    assert shown == [
        "< 0.1 %" if percent < 0.1 else f"{percent:.{1 if percent < 10 else 0}f} %" for percent in percents
    ]
    widths = """return [...document.querySelectorAll("#words .bar")].map((track) =>
        track.firstChild.getBoundingClientRect().width / track.getBoundingClientRect().width)"""
    page.wait(lambda: page.browser.execute_script(widths) == pytest.approx(shares, abs=0.01), "the bars' widths")
    assert "fit “s”" in page.buttons()[0].get_attribute("title")


def test_a_click_inserts_and_the_writing_goes_on(page, ask):
    words = ask("")
    page.offers(words)
    page.buttons()[2].click()
    assert page.value == words[2] + " "
    page.offers(ask(words[2] + " "))
    assert page.browser.switch_to.active_element == page.text
    page.type("x")
    assert page.value == words[2] + " x"


def test_tab_inserts_the_first_word_in_place_of_what_is_typed_of_it(page, ask):
    page.type("I went to t")
    words = ask("I went to ", "t")
    page.offers(words)
    page.press(Keys.TAB)
    assert page.value == f"I went to {words[0]} "
    page.press(Keys.CONTROL, "z")
    page.wait(lambda: page.value == "I went to t", "the undone insertion")


def test_tab_accepts_the_grey_phrase(page, ask):
    page.type("Thank ")
    phrase = ask("Thank ")[0]
    assert phrase.startswith("you very much")
    page.wait(lambda: page.ghost() == phrase, "the grey text")
    page.type("yo")
    page.wait(lambda: page.ghost() == phrase[2:], "what is left of it")
    page.offers(ask("Thank ", "yo"))
    page.press(Keys.TAB)
    assert page.value == f"Thank {phrase} "


def test_grey_text_follows_the_typing_without_waiting_for_answers(page, ask):
    page.type("Thank ")
    phrase = ask("Thank ")[0]
    page.wait(lambda: page.ghost() == phrase, "the grey text")
    page.browser.execute_script(HOLD_ANSWERS)
    page.type("you")
    assert page.ghost() == phrase[3:]
    page.type("x")
    assert page.ghost() == ""


def test_grey_text_lies_where_the_words_would_be(page, ask):
    text = "I went to the store today. " * 3 + "Thank "
    phrase = ask(text)[0]
    place = """const node = document.querySelector(arguments[0]).firstChild, range = document.createRange();
        range.setStart(node, arguments[1]); range.setEnd(node, arguments[1] + 1);
        const {x, y} = range.getBoundingClientRect(); return [x, y]"""
    page.type(text)
    page.wait(lambda: page.ghost() == phrase, "the grey text")
    grey = page.browser.execute_script(place, "#ghost", 0)
    page.press(Keys.TAB)
    page.offers(ask(page.value))
    assert page.browser.execute_script(place, "#mirror span", len(text)) == pytest.approx(grey, abs=1)
    width = "return ['text', 'mirror'].map((id) => document.getElementById(id).clientWidth)"
    assert len(set(page.browser.execute_script(width))) == 1


def test_there_is_no_grey_text_before_other_text(page, ask):
    page.type("Thank today", *[Keys.ARROW_LEFT] * len("today"))
    page.offers(ask("Thank "))
    assert page.ghost() == ""


def test_own_text_changes_the_suggestions(page, ask):
    page.type("I went to Z")
    page.offers(ask("I went to ", "Z"))
    own = "I went to Zanzibar. We went to Zanzibar."
    assert "Zanzibar" not in page.first_words()
    page.remember(own)
    page.offers(ask("I went to ", "Z", history=own))
    assert "Zanzibar" in page.first_words()
    own_words = "//ol//button[.//span[@class='own' and not(@hidden)]]"
    marked = page.wait(lambda: page.browser.find_elements(By.XPATH, own_words), "the marks, when the typing rests")
    assert "Zanzibar" in [button.get_attribute("data-word").split()[0] for button in marked]
    assert all(button.accessible_name.endswith(", from your text") for button in marked)
    assert page.browser.find_element(By.ID, "effect").text.startswith(f"{len(marked)} of ")
    page.browser.find_element(By.ID, "example").click()
    page.wait(lambda: "Zanzibar" not in page.first_words(), "the suggestions without it")
    assert page.browser.find_element(By.ID, "history").get_property("value") == ""


def test_example_of_own_text_can_be_tried(page, ask):
    page.browser.find_element(By.ID, "example").click()
    page.text.click()
    page.type("Dear Z")
    page.wait(lambda: page.first_words()[:1] == ["Zofia"], "a name of the example")


def test_each_answer_tells_its_cost_and_what_was_read(page, ask):
    page.type("I went to Zanzibar ")
    page.offers(ask("I went to Zanzibar "))
    footer = page.browser.find_element(By.TAG_NAME, "footer").text.split("\n")
    read = "The model has read 4 words before the caret; not in its vocabulary: Zanzibar"
    assert footer[:2] == ["Model: tiny", read]
    assert re.fullmatch(r"Answered in \d+(\.\d)? ms", footer[2])


def test_number_keys_write_numbers_unless_they_are_switched_on(page, ask):
    page.offers(ask(""))
    page.type("Meet me at 5 ")
    assert page.value == "Meet me at 5 "
    page.browser.find_element(By.ID, "digits").click()
    page.type(Keys.CONTROL, "a")
    page.type("I went ")
    words = ask("I went ")
    page.offers(words)
    page.type("2")
    assert page.value == f"I went {words[1]} "
    page.type("A4")
    assert page.value == f"I went {words[1]} A4"
    page.browser.refresh()
    assert page.browser.find_element(By.ID, "digits").is_selected()


def test_a_suggestion_replaces_the_whole_word_around_the_caret(page, ask):
    page.type("We went to walk", *[Keys.ARROW_LEFT] * len("nt to walk"))
    words = ask("We ", "we")
    page.offers(words)
    page.buttons()[0].click()
    assert page.value == f"We {words[0]} to walk"
    page.type("x")
    assert page.value == f"We {words[0]} xto walk"


def test_a_finished_word_is_not_its_own_suggestion(page, ask):
    page.type("I went to the store")
    page.offers(ask("I went to the ", "store"))
    assert "store" not in page.words() and page.ghost() == "" and page.notice() == ""
    page.press(Keys.TAB)
    assert page.value == "I went to the store "


def test_the_text_can_be_copied_and_cleared(page, ask):
    copy, clear = (page.browser.find_element(By.ID, name) for name in ("copy", "clear"))
    assert not copy.is_enabled() and not clear.is_enabled()
    page.type("I went ", Keys.ARROW_LEFT)
    copy.click()
    page.wait(lambda: copy.text == "Copied", "that it is copied")
    clear.click()
    assert page.value == "" and not clear.is_enabled()
    page.press(Keys.CONTROL, "v")
    assert page.value == "I went "
    page.press(Keys.CONTROL, "z")
    page.press(Keys.CONTROL, "z")
    assert page.value == "I went "


def test_alt_with_a_number_inserts_everywhere(page, ask):
    page.type("I went to t")
    words = ask("I went to ", "t")
    page.offers(words)
    prevented = "return !arguments[0].dispatchEvent(new KeyboardEvent('keydown', {code: arguments[1], altKey: true,"
    prevented += " cancelable: true, bubbles: true}))"
    assert not page.browser.execute_script(prevented, page.text, "Numpad3"), "Windows writes characters by their number"
    assert page.value == "I went to t"
    page.press(Keys.ALT, "3")
    assert page.value == f"I went to {words[2]} "


def test_spaces_are_neither_doubled_nor_missing(page, ask):
    page.type("Yes,")
    after_comma = ask("Yes,")
    page.offers(after_comma)
    page.press(Keys.TAB)
    assert page.value == f"Yes, {after_comma[0]} "
    page.type(".")
    assert page.value == f"Yes, {after_comma[0]}."

    page.type(Keys.CONTROL, "a")
    page.type("old  sea", *[Keys.ARROW_LEFT] * 4)
    before_space = ask("old ")
    page.offers(before_space)
    page.press(Keys.TAB)
    assert page.value == f"old {before_space[0]} sea"
    page.type("x")
    assert page.value == f"old {before_space[0]} xsea"

    page.type(Keys.CONTROL, "a")
    page.type("(")
    in_bracket = ask("(")
    page.offers(in_bracket)
    page.press(Keys.TAB)
    assert page.value == f"({in_bracket[0]} "


def test_the_keyboard_alone_reaches_everything(page, ask):
    words = ask("")
    page.offers(words)
    page.press(Keys.ESCAPE)
    assert page.words() == []
    page.press(Keys.TAB)
    assert page.browser.switch_to.active_element != page.text

    page.text.click()
    page.type("I ")
    words = ask("I ")
    page.offers(words)
    page.press(Keys.SHIFT, Keys.TAB)
    page.press(Keys.TAB)
    assert page.browser.switch_to.active_element == page.text
    page.browser.execute_script("document.querySelectorAll('#words button')[3].focus()")
    page.press(Keys.ENTER)
    assert page.value == f"I {words[3]} "
    assert page.browser.switch_to.active_element == page.text


def test_the_word_that_is_typed_is_found_in_every_script(page, ask):
    page.offers(ask(""))
    script = """const [typed, questions, real] = [arguments[0], [], window.fetch];
        const field = document.getElementById("text");
        window.fetch = (_, options) => {
            questions.push(JSON.parse(options.body)); return new Promise(() => {}); };
        for (const text of typed) {
          field.value = text;
          field.dispatchEvent(new InputEvent("input"));
        }
        window.fetch = real;
        return questions.map(({text, partial}) => [text, partial]);"""
    expected = [[text, unicodedata.normalize("NFC", partial)] for text, partial in TYPED]
    assert page.browser.execute_script(script, [text + partial for text, partial in TYPED]) == expected
    assert page.browser.execute_script(script, ["a'" * 100_000, "b " * 50_000 + "c"])[0][1] == "c"


def test_a_word_is_completed_however_it_is_typed(page):
    page.remember(" ".join([*{word: word for _, word in COMPLETED}] * 3))  # words written once wait for more letters
    for typed, word in COMPLETED:
        page.browser.execute_script("const field = arguments[0]; field.value = ''; field.focus();"
                                    "document.execCommand('insertText', false, arguments[1])", page.text, f"I {typed}")
        page.wait(lambda word=word: page.first_words()[:1] == [word], f"{word} for {typed}")
        if typed in ("well\u2011kn", "Cafe\u0301", "don’"):
            rest = word[len(unicodedata.normalize("NFC", typed)) :]
            page.wait(lambda rest=rest: page.ghost().startswith(rest), f"the grey {rest}")
            page.press(Keys.TAB)
            assert page.value.startswith(f"I {word}")
        elif typed == "짖":
            assert page.ghost() == "", "there is nothing to be put after this syllable"


def test_emoji_are_suggested_when_the_box_is_ticked(page, ask):
    own = "I went 👍🏽 " * 50
    page.browser.execute_script("arguments[0].value = arguments[1]", page.browser.find_element(By.ID, "history"), own)
    page.type("I went ")
    page.offers(ask("I went ", history=own))
    assert "👍🏽" not in page.words()
    page.browser.find_element(By.ID, "emoji").click()
    with_emoji = ask("I went ", history=own, emoji=True)
    page.offers(with_emoji)
    assert "👍🏽" in with_emoji
    page.buttons()[with_emoji.index("👍🏽")].click()
    assert page.value == "I went 👍🏽 "
    page.browser.refresh()
    assert page.browser.find_element(By.ID, "emoji").is_selected()


def test_unknown_words_are_said(page):
    page.type("qzxqzx")
    page.wait(lambda: "qzxqzx" in page.notice(), "the notice")
    assert page.words() == []


def test_a_correction_is_marked_and_replaces_the_word(page, ask):
    page.type("I went to the stroe")
    page.offers(ask("I went to the ", "stroe"))
    first = page.buttons()[0]
    assert page.words()[0] == "store" and "store, correction, " in first.accessible_name
    assert first.find_element(By.CLASS_NAME, "corrects").is_displayed() and page.ghost() == " → store"
    page.press(Keys.TAB)
    assert page.value == "I went to the store "
    page.type("St")
    page.offers(ask("I went to the store ", "St"))
    assert not page.buttons()[0].find_element(By.CLASS_NAME, "corrects").is_displayed()


def test_late_answers_never_overwrite_newer_ones(page, ask):
    page.offers(ask(""))
    page.browser.execute_script(HOLD_ANSWERS)
    page.type("I ", "went ", "to ")
    asked = page.browser.execute_script("return answers.length")
    assert asked == len("I went to ")
    page.browser.execute_script(f"answers[{asked - 1}]()")
    page.offers(ask("I went to "))
    page.browser.execute_async_script(
        "const done = arguments[0]; answers.slice(0, -1).forEach((answer, n) => answer(n % 2 == 1));"
        "setTimeout(done, 300)"
    )
    assert page.words() == ask("I went to ")
    assert page.notice() == ""


def test_overtaken_questions_are_called_off(page, ask):
    page.offers(ask(""))
    page.browser.execute_script(
        "window.signals = []; const real = fetch;"
        "window.fetch = (address, options) => { signals.push(options.signal); return real(address, options); }"
    )
    page.type("I went ")
    page.offers(ask("I went "))
    called_off = page.browser.execute_script("return signals.map((signal) => signal.aborted)")
    assert called_off == [True] * (len("I went ") - 1) + [False]


def test_own_text_costs_no_second_question_at_each_key(page, ask):
    own = "We went to Zanzibar."
    page.remember(own)
    effect = page.browser.find_element(By.ID, "effect")
    page.wait(lambda: effect.text, "what the own text does")
    page.browser.execute_script(
        "window.questions = []; const real = fetch;"
        "window.fetch = (address, options) =>"
        " { questions.push(JSON.parse(options.body)); return real(address, options); }"
    )
    # In one go, as keys that a driver sends one by one may lie further apart than those of a quick typist.
    page.browser.execute_script("for (const key of 'I went ') document.execCommand('insertText', false, key)")
    histories = "return questions.map((question) => question.history ?? null)"
    page.wait(lambda: None in page.browser.execute_script(histories), "the question without the own text")
    assert page.browser.execute_script(histories) == [own] * len("I went ") + [None]


def test_a_page_names_its_session_so_that_a_balancer_can_keep_to_one_service(page, ask):
    script = """window.sessions = []; const real = fetch; window.fetch = (address, options) => {
        sessions.push(options.headers["x-session"]); return real(address, options); }"""
    page.browser.execute_script(script)
    page.type("I ")
    page.offers(ask("I "))
    first = set(page.browser.execute_script("return sessions"))
    page.browser.refresh()
    page.browser.execute_script(script)
    page.browser.find_element(By.ID, "text").send_keys("I")
    second = set(page.browser.execute_script("return sessions"))
    assert len(first) == len(second) == 1 and first != second
    assert re.fullmatch(r"[0-9a-z]{16,}", first.pop())


def test_tab_before_the_answer_waits_for_it(page, ask):
    page.offers(ask(""))
    page.browser.execute_script(HOLD_ANSWERS)
    page.type("I ")
    page.press(Keys.TAB)
    assert page.value == "I "
    assert page.browser.switch_to.active_element == page.text
    page.browser.execute_script("answers.at(-1)()")
    expected = f"I {ask('I ')[0]} "
    page.wait(lambda: page.value == expected, "the first suggestion")
    page.press(Keys.TAB)
    page.type("x")
    page.browser.execute_script("answers.forEach((answer) => answer())")
    page.offers(ask(expected, "x"))
    assert page.value == f"{expected}x", "what was asked for before another key is not inserted"


def test_absence_of_the_service_is_said_and_ends(page, ask):
    page.offers(ask(""))
    page.browser.execute_script(HOLD_ANSWERS)
    page.type("I")
    page.browser.execute_script("answers.at(-1)(true)")
    page.wait(lambda: "does not answer" in page.notice(), "the notice")
    assert page.words() == []
    page.wait(lambda: page.browser.execute_script("return answers.length") > 1, "another question")
    page.browser.execute_script("answers.at(-1)()")
    page.offers(ask("", "I"))
    assert page.notice() == ""


def test_refusals_are_shown(page, ask):
    page.offers(ask(""))
    page.browser.execute_script(
        "const real = fetch; window.fetch = (address, options) => real(address, {...options, body: '{}'})"
    )
    page.type("I")
    page.wait(lambda: page.notice() == "text: this field is required", "the service's message")
    page.browser.get_log("browser")  # the refusal itself


def test_screen_readers_find_names(page, ask):
    words = ask("")
    page.offers(words)
    assert page.text.accessible_name == "Write, and the likely next words follow."
    for button, word in zip(page.buttons(), words):
        assert button.accessible_name.startswith(f"{word}, ")
        assert button.accessible_name.endswith(" percent")
    spoken = page.browser.find_element(By.ID, "spoken")
    assert spoken.get_attribute("role") == "status"
    page.wait(lambda: spoken.get_property("textContent") == ", ".join(words), "the spoken words")
    assert page.browser.find_element(By.ID, "notice").get_attribute("role") == "alert"


@pytest.mark.parametrize("width", [360, 1440])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_and_can_be_read(page, ask, width, scheme):
    browser = page.browser
    media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
    size = {"width": width, "height": 740, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    try:
        written = f"{'Donaudampfschifffahrtsgesellschaftskapitänswitwe' * 2} went to the "
        page.type(written)
        page.offers(ask(written))
        scrolls = "const page = document.documentElement; return page.scrollWidth > page.clientWidth"
        assert not browser.execute_script(scrolls)
        for button in page.buttons():
            assert button.is_displayed() and button.rect["height"] >= 44
        for selector in ("body", ".percent", "footer", "header a", "kbd", "#ghost", "#effect", "aside p"):
            assert contrast(browser, selector) >= 4.5, selector
        assert contrast(browser, "#history", "::placeholder") >= 4.5
    finally:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


def contrast(browser, selector: str, part: str | None = None) -> float:
    """Returns the contrast ratio of text and page as WCAG 2 defines it, 1 to 21. part: a pseudo-element."""

    def luminance(color: str) -> float:
        channels = [int(part) / 255 for part in color.strip("rgb()").split(",")]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    color = "return getComputedStyle(document.querySelector(arguments[0]), arguments[2])[arguments[1]]"
    assert browser.execute_script(color, selector, "opacity", part) == "1"
    text = luminance(browser.execute_script(color, selector, "color", part))
    paper = luminance(browser.execute_script(color, "body", "backgroundColor"))
    return (max(text, paper) + 0.05) / (min(text, paper) + 0.05)


def test_browsers_ask_whether_the_page_is_still_the_same(http):
    for address in ("/", "/page/page.js", "/page/page.css"):
        first = http.get(address)
        assert first.headers["cache-control"] == "no-cache"
    assert http.get(address, headers={"if-none-match": first.headers["etag"]}).status_code == 304


def test_nothing_comes_from_elsewhere(page, server, ask):
    page.offers(ask(""))
    for address in ("/", "/docs"):
        page.browser.get(server.url + address)
        names = "return performance.getEntriesByType('resource').map((entry) => entry.name)"
        page.wait(lambda names=names: len(page.browser.execute_script(names)) >= 3, "the parts of the page")
        assert all(name.startswith(server.url) for name in page.browser.execute_script(names))
    page.wait(lambda: page.browser.find_elements(By.ID, "operations-suggestions-next_words"), "the documented route")
