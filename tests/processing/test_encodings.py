import pytest

from processing.encodings import decode

GERMAN = ["Ist das Gefäß geöffnet?;ja", "Welche Farbe hat die Tür?;grün", "Wie groß ist der Ärmel?;5"]
TEXTS = {
    "cp1252": GERMAN,
    "cp1250": ["Jaki kolor ma kwadrat?;żółty", "Ile gałęzi ma drzewo?;pięć", "Co trzyma mężczyzna?;książkę"],
    "cp1251": ["Какого цвета дверь?;красная", "Есть ли на снимке перелом?;нет"],
    "cp1253": ["Τι χρώμα είναι η πόρτα;κόκκινη", "Είναι ανοιχτή;ναι"],
    "cp932": ["ドアは何色ですか？;赤", "肺は正常ですか？;はい"],
    "gb18030": ["门是什么颜色？;红色", "肺部正常吗？;是"],
    "cp949": ["문은 무슨 색입니까?;빨강", "폐는 정상입니까?;예"],
    **dict.fromkeys(("utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"), GERMAN),
}


def table(lines, times=10):
    return "\n".join(["image;question;answer", *(f"{n}.png;{line}" for n in range(times) for line in lines)])


@pytest.mark.parametrize("encoding, lines", TEXTS.items())
def test_the_encodings_that_spreadsheets_write_are_found_out(encoding, lines):
    assert decode("a.csv", table(lines).encode(encoding)).text == table(lines)


def test_an_encoding_that_is_told_by_its_letters_is_said_with_a_line_of_the_text(caplog):
    assert decode("a.csv", table(GERMAN).encode("cp1252")).encoding == "cp1252"
    (said,) = caplog.messages
    assert (
        "a.csv is not in UTF-8 but, as its letters tell, in cp1252, by which line 2 reads: 0.png;Ist das Gefäß" in said
    )
    caplog.clear()
    decode("a.csv", table(GERMAN).encode("utf-16"))
    assert not caplog.text


def test_few_letters_among_many_lines_are_enough():
    text = table([f"what is number {number}?;{number}" for number in range(2000)], 2) + "\n9.png;Tür?;groß"
    assert decode("a.csv", text.encode("cp1252")).text == text


def test_an_encoding_that_can_not_be_told_is_refused_with_what_each_would_read():
    encoding, lines = "cp1250", ["Jsou dveře otevřené?;ano", "Kolik lidí je vidět?;dva"]
    with pytest.raises(
        ValueError, match="could be in several encodings, by which line .* reads: .*--csv_encoding"
    ) as e:
        decode("a.csv", table(lines, 1).encode(encoding))
    assert "cp1252 (0.png;Jsou dveøe otevøené?;ano), cp1250 (0.png;Jsou dveře otevřené?;ano)" in str(e.value)
    assert decode("a.csv", table(lines, 1).encode(encoding), encoding).text == table(lines, 1)


@pytest.mark.parametrize("other", ["cp1252", "cp932"])
def test_two_encodings_in_one_file_are_refused_with_their_lines(other):
    first, second = (GERMAN[1], "の;ん")[other == "cp932"], GERMAN[0]
    content = f"image\n{second}\n".encode() + f"{first}\n{first}\n".encode(other) + b"ascii\n"
    message = r"has two encodings: line 2 is in UTF-8, and 2 lines \(3, 4\) are not.*--csv_encoding"
    with pytest.raises(ValueError, match=message):
        decode("a.csv", content)


def test_bytes_that_are_no_text_are_refused_with_the_first_of_them():
    with pytest.raises(ValueError, match="a.csv line 2: expected UTF-8, found the byte 0x81.*can't be told"):
        decode("a.csv", b"image\n\x81\xff\x00\xfe")


def test_an_encoding_that_is_given_is_kept_to():
    assert decode("a.csv", "Tür".encode(), "cp1252").text == "TÃ¼r"
    with pytest.raises(
        ValueError, match="a.csv line 2: expected ASCII, found the byte 0xc3; give another --csv_encoding"
    ):
        decode("a.csv", "a\nü".encode(), "ascii")
