"""The state cache: it must change nothing but the time, and keep to its bytes."""
from __future__ import annotations

import itertools
import json
import random

import pytest
import torch

from nextword.lm import load, torchscript
from nextword.lm.bundle import write_bundle
from nextword.lm.network import Architecture, Network
from nextword.lm.profile import Profile
from nextword.lm.vocabulary import Vocabulary
from nextword.serve.questions import NextWordsQuestion
from nextword.serve.schemas import HISTORY_BLOCK, TEXT_BLOCK
from nextword.serve.text_window import window
from nextword.serve.worker.distribution_cache import DistributionCache
from nextword.serve.worker.distributions import Distributions
from nextword.serve.worker.histories import SHORTEST, Histories
from nextword.serve.worker.next_words import NextWords
from nextword.serve.worker.state_cache import StateCache

WORDS = ["".join(letters) for letters in itertools.product("abcdefghi", repeat=2)]
WORDS += ["-", "\u2014", ".", "3", "'s", "don't"]
AWKWARD = ["Zorbulon ", " - ", "--", " -- ", "\n", "\n \n", "\r\n", " \n ", "  ", "\t", "\u200b", "\u3000",
           "\x85", "\x0b", "\u2028", "\x1c", "caf\u0065\u0301", "\u0301", "\u2019s", "don't",
           "\u2013", "(x)", ". ", "3.14 ", "<unk> ", " " * 20]


@pytest.fixture(scope="module")
def exact(tmp_path_factory):
    """An untrained 8-bit model whose sizes are multiples of 32, so that its answers are the same to the last bit."""
    torch.manual_seed(0)
    vocabulary = Vocabulary.build([" ".join(WORDS)], size=64)
    assert len(vocabulary) == 64
    network = Network(Architecture(64, embedding_size=64, hidden_size=128, projection_size=64))
    for weights in network.parameters():
        torch.nn.init.uniform_(weights, -0.4, 0.4)
    program = torchscript.save(torchscript.script(network, torch.randint(64, (4, 32))))
    folder = tmp_path_factory.mktemp("exact") / "bundle"
    write_bundle(folder, program, vocabulary.to_json(), {"name": "exact"})
    return load(folder)


class Counting:
    """A model that counts the tokens it reads."""

    def __init__(self, model):
        self._model, self.read, self.predicted = model, 0, 0

    def __getattr__(self, name: str):
        return getattr(self._model, name)

    def extend(self, contexts, texts):
        extended = self._model.extend(contexts, texts)
        self.read += sum(new.length - old.length for new, old in zip(extended, contexts))
        return extended

    def predict(self, contexts, *others):
        self.predicted += len(contexts)
        return self._model.predict(contexts, *others)


def assert_same(a, b) -> None:
    for mine, other in zip(tensors(a), tensors(b)):
        assert torch.equal(mine, other)
    assert (a.unknown, a.length) == (b.unknown, b.length)


def tensors(context) -> tuple:
    return context.state, context.output, context.cached.keys, context.cached.tokens


def typed(seed: int, keys: int) -> list[str]:
    """The texts of a typing session: words and odd characters, backspaces, and edits in the middle."""
    draw = random.Random(seed)
    text, texts = "", []
    for _ in range(keys):
        deed = draw.random()
        if deed < 0.15:
            text = text[: -draw.randint(1, 12)]
        elif deed < 0.2:
            place = draw.randint(0, len(text))
            text = text[:place] + draw.choice(AWKWARD) + text[place:]
        else:
            text += draw.choice(WORDS) + " " if deed < 0.7 else draw.choice(AWKWARD)
        texts.append(text)
    return texts


@pytest.mark.parametrize("limit", [64_000_000, 200_000, 0], ids=["roomy", "narrow", "none"])
def test_contexts_are_the_same_as_without(exact, limit):
    cache = StateCache(exact, limit)
    for text in typed(1, 160):
        text = text.rstrip(" \t")
        assert_same(cache.read([text])[0], exact.extend([exact.start], [text])[0])
        assert cache.bytes <= limit


def test_contexts_asked_for_together_are_the_same_as_without(exact):
    cache = StateCache(exact, 400_000)
    sessions = [[text.rstrip(" \t") for text in typed(seed, 60)] for seed in (2, 2, 3, 4)]
    for texts in zip(*sessions):
        for context, text in zip(cache.read(texts), texts):
            assert_same(context, exact.extend([exact.start], [text])[0])


def test_answers_are_the_same_as_without_to_the_last_digit(exact):
    session = NextWords(exact, Distributions(exact, StateCache(exact)))
    for number, text in enumerate(typed(5, 120)):
        history = typed(6, 90)[-1 - number % 9]
        question = NextWordsQuestion(text, history, k=20, punctuation=True, max_words=1 + number % 2)
        fresh = NextWords(exact, Distributions(exact, StateCache(exact, 0))).answer([question])[0]
        assert session.answer([question])[0] == fresh
    assert json.loads(fresh)["context_used"] > 20


def test_letters_of_a_word_ask_for_one_distribution(exact):
    model = Counting(exact)
    session = NextWords(model, Distributions(model, StateCache(model)))
    for text, partial in [("ab cd", ""), ("ab cd", "a"), ("ab cd ", "ab"), ("ab ce", ""), ("ab cd", "A")]:
        questions = [NextWordsQuestion(text, history, partial=partial) for history in ("", "Zorbulon ab")]
        fresh = [NextWords(exact, Distributions(exact, StateCache(exact, 0), 0)).answer([question])[0]
                 for question in questions]
        assert session.answer([*questions, questions[0]]) == [*fresh, fresh[0]]
    assert model.predicted == 4  # two texts, each with and without a history


def test_the_kept_distributions_are_counted(exact):
    states = StateCache(exact)
    distributions = Distributions(exact, states)
    assert len(list(distributions.of([NextWordsQuestion("ab"), NextWordsQuestion("cd")]))) == 2
    assert distributions.bytes == states.bytes + 2 * (4 * 64 + 8)  # a probability for each token, and the token seen


def test_distributions_keep_to_their_bytes(exact):
    model = Counting(exact)
    cache = DistributionCache(model, 10_000)
    contexts = exact.extend([exact.start] * 3, ["ab cd ef", "cd Zorbulon", "ef"])
    largest = 0
    for number in range(300):
        cache.predict([(2, number), (2, number + 1)], contexts[number % 2 :][:2], [None] * 2, [None] * 2)
        largest = max(largest, cache.bytes)
        kept = cache._entries.values()
        assert cache.bytes >= sum(part.probabilities.nbytes + part.seen.nbytes for part in kept)
    assert 5_000 < largest <= 10_000
    assert model.predicted == 301  # each second one was still there


def test_a_distribution_is_that_of_the_profile_as_it_is_now(exact):
    model = Counting(exact)
    cache, context = DistributionCache(model, 1_000_000), exact.extend([exact.start], ["ab"])
    mine, other = Profile(), Profile()
    for profile in (mine, other):
        profile.learn("ab Zorbulon.")
    for _ in range(3):
        for profile in (mine, other, None, mine):
            (kept,) = cache.predict([(2, 7)], context, [None], [profile])
            (fresh,) = exact.predict(context, [None], [profile])
            assert torch.equal(kept.probabilities, fresh.probabilities) and kept.unknown == fresh.unknown
        mine.learn("ab Zorbula.")
    assert model.predicted == 3 + 2
    assert len(cache._entries) == 3  # none of an earlier version


def test_a_word_more_costs_a_word(exact):
    model = Counting(exact)
    cache = StateCache(model)
    words = [random.Random(0).choice(WORDS[:60]) for _ in range(500)]
    cache.read([" ".join(words)])
    for _ in range(20):
        words.append("ab")
        model.read = 0
        cache.read([" ".join(words)])
        assert model.read == 1


def test_backspace_costs_nothing_and_an_edit_in_the_middle_little(exact):
    model = Counting(exact)
    cache = StateCache(model)
    words = ["ab"] * 5
    for _ in range(20):
        cache.read([" ".join(words)])
        words.append("cd")
    model.read = 0
    cache.read([" ".join(words[:12])])
    assert model.read == 0
    cache.read([" ".join([*words[:12], "ef"])])
    assert model.read == 1

    long = ["ab"] * 1000
    cache.read([" ".join(long)])
    model.read = 0
    cache.read([" ".join([*long[:900], "cd"])])
    assert model.read <= 400 / len("ab ") + 1


def test_words_being_typed_do_not_pile_up_copies(exact):
    cache = StateCache(exact)
    text = " ".join(["ab"] * 1500)
    cache.read([text])
    before = cache.bytes
    for word in ("zorbulon", "zorbula", "zorn"):
        for end in range(1, len(word) + 1):
            cache.read([f"{text} {word[:end]}"])
    assert cache.bytes - before < 20_000


def test_sessions_share_what_they_begin_with(exact):
    cache = StateCache(exact)
    for count in range(1, 500):
        cache.read([" ".join(["ab"] * count)])
    assert len(cache) == 499
    whole = exact.extend([exact.start], [" ".join(["ab"] * 499)])[0]
    assert cache.bytes < 499 * 3_500 + whole.bytes


def test_the_bytes_are_those_of_all_that_is_kept(exact):
    cache = StateCache(exact, 1_500_000)
    draw = random.Random(0)
    lines = [[draw.choice(WORDS[:60])] for _ in range(6)]
    for number in range(200):
        lines[number % 6] += draw.choices([*WORDS[:60], "Zorbulon", "\n"], k=draw.randint(1, 30))
        if number % 10 == 0:
            lines[draw.randrange(6)] = draw.choices(WORDS[:60], k=draw.randint(1, 500))
        cache.read([" ".join(line).rstrip(" \t") for line in lines])
    contexts = [context for entry in cache._entries.values() for context in (entry.context, entry.line.context)]
    # Memory that is shared counts once, and of a slice all that it holds.
    storages = [tensor.untyped_storage() for context in contexts for tensor in tensors(context)]
    bytes = sum({storage.data_ptr(): storage.nbytes() for storage in storages}.values())
    assert 1_250_000 < cache.bytes <= 1_500_000
    assert cache.bytes - 2_500 * len(cache) < bytes < cache.bytes


def test_least_recently_used_texts_go_first(exact):
    model = Counting(exact)
    cache = StateCache(model, 100_000)
    for number in range(200):
        cache.read(["ab cd ef"])
        cache.read([" ".join(WORDS[number % 80 :])])
    model.read = 0
    cache.read(["ab cd ef"])
    assert model.read == 0
    cache.read([" ".join(WORDS[9:])])
    assert model.read > 0


def test_the_part_that_is_read_begins_at_a_word_and_seldom_moves():
    text = " ".join(f"word{number}" for number in range(20_000))
    begins = set()
    for end in range(40_000, 60_000, 7):
        part = window(text[:end], TEXT_BLOCK)
        assert TEXT_BLOCK - 20 <= len(part) <= 2 * TEXT_BLOCK
        assert text[:end].endswith(part) and part.startswith(" word")
        begins.add(end - len(part))
    assert len(begins) <= 6
    assert window("", HISTORY_BLOCK) == ""
    assert window("short text ", TEXT_BLOCK) == "short text "
    assert len(window("x" * 50_000, TEXT_BLOCK)) <= 2 * TEXT_BLOCK


def test_short_histories_take_the_room_of_longer_ones():
    """Each has some kilobytes of its own, so a million characters of them would take 400 MB."""
    histories = Histories(limit=10 * SHORTEST)
    texts = [f"We met Zorblax number {number} there." for number in range(30)]
    for text in texts:
        histories.get([text])
    assert [text for text in texts if not histories.cost(text)] == texts[-10:]
