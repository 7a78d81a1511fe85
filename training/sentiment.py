"""An LSTM that judges film reviews, and what pre-training is worth: `nextword sentiment`.

    x_t = W_e[w_t]                embedding of 10,000 words, 128 wide
    h_t = LSTM(x_t, h_{t-1})      128 units, the equations of lm/cell.py
    P(positive) = σ(v h_T + b)    T: the review's last word, of 500 at most

The network is trained from labelled reviews alone: binary cross-entropy, Adam, batches of 32 reviews of like lengths, 10
epochs, of which the best on validation text is kept. Dropout is the language model's: of inputs, outputs and recurrent
weights. With `--encoder english` the bundled language model reads the reviews instead, and only a linear layer on the
mean, the maximum and the last of its output vectors is trained (pooling: Howard & Ruder 2018, "ULMFiT").

Data: the film reviews of Maas et al. 2011 (`imdb`), or any data set with a text and two labels. Validation text is cut
from the training text; reviews that another split has too are left out of validation and test.
"""
from __future__ import annotations

import argparse
import hashlib
import json
import random
import re
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits
from torch.nn.utils.rnn import pad_sequence
from tqdm import tqdm

from nextword.lm import Model, load, torchscript
from nextword.lm.architecture import Architecture
from nextword.lm.command import Parser, Run
from nextword.lm.network import Network
from nextword.lm.vocabulary import EOS_ID, Vocabulary
from nextword.training.corpora import CorpusError, load_rows
from nextword.training.corpora.cleaning import reviews as clean
from nextword.training.plots import draw
from nextword.training.precision import choose_precision
from nextword.training.regularisation import RegularisedNetwork
from nextword.training.tokens import write_atomically

WORD = r"\w+(?:['’-]\w+)*"
WORDS, LENGTH, WIDTH, DROPOUT, BATCH = 10_000, 500, 128, 0.2, 32
VALIDATION, TEST = 0.1, 0.2  # shares of the training rows that are cut off where a split is missing
CHUNK = 100  # tokens that the language model reads at once


class Labelled(NamedTuple):
    """The texts of a split, and for each whether its label is the second one."""

    texts: list[str]
    labels: list[bool]


def load_reviews(spec: str) -> tuple[dict[str, Labelled], list[str]]:
    """The splits train, validation and test of a data set, and the names of its two labels.

    Raises CorpusError where a text or a label is missing, or where there are not two labels.
    """
    raw = load_rows(spec)
    splits, names = {}, set()
    for split in ("train", "validation", "test"):
        if split in raw:
            splits[split] = _labelled(spec, split, raw[split])
            names |= set(splits[split][1])
    if "train" not in splits:
        raise CorpusError(f"{spec} has the splits {', '.join(raw)}; a split 'train' is needed")
    if len(names) != 2:
        raise CorpusError(f"{spec} has {len(names)} different labels ({', '.join(sorted(names)[:5])}); two are needed")
    for split, share in (("test", TEST), ("validation", VALIDATION)):
        if split not in splits:
            splits["train"], splits[split] = _cut(*splits["train"], share)
    others = {clean(text) for name, rows in raw.items() if name not in splits for text in rows["text"] if text}
    first, second = sorted(names)
    kept = {}
    for split in ("train", "validation", "test"):
        texts, labels = splits[split]
        keep = [split == "train" or text not in others for text in texts]
        others.update(texts)
        kept[split] = Labelled([text for text, new in zip(texts, keep) if new],
                               [label == second for label, new in zip(labels, keep) if new])
        if not all(keep):
            print(f"{split}: {keep.count(False):,} texts left out that other text has too", file=sys.stderr)
        if len(set(kept[split].labels)) != 2:
            raise CorpusError(f"{spec}: all {len(kept[split].texts):,} texts of {split} have one label; two are needed")
    return kept, [first, second]


def _labelled(spec: str, split: str, rows) -> tuple[list[str], list[str]]:
    missing = {"text", "label"} - set(rows.column_names)
    if missing:
        raise CorpusError(f"{spec} has the columns {', '.join(rows.column_names)}; 'text' and 'label' are needed")
    names = getattr(rows.features["label"], "names", None)
    texts, labels = [clean(text or "") for text in rows["text"]], list(rows["label"])
    for what, places in (("no text", [i for i, text in enumerate(texts) if not re.search(WORD, text)]),
                         ("no label", [i for i, label in enumerate(labels) if label is None or label in (-1, "")])):
        if places:
            raise CorpusError(f"{spec}: {len(places):,} of {len(texts):,} rows of {split} have {what} (the first is row "
                              f"{places[0] + 1}); give them one or take them out")
    return texts, [names[label] if names else str(label) for label in labels]


def _cut(texts: list[str], labels: list[str], share: float) -> list[tuple[list[str], list[str]]]:
    """The rest and a share of the texts, drawn at random, always the same."""
    order = random.Random(0).sample(range(len(texts)), len(texts))
    places = order[int(share * len(texts)) :], order[: int(share * len(texts))]
    return [([texts[i] for i in part], [labels[i] for i in part]) for part in places]


class Reader(nn.Module):
    """The LSTM from nothing: word ids of some reviews → the logits of the second label, (reviews,)."""

    def __init__(self, words: int):
        super().__init__()
        self.network = RegularisedNetwork(Architecture(words, "lstm", WIDTH, WIDTH), DROPOUT, weight_drop=DROPOUT)
        self.network.bias.requires_grad_(False)  # belongs to the output layer over words, which is not used
        self.verdict = nn.Linear(WIDTH, 1)

    def forward(self, rows: Sequence[Tensor]) -> Tensor:
        last = torch.tensor([len(row) - 1 for row in rows])
        outputs, _ = self.network(pad_sequence(list(rows)), self.network.initial_state(len(rows)))
        return self.verdict(outputs[last, torch.arange(len(rows))]).squeeze(1)


class Pooled(nn.Module):
    """A linear layer on standardised vectors, one a review → the logits of the second label, (reviews,)."""

    def __init__(self, width: int):
        super().__init__()
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("deviation", torch.ones(width))
        self.verdict = nn.Linear(width, 1)

    def forward(self, rows: Sequence[Tensor]) -> Tensor:
        return self.verdict((torch.stack(list(rows)) - self.mean) / self.deviation).squeeze(1)


def to_ids(vocabulary: Vocabulary, texts: Sequence[str]) -> list[Tensor]:
    """The ids of the last `LENGTH` words of each text, in small letters, without punctuation."""
    return [torch.tensor(ids[-LENGTH:]) for ids in vocabulary.encode_many(_words(texts))]


def _words(texts: Sequence[str]) -> list[str]:
    return [" ".join(re.findall(WORD, text.lower())) for text in texts]


@torch.inference_mode()
def pool(model: Model, texts: Sequence[str]) -> list[Tensor]:
    """The mean, maximum and last of the output vectors of the language model that reads each text, (3 · width,)."""
    network = Network(Architecture(**model.metadata["architecture"])).eval()
    network.load_state_dict(torchscript.weights(model.program))
    dtype = choose_precision("auto", torch.device("cpu"))
    ids = [torch.tensor([EOS_ID, *row]) for row in model.vocabulary.encode_many(list(texts))]
    pooled: dict[int, Tensor] = {}
    bar = tqdm(total=len(ids), unit="review", file=sys.stderr, disable=not sys.stderr.isatty())
    for places in _like_lengths(ids, BATCH * 2):
        lengths = torch.tensor([len(ids[place]) for place in places])
        state, outputs = network.initial_state(len(places)), []
        with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
            for tokens in pad_sequence([ids[place] for place in places]).split(CHUNK):
                output, state = network(tokens, state)
                outputs.append(output.float())
        read = torch.cat(outputs)  # (time, reviews, width)
        inside = (torch.arange(len(read))[:, None] < lengths)[..., None]
        parts = [(read * inside).sum(0) / lengths[:, None], read.masked_fill(~inside, -torch.inf).amax(0),
                 read[lengths - 1, torch.arange(len(places))]]
        pooled.update(zip(places, torch.cat(parts, 1)))
        bar.update(len(places))
    bar.close()
    return [pooled[place] for place in range(len(ids))]


def _like_lengths(rows: Sequence[Tensor], size: int, seed: int | None = None) -> Iterator[list[int]]:
    """The places of all rows in batches of like lengths; with a seed, in a random order of batches and of equal rows."""
    places = list(range(len(rows)))
    if seed is not None:
        random.Random(seed).shuffle(places)
    pool = 50 * size if seed is not None else max(1, len(rows))  # sorting all rows would give the same batches each epoch
    batches = [part[first : first + size] for start in range(0, len(rows), pool)
               for part in [sorted(places[start : start + pool], key=lambda place: -len(rows[place]))]
               for first in range(0, len(part), size)]
    if seed is not None:
        random.Random(seed).shuffle(batches)
    yield from batches


def train(model: nn.Module, rows: dict[str, list[Tensor]], labels: dict[str, list[bool]], epochs: int, seed: int,
          save: Callable[[], None]) -> list[dict]:
    """Train on the split `train`, and call `save` after each epoch with the best validation accuracy so far. Returns the
    figures of each epoch: loss and accuracy of both splits, seconds."""
    targets = torch.tensor(labels["train"], dtype=torch.float32)
    optimizer = torch.optim.Adam([weight for weight in model.parameters() if weight.requires_grad], 1e-3)
    dtype = choose_precision("auto", torch.device("cpu"))
    figures: list[dict] = []
    torch.manual_seed(seed)
    for epoch in range(1, epochs + 1):
        model.train()
        began, loss_sum, right = time.monotonic(), 0.0, 0
        batches = list(_like_lengths(rows["train"], BATCH, seed * 1000 + epoch))
        for places in tqdm(batches, f"epoch {epoch}", file=sys.stderr, leave=False, disable=not sys.stderr.isatty()):
            with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
                logits = model([rows["train"][place] for place in places]).float()
            loss = binary_cross_entropy_with_logits(logits, targets[places])
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            loss_sum += float(loss.detach()) * len(places)
            right += int(((logits > 0) == (targets[places] > 0.5)).sum())
        row = {"epoch": epoch, "loss": loss_sum / len(targets), "accuracy": right / len(targets),
               **{f"validation_{name}": value for name, value in
                  measure(model, rows["validation"], labels["validation"]).items()},
               "seconds": round(time.monotonic() - began, 1)}
        figures.append(row)
        if row["validation_accuracy"] == max(row["validation_accuracy"] for row in figures):
            save()
        print(f"epoch {epoch:2}  loss {row['loss']:.3f}  accuracy {row['accuracy']:.1%}  validation loss "
              f"{row['validation_loss']:.3f}  accuracy {row['validation_accuracy']:.1%}  {row['seconds']:.0f} s", flush=True)
    return figures


def measure(model: nn.Module, rows: Sequence[Tensor], labels: Sequence[bool]) -> dict[str, float]:
    """Loss (nats a review) and accuracy."""
    chances, targets = judge(model, rows), torch.tensor(labels, dtype=torch.float32)
    return {"loss": float(nn.functional.binary_cross_entropy(chances, targets)),
            "accuracy": float(((chances > 0.5) == (targets > 0.5)).float().mean())}


@torch.inference_mode()
def judge(model: nn.Module, rows: Sequence[Tensor]) -> Tensor:
    """The probability of the second label for each row, (rows,)."""
    model.eval()
    chances = torch.empty(len(rows))
    for places in _like_lengths(rows, 4 * BATCH):
        chances[places] = model([rows[place] for place in places]).sigmoid()
    return chances


class SentimentRun:
    """The folder of a run: model.pt, tokenizer.json, metrics.json, loss.png, accuracy.png, and with an encoder the pooled
    outputs, which are read again by a later run on the same texts."""

    def __init__(self, folder: Path, encoder: str | None):
        self.folder = folder
        self.language_model = load(None if encoder == "english" else encoder) if encoder else None
        self.title = f"{self.language_model.name} model's pooled outputs" if self.language_model else f"LSTM of {WIDTH} units"

    def train(self, data: str, epochs: int, seed: int) -> None:
        splits, names = load_reviews(data)
        print(f"{data}: " + ", ".join(f"{split} {len(texts):,}" for split, (texts, _) in splits.items()), file=sys.stderr)
        if self.language_model:
            rows = {split: self._pooled(texts) for split, (texts, _) in splits.items()}
            known = torch.stack(rows["train"])
            model = Pooled(known.shape[1])
            model.mean.copy_(known.mean(0))
            model.deviation.copy_(known.std(0) + 1e-6)
        else:
            vocabulary = Vocabulary.build(_words(splits["train"].texts), WORDS, pretokenized=True)
            write_atomically(self._path("tokenizer.json"), vocabulary.to_json().encode())
            rows = {split: to_ids(vocabulary, texts) for split, (texts, _) in splits.items()}
            torch.manual_seed(seed)
            model = Reader(len(vocabulary))
        best = self._path("model.pt")
        figures = train(model, rows, {split: labels for split, (_, labels) in splits.items()}, epochs, seed,
                        lambda: torch.save({"weights": model.state_dict(), "names": names}, best))
        model.load_state_dict(torch.load(best, weights_only=True)["weights"])
        test = measure(model, rows["test"], splits["test"].labels)
        write_atomically(self._path("metrics.json"), json.dumps({"epochs": figures, "test": test}, indent=1).encode())
        self._draw(figures, Path(data).name)
        chosen = max(figures, key=lambda row: row["validation_accuracy"])
        print(f"best epoch {chosen['epoch']}; test loss {test['loss']:.3f}, test accuracy {test['accuracy']:.2%} of "
              f"{len(rows['test']):,} reviews")
        for place in random.Random(seed).sample(range(len(rows["test"])), min(6, len(rows["test"]))):
            truth = names[splits["test"].labels[place]]
            print(f"{_verdict(float(judge(model, [rows['test'][place]])), names)} (labelled {truth}): "
                  f"{' '.join(splits['test'].texts[place].split())[:90]} …")

    def ask(self, text: str) -> str:
        """The verdict on a text. Raises ValueError where nothing is trained yet, or the text has no word."""
        if not re.search(WORD, text):
            raise ValueError("the text has no word to judge")
        if not self._path("model.pt").exists():
            raise ValueError(f"{self.folder} holds no trained model: run the same command without a text first")
        saved = torch.load(self._path("model.pt"), weights_only=True)
        if self.language_model:
            rows = pool(self.language_model, [clean(text)])
            model: nn.Module = Pooled(len(rows[0]))
        else:
            vocabulary = Vocabulary.from_file(self._path("tokenizer.json"))
            rows, model = to_ids(vocabulary, [clean(text)]), Reader(len(vocabulary))
        model.load_state_dict(saved["weights"])
        return _verdict(float(judge(model, rows)), saved["names"])

    def _path(self, name: str) -> Path:
        self.folder.mkdir(parents=True, exist_ok=True)
        return self.folder / name

    def _pooled(self, texts: list[str]) -> list[Tensor]:
        model = self.language_model
        assert model is not None
        digest = hashlib.sha256(json.dumps([model.metadata["files"], texts]).encode()).hexdigest()[:16]
        path = self._path(f"pooled-{digest}.pt")
        if not path.exists():
            torch.save(torch.stack(pool(model, texts)), path)
        return list(torch.load(path, weights_only=True))

    def _draw(self, figures: list[dict], data: str) -> None:
        epochs = [row["epoch"] for row in figures]
        for name, unit, percent in (("loss", "cross-entropy, nats a review", False), ("accuracy", "share of reviews", True)):
            draw(self._path(f"{name}.png"), {"train": (epochs, [row[name] for row in figures]),
                                             "validation": (epochs, [row[f"validation_{name}"] for row in figures])},
                 title=f"{self.title} on {data}: {name}", x="epoch", y=unit, percent=percent)


def _verdict(chance: float, names: Sequence[str]) -> str:
    return f"{names[chance > 0.5]} {max(chance, 1 - chance):.0%}"


def command(parser: Parser) -> Run:
    parser.formatter_class, parser.description = argparse.RawDescriptionHelpFormatter, __doc__
    parser.add_argument("--data", default="imdb", help="a hub id, or a folder in the hub's layout, with the columns text and "
                        "label (default: imdb)")
    parser.add_argument("--text", help="judge this text with the model of an earlier run")
    parser.add_argument("--encoder", help="a language model that reads the texts: english, or a bundle's folder (default: "
                        "an LSTM is trained from nothing)")
    parser.add_argument("--epochs", type=int, default=10, help="default: 10")
    parser.add_argument("--seed", type=int, default=0, help="default: 0")
    parser.add_argument("--out", type=Path, help="the run's folder (default: runs/sentiment, with an encoder its name too)")
    return run


def run(arguments: argparse.Namespace) -> int:
    if arguments.epochs < 1:
        raise ValueError(f"--epochs is {arguments.epochs}; it must be at least 1")
    name = "sentiment" + (f"-{Path(arguments.encoder).name}" if arguments.encoder else "")
    work = SentimentRun(arguments.out or Path("runs") / name, arguments.encoder)
    if arguments.text is not None:
        print(work.ask(arguments.text))
    else:
        work.train(arguments.data, arguments.epochs, arguments.seed)
    return 0
