"""Cases of what a word is: every place that tells words from other characters is tested by them."""

FAMILY = "👩\u200d👩\u200d👧\u200d👦"
ENGLAND = "🏴\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f"
HEART = "❤\ufe0f"

# A text, and its tokens
TOKENS: list[tuple[str, list[str]]] = [
    ("It's a well-known fact.", ["It's", "a", "well-known", "fact", "."]),
    ("“Don’t,” she said.", ['"', "Don't", ",", '"', "she", "said", "."]),
    ("'tis the boys' -own-", ["'", "tis", "the", "boys", "'", "-", "own", "-"]),
    ("well\u2011known well\u2010off it\u02bcs", ["well-known", "well-off", "it's"]),
    ("3.14 in 1984, 3rd", ["3", ".", "14", "in", "1984", ",", "3rd"]),
    ("a—b ... €5", ["a", "—", "b", ".", ".", ".", "€", "5"]),
    ("so--I said - well – no-one", ["so", "—", "I", "said", "—", "well", "—", "no-one"]),
    ("co\u00adop\ufeff -----", ["coop", "-", "-", "-", "-", "-"]),
    ("max_words __init__", ["max_words", "__init__"]),
    ("cafe\u0301 caf\u00e9 ≠ =\u0338 x²", ["caf\u00e9", "caf\u00e9", "≠", "≠", "x", "²"]),
    ("+\u0301a", ["+\u0301", "a"]),
    ("Ελληνικά, ώρα. Съешь-ка ё", ["Ελληνικά", ",", "ώρα", ".", "Съешь-ка", "ё"]),
    ("col·lecció l’été", ["col·lecció", "l'été"]),
    # Joiners stay between letters alone, one at a time
    ("می\u200cخواهم", ["می\u200cخواهم"]),
    ("\u200cمی\u200c \u200dمی\u200c\u200cخواهم\u200d.", ["می", "می\u200cخواهم", "."]),
    ("ماہی\u200cگیر کہا۔", ["ماہی\u200cگیر", "کہا", "۔"]),
    ("র\u200d্যাব ক্\u200cষ বাংলা", ["র\u200d্যাব", "ক্\u200cষ", "বাংলা"]),
    ("हिन्दी में", ["हिन्दी", "में"]),
    # Hebrew marks
    ("צה״ל צה\"ל רח׳ ג'ירפה", ["צה״ל", 'צה"ל', "רח׳", "ג'ירפה"]),
    ("אמר: \"שלום\" ״כן״", ["אמר", ":", '"', "שלום", '"', "״", "כן", "״"]),
    ("나는 학교에 갔다.", ["나는", "학교에", "갔다", "."]),
    # Emoji: one token each, in one spelling
    ("❤\ufe0fyou", [HEART, "you"]),
    ("❤you ❤\ufe0e x❤\ufe0f!", [HEART, "you", HEART, "x", HEART, "!"]),
    ("👍🏽👍ok 🐶\ufe0f", ["👍🏽", "👍", "ok", "🐶"]),
    (f"{FAMILY}x 👩\u200d❤\u200d👨 🏳\u200d🌈", [FAMILY, "x", "👩\u200d❤\ufe0f\u200d👨", "🏳\ufe0f\u200d🌈"]),
    ("🇺🇸🇬🇧a", ["🇺🇸", "🇬🇧", "a"]),
    (f"{ENGLAND}.", [ENGLAND, "."]),
    ("1\ufe0f\u20e3 a1\u20e3 #\ufe0f\u20e3", ["1\ufe0f\u20e3", "a", "1\ufe0f\u20e3", "#\ufe0f\u20e3"]),
    ("© ©\ufe0f ™ ℹ\ufe0f aℹ\ufe0f ↔", ["©", "©\ufe0f", "™", "ℹ\ufe0f", "a", "ℹ\ufe0f", "↔"]),
    ("🙂\u200d↔\ufe0f 🙂\u200d↔", ["🙂\u200d↔\ufe0f"] * 2),
    ("👩\u200da b\u200d👩 👩\u200c👩", ["👩", "a", "b", "👩", "👩", "👩"]),
    ("\ufe0fyou yo\ufe0eu you\ufe0f \ufe0f", ["you"] * 3),
    (" \t\u200c\ufe0f\u200b", []),
]

# What is typed: the text before the unfinished word, and this word as far as it is there
TYPED: list[tuple[str, str]] = [
    ("", "it"), ("It was 3.", "14"), ("the ", "3r"), ("", "max_w"), ("(", "or"), ("so--", "I"), ("boys''", ""),
    ("Yes. ", ""),
    ("He is ", "well-kn"), ("He is ", "well\u2011kn"), ("He is ", "well-"), ("I ", "don’"), ("I ", "don't"),
    ("", "col·lec"), ("", "Ελλη"), ("Это ", "Съешь-к"), ("a ", "cafe\u0301"), ("so ", "so\u00adft"), ("\u200b", "a"),
    ("صحبت ", "می\u200cخو"), ("صحبت ", "می\u200c"), ("ایک ", "ماہی\u200cگ"), ("এই ", "র\u200d্যা"),
    ("שלום ", 'צה"'), ("שלום ", "צה״ל"), ("שלום ", 'צה"ל'), ('אמר: "', "של"), ("שלום ", "רח׳"),
    ("나는 ", "지ㅈ"), ("나는 ", "지저"),
    ("❤\ufe0f", "you"), ("you❤\ufe0f", ""), ("you ❤", ""), ("👍🏽", "o"), ("👍🏽", ""), (FAMILY, "a"), (FAMILY, ""),
    ("👩\u200d", ""), ("🇺🇸", "a"), (ENGLAND, ""), (ENGLAND, "a"), ("1\ufe0f\u20e3", ""), ("a1\ufe0f\u20e3", "b"),
    ("ℹ\ufe0f", ""), ("©\ufe0f", "a"), ("a \u200c", "b"), ("a \ufe0f", "b"), ("+\u0301", "b"),
]

# The beginning of a word as it is typed, and the word
COMPLETED: list[tuple[str, str]] = [
    ("well\u2011kn", "well-known"), ("don’", "don't"), ("it\u02bc", "it's"), ("Cafe\u0301", "Café"),
    ("col·", "col·lecció"), ("ماہی\u200c", "ماہی\u200cگیر"),
    ("می\u200c", "می\u200cخواهم"), ("می\u200cخو", "می\u200cخواهم"), ("میخو", "می\u200cخواهم"),
    ("র\u200d্", "র\u200d্যাব"), ('צה"', "צה״ל"), ("צה״", "צה״ל"),
    ("지ㅈ", "지정"), ("짖", "지정"), ("지저", "지정"), ("ㅈ", "지정"), ("지정", "지정"),
    ("고", "과학"), ("안", "앉다"),
    ("ώρ", "ώρα"), ("съешь-", "съешь-ка"), ("max_", "max_words"), ("3r", "3rd"),
]
