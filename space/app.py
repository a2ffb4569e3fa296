"""A Gradio Space that answers questions about a picture, with the model that lies beside it or on the Hub."""

import html
import json
from pathlib import Path

from PIL import Image

from dualvqa import DualVQAPipeline, draw_explanation, explain, load_model

HERE = Path(__file__).parent
SETTINGS = json.loads((HERE / "space.json").read_text(encoding="utf-8"))
MOST_QUESTIONS, LONGEST, SHOWN = 8, 500, 5
Image.MAX_IMAGE_PIXELS = 25_000_000  # Pillow refuses pictures of twice as many before it decodes them

ROW = (
    '<div style="display:flex;gap:.6em;align-items:center;margin:.15em 0">'
    '<span style="flex:0 0 35%;overflow-wrap:anywhere">{answer}</span>'
    '<span style="flex:1;background:#8883;border-radius:3px"><span style="display:block;height:.8em;border-radius:3px;'
    'background:#4f7cac;width:{share:.1f}%"></span></span><span style="flex:0 0 4em;text-align:right">{share:.1f} %'
    "</span></div>"
)


def load():
    """The pipeline, which takes pictures and no paths or URLs."""
    name = SETTINGS["model"]
    model, processor = load_model(HERE / name if (HERE / name).is_dir() else name)
    return DualVQAPipeline(model, processor, image_sources="objects")


def read_questions(text):
    """A question in each line.

    Raises:
        ValueError: none, too many, or one that is too long.
    """
    questions = [line.strip() for line in (text or "").splitlines() if line.strip()]
    if not questions:
        raise ValueError("Ask a question.")
    if len(questions) > MOST_QUESTIONS:
        raise ValueError(f"Ask at most {MOST_QUESTIONS} questions at once; these are {len(questions)}.")
    if max(map(len, questions)) > LONGEST:
        raise ValueError(f"A question may have {LONGEST} letters.")
    return questions


def answer(pipe, picture, text):
    """The answers as a page: bars, what is doubtful in words, and what of the memory spoke for them.

    Raises:
        ValueError: no picture, or questions that can't be asked.
    """
    if picture is None:
        raise ValueError("Choose a picture first.")
    questions = read_questions(text)
    memory = getattr(pipe.model, "memory", None)
    evidence = {"evidence": 3} if memory is not None and memory.texts is not None else {}
    found = pipe(picture, questions, top_k=SHOWN, **evidence)
    return "".join(as_page(question, best) for question, best in zip(questions, found))


def as_page(question, best):
    first = best[0]
    guess = html.escape(str(first.get("best_guess", first["answer"])))
    sure = first["answer"] is not None and not first.get("unfamiliar")  # what is foreign gets guesses alone
    said = f"<b>{guess}</b>" if sure else f"<b>Not sure.</b> The best guess is {guess}."
    if first.get("unfamiliar"):
        what = [word for name, word in (("question", "question"), ("image", "picture")) if first["unfamiliar"][name]]
        what = " and ".join(what) or "question or picture"
        said += f" This {what} is unlike those that the model was trained on: do not rely on the answer."
    bars = "".join(
        ROW.format(answer=html.escape(str(item.get("best_guess", item["answer"]))), share=100 * item["score"])
        for item in best
    )
    remembered = "".join(
        f"<li>{html.escape(example['question'])} → {html.escape(example['answer'])} "
        f"({example['weight']:.0%} of the vote)</li>"
        for example in first.get("evidence") or ()
    )
    remembered = f"<p>Remembered from training:</p><ul>{remembered}</ul>" if remembered else ""
    return f"<section><h3>{html.escape(question)}</h3><p>{said}</p>{bars}{remembered}</section>"


def explanation(pipe, picture, text):
    """A drawing of what in the picture and in the first question spoke for its answer.

    Raises:
        ValueError: see `answer`; or this model has no map.
    """
    if picture is None:
        raise ValueError("Choose a picture first.")
    return draw_explanation(explain(pipe, picture, read_questions(text)[0]), picture)


def build(pipe):
    """The page."""
    import gradio

    def told(function):
        """What a person can mend is a message on the page."""

        def called(upload, text):
            try:
                # Its bytes, so that the pipeline decodes it: gradio would lose transparency and 16-bit greys.
                return function(pipe, None if upload is None else Path(upload).read_bytes(), text)
            except ValueError as error:
                raise gradio.Error(str(error), print_exception=False) from error

        return called

    with gradio.Blocks(title=SETTINGS["title"]) as page:
        gradio.Markdown(f"# {SETTINGS['title']}\nAsk about a picture; each line is a question of its own.")
        with gradio.Row():
            with gradio.Column(min_width=300):
                picture = gradio.Image(type="filepath", image_mode=None, label="Picture", height=320)
                text = gradio.Textbox(lines=2, label="Questions", placeholder="what color is it?")
                ask = gradio.Button("Ask", variant="primary")
                why = gradio.Button("Show what spoke for the first answer")
            with gradio.Column(min_width=300):
                answers = gradio.HTML(label="Answers")
                drawing = gradio.Plot(show_label=False)  # a label covers the title
        gradio.on([ask.click, text.submit], told(answer), [picture, text], answers, api_name="answer")
        why.click(told(explanation), [picture, text], drawing, api_name="explain")
        if SETTINGS["examples"]:
            rows = [[str(HERE / row["image"]), "\n".join(row["questions"])] for row in SETTINGS["examples"]]
            gradio.Examples(rows, [picture, text])
    return page


if __name__ == "__main__":
    build(load()).launch(max_file_size="20mb")
