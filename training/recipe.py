"""A recipe: every setting of a training run, from a TOML file with overrides; wrong or contradictory ones are refused."""
from __future__ import annotations

import difflib
import sys
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from nextword.lm.architecture import Architecture

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

FOLDER = Path(__file__).parent / "recipes"


class RecipeError(ValueError):
    """A setting that does not exist, has the wrong type or contradicts another; the message names it."""


@dataclass(frozen=True)
class Recipe:
    """The settings of a run. A file states only what differs from these.

    corpus              what to train on (see training.corpora); "": wikitext-2, or python-docs where the hub is away
    start_from          folder of a finished run or a bundle whose vocabulary and weights this one begins with (see
                        training.warm_start); "": from nothing
    start_vocabulary    of a run with start_from: "keep": the vocabulary of the start; "extend": that and the words that
                        occur minimum_count times in the training text; "new": the vocabulary of the training text
    pretokenized        the text is split at spaces already, a line a sentence (benchmarks)
    vocabulary_size     words at most, `<unk>` and `<eos>` included
    minimum_count       a word must occur this often in the training text
    cell, embedding_size, hidden_size, layers, projection_size   see lm.network.Architecture
    dropout             share of the inputs, of what lies between layers and of the outputs that is dropped in training
    word_dropout        share of the vocabulary's words that are dropped from the inputs (see training.regularisation)
    weight_drop         share of the recurrent weights that is dropped
    dropout_rise        share of all steps in which these three rise from nothing to their full size
    output_penalty      on the mean square of the outputs
    change_penalty      on the mean square of their change from word to word
    batch_size          reading heads (see training.tokens.Windows)
    bptt                tokens through which the gradient goes back
    epochs              passes over the text; the learning rate's schedule spans them
    learning_rate       AdamW's, at its peak
    warmup              share of all steps in which the rate rises to its peak; it then falls along a cosine
    final_rate          the rate's end, as a share of its peak
    weight_decay        AdamW's
    averaging           decay a step of the moving average of the weights that is evaluated and kept; 0: the weights
    clip_norm           largest norm of a step's gradient
    samples             words in the softmax's normaliser (see training.loss); 0: all, the exact loss
    precision           "auto": bfloat16 where the processor is faster in it, else float32; or one of the two by name
    shuffle_block       tokens a block (see training.tokens.Windows); 0: the text in its order
    forget              chance that a head's state is set to zero before a window, so that beginnings are learned too
    fresh_starts        share of the paragraphs that are read as the start of a text (see training.regularisation)
    evaluate_every      steps between evaluations
    evaluation_tokens   tokens read in each of them, of the training and of the validation text
    patience            evaluations without a better validation perplexity after which training stops
    checkpoint_every    steps between checkpoints
    calibration_tokens  tokens of validation text on which the export measures itself; the cache is chosen on four times as many
    quantized           export with 8-bit weights, a quarter of the size; false: 32-bit
    seed                of everything that is drawn
    threads             processor threads; 0: as torch decides
    """

    corpus: str = ""
    start_from: str = ""
    start_vocabulary: str = "keep"
    pretokenized: bool = False
    vocabulary_size: int = 32_000
    minimum_count: int = 2
    cell: str = "lstm"
    embedding_size: int = 256
    hidden_size: int = 512
    layers: int = 1
    projection_size: int = 0
    dropout: float = 0.2
    word_dropout: float = 0.0
    weight_drop: float = 0.0
    dropout_rise: float = 0.0
    output_penalty: float = 0.0
    change_penalty: float = 0.0
    batch_size: int = 32
    bptt: int = 35
    epochs: float = 6.0
    learning_rate: float = 3e-3
    warmup: float = 0.02
    final_rate: float = 0.02
    weight_decay: float = 0.0
    averaging: float = 0.0
    clip_norm: float = 1.0
    samples: int = 4096
    precision: str = "auto"
    shuffle_block: int = 0
    forget: float = 0.01
    fresh_starts: float = 0.0
    evaluate_every: int = 500
    evaluation_tokens: int = 20_000
    patience: int = 8
    checkpoint_every: int = 500
    calibration_tokens: int = 20_000
    quantized: bool = True
    seed: int = 1
    threads: int = 0

    def __post_init__(self):
        positive = ("vocabulary_size", "minimum_count", "batch_size", "bptt", "epochs", "learning_rate", "clip_norm",
                    "evaluate_every", "evaluation_tokens", "patience", "checkpoint_every", "calibration_tokens")
        problems = [f"{name} is {getattr(self, name)}, but must be more than 0" for name in positive
                    if not getattr(self, name) > 0]
        problems += [f"{name} is {getattr(self, name)}, but must not be negative"
                     for name in ("samples", "shuffle_block", "threads", "weight_decay", "seed", "output_penalty",
                                  "change_penalty")
                     if not getattr(self, name) >= 0]
        problems += [f"{name} is {getattr(self, name)}, but must be from 0 to below 1"
                     for name in ("dropout", "word_dropout", "weight_drop", "dropout_rise", "warmup", "forget", "averaging")
                     if not 0 <= getattr(self, name) < 1]
        problems += [f"{name} is {getattr(self, name)}, but must be from 0 to 1" for name in ("final_rate", "fresh_starts")
                     if not 0 <= getattr(self, name) <= 1]
        if self.precision not in ("auto", "float32", "bfloat16"):
            problems.append(f"precision is {self.precision!r}; accepted: auto, float32, bfloat16")
        if self.start_vocabulary not in ("keep", "extend", "new"):
            problems.append(f"start_vocabulary is {self.start_vocabulary!r}; accepted: keep, extend, new")
        if 0 < self.samples < 2:
            problems.append("samples is 1, but must be 0 (all words) or at least 2")
        try:
            self.architecture(max(3, self.vocabulary_size))
        except ValueError as error:
            problems.append(str(error))
        if problems:
            raise RecipeError("; ".join(problems))

    def architecture(self, vocabulary_size: int) -> Architecture:
        """The network's shape for a vocabulary of this many tokens."""
        return Architecture(vocabulary_size, self.cell, self.embedding_size, self.hidden_size, self.layers,
                            self.projection_size)

    def to_dict(self) -> dict:
        return asdict(self)


def load_recipe(source: str | None, overrides: dict[str, str]) -> Recipe:
    """A recipe from a TOML file, or by the name of one in `training/recipes`, with overrides (key → text) laid over it."""
    settings = _read(source) if source else {}
    settings = {key: _checked(key, value, source) for key, value in settings.items()}
    settings |= {key: _checked(key, _parsed(key, value), "the command line") for key, value in overrides.items()}
    return Recipe(**settings)


def names() -> list[str]:
    return sorted(path.stem for path in FOLDER.glob("*.toml"))


def _read(source: str) -> dict:
    path = Path(source)
    if not path.suffix and (FOLDER / f"{source}.toml").exists():
        path = FOLDER / f"{source}.toml"
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise RecipeError(f"no recipe {source!r}; give a TOML file or one of: {', '.join(names())}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
        raise RecipeError(f"{path} cannot be read as TOML: {error}") from None


_TYPES = {field.name: {"str": str, "int": int, "float": float, "bool": bool}[field.type] for field in fields(Recipe)}


def _known(key: str, where: str) -> type:
    if key not in _TYPES:
        near = difflib.get_close_matches(key, _TYPES, 1)
        hint = f"did you mean {near[0]!r}?" if near else f"accepted: {', '.join(_TYPES)}"
        raise RecipeError(f"{where} sets {key!r}, which is not a setting; {hint}")
    return _TYPES[key]


def _checked(key: str, value, where: str):
    kind = _known(key, where)
    if kind is float and type(value) is int:
        value = float(value)
    if type(value) is not kind:
        raise RecipeError(f"{where} sets {key} to {value!r}, but {key} must be {_NAMES[kind]}")
    return value


_NAMES = {str: "text", int: "a whole number", float: "a number", bool: "true or false"}


def _parsed(key: str, text: str):
    """A value as one writes it on a command line."""
    kind = _known(key, "the command line")
    if kind is str:
        return text
    try:
        return {"true": True, "false": False}[text.lower()] if kind is bool else kind(text.replace("_", ""))
    except (KeyError, ValueError):
        raise RecipeError(f"{key} is {text!r}, but must be {_NAMES[kind]}") from None
