"""Each regulariser acts in training, in the way its papers say, and not at all in evaluation."""
import pytest
import torch

from nextword.lm.network import Architecture, Network
from nextword.lm.vocabulary import EOS_ID
from nextword.training.__main__ import main
from nextword.training.regularisation import RegularisedNetwork, _mask, activation_penalty
from tests.conftest import TINY

SHAPES = {"lstm": dict(hidden_size=24), "projected lstm": dict(hidden_size=24, projection_size=8),
          "gru": dict(cell="gru", hidden_size=24), "two layers": dict(hidden_size=24, layers=2)}
NOISE = ("dropout", "word_dropout", "weight_drop")


def build(shape="lstm", **noise):
    torch.manual_seed(1)
    return RegularisedNetwork(Architecture(50, embedding_size=16, **SHAPES[shape]), **noise)


def read(network, tokens, seed=0):
    torch.manual_seed(seed)
    return network(tokens, network.initial_state(tokens.shape[1]))[0]


def embedded(network, tokens):
    """(time, batch, embedding), also where each different word is embedded once."""
    x = network._embed(tokens)
    return x if network._words is None else x[network._words]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("noise", NOISE)
def test_noise_acts_in_training_and_not_in_evaluation(shape, noise):
    network = build(shape, **{noise: 0.5})
    tokens = torch.randint(50, (5, 2))
    plain = Network(network.architecture)
    plain.load_state_dict(network.state_dict())
    expected = read(plain.eval(), tokens)
    network.train()
    assert not torch.equal(read(network, tokens, 1), read(network, tokens, 2))
    assert not torch.equal(read(network, tokens, 1), expected)
    network.eval()
    assert torch.equal(read(network, tokens, 1), read(network, tokens, 2))
    assert torch.equal(read(network, tokens), expected)


@pytest.mark.parametrize("noise", NOISE)
def test_a_level_is_a_share_of_the_noise(noise):
    network, half, tokens = build(**{noise: 0.5}).train(), build(**{noise: 0.25}).train(), torch.randint(50, (5, 2))
    network.level = 0.5
    assert torch.equal(read(network, tokens, 1), read(half, tokens, 1))
    network.level = 0.0
    torch.testing.assert_close(read(network, tokens, 1), read(build().eval(), tokens))


def test_the_noise_rises_while_training_goes_on(monkeypatch, corpus_file, tmp_path):
    levels, update = [], RegularisedNetwork.forward
    monkeypatch.setattr(RegularisedNetwork, "forward", lambda self, *arguments: levels.append(
        (self.training, self.level)) or update(self, *arguments))
    assert main(["train", "--corpus", str(corpus_file), "--out", str(tmp_path / "run"), *TINY, "--epochs", "1",
                 "--dropout-rise", "0.5"]) == 0
    levels = [level for training, level in levels if training]
    assert (
        0 < levels[0] < 0.1 and levels == sorted(levels) and levels[len(levels) // 2 :] == [1.0] * -(-len(levels) // 2)
    )


def test_without_noise_training_computes_the_plain_network():
    network = build().train()
    tokens = torch.randint(50, (5, 2))
    torch.testing.assert_close(read(network, tokens), read(build().eval(), tokens))  # of another implementation


@pytest.mark.parametrize("shape", SHAPES)
def test_weight_drop_drops_recurrent_weights_and_their_gradient(shape):
    network = build(shape, weight_drop=0.5).train()
    tokens = torch.randint(50, (1, 2))
    # The first step from a zero state uses no recurrent weight: so what differs can only be those.
    assert torch.equal(read(network, tokens, 1), read(network, tokens, 2))
    tokens = torch.randint(50, (6, 2))
    read(network, tokens).pow(2).sum().backward()
    for layer in network.recurrent:
        dropped = (layer.weight_hh_l0.grad == 0).float().mean()
        assert 0.35 < float(dropped) < 0.65
        assert (layer.weight_ih_l0.grad == 0).float().mean() < 0.05


def test_dropout_keeps_its_mask_for_a_whole_sequence():
    network = build(dropout=0.5).train()
    torch.manual_seed(0)
    x = network._embed(torch.randint(50, (7, 3)))
    zero = x == 0
    assert torch.equal(zero, zero[:1].expand_as(zero))
    assert not torch.equal(zero[0, 0], zero[0, 1])
    weight = network.embedding.weight[0]
    kept = network._embed(torch.zeros(1, 1, dtype=torch.long))[0, 0]
    assert torch.allclose(kept[kept != 0], 2 * weight[kept != 0])


@pytest.mark.parametrize("shape", ["lstm", "gru"])
def test_dropout_by_word_has_one_mask_for_a_word(shape):
    network = build(shape, dropout=0.5, dropout_by_word=True).train()
    zero = embedded(network, torch.arange(50).repeat(2, 1).t()) == 0
    assert torch.equal(zero[:, 0], zero[:, 1]) and not torch.equal(zero[0, 0], zero[1, 0])
    assert 0.3 < float(zero.float().mean()) < 0.7
    network.level = 0.0
    tokens = torch.randint(50, (5, 2))
    torch.testing.assert_close(read(network, tokens), read(build(shape).eval(), tokens))


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9])
def test_a_mask_drops_its_share_and_keeps_the_mean(share):
    torch.manual_seed(0)
    mask = _mask(torch.zeros(1), (1001, 101), share)
    values = sorted(set(mask.flatten().tolist()))
    assert values == ([1.0] if share == 0 else [0.0, pytest.approx(1 / (1 - share))])
    assert float((mask == 0).float().mean()) == pytest.approx(share, abs=0.006)


def test_word_dropout_drops_a_word_in_all_places():
    network = build(word_dropout=0.5).train()
    tokens = torch.arange(50).repeat(2, 1).t()
    gone = (embedded(network, tokens) == 0).all(2)
    assert torch.equal(gone[:, 0], gone[:, 1])
    assert 0.2 < float(gone.float().mean()) < 0.8


@pytest.mark.parametrize("shape", SHAPES)
def test_fresh_starts_read_paragraphs_as_the_starts_of_texts(shape):
    network = build(shape, fresh_starts=1.0).train()
    paragraphs = [torch.tensor([EOS_ID, *words]) for words in ([9, 5, 7], [8], [], [5, 5, 6, 7])]
    torch.manual_seed(0)
    state = torch.randn(2, sum(network.architecture.state_sizes))
    together, _ = network(torch.cat(paragraphs)[:, None].expand(-1, 2), state)
    alone = torch.cat([read(build(shape).train(), paragraph[:, None]) for paragraph in paragraphs])
    torch.testing.assert_close(together, alone.expand(-1, 2, -1))
    inside, _ = network(torch.cat(paragraphs)[1:4, None].expand(-1, 2), state)
    assert not torch.allclose(inside, alone[1:4])  # where no paragraph begins, the state goes on
    network.eval()
    carried, _ = network(torch.cat(paragraphs)[:, None].expand(-1, 2), state)
    assert not torch.allclose(carried, together)


def test_fresh_starts_are_drawn():
    network = build(fresh_starts=0.5).train()
    tokens = torch.tensor([7, EOS_ID, 8]).repeat(20, 1).t()
    outputs = read(network, tokens)
    fresh = (outputs[1] - read(build().train(), tokens[1:2])[0]).abs().amax(1) < 1e-6
    assert 0 < int(fresh.sum()) < 20


def test_penalties():
    h = torch.tensor([[[1.0, 2.0]], [[1.0, 4.0]]])
    assert float(activation_penalty(h, 2.0, 0.0)) == pytest.approx(2 * 22 / 4)
    assert float(activation_penalty(h, 0.0, 3.0)) == pytest.approx(3 * 4 / 2)
    assert float(activation_penalty(h[:1], 0.0, 3.0)) == 0
