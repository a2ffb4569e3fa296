"""What is known of languages: articles, number words, usual words for yes and no. Data, no rules.

A word that also means something else is left out: French "neuf" is nine and new, Korean "열" ten and fever. Two
spellings of one answer that keep two forms cost a match now and then, two answers with one form are a silent mistake.
"""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Language:
    """
    Args:
        numbers: the words for zero to ten, in this order; further words for one after a slash, "-" for none.
        articles: words that are left out where an answer, or what follows "and", begins with them.
        elided: beginnings of words that are left out there, such as l'.
        conjunction: the word that "&" stands for.
        letters: characters that are the same as others, and whose lower case is another than elsewhere.
        marks: a class of characters that make no difference, such as vowel signs, as in regular expressions.
    """

    numbers: str = ""
    articles: str = ""
    elided: str = ""
    conjunction: str = ""
    letters: dict = field(default_factory=dict)
    marks: str = ""

    @property
    def number_words(self):
        """word -> digits."""
        words = enumerate(self.numbers.split())
        return {word: str(value) for value, same in words for word in same.split("/") if word != "-"}


LANGUAGES = {
    "none": Language(),
    # English has rules of its own for "a", which may be a name: see `normal_form`.
    "en": Language("zero one two three four five six seven eight nine ten", "an the", conjunction="and"),
    "ar": Language(
        "صفر واحد/واحدة اثنان/اثنين ثلاثة أربعة خمسة ستة سبعة ثمانية تسعة عشرة",
        marks="\u0610-\u061a\u0640\u064b-\u065f\u0670",
    ),
    "bg": Language("нула един/една/едно два/две три четири пет шест седем осем девет десет", conjunction="и"),
    "ca": Language("zero un/una dos/dues tres quatre cinc sis set vuit nou deu", "el la els les un una", "l'", "i"),
    "cs": Language("nula jeden/jedna/jedno dva/dvě tři čtyři pět šest sedm osm devět deset", conjunction="a"),
    "da": Language("nul en/et to tre fire fem seks syv otte ni ti", "en et den det de", conjunction="og"),
    "de": Language(
        "null eins zwei/zwo drei vier fünf sechs sieben acht neun zehn",
        "der die das den dem des ein eine einen einem einer eines",
        conjunction="und",
    ),
    "el": Language(
        "μηδέν ένα/ένας/μία δύο/δυο τρία/τρεις τέσσερα/τέσσερις πέντε έξι επτά/εφτά οκτώ/οχτώ εννέα/εννιά δέκα",
        "ο η το οι τα ένας μία μια ένα",
        conjunction="και",
    ),
    "es": Language(
        "cero uno dos tres cuatro cinco seis siete ocho nueve diez", "el la los las un una unos unas", conjunction="y"
    ),
    "fa": Language(
        "صفر یک دو سه چهار پنج شش هفت هشت - -",
        conjunction="و",
        letters={"ي": "ی", "ك": "ک"},
        marks="\u0640\u064b-\u0652",
    ),
    "fi": Language("nolla yksi kaksi kolme neljä viisi - seitsemän kahdeksan yhdeksän kymmenen", conjunction="ja"),
    "fr": Language(
        "zéro un/une deux trois quatre cinq six sept huit - dix", "le la les un une des du", "l' d'", conjunction="et"
    ),
    "he": Language(
        "אפס אחת/אחד שתיים/שניים שלוש/שלושה ארבע/ארבעה חמש/חמישה שש/שישה שבעה שמונה תשע/תשעה עשר/עשרה",
        marks="\u0591-\u05bd\u05bf\u05c1\u05c2\u05c4\u05c5\u05c7",
    ),
    "hi": Language("शून्य एक दो तीन चार पाँच/पांच छह/छः सात आठ नौ दस", conjunction="और"),
    "hu": Language("nulla - kettő három négy öt - - nyolc kilenc tíz", "a az egy", conjunction="és"),
    "id": Language("nol satu dua tiga empat lima enam tujuh delapan sembilan sepuluh", conjunction="dan"),
    "it": Language(
        "zero uno due tre quattro cinque sei sette otto nove dieci",
        "il lo la i gli le un uno una",
        "l' un'",
        conjunction="e",
    ),
    "ja": Language("零/ゼロ 一 二 三 四 五 六 七 八 九 十"),
    "ko": Language("- 하나 둘 셋 넷 다섯 여섯 일곱 여덟 아홉 -"),
    "nb": Language("null en/én/ett to tre fire fem seks sju/syv åtte ni ti", "en ei et den det de", conjunction="og"),
    "nl": Language("nul één/een twee drie vier vijf zes zeven acht negen tien", "de het een", conjunction="en"),
    "pl": Language(
        "zero jeden/jedna/jedno dwa/dwie trzy cztery pięć sześć siedem osiem dziewięć dziesięć", conjunction="i"
    ),
    "pt": Language(
        "zero um/uma dois/duas três quatro cinco seis sete oito nove dez", "o a os as um uma uns umas", conjunction="e"
    ),
    "ro": Language("zero unu/una doi/două trei patru cinci șase șapte opt - zece", "un o", conjunction="și"),
    "ru": Language(
        "ноль/нуль один/одна/одно два/две три четыре пять шесть семь восемь девять десять",
        conjunction="и",
        letters={"ё": "е"},
    ),
    "sv": Language("noll en/ett två tre fyra fem sex sju åtta nio tio", "en ett den det de", conjunction="och"),
    "tr": Language("sıfır bir iki üç dört beş - yedi sekiz dokuz on", conjunction="ve", letters={"I": "ı", "İ": "i"}),
    "uk": Language("нуль один/одна/одне два/дві три чотири п'ять шість сім вісім дев'ять десять", conjunction="і"),
    "vi": Language("- một hai - bốn - sáu bảy tám - mười", conjunction="và"),
    "zh": Language("零 一 二/两 三 四 五 六 七 八 九 十"),
}

# (who says so, for yes, for no): the words that are looked for in training answers, as normal forms of "none".
USUAL_WORDS = (
    ("English", "yes yeah yep yup", "no nope nah"),
    ("German", "ja jawohl", "nein nö"),
    ("French", "oui", "non"),
    ("Spanish", "sí si", "no"),
    ("Italian", "sì si", "no"),
    ("Portuguese", "sim", "não nao"),
    ("Catalan", "sí", "no"),
    ("Romanian", "da", "nu"),
    ("Dutch", "ja", "nee neen"),
    ("Swedish", "ja jo", "nej"),
    ("Danish", "ja jo", "nej"),
    ("Norwegian", "ja jo", "nei"),
    ("Finnish", "kyllä joo", "ei"),
    ("Hungarian", "igen", "nem"),
    ("Polish", "tak", "nie"),
    ("Czech", "ano", "ne"),
    ("Slovak", "áno ano", "nie"),
    ("Croatian or Slovenian", "da", "ne"),
    ("Russian", "да", "нет"),
    ("Ukrainian", "так", "ні"),
    ("Bulgarian or Serbian", "да", "не"),
    ("Greek", "ναι", "όχι οχι"),
    ("Turkish", "evet", "hayır hayir"),
    ("Arabic", "نعم", "لا كلا"),
    ("Hebrew", "כן", "לא"),
    ("Persian", "بله", "خیر نه"),
    ("Hindi", "हाँ हां", "नहीं"),
    ("Bengali", "হ্যাঁ", "না"),
    ("Chinese", "是 是的", "否 不是 不"),
    ("Japanese", "はい", "いいえ"),
    ("Korean", "예 네", "아니요 아니오"),
    ("Vietnamese", "có", "không"),
    ("Indonesian", "ya", "tidak"),
    ("Thai", "ใช่", "ไม่ใช่ ไม่"),
    ("statements", "true", "false"),
    ("German statements", "wahr", "falsch"),
    ("French statements", "vrai", "faux"),
    ("one letter", "y", "n"),
    ("one letter, German or Dutch", "j", "n"),
)

# Whose words tell a language that there are rules for.
CODES = {
    "German": "de",
    "French": "fr",
    "Spanish": "es",
    "Italian": "it",
    "Portuguese": "pt",
    "Dutch": "nl",
    "Norwegian": "nb",
    "Finnish": "fi",
    "Hungarian": "hu",
    "Polish": "pl",
    "Czech": "cs",
    "Romanian": "ro",
    "Russian": "ru",
    "Ukrainian": "uk",
    "Greek": "el",
    "Turkish": "tr",
    "Arabic": "ar",
    "Hebrew": "he",
    "Persian": "fa",
    "Hindi": "hi",
    "Chinese": "zh",
    "Japanese": "ja",
    "Korean": "ko",
    "Vietnamese": "vi",
    "Indonesian": "id",
}
