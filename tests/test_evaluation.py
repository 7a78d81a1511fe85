"""`nextword evaluate`: its figures, against counting by hand."""
import json
import math
import random
import re
from dataclasses import replace

import numpy as np
import pytest
import torch

from nextword.lm import BundleError, load
from nextword.lm.command import main
from nextword.lm.context import Distribution
from nextword.lm.continuous_cache import CacheSettings
from nextword.lm.profile import profile_of
from nextword.lm.vocabulary import EOS_ID, UNK_ID
from nextword.lm.words import has_letter
from nextword.training.__main__ import main as training
from nextword.training.corpora import load_corpus
from nextword.training.evaluation import ngram
from nextword.training.evaluation.adapted_run import AdaptedRun
from nextword.training.evaluation.cache_tuning import tune_cache
from nextword.training.evaluation.dynamic import DynamicSettings, gradient_scales, read_dynamically
from nextword.training.evaluation.excerpts import Text, excerpts, halves
from nextword.training.evaluation.figures import evaluate
from nextword.training.publish import publish
from tests.conftest import invented_text

NAMES = (
    "They went to the Zorblax. Zorblax ran to the Quux.\nWe walked to the Zorblax, too.\nzorblax! Thank you, Zorblax."
)


def step(model, token, state):
    """Read one token: the distribution (V,) after it, and the new state."""
    state = model.program.read(torch.tensor([[token]]), torch.tensor([1]), state)
    return model.program.log_probs(model.program.output(state))[0], state


def text_of(model, document):
    ids, unknown = model.vocabulary.encode_with_unknown(document + "\n")
    return Text(torch.tensor([EOS_ID, *ids]), unknown)


def by_hand(model, documents):
    """Token by token: loss, tokens, and hits of words in the first three suggestions."""
    loss, tokens, words, hits = 0.0, 0, 0, 0
    for document in documents:
        text, state = text_of(model, document), model.program.initial_state(1)
        for place, (before, after) in enumerate(zip(text.ids.tolist(), text.ids[1:].tolist())):
            log_probs, state = step(model, before, state)
            loss, tokens = loss - float(log_probs[after]), tokens + 1
            word = text.unknown.get(place, model.vocabulary.words[after])
            if after != EOS_ID and has_letter(word):
                words += 1
                hits += word.casefold() in [w.word.casefold() for w in model.rank(Distribution(log_probs, {}), 3)]
    return {"perplexity": math.exp(loss / tokens), "tokens": tokens, "words": words, "word_top3": hits / words}


def test_figures_are_those_counted_by_hand(tiny_model):
    documents = ["I went to the store.\nThank you very much!", "They ran to the zebra today.", "You walked", ""]
    figures = evaluate(tiny_model, [text_of(tiny_model, document) for document in documents])
    for key, value in by_hand(tiny_model, documents).items():
        assert figures[key] == pytest.approx(value, rel=1e-4), key
    assert figures["oov_rate"] == pytest.approx(1 / figures["tokens"])


def test_long_documents_are_read_in_parts_with_their_state(tiny_model):
    document = "\n".join(["I went to the store.", "Thank you very much!", "They ran to the park, too."] * 12)
    assert evaluate(tiny_model, [text_of(tiny_model, part) for part in (document, "You ran")], 0)["perplexity"] == (
        pytest.approx(by_hand(tiny_model, [document, "You ran"])["perplexity"], rel=1e-4))


@pytest.fixture
def caching_model(tiny_model):
    """With a cache that matters in short texts."""
    kept, tiny_model.cache = tiny_model.cache, CacheSettings(theta=8.0, weight=0.9, size=60)
    yield tiny_model
    tiny_model.cache = kept


def typed_by_hand(model, text, history=None):
    """With `rank(partial=)`, letter by letter: hits among the first 1, 3 and 5, keys, letters; and the loss."""
    hits, keys, letters, loss = dict.fromkeys((1, 3, 5), 0), [], [], 0.0
    context = model.start
    for place, token in enumerate(text.ids[1:].tolist()):
        distribution = model.predict([context], [history])[0]
        p = float(distribution.log_probs[token].exp()) + (sum(distribution.unknown.values()) if token == UNK_ID else 0)
        loss -= math.log(p)
        word = text.unknown.get(place, model.vocabulary.words[token])
        if token != EOS_ID and has_letter(word):
            def offered(k, typed, distribution=distribution):
                return [w.word.casefold() for w in model.rank(distribution, k, partial=typed)]

            for k in hits:
                hits[k] += word.casefold() in offered(k, "")
            keys.append(
                next((j + 1 for j in range(len(word)) if word.casefold() in offered(3, word[:j])), len(word) + 1)
            )
            letters.append(len(word) + 1)
        context = model.read([context], [([token], {0: word} if token == UNK_ID else {})])[0]
    return {"perplexity": math.exp(loss / text.length), **{f"word_top{k}": hit / len(keys) for k, hit in hits.items()},
            "keystroke_savings": 1 - sum(keys) / sum(letters), "words": len(keys)}


@pytest.mark.parametrize("way", ["network", "cache", "history"])
def test_savings_are_those_of_asking_letter_by_letter(caching_model, way):
    model, text = caching_model, text_of(caching_model, "\n".join([NAMES] * 3))
    past = text_of(model, "Quux went to London, London, Quux." * 10)
    found = evaluate(model, [text], histories=[past])
    if way == "network":
        model.cache = replace(model.cache, weight=0.0)
    history = profile_of("Quux went to London, London, Quux." * 10 + "\n") if way == "history" else None
    expected = typed_by_hand(model, text, history)
    if way == "history":
        del expected["perplexity"]
    found = found if way == "network" else found[way]
    assert {key: found[key] for key in expected} == pytest.approx(expected, rel=1e-4)
    if way != "network":
        assert found["unknown"]["words"] == 18 and found["unknown"]["keystroke_savings"] > 0


def test_words_outside_the_vocabulary_come_again_with_cache_and_history(caching_model):
    text, past = (text_of(caching_model, part) for part in (NAMES, "They walked to the Zorblax and the Quux. " * 10))
    found = evaluate(caching_model, [text], histories=[past])
    assert found["unknown"]["word_top3"] == 0 and found["unknown"]["keystroke_savings"] == 0
    assert 0 < found["cache"]["unknown"]["keystroke_savings"] < found["history"]["unknown"]["keystroke_savings"]
    assert found["history"]["unknown"]["word_top3"] > 0


def test_a_sample_estimates_the_whole_within_its_errors(caching_model):
    texts = [text_of(caching_model, invented_text(150, seed)) for seed in (5, 6)]
    whole, sample = (evaluate(caching_model, texts, size) for size in (10**9, 400))
    assert sample["sample"] == 400 and whole["sample"] == whole["tokens"] == sample["tokens"] > 1000
    assert sample["cache"]["perplexity"] == whole["cache"]["perplexity"]
    for key in ("top1", "word_top3", "keystroke_savings"):
        assert 0 < abs(sample[key] - whole[key]) < 4 * sample[f"{key}_error"]
        assert sample[f"{key}_error"] < 0.1 and whole[f"{key}_error"] < sample[f"{key}_error"]
    assert whole["long"]["words"] < whole["words"]
    assert "top1" not in evaluate(caching_model, texts, 0)


def test_excerpts_are_from_all_over(tiny_model, tmp_path):
    rows = "".join(json.dumps({"text": f"store number {i} \n" * 200}) + "\n" for i in range(40))
    for split in ("train", "test"):
        (tmp_path / f"{split}.jsonl").write_text(rows)
    corpus = load_corpus(str(tmp_path))
    texts = excerpts(corpus, "test", tiny_model.vocabulary, 1000)
    assert sum(text.length for text in texts) == 1000 and [text.length for text in texts] == [100] * 10
    assert len({text.unknown[2] for text in texts}) == 10, "ten documents, not one"
    assert all(max(text.unknown) < 100 for text in texts)
    assert len(excerpts(corpus, "test", tiny_model.vocabulary)) == 40


def test_halves_are_cut_between_paragraphs(tiny_model):
    text = text_of(tiny_model, NAMES)
    first, second = halves(text)
    assert torch.equal(torch.cat([first.ids, second.ids[1:]]), text.ids) and int(first.ids[-1]) == EOS_ID
    assert list(first.unknown.values()) + list(second.unknown.values()) == list(text.unknown.values())
    assert all(second.ids[1 + place] == UNK_ID for place in second.unknown)
    assert halves(text_of(tiny_model, "One paragraph.")) is None


def test_the_tuned_cache_is_the_one_that_evaluation_finds_best(tiny_model):
    texts = [text_of(tiny_model, NAMES + "\n" + invented_text(30, seed)) for seed in range(2)]
    tuned = tune_cache(tiny_model.program, texts, sizes=(20, 100))
    kept = tiny_model.cache
    try:
        found = {}
        for size, weight in ((20, 0.1), (100, 0.0), (100, 0.1), (100, 0.3)):
            tiny_model.cache = CacheSettings(0.3, weight, size)
            found[size, weight] = evaluate(tiny_model, texts, 0)["cache"]["perplexity"]
        tiny_model.cache = CacheSettings(**tuned["settings"])
        best = evaluate(tiny_model, texts, 0)["cache"]["perplexity"]
    finally:
        tiny_model.cache = kept
    assert tuned["perplexity"] == pytest.approx(best, rel=1e-4) and best <= min(found.values()) * 1.0001
    assert tuned["perplexity_without"] == pytest.approx(found[100, 0.0], rel=1e-4)
    assert len({round(value, 5) for value in found.values()}) == 4


def test_dynamic_evaluation_learns_from_the_text_and_forgets_it(tiny_run):
    run = AdaptedRun(tiny_run)
    text = text_of(run.model, "\n".join(["You ran to the London zoo, too.", "You walked to the store."] * 30))
    weights = {name: value.clone() for name, value in run.network.state_dict().items()}
    draw = random.Random(0)
    window = torch.tensor([[draw.randrange(2, len(run.model.vocabulary)) for _ in range(4)] for _ in range(11)])
    scales = gradient_scales(run.network, [(window[:-1], window[1:])] * 2)
    assert sum(float(s.sum()) for s in scales) / sum(s.numel() for s in scales) == pytest.approx(1, rel=1e-3)
    still, keys = read_dynamically(run.network, text.ids, DynamicSettings(0.0, 0.0, 7), scales)
    learned, _ = read_dynamically(run.network, text.ids, DynamicSettings(0.5, 0.001, 7), scales)
    static = evaluate(run.model, [text], 0)["perplexity"]
    assert math.exp(-still.mean()) == pytest.approx(static, rel=1e-4)
    assert torch.allclose(still[:7], learned[:7], atol=1e-6), "each segment is predicted before it is learned from"
    assert float(learned[60:].mean()) > float(still[60:].mean()) + 0.1
    held, _ = read_dynamically(run.network, text.ids, DynamicSettings(0.5, 1e9, 7), scales)
    assert torch.allclose(held, still, atol=1e-3), "the pull back to the trained weights"
    assert keys.shape == (text.length, run.network.architecture.output_size)
    assert all(torch.equal(value, weights[name]) for name, value in run.network.state_dict().items())


def test_the_command_tunes_a_run_on_validation_text_once(tiny_run, corpus_file, capsys):
    settings = tiny_run / "adaptation.json"
    command = [
        "evaluate",
        "--run",
        str(tiny_run),
        "--corpus",
        str(corpus_file),
        "--tokens",
        "150",
        "--tune-tokens",
        "100",
        "--sample",
        "20",
        "--dynamic",
    ]
    assert main([*command, "--json"]) == 0
    output = capsys.readouterr()
    assert "validation text" in output.err
    figures = json.loads(output.out)
    for way in ("cache", "dynamic", "dynamic_cache"):
        assert 1 < figures[way]["perplexity"] < 10
    kept = settings.read_bytes()
    assert main([*command, "--no-cache"]) == 0
    output = capsys.readouterr()
    assert "Tuning" not in output.err and settings.read_bytes() == kept
    assert "dynamic" in output.out and "dynamic + cache" not in output.out
    settings.unlink()


def test_progress_is_printed_off_a_terminal_too(tiny_bundle, corpus_file, capsys, monkeypatch):
    monkeypatch.setattr("nextword.training.progress.WORK_SECONDS", 0.0)
    assert main(["evaluate", "--bundle", str(tiny_bundle), "--corpus", str(corpus_file), "--sample", "5"]) == 0
    assert re.search(r"^evaluating: \d+% done, 0:00:\d\d left$", capsys.readouterr().err, re.MULTILINE)


def test_an_ngram_is_measured_on_the_same_tokens(tiny_model, tiny_bundle, corpus_file, tmp_path, capfd):
    pytest.importorskip("kenlm", reason="the package kenlm reads n-grams")
    assert main(["ngram", "--bundle", str(tiny_bundle), "--corpus", str(corpus_file)]) == 0
    lines = capfd.readouterr().out.splitlines()
    corpus = load_corpus(str(corpus_file))
    paragraphs = [line for document in corpus.documents("train") for line in document.split("\n") if line]
    assert [len(line.split()) for line in lines] == [len(tiny_model.vocabulary.encode(line)) for line in paragraphs]
    words = sorted({word for line in lines for word in line.split()})
    grams = "".join(f"-1.5\t{word}\t0\n" for word in ("<unk>", "</s>", *words))
    arpa = tmp_path / "uniform.arpa"
    arpa.write_text(f"\\data\\\nngram 1={len(words) + 3}\nngram 2=1\n\n\\1-grams:\n0\t<s>\t0\n{grams}\n"
                    f"\\2-grams:\n-1.5\t{words[0]} {words[0]}\n\n\\end\\\n")
    text = text_of(tiny_model, NAMES)
    assert np.exp(-ngram.NGram(arpa).log_probs(text.ids[1:].numpy())) == pytest.approx([10**1.5] * text.length)
    with pytest.raises(ValueError, match="no n-gram"):
        ngram.NGram(corpus_file)


def test_the_command(tiny_bundle, corpus_file, capsys):
    command = ["evaluate", "--bundle", str(tiny_bundle), "--corpus", str(corpus_file)]
    assert main([*command, "--split", "test", "--tokens", "600", "--sample", "100", "--json"]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert 1 < figures["perplexity"] < 6 and "<eos>" in figures["perplexity_definition"]
    assert figures["oov_rate"] == 0 and figures["tokens"] > figures["words"] > 50
    assert figures["top1"] < figures["top3"] < figures["top5"] and figures["word_top1"] < figures["word_top5"]
    assert {"perplexity", "keystroke_savings", "unknown", "long"} <= figures["cache"].keys()
    slips = figures["slips"]
    assert slips["kept_1"] == 1 and slips["savings"] >= slips["savings_wrong_keys"] > 0.3
    for source in ("channel", "other"):
        assert slips[source]["whole_3"] >= slips[source]["whole_1"] > 0.7 and slips[source]["harmed_0.9"] < 0.1
    assert main([*command, "--tokens", "200", "--sample", "20", "--history", "--tune-person"]) == 0
    table = capsys.readouterr().out
    assert "history" in table and "±" in table and "slips, channel" in table
    person = json.loads(re.search("person: (.*)", table)[1])
    assert person["loss"] <= person["loss_before"] and person["settings"]["ladder"] == [2, 1]
    wrong = (["--dynamic"], ["--tune-person"], ["--run", str(tiny_bundle)], ["--tokens", "0"],
             ["--corpus", "no-such-corpus"])
    for options in wrong:
        assert main([*command, *options]) == 2
        error = capsys.readouterr().err
        assert options[options[0] == "--corpus"] in error and error.count("\n") == 1


def test_pretokenized_benchmarks_are_read_as_one_text(tmp_path):
    folder = tmp_path / "bench"
    folder.mkdir()
    lines = ["the cat <unk> on the mat", "the dog ran N miles", "a cat ran"] * 60
    for name in ("train", "valid", "test"):
        (folder / f"{name}.txt").write_text("".join(f" {line} \n" for line in lines[: 180 if name == "train" else 30]))
    out = tmp_path / "run"
    assert (
        training(
            [
                "train",
                "--corpus",
                str(folder),
                "--pretokenized",
                "--out",
                str(out),
                "--epochs",
                "2",
                "--hidden-size",
                "32",
                "--embedding-size",
                "16",
                "--batch-size",
                "4",
                "--minimum-count",
                "1",
                "--threads",
                "1",
            ]
        )
        == 0
    )
    model = load(out / "bundle")
    assert model.vocabulary.pretokenized
    corpus = load_corpus(str(folder), pretokenized=True)
    documents = list(corpus.documents("test"))
    figures = evaluate(model, excerpts(corpus, "test", model.vocabulary))
    assert excerpts(corpus, "test", model.vocabulary, 50)[0].length == 50
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


def test_a_published_bundle_takes_the_folders_name_and_keeps_its_card(tiny_bundle, tmp_path):
    target = tmp_path / "english"
    first = publish(tiny_bundle, target)
    (target / "README.md").write_text("# A card\n")
    assert (
        publish(tiny_bundle, target).metadata == first.metadata and (target / "README.md").read_text() == "# A card\n"
    )
    assert load(target).name == "english" and load(tiny_bundle).name == "tiny"
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "mine.txt").write_text("not a bundle")
    for source, wrong in ((tiny_bundle, tmp_path / "notes"), (tmp_path / "notes", target)):
        with pytest.raises(BundleError, match="not a bundle"):
            publish(source, wrong)
