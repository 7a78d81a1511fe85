"""Continues texts, and computes the probabilities of a prompt's tokens, a few tokens for each question.

A question asks for few tokens. So a long completion does not make others wait, and it ends when its client leaves. A
question has everything that its answer depends on, so any worker can continue any text. A worker keeps texts in
progress only to avoid reading them again.
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
from nextword.serve.questions import RatedTokens, RateQuestion, WriteQuestion, WrittenTokens
from nextword.serve.schemas import CONTEXT_LIMIT
from nextword.serve.worker.profiles import Profiles
from nextword.serve.worker.state_cache import StateCache

WRITE_LIMIT = 8  # tokens written for one question
RATE_LIMIT = 32  # tokens of a prompt rated for one question
KEPT_BYTES = 32_000_000  # of texts in progress
SPACING_CHARACTERS = 2_000  # at the end of a prompt; they are searched for open quotation marks

Encoded = tuple[list[int], dict[int, str]]  # ids, and place → spelling for those that are `<unk>`


@dataclass
class _TextInProgress:
    """A text with `written` tokens after its prompt. The model reads the last token only when it needs the next one."""

    context: Context
    prompt_tokens: int
    spacing: Spacing
    written: int = 0
    unread: list[str] = field(default_factory=list)


class _Candidates:
    """The possible next tokens: the vocabulary without `<unk>`, then the words that only the context has.

    log_probs: (n,), -inf for `<unk>`.
    """

    def __init__(self, words: list[str], distribution: Distribution):
        self._words, self._unknown = words, list(distribution.unknown)
        unknown = torch.tensor(list(distribution.unknown.values()), dtype=torch.float32).clamp(min=1e-30).log()
        self.log_probs = torch.cat([distribution.log_probs, unknown])
        self.log_probs[UNK_ID] = -torch.inf

    def token(self, place: int) -> str:
        return self._words[place] if place < len(self._words) else self._unknown[place - len(self._words)]

    def best(self, k: int) -> list[tuple[str, float]]:
        """Return the k likeliest tokens and their log-probabilities, best first."""
        values, places = self.log_probs.topk(min(k, len(self.log_probs) - 1))
        return [(self.token(place), value) for value, place in zip(values.tolist(), places.tolist())]


class Completions:
    """Answers `WriteQuestion` and `RateQuestion`.

    Args:
        model: the language model.
        states: its state cache.
        profiles: the profiles of the worker.
    """

    def __init__(self, model: Model, states: StateCache, profiles: Profiles | None = None):
        self._model, self._states, self._profiles = model, states, profiles or Profiles(None)
        self._words = model.vocabulary.words
        self._ids = {word: i for i, word in enumerate(self._words)}
        self._texts: OrderedDict[str, _TextInProgress] = OrderedDict()
        self._contexts = functools.lru_cache(maxsize=8)(self._read_prompt)

    def cost(self, question: WriteQuestion) -> int:
        """Return the number of characters to read first, plus five for each token to write."""
        unread = 0 if question.id in self._texts else self._states.unread(question.prompt)
        return 5 * min(WRITE_LIMIT, question.count) + unread

    def write(self, questions: Sequence[WriteQuestion]) -> list[WrittenTokens]:
        texts = self._resume(questions)
        answers = [WrittenTokens(text.prompt_tokens, [], [], [], []) for text in texts]
        counts = [min(WRITE_LIMIT, question.count) for question in questions]
        for step in range(max(counts, default=0)):
            active = [place for place, count in enumerate(counts) if count > step]
            self._read_written([texts[place] for place in active])
            distributions = self._model.predict([texts[place].context for place in active], None,
                                                [self._profiles.get(questions[place].profile) for place in active])
            for place, distribution in zip(active, distributions):
                self._add_token(questions[place], texts[place], distribution, answers[place])
        for question, text in zip(questions, texts):
            self._keep(question.id, text)
        return answers

    def _resume(self, questions: Sequence[WriteQuestion]) -> list[_TextInProgress]:
        """Return the texts with all tokens that the questions have written: kept texts, or new ones."""
        kept = [self._texts.pop(question.id, None) for question in questions]
        new = iter(self._begin([question.prompt for question, text in zip(questions, kept) if text is None]))
        texts = [text or next(new) for text in kept]
        for question, text in zip(questions, texts):
            missing = question.written[text.written :]
            for token in missing:
                text.spacing.add(token)
            text.unread += missing
            text.written += len(missing)
        return texts

    def _begin(self, prompts: list[str]) -> list[_TextInProgress]:
        different = list(dict.fromkeys(prompts))
        contexts = dict(zip(different, self._states.read(different) if different else []))
        return [_TextInProgress(contexts[prompt], contexts[prompt].length, self._spacing(prompt)) for prompt in prompts]

    def _spacing(self, prompt: str) -> Spacing:
        line = prompt.rpartition("\n")[2][-SPACING_CHARACTERS:]
        return Spacing(self._model.vocabulary.tokens(line), spaced=line[-1:].isspace())

    def _read_written(self, texts: list[_TextInProgress]) -> None:
        if any(text.unread for text in texts):
            contexts = self._model.read([text.context for text in texts], [self._encode(text.unread) for text in texts])
            for text, context in zip(texts, contexts):
                text.context, text.unread = context, []

    def _encode(self, tokens: list[str]) -> Encoded:
        ids = [self._ids.get(token, UNK_ID) for token in tokens]
        return ids, {place: tokens[place] for place, i in enumerate(ids) if i == UNK_ID}

    def _add_token(
        self, question: WriteQuestion, text: _TextInProgress, distribution: Distribution, answer: WrittenTokens
    ) -> None:
        candidates = _Candidates(self._words, distribution)
        number = uniform(question.seed, question.row, text.written)
        place = draw(candidates.log_probs, number, temperature=question.temperature, top_p=question.top_p)
        token, logprob = candidates.token(place), float(candidates.log_probs[place])
        if question.top is not None:
            best = {**dict(candidates.best(question.top)), token: logprob}
            answer.top.append({text.spacing.spelled(other): value for other, value in best.items()})
        answer.tokens.append(token)
        answer.logprobs.append(logprob)
        answer.texts.append(text.spacing.add(token))
        text.unread.append(token)
        text.written += 1

    def _keep(self, name: str, text: _TextInProgress) -> None:
        self._texts[name] = text
        size = sum(text.context.bytes for text in self._texts.values())
        while size > KEPT_BYTES:
            size -= self._texts.popitem(last=False)[1].context.bytes

    def rate(self, question: RateQuestion) -> RatedTokens:
        # Without a state cache, nothing is kept that another request for the same prompt could find.
        owner = "" if self._states.remembers else question.id
        texts, spellings, ids, contexts = self._contexts(question.prompt, owner)
        answer = RatedTokens(len(texts), [], [], [])
        part = slice(question.first, question.first + RATE_LIMIT)
        if not contexts[part]:
            return answer
        profile = self._profiles.get(question.profile)
        distributions = self._model.predict(contexts[part], None, [profile] * len(contexts[part]))
        for distribution, text, word, i in zip(distributions, texts[part], spellings[part], ids[part]):
            unknown = distribution.unknown.get(word, 0.0) if i == UNK_ID else 0.0
            logprob = float((distribution.log_probs[i].exp() + unknown).log())
            space = text[: len(text) - len(text.lstrip())]
            best = _Candidates(self._words, distribution).best(question.top)
            top = {BREAK if other == EOS else space + other: value for other, value in best if other != word}
            answer.texts.append(text)
            answer.logprobs.append(logprob)
            answer.top.append({**top, text: logprob})
        return answer

    def _read_prompt(self, prompt: str, owner: str) -> tuple[list[str], list[str], list[int], list[Context]]:
        """Return a prompt's tokens as they stand there, as they are spelled and as ids, and the context before each."""
        ids, unknown = self._model.vocabulary.encode_with_unknown(prompt)
        ends = self._model.vocabulary.ends(prompt)
        texts = [prompt[start:end] for start, end in zip([0, *ends[:-1]], [*ends[:-1], len(prompt)])] if ends else []
        spellings = [unknown.get(place, self._words[i]) for place, i in enumerate(ids)]
        rated = 0 < len(ids) <= CONTEXT_LIMIT
        return texts, spellings, ids, self._model.before_each(ids, unknown) if rated else []
