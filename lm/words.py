"""The definition of a word for the tokenizer, the terminal, the client and the service. It needs only Python.

Words
    A word consists of letters, combining marks, digits and connectors (`_`). Any script that separates words by spaces
    works. The rules are those of Unicode's word boundaries (UAX 29, https://www.unicode.org/reports/tr29): between
    letters, an apostrophe, a middle dot or a zero-width joiner is part of a word (`don't`, `col·lecció`, `می‌خواهم`).
    Between Hebrew letters, so is a double quote or a gershayim (`צה״ל`). A Hebrew word may end in a geresh or an
    apostrophe. Two rules differ from UAX 29: a hyphen between letters is part of a word (`well-known`), and a full stop
    or a comma is not (`3.14` is three tokens).
Emoji
    An emoji is one token with its skin tone, the emoji joined to it (families), the two letters or the tags of a flag,
    or its keycap. The canonical spelling is Unicode's fully qualified one: U+FE0F follows each character that is text
    by default, unless a skin tone follows (❤ becomes ❤️). It follows no other character. Signs of print (© ™ ↔ ▪) are
    emoji only before U+FE0F.
Canonical text
    Canonical text is in Unicode NFC. Its quotes are straight, `-` replaces U+2010 and U+2011, and `'` replaces U+02BC.
    Its emoji are spelled as above. Its only invisible characters are joiners between letters.
"""
from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from functools import cache
from itertools import chain


def _ranges(spans: str) -> str:
    """Hexadecimal code points and ranges, as the inside of a character class of a regular expression."""
    return "".join("-".join(chr(int(end, 16)) for end in span.split("-")) for span in spans.split())


# Unicode's Emoji property, in three parts.
PICTURES = _ranges(  # emoji by default; with code points that Unicode reserves for future emoji
    "231A-231B 23E9-23EC 23F0 23F3 25FD-25FE 2614-2615 2648-2653 267F 2693 26A1 26AA-26AB 26BD-26BE 26C4-26C5 "
    "26CE 26D4 26EA 26F2-26F3 26F5 26FA 26FD 2705 270A-270B 2728 274C 274E 2753-2755 2757 2795-2797 27B0 27BF "
    "2B1B-2B1C 2B50 2B55 1F004 1F0CF 1F18E 1F191-1F19A 1F201 1F21A 1F22F 1F232-1F236 1F238-1F23A 1F250-1F251 "
    "1F300-1F320 1F32D-1F335 1F337-1F37C 1F37E-1F393 1F3A0-1F3CA 1F3CF-1F3D3 1F3E0-1F3F0 1F3F4 1F3F8-1F43E 1F440 "
    "1F442-1F4FC 1F4FF-1F53D 1F54B-1F54E 1F550-1F567 1F57A 1F595-1F596 1F5A4 1F5FB-1F64F 1F680-1F6C5 1F6CC "
    "1F6D0-1F6DF 1F6EB-1F6EF 1F6F4-1F6FF 1F7E0-1F7FF 1F90C-1F93A 1F93C-1F945 1F947-1F9FF 1FA70-1FAFF"
)
DRAWN = _ranges(  # text by default, but people mean the emoji: canonical text adds U+FE0F
    "2328 23CF 23ED-23EF 23F1-23F2 23F8-23FA 2600-2604 260E 2611 2618 261D 2620 2622-2623 2626 262A 262E-262F "
    "2638-263A 2640 2642 265F-2660 2663 2665-2666 2668 267B 267E 2692 2694-2697 2699 269B-269C 26A0 26A7 "
    "26B0-26B1 26C8 26CF 26D1 26D3 26E9 26F0-26F1 26F4 26F7-26F9 2702 2708-2709 270C-270D 270F 2712 2714 2716 "
    "271D 2721 2733-2734 2744 2747 2763-2764 1F170-1F171 1F17E-1F17F 1F202 1F237 1F321 1F324-1F32C 1F336 1F37D "
    "1F396-1F397 1F399-1F39B 1F39E-1F39F 1F3CB-1F3CE 1F3D4-1F3DF 1F3F3 1F3F5 1F3F7 1F43F 1F441 1F4FD 1F549-1F54A "
    "1F56F-1F570 1F573-1F579 1F587 1F58A-1F58D 1F590 1F5A5 1F5A8 1F5B1-1F5B2 1F5BC 1F5C2-1F5C4 1F5D1-1F5D3 "
    "1F5DC-1F5DE 1F5E1 1F5E3 1F5E8 1F5EF 1F5F3 1F5FA 1F6CB 1F6CD-1F6CF 1F6E0-1F6E5 1F6E9 1F6F0 1F6F3"
)
SIGNS = _ranges(  # signs of print (© ™ ↔ ▪): emoji only before U+FE0F
    "A9 AE 203C 2049 2122 2139 2194-2199 21A9-21AA 24C2 25AA-25AB 25B6 25C0 25FB-25FC 27A1 2934-2935 2B05-2B07 "
    "3030 303D 3297 3299"
)
TURNING = _ranges("2194-2195 27A1")  # arrows that can be part of a joined emoji
TONES = _ranges("1F3FB-1F3FF")
FLAG_LETTERS = _ranges("1F1E6-1F1FF")
TAGS = _ranges("E0020-E007F")
TEXT_STYLE, EMOJI_STYLE = "\ufe0e", "\ufe0f"
KEYCAP = "\u20e3"

INVISIBLE = _ranges("AD 200B 200E-200F 202A-202E 2060-2064 FEFF")  # soft hyphens and invisible marks
NON_JOINER, JOINER = "\u200c", "\u200d"
JOINERS = NON_JOINER + JOINER
LONGEST_WORD = 500  # characters
STYLES = TEXT_STYLE + EMOJI_STYLE
APOSTROPHES = "\u2018\u2019\u02bc"
DOUBLE_QUOTES = "\u201c\u201d"
HYPHENS = "\u2010\u2011"
GERESH, GERSHAYIM = "\u05f3", "\u05f4"
MIDDLE_DOT = "\u00b7"
HEBREW = _ranges("5D0-5EA 5EF-5F2 FB1D-FB4F")
HEBREW_POINTS = _ranges("591-5BD 5BF 5C1-5C2 5C4-5C5 5C7")
NOT_IN_WORDS = STYLES + KEYCAP  # combining marks that only emoji have
UNSPACED = _ranges(  # Thai, Lao, Myanmar, Khmer, Japanese, Chinese: scripts without spaces between words
    "E00-EFF 1000-109F 1780-17FF 3005-3007 3040-30FF 31F0-31FF 3400-4DBF 4E00-9FFF AA60-AA7F F900-FAFF "
    "20000-323AF"
)


# ---- Regular expressions with the same meaning in Python and in Oniguruma, the library in `tokenizers`. `letters` is
# the inside of a character class: Oniguruma has names for it, Python needs the list. Each pattern takes linear time.


def invisible_patterns(letters: str) -> dict[str, str]:
    """Pattern → replacement, in order. They make the invisible characters of NFC text canonical."""
    pictures = PICTURES + DRAWN
    return {
        f"[{INVISIBLE}]": "",
        # Remove variation selectors, except the first one after a sign of print.
        f"{TEXT_STYLE}|{EMOJI_STYLE}(?<![{SIGNS}]{EMOJI_STYLE})": "",
        f"[{JOINERS}]+(?=[{JOINERS}])": "",
        # Remove joiners, except between letters and between emoji.
        f"[{JOINERS}](?:(?<=[{letters}][{JOINERS}])(?![{letters}])|(?<![{letters}][{JOINERS}])(?![{pictures}{TURNING}])"
        f"|(?<![{letters}{pictures}{EMOJI_STYLE}{TAGS}][{JOINERS}])|(?<={NON_JOINER})(?<![{letters}][{JOINERS}]))": "",
        f"(?<=[{DRAWN}])(?![{TONES}])|(?<=[0-9#*])(?={KEYCAP})|(?<={JOINER}[{TURNING}])(?!{EMOJI_STYLE})": EMOJI_STYLE,
    }


STRAIGHTENED = {f"[{APOSTROPHES}]": "'", f"[{DOUBLE_QUOTES}]": '"', f"[{HYPHENS}]": "-"}
# Typed forms of a dash, in straight text
DASHES = {"(?<!-)-{2,3}(?!-)|(?<=\\s)[-\u2013](?=\\s|$)": "\u2014"}


def word_pattern(letters: str, ignored: str = "") -> str:
    """A pattern of one word of canonical text. ignored: characters that other text may have within a word."""
    more = f"[{letters}{ignored}]*"
    after_hebrew = f"(?<=[{HEBREW}{HEBREW_POINTS}])"
    hebrew_mark = f"(?:[\"{DOUBLE_QUOTES}{GERSHAYIM}](?=[{HEBREW}])|['{APOSTROPHES}{GERESH}])"
    return (
        f"[{letters}]{more}(?:['{APOSTROPHES}{HYPHENS}{MIDDLE_DOT}-][{letters}]{more}"
        f"|{after_hebrew}{hebrew_mark}{more})*(?!{EMOJI_STYLE})"
    )


def _emoji_pattern() -> str:
    styled = f"[{TONES}{EMOJI_STYLE}]?"
    return (
        f"[{FLAG_LETTERS}]{{2}}|[0-9#*]{EMOJI_STYLE}{KEYCAP}"
        f"|(?:[{PICTURES}{DRAWN}]|[{SIGNS}](?={EMOJI_STYLE})){styled}[{TAGS}]*"
        f"(?:{JOINER}[{PICTURES}{DRAWN}{TURNING}]{styled})*"
    )


EMOJI_PATTERN = _emoji_pattern()  # of one emoji of canonical text


# ---- The same in Python


_CATEGORIES = frozenset(("Lu", "Ll", "Lt", "Lm", "Lo", "Mn", "Mc", "Me", "Nd", "Nl", "Pc"))
_EMPTY = re.compile(f"[\\s{INVISIBLE}{JOINERS}{STYLES}]*\\Z")
_EMOJI = re.compile(EMOJI_PATTERN)
_WITHIN = frozenset("'\"-" + APOSTROPHES + DOUBLE_QUOTES + HYPHENS + GERESH + GERSHAYIM + MIDDLE_DOT + STYLES)
_HIDDEN = re.compile(f"[{INVISIBLE}]")


def is_letter(character: str) -> bool:
    """True for the characters of words: letters, combining marks, digits, connectors, and joiners."""
    category = unicodedata.category(character)
    return (category in _CATEGORIES and character not in NOT_IN_WORDS) or character in JOINERS


def is_empty(text: str) -> bool:
    """True if a text has no token."""
    return _EMPTY.match(text) is not None


def is_emoji(token: str) -> bool:
    """True if a token of canonical text is an emoji."""
    return _EMOJI.fullmatch(token) is not None


def has_letter(token: str) -> bool:
    """True if a token of canonical text is a word: it has a letter and is not an emoji (ℹ️ has a letter too)."""
    return any(unicodedata.category(character)[0] == "L" for character in token) and not is_emoji(token)


@cache
def _letters() -> str:
    """All letters, as the inside of a character class. It is made on first use, because that takes 50 ms."""
    spans: list[list[int]] = []
    for code in chain(range(0x323B0), range(0xE0100, 0xE01F0)):  # there are none elsewhere
        if is_letter(chr(code)):
            if spans and spans[-1][1] == code - 1:
                spans[-1][1] = code
            else:
                spans.append([code, code])
    return "".join(f"{chr(first)}-{chr(last)}" for first, last in spans)


@cache
def _invisible() -> list[tuple[re.Pattern[str], str]]:
    return [(re.compile(pattern), new) for pattern, new in invisible_patterns(_letters()).items()]


@cache
def _unusual() -> re.Pattern[str]:
    return re.compile(f"[{INVISIBLE}{STYLES}{JOINERS}{KEYCAP}{DRAWN}]")


@cache
def _unfinished() -> re.Pattern[str]:
    """A pattern of a typed word; at the end of a text, with a mark that may be part of it."""
    ignored = INVISIBLE + STYLES
    word = f"(?![{JOINERS}]|[{SIGNS}]{EMOJI_STYLE}){word_pattern(_letters(), ignored)}"
    mark = f"['{APOSTROPHES}{HYPHENS}{MIDDLE_DOT}-]|(?<=[{HEBREW}{HEBREW_POINTS}])[\"{DOUBLE_QUOTES}{GERSHAYIM}]"
    return re.compile(f"{word}(?:(?:{mark})?[{ignored}]*\\Z)?")


@cache
def _words() -> re.Pattern[str]:
    return re.compile(word_pattern(_letters(), INVISIBLE + STYLES))


def words_in(text: str) -> Iterator[re.Match[str]]:
    """The words of a text, in any typed form, with their places. Numbers are among them; emoji and marks are not.

    >>> [match[0] for match in words_in("He is well-known, isn’t he?")]
    ['He', 'is', 'well-known', 'isn’t', 'he']
    """
    return _words().finditer(text)


def split_typed(typed: str) -> tuple[str, str]:
    """Cut a typed text into the text before the unfinished word, and the typed part of this word.

    The second part is "" if the text does not end in a word. Both together are the whole text, character by character.

    >>> split_typed("He is well-kn")
    ('He is ', 'well-kn')
    >>> split_typed("He is ")
    ('He is ', '')
    """
    start = len(typed)
    while start and (typed[start - 1] in _WITHIN or is_letter(typed[start - 1]) or _HIDDEN.match(typed[start - 1])):
        start -= 1
    for word in _unfinished().finditer(typed, start) if start < len(typed) else ():
        if word.end() == len(typed):
            start = word.start()
            while start < len(typed) and unicodedata.category(typed[start])[0] == "M":
                start += 1  # a mark belongs to the character before it
            return typed[:start], typed[start:]
    return typed, ""


def visible(word: str) -> str:
    """A word in Unicode NFC, without invisible characters; an emoji in canonical spelling.

    A longer word than LONGEST_WORD stays as it is: NFC takes time that grows with the square of the length.
    """
    if word.isascii() or len(word) > LONGEST_WORD:
        return word
    word = unicodedata.normalize("NFC", word)
    if _unusual().search(word):
        for pattern, new in _invisible():
            word = pattern.sub(new, word)
        word = unicodedata.normalize("NFC", word)  # a mark may have followed what was removed
    return word


_STRAIGHT = str.maketrans({
    **dict.fromkeys(APOSTROPHES, "'"), **dict.fromkeys(DOUBLE_QUOTES, '"'), **dict.fromkeys(HYPHENS, "-")
})


def straight(word: str) -> str:
    """A word as canonical text and vocabularies spell it."""
    return word if word.isascii() else visible(word).translate(_STRAIGHT)


def key(word: str) -> str:
    """The form in which words are compared. A word's key begins with the key of every typed beginning of the word.

    It has no letter case, and no joiners, because many people do not type them. Geresh and gershayim become quotes, as
    on typewriters. Hangul syllables become the keys of a Korean keyboard: `지ㅈ`, `짖` and `지저` appear while `지정`
    is typed, so they are its beginnings.
    """
    if word.isascii():
        return word.lower()
    folded = straight(word).casefold().translate(_ALIKE)
    return _HANGUL.sub(_hangul_keys, folded)


_ALIKE = str.maketrans({NON_JOINER: None, JOINER: None, GERESH: "'", GERSHAYIM: '"'})
_LEADS = "ㄱ ㄲ ㄴ ㄷ ㄸ ㄹ ㅁ ㅂ ㅃ ㅅ ㅆ ㅇ ㅈ ㅉ ㅊ ㅋ ㅌ ㅍ ㅎ".split()
_VOWELS = "ㅏ ㅐ ㅑ ㅒ ㅓ ㅔ ㅕ ㅖ ㅗ ㅗㅏ ㅗㅐ ㅗㅣ ㅛ ㅜ ㅜㅓ ㅜㅔ ㅜㅣ ㅠ ㅡ ㅡㅣ ㅣ".split()
_TAILS = (
    "ㄱ ㄲ ㄱㅅ ㄴ ㄴㅈ ㄴㅎ ㄷ ㄹ ㄹㄱ ㄹㅁ ㄹㅂ ㄹㅅ ㄹㅌ ㄹㅍ ㄹㅎ ㅁ ㅂ ㅂㅅ ㅅ ㅆ ㅇ ㅈ ㅊ ㅋ ㅌ ㅍ ㅎ"
).split()
_COMPOUNDS = [keys for keys in _TAILS + _VOWELS if len(keys) == 2]
_JAMO = dict(zip("ㄳㄵㄶㄺㄻㄼㄽㄾㄿㅀㅄㅘㅙㅚㅝㅞㅟㅢ", _COMPOUNDS))
for _first, _keys in ((0x1100, _LEADS), (0x1161, _VOWELS), (0x11A8, _TAILS)):  # conjoining jamo
    _JAMO.update({chr(code): keys for code, keys in enumerate(_keys, _first)})
_HANGUL = re.compile(f"[{_ranges('AC00-D7A3')}{''.join(_JAMO)}]")


def _hangul_keys(match: re.Match[str]) -> str:
    """The keys of a Korean keyboard that type a syllable or a part of one."""
    character = match[0]
    if character in _JAMO:
        return _JAMO[character]
    lead, rest = divmod(ord(character) - 0xAC00, len(_VOWELS) * (len(_TAILS) + 1))
    vowel, tail = divmod(rest, len(_TAILS) + 1)
    return _LEADS[lead] + _VOWELS[vowel] + (_TAILS[tail - 1] if tail else "")
