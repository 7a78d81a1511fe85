"""Corpora: from a name to clean text in splits."""
from nextword.training.corpora.corpus import SPLITS, Corpus, CorpusError, HubUnreachable, Origin, Source
from nextword.training.corpora.loading import default_corpus, load_corpus, load_rows
from nextword.training.corpora.registry import CORPORA

__all__ = [
    "CORPORA", "SPLITS", "Corpus", "CorpusError", "HubUnreachable", "Origin", "Source", "default_corpus", "load_corpus",
    "load_rows"]
