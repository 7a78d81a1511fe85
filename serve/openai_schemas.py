"""Requests and answers of the routes that are like OpenAI's legacy completions. This module imports only pydantic.

Fields that this service does not support exist, and accept only the values that mean "not used". So an error can name
the field.
"""
from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from nextword.serve.schemas import CONTEXT_LIMIT, FIRST_ENTRY, TEXT_BLOCK, ProfileName, Request, Text

TOKEN_LIMIT = 1_000  # written tokens
PROMPT_LIMIT = 64
CHOICE_LIMIT = 16  # for a prompt
ALTERNATIVES_LIMIT = 20
STOP_LIMIT = 4
STOP_LENGTH = 100  # characters

Stop = Annotated[str, Field(min_length=1, max_length=STOP_LENGTH)]
Zero = Annotated[float, Field(ge=0, le=0)]


class StreamOptions(Request):
    """What a stream tells besides the text."""

    include_usage: bool | None = Field(False, description="Whether a last event without choices tells the usage.")
    include_obfuscation: Literal[False] | None = Field(None, description="Not supported.")


class CompletionRequest(Request):
    """A text to be written on."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"prompt": "I went to the", "max_tokens": 20, "temperature": 0.7}]},
    )

    model: str | None = Field(None, description="The name of the served model; it may be left out.")
    prompt: Text | Annotated[list[Text], Field(min_length=1, max_length=PROMPT_LIMIT)] | None = Field(
        "",
        description="The text so far, or several texts; the empty text is the start of a text. "
        f"Only the last {TEXT_BLOCK:,} to {2 * TEXT_BLOCK:,} characters are read.",
        examples=["I went to the"],
    )
    max_tokens: Annotated[int, Field(ge=0, le=TOKEN_LIMIT)] | None = Field(
        16, description="The most words and punctuation marks to write; a line break counts as one."
    )
    temperature: Annotated[float, Field(ge=0, le=2)] | None = Field(
        1.0, description="Below 1, likely words become likelier; 0 always takes the likeliest word."
    )
    top_p: Annotated[float, Field(ge=0, le=1)] | None = Field(
        1.0, description="Draw only among the likeliest words whose probabilities sum to this."
    )
    n: Annotated[int, Field(ge=1, le=CHOICE_LIMIT)] | None = Field(
        1, description="The number of texts for each prompt."
    )
    stop: Stop | Annotated[list[Stop], Field(max_length=STOP_LIMIT)] | None = Field(
        None, description="The text ends before the first of these.", examples=["\n"]
    )
    seed: int | None = Field(
        None, description="The same request with the same seed gives the same text."
    )
    echo: bool | None = Field(False, description="If true, the text begins with the prompt.")
    logprobs: Annotated[int, Field(ge=0, le=ALTERNATIVES_LIMIT)] | None = Field(
        None,
        description="Return the log-probability of each token, and of this many likeliest tokens at its place. "
        f"With `echo`, also of the prompt's tokens; the prompt may then have {CONTEXT_LIMIT:,} tokens.",
    )
    stream: bool | None = Field(False, description="If true, the text comes in pieces, as server-sent events.")
    stream_options: StreamOptions | None = None
    profile: ProfileName | None = Field(None, description="The name of the person's profile, as in `/v1/next-words`.")
    user: str | None = Field(None, description="Accepted and ignored.")
    best_of: Annotated[int, Field(ge=1, le=CHOICE_LIMIT)] | None = Field(
        None, description="Write this many texts for each prompt, and return the `n` whose tokens are likeliest on "
        "average. A stream then begins when all are written. Less than `n` changes nothing."
    )
    frequency_penalty: Zero | None = Field(None, description="Not supported.")
    logit_bias: Annotated[dict[str, float], Field(max_length=0), FIRST_ENTRY] | None = Field(
        None, description="Not supported.")
    presence_penalty: Zero | None = Field(None, description="Not supported.")
    suffix: Literal[""] | None = Field(None, description="Not supported.")

    @model_validator(mode="after")
    def _null_is_the_default(self) -> CompletionRequest:
        for name, field in type(self).model_fields.items():
            if getattr(self, name) is None:
                setattr(self, name, field.default)
        return self

    @property
    def prompts(self) -> list[str]:
        return self.prompt if isinstance(self.prompt, list) else [self.prompt or ""]

    @property
    def texts(self) -> int:
        """The number of texts that are written for each prompt."""
        return max(self.n or 1, self.best_of or 1)

    @property
    def stops(self) -> list[str]:
        return [self.stop] if isinstance(self.stop, str) else self.stop or []


UNSUPPORTED = frozenset(
    prefix + name
    for prefix, model in (("", CompletionRequest), ("stream_options.", StreamOptions))
    for name, field in model.model_fields.items()
    if (field.description or "").startswith("Not supported")
)


class Logprobs(BaseModel):
    """The tokens of a text with their log-probabilities, alternatives, and places."""

    tokens: list[str]
    token_logprobs: list[float]
    top_logprobs: list[dict[str, float]] | None
    text_offset: list[int] = Field(description="The first character of each token; the completion follows the prompt.")


class Choice(BaseModel):
    text: str
    index: int = Field(description="The number of the text: the prompts in their order, each with its `n` texts.")
    logprobs: Logprobs | None
    finish_reason: Literal["stop", "length"] | None = Field(
        description="`stop`: the text reached one of the `stop` texts; `length`: it has `max_tokens`; null: the text "
        "continues."
    )


class Usage(BaseModel):
    prompt_tokens: int = Field(description="The words and punctuation marks that were read of the prompts.")
    completion_tokens: int
    total_tokens: int


class Completion(BaseModel):
    """The texts that continue the prompts."""

    id: str
    object: Literal["text_completion"] = "text_completion"
    created: int = Field(description="Seconds since 1970.")
    model: str
    choices: list[Choice]
    usage: Usage | None = None


class ServedModel(BaseModel):
    """A served model."""

    id: str
    object: Literal["model"] = "model"
    created: int = Field(description="The start of the service, in seconds since 1970.")
    owned_by: str = "nextword"


class ServedModels(BaseModel):
    object: Literal["list"] = "list"
    data: list[ServedModel]


class OpenAIErrorDetail(BaseModel):
    message: str
    type: str
    param: str | None = Field(description="The wrong field; null if the error is about no field.")
    code: str | None = Field(description="One word for programs.")


class OpenAIErrorResponse(BaseModel):
    """An error in OpenAI's shape."""

    error: OpenAIErrorDetail
