"""Which columns of a source are the image, the question and the answer."""

import difflib
import logging
import unicodedata

from .wording import worded

logger = logging.getLogger(__name__)

# Usual names of the columns. Each is taken only where it is the only one that a source has.
SYNONYMS = {
    "image": """image images img picture photo photograph imagepath imagefile imagename imagefilename imgpath imgfile
    imgname imgfilename filename filepath file path bild bilder bilddatei bildpfad bildname foto dateiname datei fichier
    imagen imagenes archivo fotografia immagine immagini imagem imagens afbeelding plaatje bestand obraz obrazek zdjecie
    plik obrazok resim изображение картинка фото файл 画像 画像ファイル 写真 图像 图片 圖像 圖片 이미지 사진 صورة""",
    "question": """question questions questiontext q query prompt frage fragen fragetext pregunta preguntas domanda
    domande pergunta perguntas vraag vragen pytanie pytania otazka soru вопрос 質問 问题 問題 질문 سؤال""",
    "answer": """answer answers answertext a label labels target response antwort antworten antworttext reponse reponses
    respuesta respuestas risposta risposte resposta respostas antwoord antwoorden odpowiedz odpowiedzi odpoved cevap
    yanit ответ метка 回答 答え 答案 正解 답변 정답 جواب""",
}


TRAINED, USUAL = "as in the training of the saved model", "by their usual names"  # how columns are found


def folded(name):
    """A column's name without case, accents, blanks and marks between its words: Image-Path -> imagepath."""
    letters = unicodedata.normalize("NFKD", name).replace("ł", "l").replace("ı", "i").casefold()
    return "".join(letter for letter in letters if letter.isalnum())


FOLDED = {name: frozenset(map(folded, names.split())) for name, names in SYNONYMS.items()}


def find_columns(names, source, args, needs_answers):
    """Canonical name -> the source's column.

    That is the one which a flag names; else the one that the saved model was trained with, if the source has it; else
    the one of the canonical name; else the only one with a usual name for it. The log says which, where it isn't the
    canonical one.

    Args:
        names: the source's columns.
        source: what messages call it.
        args: `DataArguments`.
        needs_answers: whether it must have answers.

    Raises:
        ValueError: one is missing, or several could be meant.
    """
    wanted = ["image", "question", *(["answer"] if args.reads_answers else [])]
    columns, told = {}, {}
    for name in wanted:
        column, why = find_column(name, names, source, args, needs_answers)
        if column is not None:
            columns[name] = column
            told.setdefault(why, []).append(f"{name} {column!r}")
    check_different(columns, source)
    for why in told.keys() - {None}:
        flag = worded("--image_column")
        logger.info("%s: columns %s: %s (%s and its like name others)", source, why, ", ".join(told[why]), flag)
    return columns


def find_column(name, names, source, args, needs_answers):
    """The column of one canonical name, and how it was found if that isn't clear; None where there need be none."""
    flag, given = args.column_flag(name)
    needed = name != "answer" or needs_answers
    if given is not None:
        if given in names:
            return given, None
        if needed or not (args.streaming or given in args.known_columns):
            less = "" if needed else ", or leave it out where there are no answers"
            raise ValueError(missing_message(name, given, names, source, flag) + less)
        logger.warning("%s has no column %r: there are no answers in it", source, given)
        return None, None
    remembered = (args.remembered_columns or {}).get(name, name)
    if remembered in names:
        return remembered, None if remembered == name else TRAINED
    if name in names:
        return name, None
    others = {args.column_flag(other)[1] for other in SYNONYMS if other != name}
    found = [column for column in names if folded(str(column)) in FOLDED[name] and column not in others]
    if len(found) == 1:
        return found[0], USUAL
    if not found:
        if needed:
            raise ValueError(missing_message(name, remembered, names, source, flag))
        return None, None
    said = (
        f"{source} has no column {remembered!r}, and {', '.join(map(repr, found))} could each be it: name the right one"
    )
    if needed:
        raise ValueError(f"{said} {naming(name, flag)}")
    logger.warning("%s with %s; its answers are not read", said, worded(f"--{flag}"))
    return None, None


def are_questions(names, args):
    """Whether rows with these columns have images and questions."""
    try:
        return all(find_column(name, names, "", args, True)[0] for name in ("image", "question"))
    except ValueError:
        return False


def check_different(columns, source):
    """
    Raises:
        ValueError: one column is to be two things.
    """
    if len(set(columns.values())) < len(columns):
        said = ", ".join(f"{name} {column!r}" for name, column in columns.items())
        raise ValueError(f"{source}: image, question and answer must be columns of their own, found {said}")


def check_once(columns, repeated, source):
    """
    Args:
        columns: those that are read.
        repeated: names that several columns of the source have.

    Raises:
        ValueError: one of them is among these.
    """
    for column in columns:
        if column in repeated:
            raise ValueError(
                f"{source}: expected one column {column!r}, found several of that name; give the others another "
                f"name, or leave them out"
            )


def naming(name, flag):
    return f"with --{flag}, in Python with column_mapping={{'...': '{name}'}}"


def missing_message(name, column, names, source, flag):
    forms = {folded(str(known)): known for known in names}
    close = [forms[form] for form in difflib.get_close_matches(folded(column), forms, 1)]
    hint = f"; did you mean {close[0]!r}?" if close else ""
    return (
        f"{source} has no column {column!r} (it has {', '.join(map(str, names))}){hint or ';'} name the right one "
        f"{naming(name, flag)}"
    )
