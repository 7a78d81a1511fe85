"""What a worker computes for completions: a few tokens of a text at a time.

A piece at a time, so that a long completion does not make others wait, and stops where its reader leaves. A question holds
all that an answer depends on; what a worker keeps of texts in progress only saves it from reading them anew, so any worker
can go on with any text.
"""
from __future__ import annotations

import functools
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch

from nextword.lm.context import Context, Distribution
from nextword.lm.model import Model
from nextword.lm.sampling import draw, uniform
from nextword.lm.spacing import BREAK, Spacing
from nextword.lm.vocabulary import EOS, UNK_ID
from nextword.serve.schemas import CONTEXT_LIMIT, TEXT_BLOCK
from nextword.serve.worker.state_cache import StateCache, recent

PIECE = 8  # tokens written for one question at most
RATED = 32  # tokens of a prompt rated for one question at most
KEPT = 32_000_000  # bytes of texts in progress
LINE = 2_000  # characters at the end of a prompt that tell which quotations are open

Encoded = tuple[list[int], dict[int, str]]  # ids, and by place the spelling of those that are `<unk>`


@dataclass
class _Writing:
    """A text in progress, `written` tokens after its prompt; reading the last one is left to the piece that needs it."""

    context: Context
    prompt_tokens: int
    spacing: Spacing
    written: int = 0
    unread: list[str] = field(default_factory=list)


class _Candidates:
    """What may come next: the vocabulary without `<unk>`, then the words beyond it that the context holds.

    log_probs: (n,), -inf for `<unk>`.
    """

    def __init__(self, words: list[str], distribution: Distribution):
        self._words, self._beyond = words, list(distribution.unknown)
        beyond = torch.tensor(list(distribution.unknown.values()), dtype=torch.float32).clamp(min=1e-30).log()
        self.log_probs = torch.cat([distribution.log_probs, beyond])
        self.log_probs[UNK_ID] = -torch.inf

    def token(self, place: int) -> str:
        return self._words[place] if place < len(self._words) else self._beyond[place - len(self._words)]

    def best(self, k: int) -> list[tuple[str, float]]:
        """The k likeliest tokens and their log-probabilities, best first."""
        values, places = self.log_probs.topk(min(k, len(self.log_probs) - 1))
        return [(self.token(place), value) for value, place in zip(values.tolist(), places.tolist())]


class Completions:
    """Writes texts on, and rates the tokens of prompts.

    A question to `write` has: id (of the text in progress), prompt, written (the tokens so far, as spelled), count
    (of tokens wanted; no more than PIECE come), temperature, top_p, seed, row (the text's number under this seed), top (how
    many alternatives to tell, or None). Its answer: prompt_tokens (how many of the prompt were read), tokens (as spelled),
    texts (of each, with the space before it), logprobs, top (for each token, text → logprob; empty where not asked for).

    A question to `rate` has: prompt, first (the place of the token to begin with), top. Its answer: prompt_tokens, and of
    no more than RATED tokens texts, logprobs, top. A prompt of more than CONTEXT_LIMIT tokens is not rated.

    Args:
        model: an `lm.Model`.
        states: a `nextword.serve.worker.state_cache.StateCache` of it.
    """

    def __init__(self, model: Model, states: StateCache):
        self._model, self._states = model, states
        self._ids = {word: i for i, word in enumerate(model.vocabulary.words)}
        self._kept: OrderedDict[str, _Writing] = OrderedDict()
        self._prompt = functools.lru_cache(maxsize=8)(self._read_prompt)

    def cost(self, question: dict) -> int:
        """The characters that have to be read before a text can be written on, and five for each token to be written."""
        prompt = "" if question["id"] in self._kept else recent(question["prompt"], TEXT_BLOCK)
        return 5 * min(PIECE, question["count"]) + self._states.unread(prompt)

    def write(self, questions: Sequence[dict]) -> list[dict]:
        texts = self._resumed(questions)
        answers = [{"prompt_tokens": text.prompt_tokens, "tokens": [], "texts": [], "logprobs": [], "top": []}
                   for text in texts]
        counts = [min(PIECE, question["count"]) for question in questions]
        for step in range(max(counts, default=0)):
            active = [place for place, count in enumerate(counts) if count > step]
            self._read([texts[place] for place in active])
            distributions = self._model.predict([texts[place].context for place in active])
            for place, distribution in zip(active, distributions):
                self._add(questions[place], texts[place], distribution, answers[place])
        for question, text in zip(questions, texts):
            self._keep(question["id"], text)
        return answers

    def _resumed(self, questions: Sequence[dict]) -> list[_Writing]:
        """The texts as they are known here, or begun anew, and brought to where the questions have them."""
        kept = [self._kept.pop(question["id"], None) for question in questions]
        new = [question["prompt"] for question, text in zip(questions, kept) if text is None]
        begun = iter(self._begun(new))
        texts = [text or next(begun) for text in kept]
        for question, text in zip(questions, texts):
            missed = question["written"][text.written :]
            for token in missed:
                text.spacing.add(token)
            text.unread += missed
            text.written += len(missed)
        return texts

    def _begun(self, prompts: list[str]) -> list[_Writing]:
        different = list(dict.fromkeys(prompts))
        if not different:
            return []
        known = dict(zip(different, self._states.read([recent(prompt, TEXT_BLOCK) for prompt in different])))
        return [_Writing(known[prompt], known[prompt].length, self._spacing(prompt)) for prompt in prompts]

    def _spacing(self, prompt: str) -> Spacing:
        line = prompt.rpartition("\n")[2][-LINE:]
        return Spacing(self._model.vocabulary.tokens(line), spaced=line[-1:].isspace())

    def _read(self, texts: list[_Writing]) -> None:
        if any(text.unread for text in texts):
            read = self._model.read([text.context for text in texts], [self._encoded(text.unread) for text in texts])
            for text, context in zip(texts, read):
                text.context, text.unread = context, []

    def _encoded(self, tokens: list[str]) -> Encoded:
        ids = [self._ids.get(token, UNK_ID) for token in tokens]
        return ids, {place: tokens[place] for place, i in enumerate(ids) if i == UNK_ID}

    def _add(self, question: dict, text: _Writing, distribution: Distribution, answer: dict) -> None:
        candidates = _Candidates(self._model.vocabulary.words, distribution)
        number = uniform(question["seed"], question["row"], text.written)
        place = draw(candidates.log_probs, number, temperature=question["temperature"], top_p=question["top_p"])
        token, logprob = candidates.token(place), float(candidates.log_probs[place])
        if question["top"] is not None:
            best = {**dict(candidates.best(question["top"])), token: logprob}
            answer["top"].append({text.spacing.spelled(other): value for other, value in best.items()})
        answer["tokens"].append(token)
        answer["logprobs"].append(logprob)
        answer["texts"].append(text.spacing.add(token))
        text.unread.append(token)
        text.written += 1

    def _keep(self, name: str, text: _Writing) -> None:
        self._kept[name] = text
        size = sum(text.context.bytes for text in self._kept.values())
        while size > KEPT:
            size -= self._kept.popitem(last=False)[1].context.bytes

    def rate(self, question: dict) -> dict:
        texts, spellings, ids, contexts = self._prompt(question["prompt"])
        answer = {"prompt_tokens": len(texts), "texts": [], "logprobs": [], "top": []}
        some = slice(question["first"], question["first"] + RATED)
        if not contexts[some]:
            return answer
        for distribution, text, word, i in zip(self._model.predict(contexts[some]), texts[some], spellings[some], ids[some]):
            beyond = distribution.unknown.get(word, 0.0) if i == UNK_ID else 0.0
            logprob = float((distribution.log_probs[i].exp() + beyond).log())
            answer["texts"].append(text)
            answer["logprobs"].append(logprob)
            if question["top"] is not None:
                space = text[: len(text) - len(text.lstrip())]
                best = _Candidates(self._model.vocabulary.words, distribution).best(question["top"])
                tops = {BREAK if other == EOS else space + other: value for other, value in best if other != word}
                answer["top"].append({**tops, text: logprob})
        return answer

    def _read_prompt(self, prompt: str) -> tuple[list[str], list[str], list[int], list[Context]]:
        """The tokens of a prompt as they stand there, as they are spelled and as ids, and the contexts before each."""
        ids, unknown = self._model.vocabulary.encode_with_unknown(prompt)
        ends = self._model.vocabulary.ends(prompt)
        texts = [prompt[start:end] for start, end in zip([0, *ends[:-1]], [*ends[:-1], len(prompt)])] if ends else []
        spellings = [unknown.get(place, self._model.vocabulary.words[i]) for place, i in enumerate(ids)]
        read = 0 < len(ids) <= CONTEXT_LIMIT
        return texts, spellings, ids, self._model.before_each(ids, unknown) if read else []
