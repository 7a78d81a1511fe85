"""From a corpus to a bundle, in this order: corpora, tokens, windows, trainer, loop, export, evaluation, summary."""
