"""What goes over the wire, for the service and the client alike; pydantic alone is needed.

Requests are strict: no value is turned into another type and no key is ignored.
Answers are read leniently, so that an older client understands a newer service.
"""
from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

TEXT_LIMIT = 100_000  # characters
WORD_LIMIT = 100  # characters
EXCLUDE_LIMIT = 1_000  # words
CONTEXT_LIMIT = 1_000  # tokens at the end of the text; what is before them is not read
SUGGESTION_LIMIT = 100

# JSON Schema takes 5.0 for an integer, so the service must, or its OpenAPI document would not be true.
Integer = Annotated[int, BeforeValidator(lambda v: int(v) if isinstance(v, float) and v.is_integer() else v)]


class NextWordsRequest(BaseModel):
    """A question for the words that may follow a text."""

    model_config = ConfigDict(
        strict=True,
        extra="forbid",
        json_schema_extra={"examples": [{"text": "I went to the"}]},
    )

    text: str = Field(
        max_length=TEXT_LIMIT,
        description=f"What has been written so far; the empty text is the start of one. "
        f"The last {CONTEXT_LIMIT:,} words and punctuation marks are read.",
        examples=["I went to the"],
    )
    k: Integer = Field(
        5,
        ge=1,
        le=SUGGESTION_LIMIT,
        description="How many words are wanted. Fewer come where fewer fit.",
    )
    partial: str = Field(
        "",
        max_length=WORD_LIMIT,
        description="The beginning of the word that is being typed, which is not part of `text`; only words "
        "that begin so are suggested, first those that have its capitals.",
        examples=["st"],
    )
    punctuation: bool = Field(False, description="Whether punctuation marks and numbers are suggested too.")
    exclude: list[Annotated[str, Field(max_length=WORD_LIMIT)]] = Field(
        [],
        max_length=EXCLUDE_LIMIT,
        description="Words that are not wanted, in any letter case.",
        examples=[["store"]],
    )


class SuggestedWord(BaseModel):
    """A word that may come next."""

    word: str
    probability: float = Field(
        description="Of this word among all that could come next, in whatever letter case; 0 to 1."
    )
    logprob: float = Field(description="The natural logarithm of that.")


class NextWordsResponse(BaseModel):
    """The words that may follow, likeliest first."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"model": "english", "words": [{"word": "store", "probability": 0.0625, "logprob": -2.7725887222397811}]}
            ]
        }
    )

    model: str = Field(description="Name of the model that answered.", examples=["english"])
    words: list[SuggestedWord]


class ErrorDetail(BaseModel):
    """What was wrong, and what to do."""

    type: str = Field(description="One word for programs.", examples=["invalid_request"])
    message: str = Field(
        description="One sentence for people.",
        examples=["k: Input should be less than or equal to 100"],
    )
    where: str | None = Field(None, description="The place in the request, if there is one.", examples=["k"])


class ErrorResponse(BaseModel):
    """The one shape of every error."""

    error: ErrorDetail


class Health(BaseModel):
    """Whether the service can answer."""

    status: str = Field(examples=["ready"])
    model: str = Field(description="Name of the model that is served.", examples=["english"])
