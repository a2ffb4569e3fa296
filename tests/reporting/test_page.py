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

EVIL = "<script>alert('x')</script> & \"<b>\""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("page")


@pytest.fixture(scope="module")
def page(tokenizer, folder):
    """The page of a part whose every text is HTML, about one picture and a file that is gone."""
    Image.new("RGB", (900, 30), "red").save(folder / "red.png")
    rows = canonical(40, 7, (0, 6), ("yes", "no", "red", EVIL)).to_dict()
    rows["question"] = [f"{EVIL} {number}?" for number in range(40)]
    rows[EVIL] = [EVIL if number % 2 else "plain" for number in range(40)]
    rows["image"] = [{"path": str(folder / ("red.png" if n % 2 else "gone.png")), "bytes": None} for n in range(40)]
    processor = DualVQAProcessor(DualVQAImageProcessor(), tokenizer, ["red", "green", EVIL])
    data = [{"part": EVIL, "source": EVIL, "questions": 1, "images": None}]
    about = {"title": EVIL, "settings": [[EVIL, EVIL]], "data": data}
    plain = {**rows, "answer": [["red" if a == EVIL else a for a in people] for people in rows["answer"]]}
    logits = random_logits(Dataset.from_dict(plain), 8)
    run = EvaluatedRun({"test": Dataset.from_dict(rows)}, {"test": logits}, columns=[EVIL], about=about)
    write_report(folder / "out", run, processor)
    return (folder / "out" / "report.html").read_text(encoding="utf-8")


def test_questions_answers_and_names_are_shown_as_text(page):
    assert "<script" not in page and "<b>" not in page
    assert page.count("&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt; &amp; &#34;&lt;b&gt;&#34;") > 20


def test_the_page_needs_no_other_file(page):
    linked = re.findall(r"""(?:src|href)=["']?([^"' >]*)""", page) + re.findall(r"url\(([^)]*)\)", page)
    assert linked and all(link.startswith(("data:", "#")) for link in linked)
    plots = re.findall(r"data:image/svg\+xml;base64,([\w+/=]*)", page)
    assert len(plots) == 3
    for plot in map(base64.b64decode, plots):
        assert b"<svg" in plot and b"yes/no" in plot
        assert not re.findall(rb'href="(?!#)', plot)


def test_contents_lead_somewhere(page):
    places = re.findall(r'href="#([^"]*)"', page)
    assert len(places) >= 7 and all(f'id="{place}"' in page for place in places)


def test_pictures_are_small_and_a_lost_one_is_said(page):
    pictures = re.findall(r"data:image/jpeg;base64,([\w+/=]*)", page)
    assert pictures and "picture can't be read" in page
    with Image.open(io.BytesIO(base64.b64decode(pictures[0]))) as picture:
        assert max(picture.size) == 320 and picture.getpixel((100, 5))[0] > 240
    assert thumbnail({"path": "gone.png", "bytes": None}) is None


def test_few_pictures_are_said(page):
    assert "<strong>6 pictures only.</strong>" in page


def test_figures_are_shown_as_they_are_in_the_file(page, folder):
    figures = json.loads((folder / "out" / "report.json").read_text())["parts"]["test"]
    routed = figures["accuracy"]["routed"]["all"]
    assert f"<strong>{100 * routed['value']:.1f} %</strong>" in page
    assert f"(95 % interval {100 * routed['low']:.1f} to {100 * routed['high']:.1f})" in page
    assert f"<strong>{100 * figures['auc']['value']:.1f} %</strong>" in page
