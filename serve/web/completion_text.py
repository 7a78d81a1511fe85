"""One text of a completion: it grows by asking a worker for one small piece after another, up to a stop."""
from __future__ import annotations

import json
import uuid
from collections.abc import Awaitable, Callable, Iterator
from typing import NamedTuple

from nextword.serve.openai_schemas import Choice, CompletionRequest, Logprobs
from nextword.serve.schemas import CONTEXT_LIMIT

Ask = Callable[[tuple[str, dict]], Awaitable[bytes]]  # the operation, "write" or "rate", and its question → answer as JSON


class PromptTooLong(ValueError):
    """A prompt has more tokens than can be rated."""


class _Token(NamedTuple):
    text: str
    logprob: float
    alternatives: dict[str, float]
    start: int  # in the text that is given out

    @property
    def end(self) -> int:
        return self.start + len(self.text)


class GrowingText:
    """What is written after one prompt.

    Args:
        ask: asks a worker.
        request: the whole request.
        prompt: one of its prompts.
        index: the number of this text among all of the request.
        seed: decides, with the index, what is drawn.
    """

    def __init__(self, ask: Ask, request: CompletionRequest, prompt: str, index: int, seed: int):
        self._ask, self._request, self._prompt, self._index = ask, request, prompt, index
        self._question = {"id": uuid.uuid4().hex, "prompt": prompt, "seed": seed, "row": index, "top": request.logprobs,
                          "temperature": request.temperature, "top_p": request.top_p}
        self._written: list[str] = []
        self._tokens: list[_Token] = []
        self._text = prompt if request.echo else ""
        self._begin = len(self._text)
        self._taken = self._tokens_taken = 0
        self._unrated = bool(request.echo and request.logprobs is not None)
        self.prompt_tokens = 0
        self.finish_reason: str | None = None

    @property
    def completion_tokens(self) -> int:
        return len(self._written)

    async def grow(self) -> None:
        """Asks for one piece, and first, where it is wanted, for the ratings of the whole prompt.

        Raises:
            PromptTooLong: it cannot be rated.
        """
        if self._unrated:
            await self._rate()
        count = self._request.max_tokens - len(self._written)
        if self._request.stream and not self._written:
            count = min(1, count)  # the first word soon
        question = {**self._question, "written": self._written, "count": count}
        answer = json.loads(await self._ask(("write", question)))
        self.prompt_tokens = answer["prompt_tokens"]
        for place, (token, text, logprob) in enumerate(zip(answer["tokens"], answer["texts"], answer["logprobs"])):
            self._written.append(token)
            self._add(text, logprob, answer["top"][place] if answer["top"] else {})
            if self._cut():
                self.finish_reason = "stop"
                return
        if len(self._written) >= self._request.max_tokens:
            self.finish_reason = "length"

    async def _rate(self) -> None:
        self._text = ""
        while True:
            question = {"prompt": self._prompt, "first": len(self._tokens), "top": self._request.logprobs}
            answer = json.loads(await self._ask(("rate", question)))
            if answer["prompt_tokens"] > CONTEXT_LIMIT:
                raise PromptTooLong(f"has {answer['prompt_tokens']:,} tokens; with echo and logprobs it may have "
                                    f"{CONTEXT_LIMIT:,}")
            for rating in zip(answer["texts"], answer["logprobs"], answer["top"]):
                self._add(*rating)
            if not answer["texts"] or len(self._tokens) == answer["prompt_tokens"]:
                break
        self._text, self._unrated = self._prompt, False

    def _add(self, text: str, logprob: float, alternatives: dict[str, float]) -> None:
        self._tokens.append(_Token(text, logprob, alternatives, len(self._text)))
        self._text += text

    def _cut(self) -> bool:
        """Ends the text before the first stop in it; whether there is one. Only the last token can have brought it."""
        places = [self._text.find(stop, max(self._begin, self._tokens[-1].start - len(stop) + 1))
                  for stop in self._request.stops]
        found = [place for place in places if place >= 0]
        if found:
            end = min(found)
            self._text = self._text[:end]
            self._tokens = [token._replace(text=token.text[: end - token.start])
                            for token in self._tokens if token.start < end]
        return bool(found)

    def _settled(self) -> int:
        """How many characters stay, whatever comes: what may be the beginning of a stop can still be cut off."""
        if self.finish_reason:
            return len(self._text)
        written = self._text[self._begin :]
        return len(self._text) - max((length for stop in self._request.stops for length in range(1, len(stop))
                                      if written.endswith(stop[:length])), default=0)

    def take(self) -> Choice:
        """What is new since the last time."""
        return self._up_to(self._settled(), self.finish_reason)

    def take_each(self) -> Iterator[Choice]:
        """The same, token by token; nothing where nothing is new."""
        end = self._settled()
        ends = [token.end for token in self._tokens if self._taken < token.end <= end]
        if self.finish_reason and not ends:
            ends = [end]
        for place in ends:
            yield self._up_to(place, self.finish_reason if place == ends[-1] else None)

    def _up_to(self, end: int, finish_reason: str | None) -> Choice:
        text, self._taken = self._text[self._taken : end], end
        return Choice(text=text, index=self._index, logprobs=self._logprobs(end), finish_reason=finish_reason)

    def _logprobs(self, end: int) -> Logprobs | None:
        if self._request.logprobs is None:
            return None
        tokens = [token for token in self._tokens[self._tokens_taken :] if token.end <= end]
        self._tokens_taken += len(tokens)
        before = 0 if self._request.echo else len(self._prompt)
        return Logprobs(
            tokens=[token.text for token in tokens],
            token_logprobs=[token.logprob for token in tokens],
            top_logprobs=[token.alternatives for token in tokens],
            text_offset=[before + token.start for token in tokens],
        )
