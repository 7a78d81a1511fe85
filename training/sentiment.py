"""An LSTM that judges film reviews, and the value of pre-training: `nextword sentiment`.

    x_t = W_e[w_t]                embedding of 10,000 words, 128 wide
    h_t = LSTM(x_t, h_{t-1})      128 units, the equations of lm/cell.py
    P(positive) = σ(v h_T + b)    T: the review's last word; at most 500 words are read

The network is trained only on labelled reviews, with binary cross-entropy (training/examples.py). The weights with the
best validation accuracy are kept. Dropout is that of the language model: on inputs, outputs and recurrent weights. With
`--encoder english`, the bundled language model reads the reviews instead. Then only a linear layer is trained, on the
mean, the maximum and the last of its outputs (pooling: Howard & Ruder 2018, "ULMFiT").

Data: the film reviews of Maas et al. 2011 (`imdb`), or any data set with a text and two labels. Validation text is cut
from the training text. Validation and test lack the reviews that another split has too.
"""
from __future__ import annotations

import argparse
import random
import re
import sys
from collections.abc import Sequence
from operator import itemgetter
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits
from torch.nn.utils.rnn import pad_sequence

from nextword.lm import load, torchscript
from nextword.lm.architecture import Architecture
from nextword.lm.bundle import Bundle, BundleError, open_bundle
from nextword.lm.command import Parser, Run, positive
from nextword.lm.network import Network
from nextword.lm.vocabulary import EOS_ID, Vocabulary
from nextword.training.atomic_files import write_atomically, write_json
from nextword.training.corpora.cleaning import reviews as clean
from nextword.training.corpora.labelled import load_labelled
from nextword.training.examples import BATCH, Examples, batches, learn, plot_epochs, predict
from nextword.training.precision import choose_precision
from nextword.training.progress import work_progress
from nextword.training.regularisation import RegularisedNetwork

WORD = r"\w+(?:['’-]\w+)*"
WORDS, LENGTH, WIDTH, DROPOUT = 10_000, 500, 128, 0.2
PADDING = -1  # after the ids of a review
CHUNK = 100  # tokens that the language model reads at once
DECAY = 0.01  # of the linear layer's weights


class Reader(nn.Module):
    """The LSTM without pre-training: word ids (reviews, LENGTH) → the logits of the second label, (reviews,)."""

    def __init__(self, words: int) -> None:
        super().__init__()
        self.network = RegularisedNetwork(Architecture(words, "lstm", WIDTH, WIDTH), DROPOUT, weight_drop=DROPOUT)
        self.verdict = nn.Linear(WIDTH, 1)

    def forward(self, ids: Tensor) -> Tensor:
        lengths = (ids != PADDING).sum(1)
        outputs, _ = self.network(ids[:, : lengths.max()].clamp(min=0).t(), self.network.initial_state(len(ids)))
        return self.verdict(outputs[lengths - 1, torch.arange(len(ids))]).squeeze(1)


class Layer(nn.Linear):
    """A linear layer on vectors (reviews, width) standardised like `inputs` → the logits of the second label."""

    mean: Tensor
    deviation: Tensor

    def __init__(self, inputs: Tensor) -> None:
        super().__init__(inputs.shape[1], 1)
        self.register_buffer("mean", inputs.mean(0))
        self.register_buffer("deviation", inputs.std(0, correction=0) + 1e-6)

    def forward(self, inputs: Tensor) -> Tensor:
        return super().forward((inputs - self.mean) / self.deviation).squeeze(1)


def words(texts: Sequence[str]) -> list[str]:
    """The words of each text, in lower case, without punctuation."""
    return [" ".join(re.findall(WORD, text.lower())) for text in texts]


def to_ids(vocabulary: Vocabulary, texts: Sequence[str]) -> Tensor:
    """The ids of the last LENGTH words of each text, (texts, LENGTH) with PADDING at the end."""
    ids = [torch.tensor(row[-LENGTH:]) for row in vocabulary.encode_many(words(texts))]
    return pad_sequence([*ids, torch.empty(LENGTH, dtype=torch.long)], True, PADDING)[:-1]


@torch.inference_mode()
def pool(bundle: Bundle, texts: Sequence[str]) -> Tensor:
    """The mean, the maximum and the last of a language model's output vectors for each text, (texts, 3 * width)."""
    model, architecture = load(bundle), bundle.description.architecture
    if not architecture:
        raise BundleError(f"{bundle.path} does not say which architecture its network has")
    network, dtype = Network(architecture).eval(), choose_precision("auto", torch.device("cpu")).dtype
    network.load_state_dict(torchscript.weights(model.program))
    network.to(dtype)
    rows = [torch.tensor([EOS_ID, *row]) for row in model.vocabulary.encode_many(list(texts))]
    lengths = torch.tensor([len(row) for row in rows])
    pooled = torch.empty(len(rows), 3 * architecture.embedding_size)
    with work_progress(int(lengths.sum()), "reading") as progress:
        for places in batches(lengths, 2 * BATCH):
            state, outputs = network.initial_state(len(places)), []
            for tokens in pad_sequence([rows[place] for place in places]).split(CHUNK):
                output, state = network(tokens, state)
                outputs.append(output.float())
            vectors = torch.cat(outputs)  # (time, texts, width)
            inside = (torch.arange(len(vectors))[:, None] < lengths[places])[..., None]
            pooled[places] = torch.cat([
                (vectors * inside).sum(0) / lengths[places, None], vectors.masked_fill(~inside, -torch.inf).amax(0),
                vectors[lengths[places] - 1, torch.arange(len(places))]], 1)
            progress(int(lengths[places].sum()))
    return pooled


def measure(logits: Tensor, targets: Tensor) -> dict[str, Tensor]:
    """The loss in nats a review, and the accuracy."""
    return {"loss": binary_cross_entropy_with_logits(logits, targets),
            "accuracy": ((logits > 0) == (targets > 0.5)).float().mean()}


class Judge:
    """A model in a run's folder: model.pt, tokenizer.json, and of its training metrics.json, loss.png, accuracy.png.

    encoder: the language model that reads the texts; None: the model reads them itself.
    """

    def __init__(self, folder: Path, encoder: str | None) -> None:
        self.folder = folder
        self.encoder = open_bundle(None if encoder == "english" else encoder) if encoder else None

    def train(self, data: str, epochs: int, seed: int) -> None:
        splits, names = load_labelled(data)
        sizes = ", ".join(f"{split} {len(part.texts):,}" for split, part in splits.items())
        print(f"{data}: {sizes}", file=sys.stderr)
        self.folder.mkdir(parents=True, exist_ok=True)
        if not self.encoder:
            vocabulary = Vocabulary.build(words(splits["train"].texts), WORDS, pretokenized=True)
            write_atomically(self.folder / "tokenizer.json", vocabulary.to_json().encode())
        parts = {split: self.examples(*part) for split, part in splits.items()}
        torch.manual_seed(seed)
        model = self.model(parts["train"].inputs)
        curve = learn(model, parts["train"], parts["validation"], measure, itemgetter("validation accuracy"), epochs,
                      decay=DECAY if self.encoder else 0.0, dtype=choose_precision("auto", torch.device("cpu")).dtype)
        torch.save({"weights": model.state_dict(), "names": names}, self.folder / "model.pt")
        logits = predict(model, parts["test"])
        test = {name: float(value) for name, value in measure(logits, parts["test"].targets).items()}
        write_json(self.folder / "metrics.json", {"epochs": curve, "test": test})
        title = f"Linear layer on {self.encoder.name}" if self.encoder else f"LSTM of {WIDTH} units"
        for figure, unit in (("loss", "cross-entropy, nats a review"), ("accuracy", "share of reviews")):
            plot_epochs(self.folder / f"{figure}.png", {"": curve}, figure, f"{title} on {Path(data).name}", unit)
        print(f"test loss {test['loss']:.3f}, test accuracy {test['accuracy']:.2%} of {len(logits):,} reviews")
        for place in random.Random(seed).sample(range(len(logits)), min(6, len(logits))):
            text, truth = splits["test"].texts[place], names[splits["test"].labels[place]]
            print(f"{verdict(logits[place], names)} (labelled {truth}): {' '.join(text.split())[:90]} …")

    def ask(self, text: str) -> str:
        """The verdict on a text. Raises ValueError if there is no trained model, or the text has no word."""
        if not re.search(WORD, text):
            raise ValueError("the text has no word to judge")
        if not (self.folder / "model.pt").exists():
            raise ValueError(f"{self.folder} holds no trained model: run the same command without a text first")
        saved, asked = torch.load(self.folder / "model.pt", weights_only=True), self.examples([clean(text)], [True])
        model = self.model(asked.inputs)
        model.load_state_dict(saved["weights"])
        return verdict(predict(model, asked)[0], saved["names"])

    def examples(self, texts: list[str], labels: list[bool]) -> Examples:
        if self.encoder:
            inputs = pool(self.encoder, texts)
        else:
            inputs = to_ids(Vocabulary.from_file(self.folder / "tokenizer.json"), texts)
        return Examples(inputs, torch.tensor(labels, dtype=torch.float32), (inputs != PADDING).sum(1))

    def model(self, inputs: Tensor) -> nn.Module:
        if self.encoder:
            return Layer(inputs)
        return Reader(len(Vocabulary.from_file(self.folder / "tokenizer.json")))


def verdict(logit: Tensor, names: Sequence[str]) -> str:
    chance = float(logit.sigmoid())
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
    judge = Judge(arguments.out or Path("runs") / name, arguments.encoder)
    if arguments.text is not None:
        print(judge.ask(arguments.text))
    else:
        judge.train(arguments.data, arguments.epochs, arguments.seed)
    return 0
