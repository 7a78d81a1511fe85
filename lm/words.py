"""The definition of a word, shared by the tokenizer, the terminal, the client and the service."""
from __future__ import annotations

import re
import unicodedata


def _ranges(spans: str) -> str:
    """Hexadecimal code points and ranges of them, as the inside of a character class of a regular expression."""
    return "".join("-".join(chr(int(end, 16)) for end in span.split("-")) for span in spans.split())


# Unicode's Emoji property, in three parts.
PICTURES = _ranges(  # shown as emoji without more; with places that Unicode keeps for emoji to come
    "231A-231B 23E9-23EC 23F0 23F3 25FD-25FE 2614-2615 2648-2653 267F 2693 26A1 26AA-26AB 26BD-26BE 26C4-26C5 26CE 26D4 "
    "26EA 26F2-26F3 26F5 26FA 26FD 2705 270A-270B 2728 274C 274E 2753-2755 2757 2795-2797 27B0 27BF 2B1B-2B1C 2B50 2B55 "
    "1F004 1F0CF 1F18E 1F191-1F19A 1F201 1F21A 1F22F 1F232-1F236 1F238-1F23A 1F250-1F251 1F300-1F320 1F32D-1F335 "
    "1F337-1F37C 1F37E-1F393 1F3A0-1F3CA 1F3CF-1F3D3 1F3E0-1F3F0 1F3F4 1F3F8-1F43E 1F440 1F442-1F4FC 1F4FF-1F53D "
    "1F54B-1F54E 1F550-1F567 1F57A 1F595-1F596 1F5A4 1F5FB-1F64F 1F680-1F6C5 1F6CC 1F6D0-1F6DF 1F6EB-1F6EF 1F6F4-1F6FF "
    "1F7E0-1F7FF 1F90C-1F93A 1F93C-1F945 1F947-1F9FF 1FA70-1FAFF"
)
DRAWN = _ranges(  # text by default, but people mean the emoji: it is always written with U+FE0F
    "2328 23CF 23ED-23EF 23F1-23F2 23F8-23FA 2600-2604 260E 2611 2618 261D 2620 2622-2623 2626 262A 262E-262F 2638-263A "
    "2640 2642 265F-2660 2663 2665-2666 2668 267B 267E 2692 2694-2697 2699 269B-269C 26A0 26A7 26B0-26B1 26C8 26CF 26D1 "
    "26D3 26E9 26F0-26F1 26F4 26F7-26F9 2702 2708-2709 270C-270D 270F 2712 2714 2716 271D 2721 2733-2734 2744 2747 "
    "2763-2764 1F170-1F171 1F17E-1F17F 1F202 1F237 1F321 1F324-1F32C 1F336 1F37D 1F396-1F397 1F399-1F39B 1F39E-1F39F "
    "1F3CB-1F3CE 1F3D4-1F3DF 1F3F3 1F3F5 1F3F7 1F43F 1F441 1F4FD 1F549-1F54A 1F56F-1F570 1F573-1F579 1F587 1F58A-1F58D "
    "1F590 1F5A5 1F5A8 1F5B1-1F5B2 1F5BC 1F5C2-1F5C4 1F5D1-1F5D3 1F5DC-1F5DE 1F5E1 1F5E3 1F5E8 1F5EF 1F5F3 1F5FA 1F6CB "
    "1F6CD-1F6CF 1F6E0-1F6E5 1F6E9 1F6F0 1F6F3"
)
SIGNS = _ranges(  # signs of print (© ™ ↔ ▪): emoji only where U+FE0F follows
    "A9 AE 203C 2049 2122 2139 2194-2199 21A9-21AA 24C2 25AA-25AB 25B6 25C0 25FB-25FC 27A1 2934-2935 2B05-2B07 3030 303D "
    "3297 3299"
)
TURNING = _ranges("2194-2195 27A1")  # signs that are part of a joined emoji
TONES = _ranges("1F3FB-1F3FF")
FLAG_LETTERS = _ranges("1F1E6-1F1FF")
TAGS = _ranges("E0020-E007F")
TEXT_STYLE, EMOJI_STYLE = "\ufe0e", "\ufe0f"
KEYCAP = "\u20e3"

INVISIBLE = _ranges("AD 200B 200E-200F 202A-202E 2060-2064 FEFF")  # soft hyphens and marks that are not seen
NON_JOINER, JOINER = "\u200c", "\u200d"
NOT_IN_WORDS = TEXT_STYLE + EMOJI_STYLE + KEYCAP  # of the combining marks
JOINERS = NON_JOINER + JOINER
GERESH, GERSHAYIM = "\u05f3", "\u05f4"
HEBREW = _ranges("5D0-5EA 5EF-5F2 FB1D-FB4F")
HEBREW_POINTS = _ranges("591-5BD 5BF 5C1-5C2 5C4-5C5 5C7")


def replacements(letters: str) -> dict[str, str]:
    """What brings text to the form that training text has, in the order in which it is done after Unicode NFC.

    letters: the inside of a character class of all that words are made of.
    The patterns are regular expressions of one meaning to Oniguruma and to Python; each takes time linear in the text.
    """
    style = TEXT_STYLE + EMOJI_STYLE
    return {
        "[\u2018\u2019\u02bc]": "'",
        "[\u201c\u201d]": '"',
        "[\u2010\u2011]": "-",
        f"[{INVISIBLE}]": "",
        # Of variation selectors, only the first one that makes a sign an emoji stays here.
        f"{TEXT_STYLE}|{EMOJI_STYLE}(?<![{SIGNS}]{EMOJI_STYLE})": "",
        f"[{JOINERS}]+(?=[{JOINERS}])": "",
        # A joiner stays between letters, and where it joins emoji.
        f"[{JOINERS}](?:(?<=[{letters}][{JOINERS}])(?![{letters}])|(?<![{letters}][{JOINERS}])(?![{PICTURES}{DRAWN}{TURNING}])"
        f"|(?<![{letters}{PICTURES}{DRAWN}{EMOJI_STYLE}{TAGS}][{JOINERS}])|(?<={NON_JOINER})(?<![{letters}][{JOINERS}]))": "",
        f"(?<=[{DRAWN}])(?![{TONES}])|(?<=[0-9#*])(?={KEYCAP})|(?<={JOINER}[{TURNING}])(?!{EMOJI_STYLE})": EMOJI_STYLE,
        "(?<!-)-{2,3}(?!-)|(?<=\\s)[-\u2013](?=\\s|$)": "\u2014",  # a dash, as it is typed
    }


def token_pattern(letters: str) -> str:
    """A regular expression of one token of text to which `replacements` were done."""
    drawn, styled = f"[{PICTURES}{DRAWN}]", f"[{TONES}{EMOJI_STYLE}]?"
    hebrew_before = f"(?<=[{HEBREW}{HEBREW_POINTS}])"
    word = (
        f"[{letters}]+(?:['\u00b7-][{letters}]+|{hebrew_before}(?:[\"{GERSHAYIM}](?=[{HEBREW}])|['{GERESH}])[{letters}]*)*"
        f"(?!{EMOJI_STYLE})"
    )
    emoji = (
        f"[{FLAG_LETTERS}]{{2}}|[0-9#*]{EMOJI_STYLE}{KEYCAP}"
        f"|(?:{drawn}|[{SIGNS}](?={EMOJI_STYLE})){styled}[{TAGS}]*(?:{JOINER}[{PICTURES}{DRAWN}{TURNING}]{styled})*"
    )
    return f"{word}|{emoji}"


# Every letter, mark, digit and connector, by Python's own table
_CATEGORIES = frozenset(("Lu", "Ll", "Lt", "Lm", "Lo", "Mn", "Mc", "Me", "Nd", "Nl", "Pc"))


def is_letter(character: str) -> bool:
    """Whether words are made of it: letters, marks, digits, connectors (`_`), and joiners."""
    return (unicodedata.category(character) in _CATEGORIES and character not in NOT_IN_WORDS) or character in JOINERS


_EMPTY = re.compile(f"[\\s{INVISIBLE}{JOINERS}{TEXT_STYLE}{EMOJI_STYLE}]*\\Z")


def is_empty(text: str) -> bool:
    """Whether a text has no token."""
    return _EMPTY.match(text) is not None


_EMOJI = re.compile(
    f"[{FLAG_LETTERS}]{{2}}|[0-9#*]{EMOJI_STYLE}?{KEYCAP}|[{PICTURES}{DRAWN}]|[{SIGNS}]{EMOJI_STYLE}"
)


def is_emoji(token: str) -> bool:
    return _EMOJI.match(token) is not None


def normal(word: str) -> str:
    return re.sub(f"[{INVISIBLE}]", "", unicodedata.normalize("NFC", word))  # TODO
