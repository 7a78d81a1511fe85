"""The corpora with a short name: their hub ids, clean-up functions and licences."""
from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Definition:
    """Facts about a corpus. The defaults are for corpora that the registry lacks."""

    hub: str | None = None  # hub id
    config: str | None = None
    clean_up: str = "plain"  # a function of nextword.training.corpora.cleaning
    licence: str | Mapping[str, str] | None = None  # a mapping: value of the column `source` → licence; None: unknown
    train: tuple[str, ...] = ("train",)  # splits to train on; missing splits are cut from the first one
    drop_repeated: bool = False  # remove from validation and test the documents that an earlier split has


CORPORA = {
    "wikitext-2": Definition("Salesforce/wikitext", "wikitext-2-raw-v1", "wiki", "CC BY-SA 3.0"),
    "wikitext-103": Definition("Salesforce/wikitext", "wikitext-103-raw-v1", "wiki", "CC BY-SA 3.0"),
    "simple-wikipedia": Definition("wikimedia/wikipedia", "20231101.simple", "plain", "CC BY-SA 3.0"),
    # About 200 of the test reviews are training reviews too.
    "imdb": Definition("stanfordnlp/imdb", "plain_text", "reviews", None, ("train", "unsupervised"), True),
    "ag-news": Definition("fancyzhx/ag_news", None, "reviews"),
    "tinystories": Definition("roneneldan/TinyStories", None, "lines", "CDLA-Sharing-1.0"),
    "english-novels": Definition(clean_up="books", licence="public domain"),
    "tatoeba-english": Definition(clean_up="lines", licence="CC BY 2.0 FR"),
    "chat-english": Definition(clean_up="informal", licence={
        "chitchat": "MIT", "selfdialogue": "BSD-3-Clause", "topicalchat": "CDLA-Sharing-1.0",
        "persuasion": "Apache-2.0", "casino": "CC BY 4.0", "medical": "CC BY 4.0", "star": "MIT",
        "multiwoz": "Apache-2.0", "tm3": "CC BY 4.0", "tm4": "CC BY 4.0", "cookdial": "MIT", "sgd": "CC BY-SA 4.0",
    }),
    "talk-english": Definition(clean_up="informal", licence={
        "changelog_life": "CC BY-SA 4.0", "crd3": "CC BY-SA 4.0", "qmsum": "MIT (AMI and ICSI: CC BY 4.0)",
        "conduit": "MIT",
    }),
    "tech-talk-english": Definition(clean_up="informal", licence={
        "changelog_tech": "CC BY-SA 4.0", "pythonbytes": "MIT",
    }),
    "notes-english": Definition(clean_up="informal", licence={
        "haacked": "CC BY 2.0", "goemotions": "Apache-2.0", "masc": "free, commercial use included",
        "scptales": "CC BY-SA 3.0", "commonvoice": "CC0", "onestop": "CC BY-SA 4.0",
        "storybooks": "CC BY, public domain", "recipes": "Unlicense", "coffee": "CC BY-SA 3.0",
        "gum": "CC BY, CC BY-SA",
        "usgov": "public domain, CC0", "openstax": "CC BY 4.0", "wikitail": "CC BY-SA 3.0",
    }),
    "python-docs": Definition(clean_up="docstrings", licence="PSF-2.0"),
}


def find_definition(name: str) -> Definition:
    """The definition of the corpus with this short name, in any letter case; the defaults for any other name."""
    return CORPORA.get(name.lower(), Definition())


def with_hub_id(hub_id: str, config: str | None) -> tuple[Definition, str | None]:
    """The definition and the configuration of a corpus on the hub.

    If `config` is None and the registry has one configuration of this corpus, it is that one.
    """
    same = [entry for entry in CORPORA.values() if entry.hub and entry.hub.lower() == hub_id.lower()]
    chosen = next((entry for entry in same if entry.config == config), same[0] if same else Definition())
    return chosen, config or (chosen.config if len(same) == 1 else None)
