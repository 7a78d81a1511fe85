"""Completions as the official `openai` package gets them from a running service."""
from __future__ import annotations

import itertools
import math
import time
from collections import Counter

import httpx
import openai
import pytest

from nextword.lm.continuous_cache import CacheSettings
from nextword.serve.questions import RateQuestion, WriteQuestion
from nextword.serve.worker.completions import Completions
from nextword.serve.worker.state_cache import StateCache
from tests.service_fixtures import PATIENCE, wait_until

PROMPT = "I went to the"
PLACES = {" store", " market", " park", " station", " beach", " London"}


def connected(url: str) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{url}/v1", api_key="any", max_retries=0, timeout=PATIENCE)


@pytest.fixture(scope="module")
def client(server):
    with connected(server.url) as client:
        yield client


@pytest.fixture
def complete(client, tiny_model):
    """Asks for a completion of PROMPT, or as the arguments have it."""

    def ask(**options):
        return client.completions.create(**{"model": tiny_model.name, "prompt": PROMPT, "seed": 1, **options})

    return ask


# Text


def test_a_prompt_is_written_on(complete, tiny_model):
    before = time.time()
    completion = complete(max_tokens=1)
    assert completion.object == "text_completion"
    assert completion.model == tiny_model.name
    assert before - 1 <= completion.created <= time.time()
    (choice,) = completion.choices
    assert (choice.index, choice.finish_reason, choice.logprobs) == (0, "length", None)
    assert choice.text in PLACES
    assert completion.usage.to_dict() == {"prompt_tokens": 4, "completion_tokens": 1, "total_tokens": 5}


def test_greedy_text_is_the_models_likeliest(complete, tiny_model):
    text = PROMPT
    for _ in range(3):
        text += " " + tiny_model.next_words(text, k=1, punctuation=True)[0].word
    written = complete(max_tokens=3, temperature=0).choices[0].text
    assert tiny_model.vocabulary.tokens(PROMPT + written) == tiny_model.vocabulary.tokens(text)
    assert written == complete(max_tokens=3, top_p=0, seed=5).choices[0].text


def test_spacing_is_natural_and_nothing_is_unknown(complete):
    text = complete(max_tokens=500, top_p=0.99).choices[0].text
    for line in text.split("\n")[1:-1]:
        assert line.endswith((".", "!"))
        assert not line.startswith(" ")
    assert "<" not in text
    assert " ." not in text
    assert " ," not in text


def test_white_space_at_the_end_of_the_prompt_is_not_doubled(complete):
    assert not complete(prompt="I went to the ").choices[0].text.startswith(" ")
    assert complete(prompt="I went to the").choices[0].text.startswith(" ")
    assert not complete(prompt="").choices[0].text.startswith(" ")


# What is drawn


def test_the_seed_decides(complete):
    texts = [complete(max_tokens=30, seed=seed).choices[0].text for seed in (1, 1, 2, -(2**63))]
    assert texts[0] == texts[1]
    assert len(set(texts)) == 3
    assert complete(max_tokens=30, seed=None).choices[0].text != complete(max_tokens=30, seed=None).choices[0].text


def test_choices_differ_and_come_in_the_order_of_the_prompts(complete):
    prompts = [PROMPT, "Thank you very"]
    completion = complete(prompt=prompts, n=3, max_tokens=12)
    assert [choice.index for choice in completion.choices] == list(range(6))
    texts = [choice.text for choice in completion.choices]
    assert len(set(texts[:3])) == 3
    assert all(text.startswith(" much") for text in texts[3:])
    assert completion.usage.to_dict() == {"prompt_tokens": 4 + 3, "completion_tokens": 72, "total_tokens": 79}


def test_the_best_of_several_texts_are_those_with_the_likeliest_tokens(complete):
    each = complete(n=6, max_tokens=8, logprobs=0).choices
    means = [sum(choice.logprobs.token_logprobs) / len(choice.logprobs.tokens) for choice in each]
    best = sorted(sorted(range(6), key=lambda place: means[place])[-2:])
    completion = complete(n=2, best_of=6, max_tokens=8)
    assert [choice.text for choice in completion.choices] == [each[place].text for place in best] != [
        choice.text for choice in each[:2]]
    assert [choice.index for choice in completion.choices] == [0, 1]
    assert completion.usage.completion_tokens == 48
    streamed = ["", ""]
    for event in complete(n=2, best_of=6, max_tokens=8, stream=True):
        streamed[event.choices[0].index] += event.choices[0].text
    assert streamed == [choice.text for choice in completion.choices]


def test_words_are_drawn_as_often_as_they_are_probable(complete, tiny_model):
    drawn = Counter(choice.text for seed in range(25) for choice in complete(max_tokens=1, n=16, seed=seed).choices)
    for word in tiny_model.next_words(PROMPT, k=3):
        deviation = math.sqrt(400 * word.probability * (1 - word.probability))
        assert abs(drawn[f" {word.word}"] - 400 * word.probability) < 5 * deviation


# Stops


def test_the_text_ends_before_the_first_stop(complete):
    whole = complete(max_tokens=40).choices[0].text
    for stop in ([". ", "\n"], "the", [" to", "zzz"], whole[5:9]):
        choice = complete(max_tokens=40, stop=stop).choices[0]
        stops = [stop] if isinstance(stop, str) else stop
        cut = min(whole.index(found) for found in stops if found in whole)
        assert (choice.text, choice.finish_reason) == (whole[:cut], "stop")


def test_what_no_stop_ends_has_its_full_length(complete):
    completion = complete(max_tokens=11, stop=["zzz"])
    assert completion.choices[0].finish_reason == "length"
    assert completion.usage.completion_tokens == 11


# Echo and log-probabilities


def test_echo_puts_the_prompt_first(complete):
    prompt = "  Odd   spaces \u201cstay\u201d,\n\n e\u0301 too "
    written = complete(prompt=prompt, max_tokens=9).choices[0].text
    assert complete(prompt=prompt, max_tokens=9, echo=True).choices[0].text == prompt + written
    alone = complete(prompt=prompt, max_tokens=0, echo=True)
    assert alone.choices[0].text == prompt
    assert alone.usage.completion_tokens == 0


def test_logprobs_are_the_models(complete, tiny_model):
    choice = complete(max_tokens=1, logprobs=4).choices[0]
    expected = {word.word: word.logprob for word in tiny_model.next_words(PROMPT, k=10)}
    assert choice.logprobs.tokens == [choice.text]
    assert choice.logprobs.token_logprobs[0] == pytest.approx(expected[choice.text.strip()], abs=1e-4)
    assert choice.logprobs.text_offset == [len(PROMPT)]
    (top,) = choice.logprobs.top_logprobs
    assert set(top) <= {f" {word}" for word in expected}
    assert 4 <= len(top) <= 5
    assert top[choice.text] == choice.logprobs.token_logprobs[0]


@pytest.mark.parametrize("echo", [False, True])
def test_tokens_and_offsets_make_up_the_text(complete, echo):
    prompt = "  We  walked to Zorblax.\n\n Thank you"
    choice = complete(prompt=prompt, max_tokens=30, logprobs=2, echo=echo, stop="ark").choices[0]
    logprobs = choice.logprobs
    assert "".join(logprobs.tokens) == choice.text
    whole = choice.text if echo else prompt + choice.text
    for token, offset, logprob, top in zip(
        logprobs.tokens, logprobs.text_offset, logprobs.token_logprobs, logprobs.top_logprobs, strict=True
    ):
        assert whole[offset : offset + len(token)] == token
        assert logprob <= 0
        assert logprob in top.values()


@pytest.mark.parametrize("prompt", ["", " ", "\n", " \n\n "])
def test_a_prompt_without_words_has_nothing_to_rate(complete, prompt):
    choice = complete(prompt=prompt, max_tokens=2, echo=True, logprobs=0).choices[0]
    assert choice.text == prompt + "".join(choice.logprobs.tokens)
    assert choice.logprobs.text_offset[0] == len(prompt)
    assert len(choice.logprobs.tokens) == 2


def test_a_rated_prompt_has_the_ratings_with_which_it_was_written(complete):
    written = complete(max_tokens=60, logprobs=0).choices[0]
    rated = complete(prompt=PROMPT + written.text, max_tokens=0, echo=True, logprobs=0).choices[0]
    assert rated.logprobs.tokens[4:] == written.logprobs.tokens
    assert rated.logprobs.token_logprobs[4:] == pytest.approx(written.logprobs.token_logprobs, abs=1e-3)


def test_ratings_agree_with_perplexity(complete, tiny_model):
    text = "They ran to the beach, too. Thank you very much!"
    rated = complete(prompt=text, max_tokens=0, echo=True, logprobs=0).choices[0].logprobs.token_logprobs
    assert sum(rated) == pytest.approx(sum(token.logprob for token in tiny_model.score(text)), abs=3)


# Streams


@pytest.mark.parametrize(
    "options", [{}, {"n": 3}, {"stop": ["e b", "o."]}, {"echo": True, "logprobs": 1}, {"max_tokens": 0}], ids=str
)
def test_a_stream_has_the_same_text_in_pieces(complete, options):
    options = {"max_tokens": 40, **options}
    whole = complete(**options)
    events = list(complete(**options, stream=True, stream_options={"include_usage": True}))
    *events, last = events
    assert last.choices == []
    assert last.usage == whole.usage
    assert len({event.id for event in events}) == 1
    for choice in whole.choices:
        pieces = [piece for event in events for piece in event.choices if piece.index == choice.index]
        assert "".join(piece.text for piece in pieces) == choice.text
        assert [piece.finish_reason for piece in pieces] == [None] * (len(pieces) - 1) + [choice.finish_reason]
        if choice.logprobs:
            for name in ("tokens", "token_logprobs", "top_logprobs", "text_offset"):
                streamed = [value for piece in pieces for value in getattr(piece.logprobs, name)]
                assert streamed == getattr(choice.logprobs, name)
        elif options["max_tokens"] and "stop" not in options:
            assert len(pieces) == 40


def test_others_are_answered_while_a_text_is_written(complete, http):
    with complete(max_tokens=1000, n=16, stream=True) as stream:
        next(stream)
        for _ in range(3):
            assert http.post("/v1/next-words", json={"text": PROMPT}).status_code == 200
        assert next(stream).choices[0].finish_reason is None


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
def test_nothing_is_computed_for_a_client_that_left(server, http, stream):
    worker = server.worker()

    def used() -> float:
        return sum(worker.cpu_times()[:2])

    http.post("/v1/completions", json={"prompt": PROMPT, "max_tokens": 10})
    start = used()
    http.post("/v1/completions", json={"prompt": PROMPT, "max_tokens": 400})
    cost = used() - start
    start = used()
    question = {"prompt": PROMPT, "max_tokens": 1000, "n": 16, "stream": stream}
    with pytest.raises(httpx.ReadTimeout):
        with httpx.stream("POST", f"{server.url}/v1/completions", json=question, timeout=0.1) as answer:
            next(answer.iter_bytes())
            raise httpx.ReadTimeout("enough read")

    def idle() -> bool:
        before = used()
        time.sleep(0.3)
        return used() == before

    wait_until(idle, "rest")
    assert used() - start < 5 * cost  # of about 20, as texts written together cost half as much


# Refusals


def test_values_that_mean_unused_are_taken(complete):
    unused = {"best_of": 1, "logit_bias": {}, "frequency_penalty": 0, "presence_penalty": 0.0, "user": "me",
              "logprobs": None, "stop": None, "echo": False, "suffix": None, "temperature": None, "n": None}
    assert complete(**unused).choices[0].text == complete().choices[0].text


def test_another_model_is_not_there(complete, client):
    for ask in (lambda: complete(model="gpt-3.5-turbo-instruct"), lambda: client.models.retrieve("no/such model")):
        with pytest.raises(openai.NotFoundError) as refusal:
            ask()
        assert refusal.value.code == "model_not_found"


# Models


def test_the_served_model_is_listed(client, tiny_model):
    (model,) = client.models.list()
    assert (model.id, model.object) == (tiny_model.name, "model")
    assert client.models.retrieve(tiny_model.name) == model


# Workers



def question(**options) -> WriteQuestion:
    return WriteQuestion(**{"id": "text", "prompt": PROMPT, "seed": 3, "count": 1, **options})



@pytest.fixture(params=[2000, 20])
def remembering(request, tiny_model, monkeypatch):
    """The tiny model with a strong cache, of so many words."""
    monkeypatch.setattr(tiny_model, "cache", CacheSettings(theta=4.0, weight=0.5, size=request.param))
    return tiny_model


def worker(model) -> Completions:
    return Completions(model, StateCache(model))


def test_any_worker_can_go_on_with_any_text(remembering):
    def text(workers) -> list[str]:
        written = []
        for one in workers:
            asked = question(top_p=0.9, written=written, count=40 - len(written))
            written = written + one.write([asked])[0].tokens
        return written

    one, two, three = (worker(remembering) for _ in range(3))
    together = text([one] * 5)
    assert len(together) == 40
    assert text(itertools.islice(itertools.cycle([two, three, three]), 5)) == together


def test_names_beyond_the_vocabulary_are_written_and_rated(remembering):
    prompt = "They walked to the Zorblax today.\n" * 50 + "They walked to the"
    questions = [question(prompt=prompt, id=str(row), row=row) for row in range(100)]
    answers = worker(remembering).write(questions)
    logprobs = {answer.logprobs[0] for answer in answers if answer.texts == [" Zorblax"]}
    assert len(logprobs) == 1
    text = f"{prompt} Zorblax"
    tokens = remembering.vocabulary.encode(text)
    rated = worker(remembering).rate(RateQuestion(text, first=len(tokens) - 1, top=1))
    assert rated.texts == [" Zorblax"]
    assert rated.logprobs == pytest.approx(list(logprobs), abs=0.02)  # and what is left of `<unk>`
    assert rated.logprobs[0] > -5


def test_unknown_words_leave_no_trace_in_the_text(remembering):
    written = []
    one = worker(remembering)
    while len(written) < 400:
        answer = one.write([question(temperature=2.0, top=20, written=written, count=8)])[0]
        assert not any("<" in text for top in answer.top for text in top)
        written = written + answer.tokens
    assert "<unk>" not in written


def test_what_is_kept_of_texts_in_progress_is_bounded(tiny_model, monkeypatch):
    monkeypatch.setattr("nextword.serve.worker.completions.KEPT_BYTES", 200_000)
    one = worker(tiny_model)
    for number in range(20):
        one.write([question(prompt="word " * 200, id=str(number))])
    assert 0 < sum(text.context.bytes for text in one._texts.values()) <= 200_000
