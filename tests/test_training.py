"""Training through its front door: stopping, resuming, refusing."""
import json
import os
import platform
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch

from nextword.lm import load
from nextword.lm.bundle import ENGLISH, open_bundle, write_bundle
from nextword.lm.vocabulary import Vocabulary
from nextword.training import precision
from nextword.training.__main__ import main
from nextword.training.loss import cross_entropy, sample_candidates
from nextword.training.recipe import Recipe, RecipeError, load_recipe, recipe_names
from nextword.training.schedule import Schedule, learning_rate
from nextword.training.stopping import Stopping, has_diverged
from nextword.training.tokens import encode_split, word_counts
from nextword.training.trainer import Trainer
from nextword.training.windows import Windows
from tests.conftest import TINY

# Averaging is among them, so that a resumed run must bring the averaged weights back too.
SHORT = [*TINY, *"--epochs 1 --evaluate-every 15 --averaging 0.9 --weight-drop 0.1".split()]


def command(corpus, out, *options):
    train = [sys.executable, "-m", "nextword.training", "train"]
    return [*train, "--corpus", str(corpus), "--out", str(out), *SHORT, *options]


def weights(out):
    return torch.load(out / "best.pt", weights_only=True)["network"]


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def same_bundle(a, b):
    return (a / "bundle" / "model.pt").read_bytes() == (b / "bundle" / "model.pt").read_bytes()


def wait_for(condition, process):
    end = time.monotonic() + 60
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.fixture(scope="module")
def finished(tmp_path_factory, corpus_file):
    """A short run that was never stopped. Its sets have another order than those of this process."""
    out = tmp_path_factory.mktemp("runs") / "mein Lauf"
    hashes = "2" if os.environ.get("PYTHONHASHSEED") == "1" else "1"
    run = subprocess.run(command(corpus_file, out), capture_output=True, text=True,
                         env={**os.environ, "PYTHONHASHSEED": hashes})
    assert run.returncode == 0, run.stderr
    return out, run


def test_a_run_leaves_a_bundle_metrics_and_plots(finished):
    out, run = finished
    path, command_line = run.stdout.rstrip(")\n").split("  (")
    assert path == str(out / "bundle") and shlex.split(command_line) == ["make", "serve", f"BUNDLE={path}"]
    for name in ("loss.png", "perplexity.png", "accuracy.png"):
        assert (out / name).read_bytes().startswith(b"\x89PNG")
    rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert rows[-1]["validation"]["perplexity"] < rows[0]["validation"]["perplexity"] < 60
    assert rows[-1]["train"]["top3"] > 0.4
    description = json.loads((out / "bundle" / "bundle.json").read_text())
    assert description["training"]["corpus"][0]["name"] == "invented.txt"
    assert str(out.parent) not in json.dumps(description)
    assert abs(description["export"]["perplexity_lost"]) < 0.02
    for line in (
        "in training: state carried, no cache",
        "each document by itself, with cache",
        "the most frequent words",
        "A sample of the test text",
        "(start of a text)",
    ):
        assert line in run.stderr
    assert (
        "tokens/s" in run.stderr and "perplexity" in run.stderr and "\r" not in run.stderr
    )  # no terminal: plain lines


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_stopped_run_goes_on_to_the_same_weights(finished, corpus_file, tmp_path, number):
    out = tmp_path / "stopped"
    if number == signal.SIGKILL:  # before that, the run could not write
        refuse_large_files(corpus_file, out)
    process = subprocess.Popen(command(corpus_file, out), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    wait_for((out / "checkpoint.pt").exists, process)
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == (-9 if number == signal.SIGKILL else 128 + number)
    assert number == signal.SIGKILL or (f"stopped by {number.name}" in errors and "Traceback" not in errors)
    assert not (out / "bundle").exists()
    assert main(command(corpus_file, out)[3:]) == 0
    assert same(weights(out), weights(finished[0])) and same_bundle(out, finished[0])
    steps = [json.loads(line)["step"] for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert steps == sorted(set(steps))


def refuse_large_files(corpus_file, out):
    """Train where files have a limit: there is room for best.pt, but not for checkpoint.pt."""
    limited = ["sh", "-c", 'ulimit -f 300; exec "$@"', "sh", *command(corpus_file, out)]  # in blocks of 512 bytes
    run = subprocess.run(limited, capture_output=True, text=True)
    assert run.returncode == 2 and "File too large. Once" in run.stderr.splitlines()[-1]
    assert not (out / "checkpoint.pt").exists() and not (out / "bundle").exists() and not list(out.glob("*.part"))
    assert (out / "best.pt").exists()


def test_a_finished_run_is_not_trained_again(finished, corpus_file):
    before = os.stat(finished[0] / "best.pt").st_mtime_ns
    assert main(command(corpus_file, finished[0])[3:]) == 0
    assert os.stat(finished[0] / "best.pt").st_mtime_ns == before


def test_a_run_goes_on_with_its_text_elsewhere_and_is_refused_another_text(finished, corpus_file, tmp_path, capsys):
    out, copy = shutil.copytree(finished[0], tmp_path / "run"), tmp_path / "elsewhere" / corpus_file.name
    copy.parent.mkdir()
    copy.write_text(corpus_file.read_text())
    assert main(command(copy, out, "--threads", "1")[3:]) == 0
    files = [out / name for name in ("recipe.json", "tokenizer.json", "best.pt")]
    before = [file.read_bytes() for file in files]
    other = copy.with_name("other.txt")
    other.write_text(copy.read_text().replace("the", "then"))
    assert main(command(other, out)[3:]) == 2
    assert "the corpus's text has changed" in capsys.readouterr().err
    assert [file.read_bytes() for file in files] == before


def test_the_averaged_weights_are_the_ones_kept(finished):
    out, _ = finished
    last = torch.load(out / "checkpoint.pt", weights_only=True)
    kept = {name: value for name, value in weights(out).items() if name != "embedding.weight"}  # a sum with affixes
    assert len(kept) > 3
    assert same(kept, {name: last["average"][f"module.{name}"] for name in kept})
    assert not same(kept, {name: last["network"][name] for name in kept})


def test_a_run_begins_with_the_weights_of_another(finished, corpus_file, tmp_path, capsys):
    out, _ = finished
    arguments = ["train", "--corpus", f"{corpus_file}*2", *SHORT, "--start-from", str(out), "--learning-rate", "1e-9"]
    assert main([*arguments, "--out", str(tmp_path / "second")]) == 0
    for key, value in weights(tmp_path / "second").items():
        assert torch.allclose(value, weights(out)[key], atol=1e-5)
    assert main([*arguments, "--out", str(tmp_path / "third"), "--hidden-size", "56"]) == 2
    assert "has another architecture than the recipe's" in capsys.readouterr().err
    assert main([*arguments, "--out", str(tmp_path / "fourth"), "--start-from", str(tmp_path)]) == 2
    assert "neither a bundle nor the folder of a finished run" in capsys.readouterr().err


def test_a_run_takes_only_the_vocabulary_of_another(finished, tmp_path, capsys):
    text, out = tmp_path / "other.txt", tmp_path / "run"
    text.write_text("\n\n".join(f"Quux {word} the zoo." for word in ("saw", "left", "met", "likes") * 60))
    arguments = ["train", "--corpus", str(text), *TINY, "--vocabulary-from", str(finished[0])]
    assert main([*arguments, "--out", str(out)]) == 0
    assert (out / "tokenizer.json").read_bytes() == (finished[0] / "tokenizer.json").read_bytes()
    assert main([*arguments, "--out", str(tmp_path / "second"), "--start-from", "english"]) == 2
    assert "vocabulary_from and start_from are both given" in capsys.readouterr().err


def test_a_run_begins_with_a_bundle_and_more_cells(tmp_path, corpus_file, capsys):
    projected = ["--projection-size", "16", "--embedding-size", "16"]
    assert main(command(corpus_file, tmp_path / "first", *projected)[3:]) == 0
    bundle = tmp_path / "first" / "bundle"
    further = [*projected, "--start-from", str(bundle), "--learning-rate", "1e-9"]
    assert main(command(corpus_file, tmp_path / "second", *further, "--hidden-size", "80")[3:]) == 0
    few, many = weights(tmp_path / "first"), weights(tmp_path / "second")
    cells = few["recurrent.0.weight_hr_l0"].shape[1]
    gates, wider = few["recurrent.0.weight_hh_l0"].view(4, cells, 16), many["recurrent.0.weight_hh_l0"].view(4, 80, 16)
    assert torch.allclose(gates, wider[:, :cells], atol=0.02) and wider[:, cells:].abs().sum() > 0
    assert many["recurrent.0.weight_hr_l0"][:, cells:].abs().max() < 1e-4
    before, after = (json.loads((tmp_path / run / "metrics.jsonl").read_text().splitlines()[-1])["validation"]
                     for run in ("first", "second"))
    assert after["perplexity"] == pytest.approx(before["perplexity"], rel=0.01)
    assert main(command(corpus_file, tmp_path / "third", *further, "--hidden-size", "32")[3:]) == 2
    said = capsys.readouterr().err
    assert "embedding_size 16, hidden_size 48, layers 1, projection_size 16" in said and "may only be larger" in said


def test_the_recipe_adapt_has_the_english_models_architecture():
    described = open_bundle(ENGLISH).metadata["architecture"]
    assert load_recipe("adapt", {}).architecture(described["vocabulary_size"]).to_dict() == described


def test_adapting_adds_the_texts_words_and_keeps_the_lists(tmp_path, tiny_bundle, capsys):
    bundle = open_bundle(tiny_bundle)
    lists = {"stock_names": ["London"], "half_words": ["zoo"], "names_of_few_documents": ["They", "You"]}
    start = write_bundle(tmp_path / "start", bundle.content["model.pt"], bundle.content["tokenizer.json"].decode(), {
        **bundle.metadata, **lists, "name": "start", "cache": {"theta": 6.0, "weight": 0.25, "size": 300}})
    text = tmp_path / "mine.txt"
    lines = [f"You went to the Zorblax {('today', 'again', 'once', 'now')[i % 4]}{'.!?'[i % 3]}" for i in range(120)]
    text.write_text("\n\n".join([*lines, "I walked to a quux."]))
    out = tmp_path / "run"
    assert main(["train", "--corpus", str(text), "--out", str(out), *TINY, "--start-from", str(start.path),
                 "--start-vocabulary", "extend", "--batch-size", "4"]) == 0
    model = load(out / "bundle")
    assert {"Zorblax", "once", "market"} <= set(model.vocabulary.words) and "quux" not in model.vocabulary.words
    assert "Zorblax" in [word.word for word in model.next_words("You went to the", 2)]
    assert model.next_words("You went to the", 1, partial="zo")[0].word == "Zorblax"
    metadata = open_bundle(out / "bundle").metadata
    assert {key: metadata[key] for key in lists} == {**lists, "names_of_few_documents": ["They"]}  # the text has You
    assert metadata["cache"] == {"theta": 6.0, "weight": 0.25, "size": 300}
    said = capsys.readouterr().err
    assert "before: start, with cache" in said and "Suggestions before and after" in said
    assert "Gained on text that was not trained on: perplexity" in said and "too little to tell" in said


def test_figures_of_a_text_with_unknown_words_are_not_praised(tmp_path, capsys):
    text = tmp_path / "text.txt"
    text.write_text("\n\n".join(f"Word{i}x went, and other{i}y came." for i in range(400)))
    assert main(["train", "--corpus", str(text), "--out", str(tmp_path / "run"), *TINY, "--epochs", "1",
                 "--vocabulary-size", "6"]) == 0
    *_, evaluation, last = capsys.readouterr().err.splitlines()
    assert "unknown words" in evaluation
    assert re.search(r"words, \d\d% are not in the vocabulary; .* so they are left out\.$", last)


def test_a_start_whose_files_contradict_each_other_is_refused(tmp_path, tiny_bundle, corpus_file, capsys):
    bundle = open_bundle(tiny_bundle)
    tokenizer = json.loads(bundle.content["tokenizer.json"])
    model, metadata = bundle.content["model.pt"], {**bundle.metadata}
    del metadata["architecture"]
    write_bundle(tmp_path / "bare", model, json.dumps(tokenizer), metadata)
    tokenizer["model"]["vocab"]["Zorblax"] = len(tokenizer["model"]["vocab"])
    write_bundle(tmp_path / "more", model, json.dumps(tokenizer), metadata)
    for start, said in (("bare", "another architecture than the recipe's: it is not described"),
                        ("more", "cannot be loaded: the network has")):
        arguments = ["--hidden-size", "8", "--start-from", str(tmp_path / start)]
        assert main(command(corpus_file, tmp_path / f"{start}-run", *arguments)[3:]) == 2
        assert said in capsys.readouterr().err.splitlines()[-1]


def test_a_diverged_training_is_not_published(tmp_path, corpus_file, capsys):
    out = tmp_path / "run"
    for _ in range(2):
        assert main(command(corpus_file, out, "--learning-rate", "1000", "--clip-norm", "1000")[3:]) == 2
        assert "training diverged: at step" in capsys.readouterr().err and not (out / "bundle").exists()


def test_evaluations_and_threads_may_change_when_a_run_goes_on(tmp_path, finished, corpus_file):
    out = shutil.copytree(finished[0], tmp_path / "run")
    changed = ["--evaluate-every", "7", "--evaluation-tokens", "100", "--patience", "30", "--threads", "2"]
    assert main(command(corpus_file, out, *changed)[3:]) == 0


def test_a_run_gets_more_epochs(tmp_path, finished, corpus_file, monkeypatch, capsys):
    whole, stopped = (shutil.copytree(finished[0], tmp_path / name) for name in ("whole", "stopped"))
    longer = ["--epochs", "1.5", "--checkpoint-every", "5"]
    assert main(command(corpus_file, whole, *longer)[3:]) == 0
    said = capsys.readouterr().err
    rows = [json.loads(line) for line in (whole / "metrics.jsonl").read_text().splitlines()]
    first = next(number for number, row in enumerate(rows) if row["epoch"] > 1)
    rates = [row["learning_rate"] for row in rows]
    assert rates[first] > 5 * rates[first - 1] and rates[-1] < rates[first]
    assert f"The training has now {rows[-1]['step']:,} steps in all, before" in said
    assert "moves from 0.00022 to 0.01, then it falls" in said
    assert "epoch 1.5 of 1.5 is done" in said and rows[-1]["epoch"] == pytest.approx(1.5, abs=0.02)

    train_step = Trainer.train_step

    def stop_at_step_48(trainer, *window):
        if trainer.step == 48:
            raise KeyboardInterrupt
        return train_step(trainer, *window)

    monkeypatch.setattr(Trainer, "train_step", stop_at_step_48)
    assert main(command(corpus_file, stopped, *longer)[3:]) == 130
    monkeypatch.undo()
    assert main(command(corpus_file, stopped, *longer)[3:]) == 0
    assert same(weights(stopped), weights(whole)) and "has now" in capsys.readouterr().err
    assert main(command(corpus_file, finished[0], "--epochs", "0.5")[3:]) == 2
    assert "mein Lauf: 1 epochs are done already, more than the 0.5 of this training" in capsys.readouterr().err
    assert json.loads((finished[0] / "recipe.json").read_text())["epochs"] == 1


def test_a_cell_that_cannot_grow_is_refused(tmp_path, corpus_file, capsys):
    gru = ["--cell", "gru", "--hidden-size", "10", "--epochs", "0.1"]
    assert main(command(corpus_file, tmp_path / "first", *gru)[3:]) == 0
    wider = [
        *gru,
        "--start-from",
        str(tmp_path / "first"),
        "--hidden-size",
        "15",
    ]  # 45 gate biases are no four times as many
    assert main(command(corpus_file, tmp_path / "second", *wider)[3:]) == 2
    assert "cell gru, embedding_size 32, hidden_size 10" in capsys.readouterr().err


def test_another_seed_gives_other_weights(finished, corpus_file, tmp_path):
    assert main(command(corpus_file, tmp_path / "run", "--seed", "2")[3:]) == 0
    assert not same(weights(tmp_path / "run"), weights(finished[0]))


def test_a_folder_of_another_run_is_left_alone(finished, corpus_file, capsys):
    before = weights(finished[0])
    assert main(command(corpus_file, finished[0], "--hidden-size", "64")[3:]) == 2
    assert "hidden_size 48 is now 64" in capsys.readouterr().err
    assert same(weights(finished[0]), before)


@pytest.mark.parametrize(
    "options, message",
    [
        (
            ["--cell", "lstn", "--bptt", "0"],
            "--cell is 'lstn', but must be one of rnn, gru, lstm; --bptt is 0, but must be a whole",
        ),
        (["--hidden-size", "many"], "--hidden-size is 'many', but must be a whole number from 1"),
        (["--samples", "1"], "--samples is 1, but must be 0 (all words) or at least 2"),
        (["--cell", "gru", "--projection-size", "8"], "projection_size is for the lstm"),
        (["--hidden-sise", "8"], "there is no option --hidden-sise; did you mean --hidden-size?"),
        (["--recipe", "no-such-recipe"], "no recipe 'no-such-recipe'"),
        (["--corpus", "/no/such/file.txt"], "/no/such/file.txt"),
    ],
)
def test_wrong_settings_are_named_before_anything_runs(corpus_file, tmp_path, capsys, options, message):
    arguments = ["train", "--corpus", str(corpus_file), "--out", str(tmp_path / "run"), *options]
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "content, message",
    [
        ("hidden_sise = 3", "hidden_sise in .*r.toml is not a setting; did you mean hidden_size?"),
        ("hidden_size = '3'", "hidden_size in .*r.toml is '3', but must be a whole number from 1"),
        ("hidden_size = true", "must be a whole number"),
        ("hidden_size 3", "cannot be read as TOML"),
        (
            "dropout = 1.5\nepochs = 0",
            "dropout in .* is 1.5, but must be a number from 0 to below 1; epochs in .* is 0, but",
        ),
    ],
)
def test_wrong_recipe_files_are_refused(tmp_path, content, message):
    (tmp_path / "r.toml").write_text(content)
    with pytest.raises(RecipeError, match=message):
        load_recipe(str(tmp_path / "r.toml"), {})


def test_every_recipe_loads_and_the_command_line_wins(tmp_path):
    assert "english" in recipe_names()
    for name in recipe_names():
        load_recipe(name, {})
    (tmp_path / "r.toml").write_text("hidden_size = 64\nepochs = 2\n")
    recipe = load_recipe(str(tmp_path / "r.toml"), {"hidden_size": "1_024", "quantized": "false"})
    assert (recipe.hidden_size, recipe.epochs, recipe.quantized) == (1024, 2.0, False)


def test_the_rate_rises_and_falls():
    recipe = Recipe(learning_rate=1.0, warmup=0.1, final_rate=0.1)
    rates = [learning_rate(recipe, step, 100) for step in range(100)]
    assert rates[0] == pytest.approx(0.1) and max(rates) == 1.0 and rates.index(1.0) == 9
    assert rates[10:] == sorted(rates[10:], reverse=True) and rates[-1] == pytest.approx(0.1, abs=0.01)
    linear = recipe.model_copy(update={"schedule": "linear", "final_rate": 0.0})
    assert [learning_rate(linear, step, 100) for step in range(9, 100)] == pytest.approx(
        [1.0, *(1 - done / 90 for done in range(90))])


def test_the_rate_rises_again_in_a_longer_training():
    recipe = Recipe(learning_rate=1.0, warmup=0.1, final_rate=0.1)

    def rates(first, steps):
        """Those of a training of 100 steps whose length was changed at step `first`."""
        schedule = Schedule(recipe, 100)
        schedule.change(first, steps)
        rates = [schedule.rate(step) for step in range(steps)]
        assert rates[:first] == [learning_rate(recipe, step, 100) for step in range(first)]
        assert [Schedule(recipe, 0, schedule.lengths).rate(step) for step in range(steps)] == rates
        assert rates[-1] == pytest.approx(0.1, abs=0.02)
        return rates

    longer = rates(100, 200)
    assert longer[99:110] == sorted(longer[99:110]) and longer[109] == 1.0 and longer[100] < 0.2
    assert longer[110:] == sorted(longer[110:], reverse=True)
    assert max(rates(100, 110)[100:]) == pytest.approx(0.2)
    shorter = rates(50, 70)
    assert shorter[50:] == sorted(shorter[50:], reverse=True) and shorter[50] == pytest.approx(shorter[49])
    assert max(rates(5, 50)) == 1.0  # changed while it rose


def test_stopping_says_why():
    stopping = Stopping(patience=2)
    assert [stopping.update(loss) for loss in (3.0, 2.0, 2.5)] == [True, True, False] and not stopping.reason
    stopping.update(2.1)
    assert stopping.reason == "no better validation perplexity in 2 evaluations"
    assert has_diverged(float("nan"), 1000) and has_diverged(9.0, 1000) and not has_diverged(6.9, 1000)


def test_exact_loss_is_torchs_in_value_and_gradient():
    torch.manual_seed(0)
    x, weight, bias = torch.randn(700, 16), torch.randn(90, 16), torch.randn(90)
    targets = torch.randint(90, (700,))
    gradients = []
    for loss in (lambda x, w, b: torch.nn.functional.cross_entropy(x @ w.t() + b, targets),
                 lambda x, w, b: cross_entropy(x, w, b, targets, *sample_candidates(90, 90, torch.Generator()))):
        leaves = [tensor.clone().requires_grad_() for tensor in (x, weight, bias)]
        value = loss(*leaves)
        (3 * value).backward()
        gradients.append([value.detach(), *(leaf.grad for leaf in leaves)])
    for theirs, ours in zip(*gradients):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-4)


def test_the_sampled_normaliser_is_right_on_average():
    """The mean over many samples of the estimated Z is the exact one; its spread bounds the test's error."""
    torch.manual_seed(0)
    x, weight, bias = 0.3 * torch.randn(1, 8), torch.randn(200, 8), torch.zeros(200)
    target = torch.tensor([150])
    logits = x @ weight.t()
    generator = torch.Generator().manual_seed(0)
    draws = torch.stack([
        (cross_entropy(x, weight, bias, target, *sample_candidates(200, 40, generator)) + logits[0, 150]).exp()
        for _ in range(3000)])
    exact = logits.exp().sum()
    error = draws.std() / len(draws) ** 0.5
    assert abs(draws.mean() - exact) < 4 * error < 0.02 * exact


def test_windows_read_the_whole_text_in_order():
    tokens = torch.arange(26).numpy()
    windows = list(Windows(tokens, batch=3, bptt=4).epoch(0))
    assert [w[0].shape for w in windows] == [(4, 3), (4, 3)]
    assert windows[0][0].t().tolist() == [[0, 1, 2, 3], [8, 9, 10, 11], [16, 17, 18, 19]]
    for inputs, targets in windows:
        assert (targets == inputs + 1).all()


def test_shuffled_blocks_hold_every_token_once():
    lines = [[5 + i] * (i % 7 + 1) + [1] for i in range(200)]
    tokens = torch.tensor([1, *(token for line in lines for token in line)]).numpy()
    windows = Windows(tokens, batch=1, bptt=10, shuffle_block=20, seed=3)
    epochs = [torch.cat([inputs for inputs, _ in windows.epoch(n)]).flatten().tolist() for n in (0, 1)]
    assert epochs[0] != epochs[1] and epochs[0] == torch.cat([i for i, _ in windows.epoch(0)]).flatten().tolist()
    assert sorted(epochs[0]) == pytest.approx(sorted(tokens.tolist())[: len(epochs[0])], abs=200)
    assert len(epochs[0]) == len(tokens) - 1
    text = " ".join(map(str, epochs[0]))
    assert sum(" ".join(map(str, line)) in text for line in lines) >= 198  # lines are never cut, but the last one


def test_blocks_are_found_piece_by_piece(monkeypatch):
    tokens = np.random.default_rng(0).integers(0, 30, 5000)  # <eos> is 1
    ends = np.flatnonzero(tokens == 1) + 1
    wanted = sorted({0, *(next(iter(ends[ends >= at]), 5000) for at in range(100, 5000, 100))} - {5000})
    for scanned in (7, 1000, 2**22):
        monkeypatch.setattr("nextword.training.windows.SCANNED", scanned)
        assert Windows(tokens, 1, 10, shuffle_block=100).starts.tolist() == wanted


def test_words_are_counted_piece_by_piece(monkeypatch):
    monkeypatch.setattr("nextword.training.tokens.SCANNED", 3)
    assert word_counts(np.array([1, 2, 2, 4, 2, 1, 2], np.uint16), 5).tolist() == [1, 3, 5, 1, 2]


FAULTS = """
import resource, sys, torch
from nextword.training.__main__ import main

assert main(sys.argv[1:]) == 0
torch.ones(2**24)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(5):
    torch.ones(2**24)  # 16,384 pages
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc is told")
def test_freed_memory_is_not_fetched_again(tiny_run, corpus_file):
    run = subprocess.run(
        [sys.executable, "-c", FAULTS, "train", "--corpus", str(corpus_file), "--out", str(tiny_run), *TINY],
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    assert (
        int(run.stdout.splitlines()[-1]) < 5 * 16_384 / 2
    )  # a piece may lie elsewhere once, where something small is in the way


def test_changed_text_is_noticed(tmp_path):
    from nextword.training.corpora import load_corpus
    from tests.conftest import invented_text

    path = tmp_path / "text.txt"
    path.write_text(invented_text(400))
    vocabulary = Vocabulary.build([invented_text(400)])
    first = encode_split(load_corpus(str(path)), "train", vocabulary)
    assert encode_split(load_corpus(str(path)), "train", vocabulary).filename == first.filename
    path.write_text(invented_text(400, seed=1))
    assert encode_split(load_corpus(str(path)), "train", vocabulary).tolist() != first.tolist()


@pytest.fixture
def untried():
    """No trial of precisions was made in this process, neither before a test nor after it."""
    precision._bfloat16_is_faster.cache_clear()
    yield
    precision._bfloat16_is_faster.cache_clear()


def test_precision_is_found_out(monkeypatch, untried):
    cpu, choose = torch.device("cpu"), precision.choose_precision
    assert choose("float32", cpu).dtype == torch.float32
    assert choose("bfloat16", cpu).dtype == torch.bfloat16
    monkeypatch.setattr(precision, "_has_bfloat16", lambda: True)
    for seconds, faster in ((0.5, torch.bfloat16), (1.5, torch.float32)):  # of bfloat16's products; float32's take 1
        times = {torch.bfloat16: seconds, torch.float32: 1.0}
        precision._bfloat16_is_faster.cache_clear()  # as in another process
        monkeypatch.setattr(precision, "_seconds", times.__getitem__)
        assert choose("auto", cpu) == (faster, "the faster type in a trial")
    monkeypatch.setattr(precision, "_has_bfloat16", lambda: False)
    assert choose("auto", cpu) == (torch.float32, "as this processor has no instructions for bfloat16")


@pytest.mark.parametrize("noisy_trials, said", [(1, "in a trial"), (9, "in 4 trials; they ran beside other work")])
def test_a_noisy_trial_of_precision_is_repeated(monkeypatch, untried, noisy_trials, said):
    calls = []

    def seconds(dtype):
        calls.append(dtype)
        trial, call = divmod(len(calls) - 1, 2 * precision.ROUNDS)
        disturbed = trial < noisy_trials and call > 3  # other work began after the first two rounds
        return (2.0 if dtype == torch.bfloat16 else 3.0) * (5 if disturbed else 1)

    monkeypatch.setattr(precision, "_has_bfloat16", lambda: True)
    monkeypatch.setattr(precision, "_seconds", seconds)
    choice = precision.choose_precision("auto", torch.device("cpu"))
    assert choice.dtype == torch.bfloat16 and said in choice.reason
    assert len(calls) == 2 * precision.ROUNDS * min(noisy_trials + 1, precision.TRIALS)
    assert precision.choose_precision("auto", torch.device("cpu")) == choice  # the process does not try again
    assert len(calls) == 2 * precision.ROUNDS * min(noisy_trials + 1, precision.TRIALS)


def test_a_run_is_not_for_other_users(tiny_run):
    assert tiny_run.stat().st_mode & 0o077 == 0
