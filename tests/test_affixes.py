"""Words that begin or end alike share a part of their vectors in training; a finished run has one vector a word."""
import torch

from nextword.lm.network import Architecture, Network
from nextword.lm.vocabulary import Vocabulary
from nextword.training import affixes
from nextword.training.recipe import Recipe
from nextword.training.trainer import Trainer
from tests.trainers import data_of, train

WORDS = ["walk", "walked", "talked", "The", "the", "sky", "1789"]


def shared_network() -> tuple[Network, Vocabulary]:
    vocabulary = Vocabulary.of_words(WORDS)
    network = Network(Architecture(len(vocabulary), "lstm", 8, 12))
    affixes.share(network, vocabulary)
    return network, vocabulary


def step_on(network: Network, vocabulary: Vocabulary, word: str) -> dict[str, float]:
    """Change the vectors by the gradient of one word's vector; the change of each word's."""
    before = network.embedding.weight.detach().clone()
    network.embedding.weight[vocabulary.words.index(word)].sum().backward()
    with torch.no_grad():
        for parameter in network.embedding.parameters():
            parameter -= parameter.grad
    change = (network.embedding.weight.detach() - before)[:, 0]
    return dict(zip(vocabulary.words, change.tolist()))


def test_a_step_moves_the_words_with_the_same_affixes_too():
    network, vocabulary = shared_network()
    change = step_on(network, vocabulary, "walked")
    assert change["walked"] < change["talked"] < change["walk"] < 0  # of 6 shared affixes, 4 and 2
    assert [change[word] for word in ("<unk>", "<eos>", "The", "sky", "1789")] == [0] * 5


def test_spellings_with_capitals_share():
    network, vocabulary = shared_network()
    assert step_on(network, vocabulary, "The")["the"] < 0


def test_the_first_vectors_stay():
    vocabulary = Vocabulary.of_words(WORDS)
    network = Network(Architecture(len(vocabulary), "lstm", 8, 12))
    before = network.embedding.weight.detach().clone()
    affixes.share(network, vocabulary)
    torch.testing.assert_close(network.embedding.weight, before, atol=0, rtol=0)
    assert affixes.whole_weights(network).keys() == Network(network.architecture).state_dict().keys()


def test_the_gradient_is_that_of_the_sum():
    network, _ = shared_network()
    own, part = network.embedding.parametrizations.weight.original, network.embedding.parametrizations.weight[0]
    torch.manual_seed(0)
    weights = torch.randn(len(own), 8)
    (network.embedding.weight * weights).sum().backward()
    torch.testing.assert_close(own.grad, weights)
    torch.testing.assert_close(part.vectors.grad, part.shares.matrix.to_dense().T @ weights)


def test_a_training_with_affixes_goes_on_and_its_weights_are_whole(corpus_file):
    recipe = Recipe(affixes=True, embedding_size=16, hidden_size=24, batch_size=8, samples=64, averaging=0.9, threads=1,
                    precision="float32")
    data = data_of(corpus_file, recipe)

    whole, first, second = (Trainer(recipe, data) for _ in range(3))
    train(whole, 6)
    train(first, 3)
    second.load_state_dict(first.state_dict())
    train(second, 3)
    network = Network(recipe.architecture(len(data.counts)))
    network.load_state_dict(affixes.whole_weights(second.kept))
    found = whole.measure()["validation"]
    assert network.embedding.weight.equal(whole.kept.embedding.weight)
    whole.kept = network
    assert whole.measure()["validation"] == found


def test_a_start_gives_its_vectors(corpus_file):
    recipe = Recipe(affixes=True, embedding_size=16, hidden_size=24, batch_size=8, samples=64, threads=1)
    trainer = Trainer(recipe, data_of(corpus_file, recipe))
    start = Network(recipe.architecture(len(trainer.data.counts)))
    trainer.begin_with(lambda network: network.load_state_dict(start.state_dict()))
    assert trainer.network.embedding.weight.equal(start.embedding.weight)
    train(trainer, 1)
    assert not trainer.network.embedding.weight.equal(start.embedding.weight)
