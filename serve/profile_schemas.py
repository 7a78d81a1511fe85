"""Requests and answers of the routes for profiles. This module imports only pydantic."""
from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, FailFast, Field

from nextword.lm.words import APOSTROPHES, GERESH, GERSHAYIM, HYPHENS, JOINERS, KEYCAP, MIDDLE_DOT
from nextword.serve.schemas import FIRST_ENTRY, TEXT_LIMIT, WORD_LIMIT, Request

TEXT_ID = "^[A-Za-z0-9_-]{1,64}$"
DIGEST = "^[0-9a-f]{16}$"
# One word, as a regular expression of ECMAScript for the OpenAPI document. `lm.forgetting.is_one_word` decides; the two
# differ for rare characters alone.
_LETTER = rf"[\p{{L}}\p{{M}}\p{{Nd}}_{JOINERS}]"
_HEBREW = f"[א-ת][\"{GERSHAYIM}][א-ת]|[א-ת]{GERESH}"
ONE_WORD = (rf"^(?!.*[{KEYCAP}-\u20ff])[\p{{M}}_]*(?:[\p{{L}}\p{{Nd}}]|{_HEBREW})(?:{_LETTER}|{_HEBREW})*"
            rf"(?:['{APOSTROPHES}{HYPHENS}{MIDDLE_DOT}-](?:{_LETTER}|{_HEBREW})+)*$")
ENTRY_LIMIT = 20_000  # of a list in an export: as many as a profile of the largest size has
COUNT_LIMIT = 1_000_000

Id = Annotated[str, Field(pattern=TEXT_ID)]
Digest = Annotated[str, Field(pattern=DIGEST)]


class LearnRequest(Request):
    """A text of the person."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"text": "Yesterday I called Zbigniew Kowalczyk."}]})

    text: str = Field(min_length=1, max_length=TEXT_LIMIT, description="The text, as it was written.",
                      examples=["Yesterday I called Zbigniew Kowalczyk."])
    id: Id | None = Field(
        None, description="A new id for the text. A text that is sent twice with one id is learned once. Without an "
        "id the service makes one.", examples=["3f1c9d2e5a7b4860"])


class Learned(BaseModel):
    """A text that is learned, and saved."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"id": "3f1c9d2e5a7b4860", "words": 5}]})

    id: str = Field(description="For `DELETE /v1/profiles/{name}/text/{id}`, which takes the text back.")
    words: int = Field(description="The number of its words.")


class Removed(BaseModel):
    """What was removed."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"removed": 9}]})

    removed: int = Field(description="The number of texts, or of places in texts where a forgotten word was.")


class Taught(BaseModel):
    """A word that is suggested from now on."""

    word: str = Field(examples=["Kowalczyk"])


class ProfileSummary(BaseModel):
    """The size and the dates of a profile; dates are seconds since 1970."""

    created: int = Field(examples=[1_795_750_456])
    changed: int = Field(examples=[1_795_750_456])
    texts: int = Field(description="The number of learned texts.", examples=[9])
    words: int = Field(description="The number of words of all texts.", examples=[54])
    characters: int = Field(description="The size for the limit of a profile. Each text, taught word and forgotten "
                            "word counts as at least 50 characters.", examples=[450])
    taught: int = Field(description="The number of words that were taught alone.", examples=[0])
    forgotten: int = Field(description="The number of forgotten words.", examples=[0])


class OwnWord(BaseModel):
    """A word of the person that the vocabulary lacks, or that was taught."""

    word: str = Field(description="The most frequent spelling.", examples=["Kowalczyk"])
    count: int = Field(description="The number of times that it was written, in any spelling.", examples=[9])
    taught: bool = Field(description="True if it was taught alone.")


class OwnWords(BaseModel):
    """The person's own words, the most frequent first."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"words": [{"word": "Kowalczyk", "count": 9, "taught": False}]}]})

    words: list[OwnWord]


class ExportedText(Request):
    """A learned text."""

    id: Id
    text: str = Field(max_length=TEXT_LIMIT, description="U+FFFC stands in place of a forgotten word.")
    learned: int = Field(ge=0, lt=2**40, description="Seconds since 1970.")


class CountedWord(Request):
    """A word and its frequency."""

    word: str = Field(min_length=1, max_length=WORD_LIMIT)
    count: int = Field(ge=1, le=COUNT_LIMIT)


class TaughtWord(CountedWord):
    """A word that was taught alone, and the number of times that it counts for."""

    word: str = Field(min_length=1, max_length=WORD_LIMIT, json_schema_extra={"pattern": ONE_WORD})


class ProfileExport(Request):
    """A whole profile, for another service. Every list may be left out."""

    model_config = ConfigDict(json_schema_extra={"examples": [{
        "format": "nextword-profile", "version": 1, "created": 1_795_750_456,
        "texts": [{"id": "3f1c9d2e5a7b4860", "text": "Yesterday I called Zbigniew.", "learned": 1_795_750_456}],
        "taught": [{"word": "pierogi", "count": 3}], "forgotten": [],
        "words": [{"word": "called", "count": 1}, {"word": "I", "count": 1}],
    }]})

    format: Literal["nextword-profile"] = "nextword-profile"
    version: Literal[1] = 1
    created: int | None = Field(None, ge=0, lt=2**40, description="Seconds since 1970.")
    changed: int | None = Field(None, ge=0, lt=2**40, description="Seconds since 1970. It is not loaded.")
    texts: Annotated[list[ExportedText], FailFast()] = Field([], max_length=ENTRY_LIMIT)
    taught: Annotated[list[TaughtWord], FailFast()] = Field(
        [], max_length=ENTRY_LIMIT,
        description="Words that were taught alone, with the number of times that they count for. Words of another "
        "keyboard can be loaded here, with their frequencies.")
    forgotten: Annotated[list[Digest], FailFast()] = Field(
        [], max_length=ENTRY_LIMIT, description="Digests of forgotten words. The words cannot be read from them.")
    words: list[CountedWord] = Field(
        [], description="The words of the texts by their frequency, for other programs. They are not loaded.")


class LoadRequest(ProfileExport):
    """A whole profile. Of its `words`, which are not loaded, the first alone is checked, as this takes time."""

    words: Annotated[list[CountedWord], FIRST_ENTRY] = Field([])
