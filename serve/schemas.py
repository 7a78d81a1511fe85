"""Requests and answers, for the service and for the client. This module needs only pydantic.

Requests are strict: no value is converted to another type, and an unknown key is an error.
Answers are read leniently, so that an older client understands a newer service.
"""
from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    model_validator,
)

from nextword.lm.keyboards import FARTHEST_PLACE

TEXT_LIMIT = 100_000  # characters
WORD_LIMIT = 100  # characters
EXCLUDE_LIMIT = 1_000  # words
CONTEXT_LIMIT = 1_000  # tokens of a prompt that is rated
TEXT_BLOCK = 4_000  # characters; the last one to two blocks of a text are read
HISTORY_BLOCK = 50_000  # characters; the last one to two blocks of a history are learnt
SUGGESTION_LIMIT = 100
SCORE_LIMIT = 5_000  # characters
TEXTS_LIMIT = 32
PHRASE_LIMIT = 10  # words
UNKNOWN_LIMIT = 100  # words
KEYS_LIMIT = 64  # keys of a layout
PROFILE_NAME = "^[A-Za-z0-9_-][A-Za-z0-9._-]{0,63}$"

# pydantic puts these tags into the place of an error; `nextword.serve.web.errors` removes them.
ONE_TEXT, SEVERAL_TEXTS, NAMED, PLACES = "one text", "several texts", "a name", "places of keys"
TAGS = (ONE_TEXT, SEVERAL_TEXTS, NAMED, PLACES, "[key]")
# One entry is enough to be refused; an error for each of very many would take a second.
FIRST_ENTRY = BeforeValidator(lambda value: value[:1] if isinstance(value, list) else
                              dict(list(value.items())[:1]) if isinstance(value, dict) else value)
Text = Annotated[str, Field(max_length=TEXT_LIMIT)]
OneOrSeveralTexts = Annotated[
    Annotated[Text, Tag(ONE_TEXT)]
    | Annotated[list[Text], Field(min_length=1, max_length=TEXTS_LIMIT), Tag(SEVERAL_TEXTS)],
    Discriminator(lambda value: SEVERAL_TEXTS if isinstance(value, list) else ONE_TEXT),
]
ProfileName = Annotated[str, Field(pattern=PROFILE_NAME)]


Letter = Annotated[str, Field(min_length=1, max_length=1)]
Coordinate = Annotated[float, Field(ge=-FARTHEST_PLACE, le=FARTHEST_PLACE)]
Place = Annotated[list[Coordinate], Field(min_length=2, max_length=2)]
Layout = Annotated[
    Annotated[Literal["qwerty", "qwertz", "azerty", "dvorak"], Tag(NAMED)]
    | Annotated[dict[Letter, Place], Field(min_length=2, max_length=KEYS_LIMIT), Tag(PLACES)],
    Discriminator(lambda value: PLACES if isinstance(value, dict) else NAMED),
]


class Request(BaseModel):
    """What requests have in common."""

    model_config = ConfigDict(strict=True, extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def _prepare(cls, fields: Any) -> Any:
        """Write 5.0 as 5, which are the same number in JSON Schema.

        Drop all unknown fields but the first: an error for each of very many takes a second and 300 MB.
        """
        if not isinstance(fields, dict):
            return fields
        if len(fields) > len(cls.model_fields):
            first = next(name for name in fields if name not in cls.model_fields)
            fields = {name: value for name, value in fields.items() if name in cls.model_fields or name == first}
        return {name: int(value) if isinstance(value, float) and value.is_integer() else value
                for name, value in fields.items()}


class NextWordsRequest(Request):
    """A question for the words that may follow a text, or each of several texts."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"text": "I went to the"}]},
    )

    text: OneOrSeveralTexts = Field(
        description="The text so far; the empty text is the start of a text. Blanks at its end change nothing, and "
        f"line breaks end a paragraph. Only the last {TEXT_BLOCK:,} to {2 * TEXT_BLOCK:,} characters are read. "
        f"A list of 1 to {TEXTS_LIMIT} texts is accepted too.",
        examples=["I went to the"],
    )
    k: int = Field(
        5,
        ge=1,
        le=SUGGESTION_LIMIT,
        description="The number of suggestions. There are fewer if fewer words fit.",
    )
    partial: str = Field(
        "",
        max_length=WORD_LIMIT,
        description="The first letters of the word that is being typed; `text` ends before them. Words are suggested "
        "that begin with these letters, those with the same capitals first, or that do so but for one slip of the "
        "finger.",
        examples=["st"],
    )
    typos: bool = Field(
        True, description="If false, slips are not corrected: only words that begin with `partial` are suggested.")
    layout: Layout | None = Field(
        None,
        description="The keyboard, whose neighbouring keys are likely slips: a name, or the place [x, y] of each key, "
        "in any unit; letters of one key have the same place. null: the service's default. A letter without a place "
        "has no neighbours.",
        examples=["qwerty"],
    )
    history: Text = Field(
        "",
        description="Earlier text of the same person. Its words become likelier, and those that the vocabulary lacks "
        f"can be suggested. Only the last {HISTORY_BLOCK:,} to {2 * HISTORY_BLOCK:,} characters are used.",
        examples=["We met Zorbulon at the market."],
    )
    profile: ProfileName | None = Field(
        None,
        description="The name of the person's profile, to which `POST /v1/profiles/{name}/text` has taught texts. "
        "Without it no profile is read.",
        examples=["me"],
    )
    punctuation: bool = Field(False, description="If true, punctuation marks and numbers are suggested too.")
    emoji: bool = Field(False, description="If true, emoji are suggested too.")
    exclude: list[Annotated[str, Field(max_length=WORD_LIMIT)]] = Field(
        [],
        max_length=EXCLUDE_LIMIT,
        description="Words that are never suggested, in any letter case.",
        examples=[["store"]],
    )
    max_words: int = Field(
        1,
        ge=1,
        le=PHRASE_LIMIT,
        description="The most words of one suggestion. A suggestion such as \"New York\" gets another word if that "
        "word has a probability of at least 0.5.",
    )


class SuggestedWord(BaseModel):
    """A suggestion: a word or a phrase."""

    word: str
    probability: float = Field(
        description="The probability that this word comes next, in any letter case, 0 to 1. That of a phrase is the "
        "product of its words' probabilities."
    )
    logprob: float = Field(description="The natural logarithm of `probability`.")
    share: float | None = Field(
        None,
        description="The probability among the words that could be suggested here, 0 to 1: those that fit `partial`, "
        "are of a requested kind, and are not excluded. For a correction, it counts how probable the slip is. The "
        "shares of all those words sum to 1. An older service does not send it.",
    )
    kind: str | None = Field(
        None,
        description="next: nothing is typed. completion: the word begins with `partial`. correction: it does not, so "
        "it replaces `partial`. typed: `partial` itself, as a word that the model does not know. An older service does "
        "not send it.",
        examples=["completion"],
    )
    confidence: float | None = Field(
        None,
        description="For a correction, the probability that this word is meant, 0 to 1; null for other kinds.",
    )


class NextWordsResponse(BaseModel):
    """The next words of a text, likeliest first."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "model": "english",
                    "words": [
                        {"word": "store", "probability": 0.0625, "logprob": -2.7725887222397811, "share": 0.0714,
                         "kind": "next", "confidence": None}
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
        description="Words of the text that the vocabulary lacks, each once, in the order of the text; "
        f"the first {UNKNOWN_LIMIT} of them.",
    )
    context_used: int = Field(0, description="The number of words and punctuation marks that were read of the text.")


class NextWordsResults(BaseModel):
    """The answers for several texts."""

    results: list[NextWordsResponse] = Field(description="One answer for each text, in the order of the texts.")


class NextLettersRequest(Request):
    """A question for the letters that may come next."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"text": "I went to the", "partial": "st"}]},
    )

    text: Text = Field(
        description="The text so far, without the word that is being typed, as for next words.",
        examples=["I went to the"],
    )
    partial: str = Field(
        "",
        max_length=WORD_LIMIT,
        description="The first letters of the word that is being typed. They are taken as they are: slips are not "
        "corrected.",
        examples=["st"],
    )
    history: Text = Field("", description="Earlier text of the same person, as for next words.")
    profile: ProfileName | None = Field(None, description="The name of the person's profile, as for next words.")


class NextLetter(BaseModel):
    """A letter that may come next."""

    letter: str = Field(description="In lower case. For Korean, a key of the keyboard.")
    probability: float


class NextLettersResponse(BaseModel):
    """The probabilities of the next letter, likeliest first. With `end`, they sum to 1."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"model": "english", "letters": [{"letter": "o", "probability": 0.75}], "end": 0.0, "context_used": 4}
            ]
        }
    )

    model: str = Field(description="Name of the model that answered.", examples=["english"])
    letters: list[NextLetter] = Field(
        description="Each probability is the sum of those of all words that begin with `partial` and this letter. If "
        "no known word begins with `partial`, the letters are those of a model of unknown words."
    )
    end: float = Field(description="The probability that the word ends after `partial`.")
    context_used: int = Field(0, description="The number of words and punctuation marks that were read of the text.")


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
    profile: ProfileName | None = Field(
        None,
        description="The name of the person's profile. With it the probabilities are those of suggestions: of the "
        "network with its cache and the profile.",
    )


class ScoredWord(BaseModel):
    """A word or punctuation mark of a text."""

    word: str
    logprob: float = Field(description="The natural logarithm of its probability, given the text before it.")
    known: bool = Field(description="True if the vocabulary has it; otherwise it has the probability of `<unk>`.")


class ScoreResponse(BaseModel):
    """The probability of a text and of its words."""

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
        description="The words and punctuation marks, in the order of the text; `<eos>` is the end of a paragraph."
    )
    logprob: float = Field(description="The sum of the words' `logprob`.")
    perplexity: float | None = Field(description="exp(-logprob / number of words); null if there are no words.")


class ErrorDetail(BaseModel):
    """The fault, and its remedy."""

    type: str = Field(description="One word for programs.", examples=["invalid_request"])
    message: str = Field(
        description="One sentence for people.",
        examples=["k: Input should be less than or equal to 100; it is 101"],
    )
    where: str | None = Field(None, description="The wrong field or the place in the request.", examples=["k"])


class ErrorResponse(BaseModel):
    """The shape of every error."""

    error: ErrorDetail


class Readiness(BaseModel):
    """The readiness for requests."""

    status: str = Field(examples=["ready"])
    workers: int = Field(description="The number of workers that can answer.")
    waiting: int = Field(description="The number of requests without an answer.")


class Health(BaseModel):
    """The health of the service."""

    status: str = Field(examples=["ready"])
    model: str = Field(description="Name of the served model.", examples=["english"])
