"""Requests and answers, for the service and the client alike. Imports pydantic alone.

Requests are strict: no value is turned into another type and no key is ignored.
Answers are read leniently, so that an older client understands a newer service.
"""
from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Discriminator, Field, Tag, model_validator

TEXT_LIMIT = 100_000  # characters
WORD_LIMIT = 100  # characters
EXCLUDE_LIMIT = 1_000  # words
CONTEXT_LIMIT = 1_000  # tokens at the end of a prompt; what is before them is not read
TEXT_BLOCK = 4_000  # characters at the end of a text that are read at least; at most it is twice as many
HISTORY_BLOCK = 8_000  # the same of a history
SUGGESTION_LIMIT = 100
SCORE_LIMIT = 5_000  # characters
TEXTS_LIMIT = 32
PHRASE_LIMIT = 10  # words
UNKNOWN_LIMIT = 100  # words

# JSON Schema takes 5.0 for an integer, so the service must, or its OpenAPI document would not be true.
Integer = Annotated[int, BeforeValidator(lambda v: int(v) if isinstance(v, float) and v.is_integer() else v)]


# The tags say in an error's place which of the two it is about; `nextword.serve.web.errors` takes them out.
ONE_TEXT, SEVERAL_TEXTS = "one text", "several texts"
Text = Annotated[str, Field(max_length=TEXT_LIMIT)]
OneOrSeveralTexts = Annotated[
    Annotated[Text, Tag(ONE_TEXT)]
    | Annotated[list[Text], Field(min_length=1, max_length=TEXTS_LIMIT), Tag(SEVERAL_TEXTS)],
    Discriminator(lambda value: SEVERAL_TEXTS if isinstance(value, list) else ONE_TEXT),
]


class Request(BaseModel):
    """What requests have in common."""

    model_config = ConfigDict(strict=True, extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def _one_unknown_field(cls, fields: Any) -> Any:
        """Drop all unknown fields but the first: an error for each of very many takes a second and 300 MB."""
        if not isinstance(fields, dict) or len(fields) <= len(cls.model_fields):
            return fields
        first = next(name for name in fields if name not in cls.model_fields)
        return {name: value for name, value in fields.items() if name in cls.model_fields or name == first}


class NextWordsRequest(Request):
    """A question for the words that may follow a text, or each of several texts."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"text": "I went to the"}]},
    )

    text: OneOrSeveralTexts = Field(
        description="What has been written so far; the empty text is the start of one. Blanks at its end change "
        f"nothing, and line breaks end a paragraph. Its end is read: the last {TEXT_BLOCK:,} to {2 * TEXT_BLOCK:,} "
        f"characters. Also a list of 1 to {TEXTS_LIMIT} texts.",
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
    history: Text = Field(
        "",
        description="Earlier text of the same person. It makes its words likelier, and words are suggested from it "
        f"that the vocabulary lacks. The last {HISTORY_BLOCK:,} to {2 * HISTORY_BLOCK:,} characters are read.",
        examples=["We met Zorbulon at the market."],
    )
    punctuation: bool = Field(False, description="Whether punctuation marks and numbers are suggested too.")
    emoji: bool = Field(False, description="Whether emoji are suggested too, beside the words, by their probability.")
    exclude: list[Annotated[str, Field(max_length=WORD_LIMIT)]] = Field(
        [],
        max_length=EXCLUDE_LIMIT,
        description="Words that are not wanted, in any letter case.",
        examples=[["store"]],
    )
    max_words: Integer = Field(
        1,
        ge=1,
        le=PHRASE_LIMIT,
        description="How many words a suggestion may have. It is longer than one where the next word is sure, "
        "with a probability of a half at least: \"New York\".",
    )


class SuggestedWord(BaseModel):
    """A word that may come next, or a phrase."""

    word: str
    probability: float = Field(
        description="Of this word among all that could come next, in whatever letter case; 0 to 1. "
        "Of a phrase, the product of its words'."
    )
    logprob: float = Field(description="The natural logarithm of that.")
    share: float | None = Field(
        None,
        description="Its probability among the words that could be suggested here, 0 to 1: those that begin with "
        "`partial`, of the kinds that are asked for, and not excluded. The shares of all of them sum to 1. An older "
        "service does not send it.",
    )


class NextWordsResponse(BaseModel):
    """The words that may follow a text, likeliest first."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "model": "english",
                    "words": [
                        {"word": "store", "probability": 0.0625, "logprob": -2.7725887222397811, "share": 0.0714}
                    ],
                    "unknown": [],
                    "context_used": 4,
                }
            ]
        }
    )

    model: str = Field(description="Name of the model that answered.", examples=["english"])
    words: list[SuggestedWord]
    unknown: list[str] = Field(
        [],
        description="Words of the text that the vocabulary lacks, each once, in their order; "
        f"the first {UNKNOWN_LIMIT} that were read.",
    )
    context_used: int = Field(0, description="How many words and punctuation marks of the text were read.")


class NextWordsResults(BaseModel):
    """The answers for several texts."""

    results: list[NextWordsResponse] = Field(description="One for each text, in their order.")


class ScoreRequest(Request):
    """A question for the probability of a text."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"text": "I went to the store."}]},
    )

    text: str = Field(
        max_length=SCORE_LIMIT,
        description="The text, from its beginning; line breaks end a paragraph.",
        examples=["I went to the store."],
    )


class ScoredWord(BaseModel):
    """A word or punctuation mark of a text."""

    word: str
    logprob: float = Field(description="The natural logarithm of its probability, given those before it.")
    known: bool = Field(description="Whether the vocabulary has it; else it has the probability of all such words.")


class ScoreResponse(BaseModel):
    """How probable a text is."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "model": "english",
                    "words": [{"word": "Hello", "logprob": -7.5, "known": True}],
                    "logprob": -7.5,
                    "perplexity": 1808.0424144560632,
                }
            ]
        }
    )

    model: str = Field(description="Name of the model that answered.", examples=["english"])
    words: list[ScoredWord] = Field(
        description="The words and punctuation marks, in their order; `<eos>` is the end of a paragraph."
    )
    logprob: float = Field(description="The sum of theirs.")
    perplexity: float | None = Field(description="exp(-logprob / number of words); null where there is no word.")


class ErrorDetail(BaseModel):
    """What was wrong, and what to do."""

    type: str = Field(description="One word for programs.", examples=["invalid_request"])
    message: str = Field(
        description="One sentence for people.",
        examples=["k: Input should be less than or equal to 100; it is 101"],
    )
    where: str | None = Field(None, description="The place in the request, if there is one.", examples=["k"])


class ErrorResponse(BaseModel):
    """The one shape of every error."""

    error: ErrorDetail


class Readiness(BaseModel):
    """Whether requests should be sent here."""

    status: str = Field(examples=["ready"])
    workers: int = Field(description="Processes that can compute.")
    waiting: int = Field(description="Requests that have no answer yet.")


class Health(BaseModel):
    """Whether the service can answer."""

    status: str = Field(examples=["ready"])
    model: str = Field(description="Name of the model that is served.", examples=["english"])
