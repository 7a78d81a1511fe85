"""From a corpus's name to clean text in splits: `load_corpus` and what it gives."""
from nextword.training.corpora.corpus import SPLITS, Corpus, CorpusError, HubUnreachable, Source
from nextword.training.corpora.loading import CORPORA, default_corpus, load_corpus

__all__ = ["CORPORA", "SPLITS", "Corpus", "CorpusError", "HubUnreachable", "Source", "default_corpus", "load_corpus"]
