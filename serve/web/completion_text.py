"""One text of a completion. It grows by pieces, up to a stop; each piece is a question to a worker."""
from __future__ import annotations

import uuid
from collections.abc import Awaitable, Callable, Iterator
from typing import NamedTuple, cast

from nextword.serve.openai_schemas import Choice, CompletionRequest, Logprobs
from nextword.serve.questions import Question, RatedTokens, RateQuestion, WriteQuestion, WrittenTokens
from nextword.serve.schemas import CONTEXT_LIMIT, TEXT_BLOCK
from nextword.serve.text_window import window
from nextword.serve.web.errors import Fault

Ask = Callable[[Question], Awaitable[bytes]]


class _Token(NamedTuple):
    text: str
    logprob: float
    alternatives: dict[str, float]
    start: int  # in the text of the answer

    @property
    def end(self) -> int:
        return self.start + len(self.text)


class CompletionText:
    """The continuation of one prompt.

    Args:
        ask: sends a question to a worker and returns the answer.
        request: the whole request.
        prompt: one of its prompts.
        index: the number of this text among all that are written for the request.
        seed: together with this number, decides which tokens are drawn.
        profile: the key of the person's profile, or "".
    """

    def __init__(self, ask: Ask, request: CompletionRequest, prompt: str, index: int, seed: int,
                 profile: str = ""):
        self._ask, self._request, self._prompt = ask, request, prompt
        self.index = self._row = index
        self._profile = profile
        self._id, self._window, self._seed = uuid.uuid4().hex, window(prompt, TEXT_BLOCK), seed
        self._max_tokens = cast(int, request.max_tokens)
        self._written: list[str] = []
        self._tokens: list[_Token] = []
        self._text = prompt if request.echo else ""
        self._begin = len(self._text)
        self._sent = self._tokens_sent = 0
        self._logprob = 0.0
        self._unrated = bool(request.echo and request.logprobs is not None)
        self.prompt_tokens = 0
        self.finish_reason: str | None = None

    @property
    def completion_tokens(self) -> int:
        return len(self._written)

    @property
    def mean_logprob(self) -> float:
        """The mean log-probability of the written tokens."""
        return self._logprob / max(1, len(self._written))

    async def grow(self) -> None:
        """Ask for one piece. If the answer includes the prompt's log-probabilities, ask for those first.

        Raises:
            Fault: the prompt is too long for log-probabilities.
        """
        if self._unrated:
            await self._rate()
        request = self._request
        count = self._max_tokens - len(self._written)
        if request.stream and not self._written:
            count = min(1, count)  # so that the reader sees the first word soon
        question = WriteQuestion(
            self._id, self._window, count, self._written, seed=self._seed, row=self._row, top=request.logprobs,
            temperature=cast(float, request.temperature), top_p=cast(float, request.top_p), profile=self._profile,
        )
        answer = WrittenTokens.from_json(await self._ask(question))
        self.prompt_tokens = answer.prompt_tokens
        for place, (token, text, logprob) in enumerate(zip(answer.tokens, answer.texts, answer.logprobs)):
            self._written.append(token)
            self._logprob += logprob
            self._add(text, logprob, answer.top[place] if answer.top else {})
            if self._cut_at_stop():
                self.finish_reason = "stop"
                return
        if len(self._written) >= self._max_tokens:
            self.finish_reason = "length"

    async def _rate(self) -> None:
        self._text = ""
        while True:
            question = RateQuestion(self._prompt, len(self._tokens), self._request.logprobs or 0, self._id,
                                    self._profile)
            answer = RatedTokens.from_json(await self._ask(question))
            if answer.prompt_tokens > CONTEXT_LIMIT:
                limit = f"with echo and logprobs it may have {CONTEXT_LIMIT:,}"
                message = f"prompt has {answer.prompt_tokens:,} tokens; {limit}"
                raise Fault(400, message, code="context_length_exceeded", param="prompt")
            for token in zip(answer.texts, answer.logprobs, answer.top):
                self._add(*token)
            if not answer.texts or len(self._tokens) == answer.prompt_tokens:
                break
        self._text, self._unrated = self._prompt, False

    def _add(self, text: str, logprob: float, alternatives: dict[str, float]) -> None:
        self._tokens.append(_Token(text, logprob, alternatives, len(self._text)))
        self._text += text

    def _cut_at_stop(self) -> bool:
        """End the text before the first stop in it, if it has one. Only the last token can have completed a stop."""
        places = [self._text.find(stop, max(self._begin, self._tokens[-1].start - len(stop) + 1))
                  for stop in self._request.stops]
        end = min((place for place in places if place >= 0), default=None)
        if end is None:
            return False
        self._text = self._text[:end]
        kept = [token for token in self._tokens if token.start < end]
        self._tokens = [token._replace(text=token.text[: end - token.start]) for token in kept]
        return True

    def _final_length(self) -> int:
        """Return the number of characters that no later token can change: the beginning of a stop may be cut off."""
        if self.finish_reason:
            return len(self._text)
        written = self._text[self._begin :]
        return len(self._text) - max((length for stop in self._request.stops for length in range(1, len(stop))
                                      if written.endswith(stop[:length])), default=0)

    def take(self) -> Choice:
        """Return the text that is new since the last call."""
        return self._up_to(self._final_length(), self.finish_reason)

    def take_each(self) -> Iterator[Choice]:
        """Yield the new text token by token."""
        end = self._final_length()
        ends = [token.end for token in self._tokens if self._sent < token.end <= end]
        if self.finish_reason and not ends:
            ends = [end]
        for place in ends:
            yield self._up_to(place, self.finish_reason if place == ends[-1] else None)

    def _up_to(self, end: int, finish_reason: str | None) -> Choice:
        text, self._sent = self._text[self._sent : end], end
        return Choice(text=text, index=self.index, logprobs=self._logprobs(end), finish_reason=finish_reason)

    def _logprobs(self, end: int) -> Logprobs | None:
        if self._request.logprobs is None:
            return None
        tokens = [token for token in self._tokens[self._tokens_sent :] if token.end <= end]
        self._tokens_sent += len(tokens)
        before = 0 if self._request.echo else len(self._prompt)
        return Logprobs(
            tokens=[token.text for token in tokens],
            token_logprobs=[token.logprob for token in tokens],
            top_logprobs=[token.alternatives for token in tokens],
            text_offset=[before + token.start for token in tokens],
        )
