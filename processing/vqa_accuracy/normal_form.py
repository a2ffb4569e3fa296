"""The normal form of an answer, by which answers are compared, rule by rule.

docs/explanations/answer_normalisation.md says why.

What is taken away carries no meaning; what may carry it stays. Two spellings of one answer that keep two forms cost a
match now and then, two answers with one form are a silent mistake.
"""

import functools
import re
import unicodedata
from decimal import Decimal

from .languages import LANGUAGES

NUMBER_WORDS = LANGUAGES["en"].number_words
# Where an "a" may follow as an article. After other words it may be a name: vitamin A deficiency, hepatitis A virus.
LINKS = set(
    "and or but not of in on at to by for from with without near under over behind beside between below above into "
    "onto through across against around is are was be has have like as than".split()
)
# What follows an "a" that is a name, or that makes a difference ("a few" are not "few").
AFTER_NAMES = LINKS | set(
    "positive negative pos neg plus minus rh rhesus minor major flat sharp level levels fib flutter line lines wave "
    "waves band bands chain chains scan allele antigen antibody dissection type group alpha beta gamma delta vs versus "
    "then left right only also too alone few little".split()
)

# "A DNA", "A II" and "A causes B" begin with a name, as "A. Smith" does.
NAMED_A = re.compile(r"^\s*A (?=[A-Z]{2}|[A-Z](?!\w)|.*\s[B-HJ-Z](?!\S))")
# What "an" stands before, also when letters are spelled: an MRI. In other languages it is a word of its own.
AFTER_AN = set("aeioufhlmnrsx8")

SAME = {
    **dict.fromkeys("‐‑‒–—―−﹘", "-"),
    **dict.fromkeys("’‘‛`´ʼʻʹ′", "'"),
    **dict.fromkeys("“”„‟«»″", '"'),
    **dict.fromkeys("⁄∕", "/"),
    **dict.fromkeys("،、", ","),
    **{"º": "°", "。": ".", "…": "...", "؛": ";", "؟": "?", "№": "no.", "™": "™"},
}
UNSEEN = re.compile(
    r"[\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f\xad\u061c\u180e\u200b\u200c\u200e\u200f\u202a-\u202e\u2060-\u2064"
    r"\u2066-\u2069\ufe00-\ufe0f\ufeff]|(?<![^\w\s])\u200d|\u200d(?![^\w\s])"  # a joiner of two symbols stays
)
# Marks around what stands above or below the line, around fractions, and for the hyphen of x-ray, until their
# neighbours are known. No answer has them: they are among the UNSEEN.
MARKS = {"<super>": "\x01{}\x02", "<sub>": "\x03{}\x04", "<fraction>": "\x05{}\x06"}
HYPHEN = "\x07"

L = r"[^\W\d_]"  # a letter
WORD = rf"{L}{L}"  # the beginning or end of a word, which isn't a single letter
# In this order, each on text with a space at either end; those of `Words` for a language's number words are among them.
RULES = (
    # 10² -> 10^2, CO₂ -> CO2, 10₂ -> 10_2, 1½ -> 1 1/2
    (r"\x02\x01|\x04\x03", ""),
    (r"\x01([^\x02]*)\x02(?=\w)", r"^\1 "),
    (r"\x01([^\x02]*)\x02", r"^\1"),
    (rf"(?<={L})\x03(\w+)\x04(?!\d)", r"\1"),
    (r"\x03([^\x04]*)\x04", r"_\1"),
    (r"(?<=\d)\x05|\x06(?=\d)", " "),
    (r"[\x05\x06]", ""),
    (r"\s+", " "),
    # stops of abbreviations; an A as the name of a choice, "(A) dog"
    (rf"(?<!{L})(?!n\.\s*o\.?(?![\w.])){L}\.(?:\s*{L}\.)+(?!\w)", lambda found: re.sub(r"[.\s]", "", found[0])),
    (rf"(?<!{L})(?!n\.o\.?(?![\w.]))(?:{L}\.)+{L}(?!\w)", lambda found: found[0].replace(".", "")),  # N.O. isn't no
    (r"(?<!\w)[\"'(]?a[\"').,:;?]+ (?=\S)|(?<!\w)a (?=[\"'(\[])", "a. "),
    # quotation marks, but not inches and feet; apostrophes where nothing else is spelled like it; brackets, but not
    # those of f(x), points and intervals
    (r"(?<!\w)\"([^\"]*)\"(?!\w)", r" \1 "),
    (r"(?<!\d)(?<!\d )\"", " "),
    (r"(?<!\w)'([^']+)'(?!\w)", r"\1"),
    (r"(?<=n)'(?=t(?!\w))|(?<=\w)'(?=ve(?!\w))|(?<=\Wo)'(?=clock(?!\w))", ""),
    (r"(?<!\w)(that|what|there|here|where|who|how)'s(?!\w)", r"\1s"),
    (r"(?<!\S)\((?![^()]*\d[,;\s]+[-+.]*\d)([^()]*)\)(?=[\s.?!:;,])", r"\1"),
    # the commas of 1,000 and those between words; the point of .5
    (r"(?<![\w.,])[1-9]\d{0,2}(?:,\d{3})+(?!,?\d)", lambda found: found[0].replace(",", "")),
    (rf"[,;](?!\d)|(?<={L})[,;]", " "),
    (r"[¿¡]+(?=\w)", ""),
    (r"(?<![\w.])\.(?=\d)", "0."),
    # signs: one spelling of each, and one way of spacing it
    "no. five and &",
    (r"\+/-", "±"),
    (r"!=|=/=", "≠"),
    (r"<=", "≤"),
    (r">=", "≥"),
    (r"([<>≤≥=≠≈~±])", r" \1 "),
    (r"(?<=\w) ?/ ?(?=\w)", "/"),
    (r"(?<=\d) ?: ?(?=\d)", ":"),
    (r"(?<=\d) ?[x×] ?(?=\d)", "x"),
    (r"(?<=\w) (?=\+ *$)", ""),
    (r"(?<=\d) (?=[%°])", ""),
    (r"(?<=°) (?=[cf](?!\w))", ""),
    # hyphens of words are spaces; those of ranges (5-6, L4-L5), grades (A-) and names (A-line, covid-19) are not
    (rf"(?<={WORD})_(?={WORD})", " "),
    "five-six",
    (r"(?<=\d) - (?=\d)", "-"),
    (rf"(?<=\W{L})(?<!\Wa)-(?={WORD})", HYPHEN),
    (rf"(?<=\w)(?<!\Wa)-(?={WORD})|(?<={WORD})-(?={L})", " "),
)
PLAIN_WORDS = re.compile(r"[a-z]{2,}(?: [a-z]{2,})*")
WHOLE_NUMBER = re.compile(r"[-+]?\d+\.00?")  # 1.000 may be a thousand
SCIENTIFIC = re.compile(r"[-+]?\d+(\.\d+)?e[-+]\d{1,2}")


class Words:
    """What the rules need of one language.

    Args:
        code: a key of `LANGUAGES`.
    """

    def __init__(self, code):
        own = LANGUAGES[code]
        self.english = code == "en"
        self.numbers, self.articles = own.number_words, set(own.articles.split())
        self.elided, self.conjunction = own.elided.split(), own.conjunction
        self.changed = {*self.numbers, *self.articles}
        self.letters = str.maketrans(own.letters)
        self.marks = re.compile(f"[{own.marks}]") if own.marks else None
        spelled = "|".join(map(re.escape, self.numbers)) or "(?!)"
        number = rf"(?:{spelled}|\d+)(?!\w)"
        of_language = {
            "no. five and &": [
                (rf"(?<!\S)no\. ?({spelled})(?!\w)", lambda found: f"no. {self.numbers[found[1]]}"),
                *([(r"(?<=\w) & (?=\w)", f" {own.conjunction} ")] if own.conjunction else []),
            ],
            "five-six": [
                (rf"(?<![\w-])({number})(?:-| - )(?={number})", lambda found: f"{self.digits(found[1])}-"),
                (rf"(?<=\d-)({spelled})(?!\w)", lambda found: self.digits(found[1])),
            ],
        }
        rules = [rule for name in RULES for rule in (of_language[name] if isinstance(name, str) else [name])]
        self.rules = [(re.compile(pattern), replacement) for pattern, replacement in rules]

    def digits(self, word):
        return self.numbers.get(word, word)


words_of = functools.lru_cache(Words)


@functools.lru_cache(maxsize=2**16)
def normal_form(text, language="en"):
    """The form of a text by the articles and number words of a language. The form of a form is itself."""
    lower, words = text.lower(), words_of(language)
    if PLAIN_WORDS.fullmatch(lower) and words.changed.isdisjoint(lower.split()) and not words.letters:
        return lower  # most answers; the rules take a hundred times as long
    form, before = one_pass(text, words), None
    while form != before:  # a rule may make room for one before it
        form, before = one_pass(form, words), form
    return form


def one_pass(text, words):
    seen = UNSEEN.sub("", unicodedata.normalize("NFC", text))
    seen = NAMED_A.sub("a. ", seen) if words.english else seen
    seen = "".join(map(plain, seen)).translate(words.letters)
    seen = words.marks.sub("", seen) if words.marks else seen
    seen = text = unicodedata.normalize("NFC", seen.lower())
    for pattern, replacement in words.rules:
        text = pattern.sub(replacement, f" {text.strip()} ")
    found = without_stops(text.split())
    found = without_articles(found) if words.english else without_first_articles(found, words)
    return " ".join(numbers(found, words)).replace(HYPHEN, " ") or seen.strip()


@functools.lru_cache(maxsize=4096)
def plain(char):
    """A character as its plain sort: 5 in full width is 5. Where that would change what is said, marked or as it is."""
    if char in SAME:
        return SAME[char]
    if unicodedata.category(char) == "Nd":
        return str(unicodedata.digit(char))  # of any script
    kind, *codes = unicodedata.decomposition(char).split() or [""]
    if not kind.startswith("<"):
        return char
    parts = "".join(plain(chr(int(code, 16))) for code in codes)
    if kind in MARKS:
        return MARKS[kind].format(parts)
    # ⑫, ⒈ and ⑴ would run into other digits; accents without a letter would bring a space.
    loses = kind == "<circle>" or (kind == "<compat>" and (re.search(r"\d", parts) or re.match(r"\s.", parts)))
    return char if loses else parts


def without_stops(words):
    """Without the stops and question marks at the end of words, and the words that are nothing else."""
    kept = []
    for word, following in zip(words, [*words[1:], ""]):
        bare = word.rstrip(".?!:;,")
        end = word[len(bare) :]
        if "!" in end and (bare[-1:].isdigit() or (len(bare) == 1 and len(words) == 1)):
            bare += "!"  # 5! is 120
        elif (bare == "a" and following) or (word == "no." and following[:1].isdigit()):
            bare = word  # A. Smith isn't Smith, No. 5 isn't "no, 5"
        bare = re.sub(r"^\.\.+(?=\w)", "", bare)
        kept += [bare] if bare else []
    return kept or words


def without_articles(words):
    """Without "an" and "the" before a word, and "a" where no letter or name can be meant."""
    kept = []
    for word, following in zip(words, [*words[1:], ""]):
        article = (word == "the" and following[:1].isalnum()) or (word == "an" and following[:1] in AFTER_AN)
        if word == "a" and re.match(rf"{L}[{HYPHEN}\w]", following) and following not in AFTER_NAMES:
            article = not kept or kept[-1] in LINKS
        kept += [] if article else [word]
    return kept


def without_first_articles(found, words):
    """Without the articles that an answer, or what follows "and", begins with; in languages other than English."""
    kept = []
    for word, following in zip(found, [*found[1:], ""]):
        first = not kept or kept[-1] == words.conjunction
        if first:
            begins = next((short for short in words.elided if re.match(rf"{short}{L}{L}", word)), "")
            word = word[len(begins) :]
        kept += [] if first and word in words.articles and re.match(rf"{L}{L}", following) else [word]
    return kept


def numbers(found, words):
    """With digits for zero to ten, and the numbers that programs write as a person does."""
    if len(found) == 1 and WHOLE_NUMBER.fullmatch(found[0]):
        return [found[0].partition(".")[0]]
    spelled = []
    for word in found:
        if SCIENTIFIC.fullmatch(word):
            number = f"{Decimal(word):f}"
            word = number.rstrip("0").rstrip(".") if "." in number else number
        elif not (word == "one" and spelled[-1:] == ["no"]):  # nobody
            word = words.digits(word)
        spelled.append(word)
    return spelled
