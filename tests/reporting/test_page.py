import base64
import io
import json
import re

import pytest
from datasets import Dataset
from PIL import Image
from report_rows import canonical, random_logits

from dualvqa.reporting.page import thumbnail
from dualvqa.reporting.report import EvaluatedRun, write_report
from processing import DualVQAImageProcessor, DualVQAProcessor

PHONE = 390 - 2 * 16  # pixels of a narrow screen, less the margins
EVIL = "<script>alert('x')</script> & \"<b>\""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("page")


@pytest.fixture(scope="module")
def page(tokenizer, folder, drawn):
    """The page of a part whose every text is HTML, about one image and a file that is gone."""
    Image.new("RGB", (900, 30), "red").save(folder / "red.png")
    rows = canonical(40, 7, (0, 6), ("yes", "no", "red", EVIL)).to_dict()
    rows["question"] = [f"{EVIL} {number}?" for number in range(40)]
    rows[EVIL] = [EVIL if number % 2 else "plain" for number in range(40)]
    rows["image"] = [{"path": str(folder / ("red.png" if n % 2 else "gone.png")), "bytes": None} for n in range(40)]
    processor = DualVQAProcessor(DualVQAImageProcessor(), tokenizer, ["red", "green", EVIL])
    data = [{"part": EVIL, "source": EVIL, "questions": 1, "images": None}]
    about = {"title": EVIL, "settings": [[EVIL, EVIL], ["pictures read by", "resnet18"]], "data": data}
    plain = {**rows, "answer": [["red" if a == EVIL else a for a in people] for people in rows["answer"]]}
    logits = random_logits(Dataset.from_dict(plain), 8)
    run = EvaluatedRun({"test": Dataset.from_dict(rows)}, {"test": logits}, columns=[EVIL], about=about)
    write_report(folder / "out", run, processor)
    return (folder / "out" / "report.html").read_text(encoding="utf-8")


def plots_of(page):
    found = re.findall(r"data:image/svg\+xml;base64,([\w+/=]*)", page)
    return [base64.b64decode(plot).decode() for plot in found]


@pytest.mark.slow
def test_questions_answers_and_names_are_shown_as_text(page):
    assert "<script" not in page and "<b>" not in page
    assert page.count("&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt; &amp; &#34;&lt;b&gt;&#34;") > 20


@pytest.mark.slow
def test_the_page_needs_no_other_file(page):
    linked = re.findall(r"""(?:src|href)=["']?([^"' >]*)""", page) + re.findall(r"url\(([^)]*)\)", page)
    assert linked and all(link.startswith(("data:", "#")) for link in linked)
    assert len(plots_of(page)) == 9  # three, each for all questions, yes/no and open-ended
    for plot in plots_of(page):
        assert "<svg" in plot and not re.findall('href="(?!#)', plot)


def test_settings_of_older_folders_have_their_present_names(page):
    assert "<td>vision tower</td><td>resnet18</td>" in page


def test_contents_lead_somewhere(page):
    places = re.findall(r'href="#([^"]*)"', page)
    assert len(places) >= 7 and all(f'id="{place}"' in page for place in places)


def test_images_are_small_and_a_lost_one_is_named(page):
    images = re.findall(r"data:image/jpeg;base64,([\w+/=]*)", page)
    assert images and "image can't be read" in page
    with Image.open(io.BytesIO(base64.b64decode(images[0]))) as image:
        assert max(image.size) == 320 and image.getpixel((100, 5))[0] > 240
    assert thumbnail({"path": "gone.png", "bytes": None}) is None


def test_few_images_are_warned_about(page):
    assert "<strong>Only 6 images.</strong>" in page


def test_figures_are_shown_as_they_are_in_the_file(page, folder):
    figures = json.loads((folder / "out" / "report.json").read_text())["parts"]["test"]
    routed = figures["accuracy"]["routed"]["all"]
    assert f"<strong>{100 * routed['value']:.1f} %</strong>" in page
    assert f"(95 % interval {100 * routed['low']:.1f} to {100 * routed['high']:.1f})" in page
    assert f"<strong>{100 * figures['auc']['value']:.1f} %</strong>" in page


def test_the_title_stands_before_the_navigation_and_the_page_has_the_width_of_the_screen(page):
    assert '<meta name="viewport" content="width=device-width, initial-scale=1">' in page
    assert page.index("<h1>") < page.index("<nav") < page.index("<main>")


def test_nothing_is_wider_than_a_phone_but_in_a_box_that_scrolls(page):
    style, body = page.split("</style>")
    widths = [int(found) for found in re.findall(r"[{;]\s*(?:min-)?width:\s*(\d+)px", style)]
    assert widths and max(widths) <= PHONE and not re.findall(r"""width[=:]["']?\s*\d""", body)
    *before, _ = re.split(r"<table(?! class=.text)", body)  # tables of text alone break their lines
    assert len(before) >= 8 and all(re.search(r'<div class="scroll[^<]*(<h4>[^<]*</h4>\s*)?$', b) for b in before)


def test_letters_of_plots_are_readable_on_a_phone_and_none_is_cut(page):
    for plot in plots_of(page):
        width, height = (float(points) for points in re.search(r'viewBox="0 0 (\S+) (\S+)"', plot).groups())
        scale = min(PHONE, width * 96 / 72) / width  # an inch has 72 points, and 96 pixels of a page
        texts = re.findall(
            r'font-size: (\d+)px.*anchor: (\w+).*x="(\S+)" y="(\S+)" transform="rotate\((\S+) .*>(.*)<', plot
        )
        assert len(texts) > 8
        for size, anchor, x, y, turned, text in texts:
            assert float(size) * scale >= 12, text
            length = 0.5 * float(size) * len(text)  # about
            left = {"start": 0, "middle": -0.5, "end": -1}[anchor] * length
            place, room = (float(x), width) if turned == "-0" else (height - float(y), height)
            assert 0 <= place + left and place + left + length <= room, text


def test_every_plot_has_its_title_and_a_complete_legend(page):
    legends = [{"ceiling"}] * 3 + [{"routed", "oracle"}] * 6
    for plot, kind, legend in zip(plots_of(page), 3 * ["all", "yes/no", "open-ended"], legends):
        assert {kind, *legend} <= set(re.findall(r"<text.*>(.*)</text>", plot))
