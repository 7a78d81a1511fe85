"""`python -m lm evaluate`: its figures, against counting by hand."""
import json
import math
import subprocess
import sys

import pytest
import torch

from lm import load
from lm.context import Distribution
from training.__main__ import main as training
from training.corpora import load_corpus
from training.evaluation import evaluate


def step(model, token, state):
    """Read one token: the distribution (V,) after it, and the new state."""
    state = model.program.read(torch.tensor([[token]]), torch.tensor([1]), state)
    return model.program.log_probs(model.program.output(state))[0], state


def by_hand(model, documents):
    """Token by token: loss, tokens, and hits of words in the first three suggestions."""
    loss, tokens, words, hits = 0.0, 0, 0, 0
    for document in documents:
        ids, state = [1, *model.vocabulary.encode(document + "\n")], model.program.initial_state(1)
        for before, after in zip(ids, ids[1:]):
            log_probs, state = step(model, before, state)
            loss, tokens = loss - float(log_probs[after]), tokens + 1
            word = model.vocabulary.words[after]
            if after == 0 or model.vocabulary.is_word()[after]:
                words += 1
                hits += word.casefold() in [w.word.casefold() for w in model.rank(Distribution(log_probs, {}), 3)]
    return {"perplexity": math.exp(loss / tokens), "tokens": tokens, "words": words, "word_top3": hits / words}


def test_figures_are_those_counted_by_hand(tiny_model):
    documents = ["I went to the store.\nThank you very much!", "They ran to the zebra today.", "You walked", ""]
    figures = evaluate(tiny_model, documents)
    for key, value in by_hand(tiny_model, documents).items():
        assert figures[key] == pytest.approx(value, rel=1e-4), key
    assert figures["oov_rate"] == pytest.approx(1 / figures["tokens"])


def test_long_documents_are_read_in_parts_with_their_state(tiny_model):
    document = "\n".join(["I went to the store.", "Thank you very much!", "They ran to the park, too."] * 12)
    assert evaluate(tiny_model, [document, "You ran"])["perplexity"] == pytest.approx(
        by_hand(tiny_model, [document, "You ran"])["perplexity"], rel=1e-4)


def test_the_command(tiny_bundle, corpus_file):
    command = [sys.executable, "-m", "lm", "evaluate", "--bundle", str(tiny_bundle), "--corpus", str(corpus_file)]
    run = subprocess.run([*command, "--split", "test", "--json"], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    figures = json.loads(run.stdout)
    assert 1 < figures["perplexity"] < 6 and "<eos>" in figures["perplexity_definition"]
    assert figures["oov_rate"] == 0 and figures["tokens"] > figures["words"] > 100
    assert figures["top1"] < figures["top3"] < figures["top5"] and figures["word_top1"] < figures["word_top5"]
    assert "perplexity" in subprocess.run([*command, "--tokens", "50"], capture_output=True, text=True).stdout
    wrong = subprocess.run([*command[:-1], "no-such-corpus"], capture_output=True, text=True)
    assert wrong.returncode == 2 and wrong.stderr.count("\n") == 1 and "no-such-corpus" in wrong.stderr


def test_pretokenized_benchmarks_are_read_as_one_text(tmp_path):
    folder = tmp_path / "bench"
    folder.mkdir()
    lines = ["the cat <unk> on the mat", "the dog ran N miles", "a cat ran"] * 60
    for name in ("train", "valid", "test"):
        (folder / f"{name}.txt").write_text("".join(f" {line} \n" for line in lines[: 180 if name == "train" else 30]))
    out = tmp_path / "run"
    assert training(["train", "--corpus", str(folder), "--pretokenized", "--out", str(out), "--epochs", "2", "--hidden-size",
                     "32", "--embedding-size", "16", "--batch-size", "4", "--minimum-count", "1", "--threads", "1"]) == 0
    model = load(out / "bundle")
    assert model.vocabulary.pretokenized
    documents = list(load_corpus(str(folder), pretokenized=True).documents("test"))
    figures = evaluate(model, ["\n".join(documents)])
    assert figures["tokens"] == sum(len(line.split()) + 1 for line in lines[:30])
    ids = [1, *model.vocabulary.encode("\n".join(documents) + "\n")]
    loss, state = 0.0, model.program.initial_state(1)
    for before, after in zip(ids, ids[1:]):
        log_probs, state = step(model, before, state)
        loss -= float(log_probs[after])
    assert figures["perplexity"] == pytest.approx(math.exp(loss / (len(ids) - 1)), rel=1e-4)


def test_nothing_to_evaluate_is_said(tiny_model):
    with pytest.raises(ValueError, match="no text"):
        evaluate(tiny_model, [])
    assert torch.is_inference_mode_enabled() is False
