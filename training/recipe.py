"""A recipe: every setting of a training, from a TOML file and the command line."""
from __future__ import annotations

import difflib
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError, field_validator, model_validator
from pydantic.fields import FieldInfo

from nextword.lm.architecture import Architecture

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

FOLDER = Path(__file__).parent / "recipes"
_FREE: dict[str, JsonValue] = {"free": True}  # marks a setting that may change when a run continues


class RecipeError(ValueError):
    """Settings do not exist, have a wrong value, or contradict each other. The message names all of them."""


class Recipe(BaseModel):
    """The settings of a run. A file states only those that differ from the defaults."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", allow_inf_nan=False)

    corpus: str = Field("", json_schema_extra=_FREE, description=(
        "text to train on (see nextword.training.corpora); empty: wikitext-2, or python-docs if the hub does not "
        "answer"))
    start_from: str = Field("", description=(
        "folder of a finished run or of a bundle; this run begins with its vocabulary and weights; english: the "
        "model that comes with Nextword; empty: none"))
    start_vocabulary: Literal["keep", "extend", "new"] = Field("keep", description=(
        "with start_from, keep: the vocabulary of the start; extend: that, and the words that occur minimum_count "
        "times in the training text; new: the vocabulary of the training text"))
    vocabulary_from: str = Field("", description=(
        "folder of a bundle or of a finished run whose vocabulary this run has, without its weights; english: the "
        "model that comes with Nextword; empty: none"))
    pretokenized: bool = Field(False, description=(
        "the text is already split at spaces, with one sentence a line (benchmarks)"))
    vocabulary_size: int = Field(32_000, ge=3, description="the most words, with <unk> and <eos>")
    minimum_count: int = Field(2, ge=1, description=(
        "the fewest occurrences in the training text of a word of the vocabulary"))
    cell: Literal["rnn", "gru", "lstm"] = Field("lstm", description="kind of recurrent layer")
    embedding_size: int = Field(256, ge=1, description="width of the embedding and of the output layer")
    hidden_size: int = Field(512, ge=1, description="width of each recurrent layer")
    layers: int = Field(1, ge=1, description="recurrent layers, one above the other")
    projection_size: int = Field(0, ge=0, description=(
        "width of the LSTM's output and recurrence, less than hidden_size; 0: as wide as the cell"))
    affixes: bool = Field(True, description=(
        "words that begin or end alike share a part of their vectors in training, so that rare words learn from "
        "frequent ones; the finished model is as large as without"))
    dropout: float = Field(0.2, ge=0, lt=1, description=(
        "share of the inputs, of the values between layers and of the outputs that training drops"))
    dropout_by_word: bool = Field(False, description=(
        "the inputs' dropout has one mask for each word of a step, in place of one for each sequence; such a training "
        "is faster on a processor, because it multiplies each different word once"))
    word_dropout: float = Field(0.0, ge=0, lt=1, description=(
        "share of the vocabulary's words that training drops from the inputs"))
    weight_drop: float = Field(0.0, ge=0, lt=1, description="share of the recurrent weights that training drops")
    dropout_rise: float = Field(0.0, ge=0, lt=1, description=(
        "share of all steps in which these three settings rise from 0 to their full value"))
    output_penalty: float = Field(0.0, ge=0, description="penalty on the mean square of the outputs")
    change_penalty: float = Field(0.0, ge=0, description="penalty on the mean square of their change from word to word")
    batch_size: int = Field(32, ge=1, description="sequences that are read side by side")
    bptt: int = Field(35, ge=1, description="tokens of a window; the gradient goes back to its first token")
    epochs: float = Field(6.0, gt=0, json_schema_extra=_FREE, description=(
        "passes over the text; the learning rate's schedule spans them; a run that goes on may get more or fewer"))
    optimizer: Literal["adamw", "muon"] = Field("adamw", description=(
        "adamw: AdamW for all weights; muon: Muon for the matrices of the recurrent layers, AdamW for the rest"))
    learning_rate: float = Field(3e-3, gt=0, description="the optimizer's learning rate at its peak")
    warmup: float = Field(0.02, ge=0, lt=1, description=(
        "share of all steps in which the learning rate rises to its peak; then it falls"))
    schedule: Literal["cosine", "linear"] = Field("cosine", description=(
        "how the learning rate falls after the warm-up; linear to a final_rate of 0 suits text that is read about "
        "once"))
    final_rate: float = Field(0.02, ge=0, le=1, description="last learning rate, as a share of its peak")
    weight_decay: float = Field(0.0, ge=0, description="the optimizer's weight decay")
    averaging: float = Field(0.0, ge=0, lt=1, description=(
        "decay per step of a moving average of the weights, which is evaluated and saved in their place; 0: no "
        "average"))
    clip_norm: float = Field(1.0, gt=0, description="largest norm of a step's gradient")
    samples: int = Field(4096, ge=0, description="words in the normaliser of the softmax; 0: all, the exact loss")
    precision: Literal["auto", "float32", "bfloat16"] = Field("auto", description=(
        "type of the matrix products; auto: bfloat16 if the processor is faster with it, else float32"))
    shuffle_block: int = Field(0, ge=0, description=(
        "tokens of a block of text; blocks are read in random order; 0: the text is read in its own order"))
    forget: float = Field(0.01, ge=0, lt=1, description=(
        "probability that a sequence's state is set to 0 before a window, so that the network learns beginnings too"))
    fresh_starts: float = Field(0.0, ge=0, le=1, description=(
        "share of the paragraphs that are read as the start of a text"))
    evaluate_every: int = Field(500, ge=1, json_schema_extra=_FREE, description="steps between evaluations")
    evaluation_tokens: int = Field(20_000, ge=1, json_schema_extra=_FREE, description=(
        "tokens of training text, and of validation text, that each evaluation reads"))
    patience: int = Field(8, ge=1, json_schema_extra=_FREE, description=(
        "training stops after this many evaluations without a better validation perplexity"))
    checkpoint_every: int = Field(500, ge=1, json_schema_extra=_FREE, description="steps between checkpoints")
    calibration_tokens: int = Field(20_000, ge=1, json_schema_extra=_FREE, description=(
        "tokens of validation text on which the export is compared with the network; the cache is chosen on four "
        "times as many"))
    quantized: bool = Field(True, json_schema_extra=_FREE, description=(
        "export 8-bit weights, a quarter of the size; false: 32-bit"))
    seed: int = Field(1, ge=0, description="seed of all random numbers")
    threads: int = Field(0, ge=0, json_schema_extra=_FREE, description="processor threads; 0: torch's default")

    @field_validator("samples")
    @classmethod
    def _check_samples(cls, samples: int) -> int:
        if samples == 1:
            raise ValueError("must be 0 (all words) or at least 2")
        return samples

    @model_validator(mode="after")
    def _check_contradictions(self) -> Recipe:
        if self.start_vocabulary != "keep" and not self.start_from:
            raise ValueError(f"start_vocabulary is {self.start_vocabulary!r}, which needs start_from")
        if self.vocabulary_from and self.start_from:
            raise ValueError("vocabulary_from and start_from are both given; start_from has a vocabulary already")
        if self.projection_size and self.cell != "lstm":
            raise ValueError(f"projection_size is for the lstm cell; the cell is {self.cell!r}")
        if self.projection_size >= self.hidden_size:
            raise ValueError(f"projection_size is {self.projection_size}, but must be less than hidden_size, "
                             f"{self.hidden_size}")
        return self

    @classmethod
    def free_settings(cls) -> set[str]:
        """Names of the settings that may change when a run continues."""
        return {name for name, setting in cls.model_fields.items() if setting.json_schema_extra == _FREE}

    def architecture(self, vocabulary_size: int) -> Architecture:
        """The network's shape for a vocabulary of this many tokens."""
        return Architecture(vocabulary_size, self.cell, self.embedding_size, self.hidden_size, self.layers,
                            self.projection_size)

    def to_dict(self) -> dict[str, Any]:
        return self.model_dump()


def load_recipe(source: str | None, overrides: Mapping[str, str]) -> Recipe:
    """A recipe from a TOML file, or by the name of one in `training/recipes`.

    overrides: settings of the command line, as text; they replace the file's.
    Raises RecipeError with all problems in one line.
    """
    settings = _read_toml(source) if source else {}
    try:
        return Recipe(**settings | {name: _parsed(name, text) for name, text in overrides.items()})
    except ValidationError as error:
        raise RecipeError("; ".join(_problem(details, source, overrides) for details in error.errors())) from None


def recipe_names() -> list[str]:
    return sorted(path.stem for path in FOLDER.glob("*.toml"))


def accepted_values(setting: FieldInfo) -> str:
    """The values that a setting accepts, in words: "a number from 0 to below 1"."""
    if choices := get_args(setting.annotation):
        return f"one of {', '.join(choices)}"
    if setting.annotation in (str, bool):
        return {str: "text", bool: "true or false"}[setting.annotation]
    words = ["a whole number" if setting.annotation is int else "a number"]
    for bound in setting.metadata:
        for name, preposition in (("ge", "from"), ("gt", "above"), ("le", "to"), ("lt", "to below")):
            if hasattr(bound, name):
                words.append(f"{preposition} {getattr(bound, name)}")
    return " ".join(words)


def _read_toml(source: str) -> dict[str, Any]:
    path = Path(source)
    if not path.suffix and (FOLDER / f"{source}.toml").exists():
        path = FOLDER / f"{source}.toml"
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise RecipeError(f"no recipe {source!r}; give a TOML file or one of: {', '.join(recipe_names())}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
        raise RecipeError(f"{path} cannot be read as TOML: {error}") from None


def _parsed(name: str, text: str) -> Any:
    """The value of a setting of the command line. Text that is not such a value stays text, and Recipe refuses it."""
    kind = Recipe.model_fields[name].annotation
    try:
        if kind is bool:
            return {"true": True, "false": False}[text.lower()]
        return kind(text.replace("_", "")) if kind in (int, float) else text
    except (KeyError, ValueError):
        return text


def _problem(details: Mapping[str, Any], source: str | None, overrides: Mapping[str, str]) -> str:
    """One of pydantic's errors as text, with the option or the file that has it."""
    if not details["loc"]:
        return str(details["ctx"]["error"])
    name, value = str(details["loc"][0]), details["input"]
    where = f"--{name.replace('_', '-')}" if name in overrides else f"{name} in {source}"
    if details["type"] == "extra_forbidden":
        close = difflib.get_close_matches(name, Recipe.model_fields, 1)
        return f"{where} is not a setting" + (f"; did you mean {close[0]}?" if close else "")
    if details["type"] == "value_error":
        return f"{where} is {value!r}, but {details['ctx']['error']}"
    return f"{where} is {value!r}, but must be {accepted_values(Recipe.model_fields[name])}"
