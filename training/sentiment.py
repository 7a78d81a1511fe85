"""An LSTM that judges film reviews, and the value of pre-training: `nextword sentiment`.

    x_t = W_e[w_t]                embedding of 10,000 words, 128 wide
    h_t = LSTM(x_t, h_{t-1})      128 units, the equations of lm/cell.py
    P(positive) = σ(v h_T + b)    T: the review's last word; at most 500 words are read

The network is trained only on labelled reviews: binary cross-entropy, Adam, batches of 32 reviews of similar lengths,
10 epochs. The weights of the epoch with the best validation accuracy are kept. Dropout is that of the language model:
on inputs, outputs and recurrent weights. With `--encoder english`, the bundled language model reads the reviews
instead. Then only a linear layer is trained, on the mean, the maximum and the last of the output vectors (pooling:
Howard & Ruder 2018, "ULMFiT").

Data: the film reviews of Maas et al. 2011 (`imdb`), or any data set with a text and two labels. Validation text is cut
from the training text. Validation and test lack the reviews that another split has too.
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

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits
from torch.nn.utils.rnn import pad_sequence
from tqdm import tqdm

from nextword.lm import load, torchscript
from nextword.lm.architecture import Architecture
from nextword.lm.bundle import Bundle, BundleError, open_bundle
from nextword.lm.command import Parser, Run, positive
from nextword.lm.network import Network
from nextword.lm.vocabulary import EOS_ID, Vocabulary
from nextword.training.corpora.cleaning import reviews as clean
from nextword.training.corpora.labelled import load_labelled
from nextword.training.files import write_atomically, write_json
from nextword.training.plots import draw
from nextword.training.precision import choose_precision
from nextword.training.regularisation import RegularisedNetwork

WORD = r"\w+(?:['’-]\w+)*"
WORDS, LENGTH, WIDTH, DROPOUT, BATCH = 10_000, 500, 128, 0.2, 32
CHUNK = 100  # tokens that the language model reads at once
PART = 5_000  # texts whose pooled outputs are in one file


class Reader(nn.Module):
    """The LSTM without pre-training: word ids of some reviews → the logits of the second label, (reviews,)."""

    def __init__(self, words: int) -> None:
        super().__init__()
        self.network = RegularisedNetwork(Architecture(words, "lstm", WIDTH, WIDTH), DROPOUT, weight_drop=DROPOUT)
        self.network.bias.requires_grad_(False)  # a part of the output layer over words, which is not used
        self.verdict = nn.Linear(WIDTH, 1)

    def forward(self, rows: Sequence[Tensor]) -> Tensor:
        last = torch.tensor([len(row) - 1 for row in rows])
        outputs, _ = self.network(pad_sequence(list(rows)), self.network.initial_state(len(rows)))
        return self.verdict(outputs[last, torch.arange(len(rows))]).squeeze(1)


class Pooled(nn.Module):
    """A linear layer on standardised vectors, one for each review → the logits of the second label, (reviews,)."""

    mean: Tensor
    deviation: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("deviation", torch.ones(width))
        self.verdict = nn.Linear(width, 1)

    @classmethod
    def standardising(cls, training: Tensor) -> Pooled:
        """The layer for vectors with the mean and deviation of these, (reviews, width)."""
        layer = cls(training.shape[1])
        layer.mean, layer.deviation = training.mean(0), training.std(0) + 1e-6
        return layer

    def forward(self, rows: Sequence[Tensor]) -> Tensor:
        return self.verdict((torch.stack(list(rows)) - self.mean) / self.deviation).squeeze(1)


def to_ids(vocabulary: Vocabulary, texts: Sequence[str]) -> list[Tensor]:
    """The ids of the last `LENGTH` words of each text, in lower case, without punctuation."""
    return [torch.tensor(ids[-LENGTH:]) for ids in vocabulary.encode_many(_words(texts))]


def _words(texts: Sequence[str]) -> list[str]:
    return [" ".join(re.findall(WORD, text.lower())) for text in texts]


@torch.inference_mode()
def pool(bundle: Bundle, texts: Sequence[str]) -> list[Tensor]:
    """For each text, the mean, the maximum and the last of the language model's output vectors, (3 · width,)."""
    model, architecture = load(bundle), bundle.description.architecture
    if not architecture:
        raise BundleError(f"{bundle.path} does not say which architecture its network has")
    network = Network(architecture).eval()
    network.load_state_dict(torchscript.weights(model.program))
    dtype = choose_precision("auto", torch.device("cpu")).dtype
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
        vectors = torch.cat(outputs)  # (time, reviews, width)
        inside = (torch.arange(len(vectors))[:, None] < lengths)[..., None]
        parts = [(vectors * inside).sum(0) / lengths[:, None], vectors.masked_fill(~inside, -torch.inf).amax(0),
                 vectors[lengths - 1, torch.arange(len(places))]]
        pooled.update(zip(places, torch.cat(parts, 1)))
        bar.update(len(places))
    bar.close()
    return [pooled[place] for place in range(len(ids))]


def _like_lengths(rows: Sequence[Tensor], size: int, seed: int | None = None) -> Iterator[list[int]]:
    """The places of all rows, in batches of similar lengths. A seed makes the batches and their order random."""
    places = list(range(len(rows)))
    if seed is not None:
        random.Random(seed).shuffle(places)
    group = max(1, len(rows)) if seed is None else 50 * size  # rows that are sorted together, so that batches differ
    batches = [part[first : first + size] for start in range(0, len(rows), group)
               for part in [sorted(places[start : start + group], key=lambda place: -len(rows[place]))]
               for first in range(0, len(part), size)]
    if seed is not None:
        random.Random(seed).shuffle(batches)
    yield from batches


def train(model: nn.Module, rows: dict[str, list[Tensor]], labels: dict[str, list[bool]], epochs: int, seed: int,
          save: Callable[[], None]) -> list[dict]:
    """Train on the split `train`, and call `save` after each epoch with the best validation accuracy so far.

    Returns the figures of each epoch: loss and accuracy of both splits, seconds.
    """
    targets = torch.tensor(labels["train"], dtype=torch.float32)
    optimizer = torch.optim.Adam([weight for weight in model.parameters() if weight.requires_grad], 1e-3)
    dtype = choose_precision("auto", torch.device("cpu")).dtype
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
              f"{row['validation_loss']:.3f}  accuracy {row['validation_accuracy']:.1%}  {row['seconds']:.0f} s",
              flush=True)
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
    """The folder of a run: model.pt, tokenizer.json, metrics.json, loss.png, accuracy.png.

    With an encoder, it also has the pooled outputs, for later runs on the same texts.
    """

    def __init__(self, folder: Path, encoder: str | None) -> None:
        self.folder = folder
        self.encoder = open_bundle(None if encoder == "english" else encoder) if encoder else None
        self.title = f"Pooled outputs of {self.encoder.name}" if self.encoder else f"LSTM of {WIDTH} units"

    def train(self, data: str, epochs: int, seed: int) -> None:
        splits, names = load_labelled(data)
        sizes = ", ".join(f"{split} {len(texts):,}" for split, (texts, _) in splits.items())
        print(f"{data}: {sizes}", file=sys.stderr)
        model: nn.Module
        if self.encoder:
            rows = {split: self._pooled(self.encoder, texts) for split, (texts, _) in splits.items()}
            model = Pooled.standardising(torch.stack(rows["train"]))
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
        write_json(self._path("metrics.json"), {"epochs": figures, "test": test})
        self._draw(figures, Path(data).name)
        chosen = max(figures, key=lambda row: row["validation_accuracy"])
        print(f"best epoch {chosen['epoch']}; test loss {test['loss']:.3f}, test accuracy {test['accuracy']:.2%} of "
              f"{len(rows['test']):,} reviews")
        for place in random.Random(seed).sample(range(len(rows["test"])), min(6, len(rows["test"]))):
            truth = names[splits["test"].labels[place]]
            print(f"{_verdict(float(judge(model, [rows['test'][place]])), names)} (labelled {truth}): "
                  f"{' '.join(splits['test'].texts[place].split())[:90]} …")

    def ask(self, text: str) -> str:
        """The verdict on a text. Raises ValueError if there is no trained model, or the text has no word."""
        if not re.search(WORD, text):
            raise ValueError("the text has no word to judge")
        if not (self.folder / "model.pt").exists():
            raise ValueError(f"{self.folder} holds no trained model: run the same command without a text first")
        saved = torch.load(self._path("model.pt"), weights_only=True)
        model: nn.Module
        if self.encoder:
            rows = pool(self.encoder, [clean(text)])
            model = Pooled(len(rows[0]))
        else:
            vocabulary = Vocabulary.from_file(self._path("tokenizer.json"))
            rows, model = to_ids(vocabulary, [clean(text)]), Reader(len(vocabulary))
        model.load_state_dict(saved["weights"])
        return _verdict(float(judge(model, rows)), saved["names"])

    def _path(self, name: str) -> Path:
        self.folder.mkdir(parents=True, exist_ok=True)
        return self.folder / name

    def _pooled(self, encoder: Bundle, texts: list[str]) -> list[Tensor]:
        rows: list[Tensor] = []
        for part in (texts[first : first + PART] for first in range(0, len(texts), PART)):
            digest = hashlib.sha256(json.dumps([encoder.metadata["files"], part]).encode()).hexdigest()[:16]
            path = self._path(f"pooled-{digest}.pt")
            if not path.exists():
                torch.save(torch.stack(pool(encoder, part)), path)
            rows += torch.load(path, weights_only=True)
        return rows

    def _draw(self, figures: list[dict], data: str) -> None:
        epochs = [row["epoch"] for row in figures]
        for name, unit in (("loss", "cross-entropy, nats a review"), ("accuracy", "share of reviews")):
            curves = {"train": (epochs, [row[name] for row in figures]),
                      "validation": (epochs, [row[f"validation_{name}"] for row in figures])}
            draw(self._path(f"{name}.png"), curves, title=f"{self.title} on {data}: {name}", x="epoch", y=unit,
                 percent=name == "accuracy")


def _verdict(chance: float, names: Sequence[str]) -> str:
    return f"{names[chance > 0.5]} {max(chance, 1 - chance):.0%}"


def command(parser: Parser) -> Run:
    parser.formatter_class, parser.description = argparse.RawDescriptionHelpFormatter, __doc__
    parser.add_argument("--data", default="imdb",
                        help="a hub id, or a folder in the hub's layout, with columns text and label (default: imdb)")
    parser.add_argument("--text", help="judge this text with the model of an earlier run")
    parser.add_argument("--encoder", help="a language model that reads the texts: english, or a bundle's folder "
                        "(default: an LSTM without pre-training)")
    parser.add_argument("--epochs", type=positive, default=10, help="default: 10")
    parser.add_argument("--seed", type=int, default=0, help="default: 0")
    parser.add_argument("--out", type=Path, help="the run's folder (default: runs/sentiment, and the encoder's name)")
    return run


def run(arguments: argparse.Namespace) -> int:
    name = "sentiment" + (f"-{Path(arguments.encoder).name}" if arguments.encoder else "")
    work = SentimentRun(arguments.out or Path("runs") / name, arguments.encoder)
    if arguments.text is not None:
        print(work.ask(arguments.text))
    else:
        work.train(arguments.data, arguments.epochs, arguments.seed)
    return 0
