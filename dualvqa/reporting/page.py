"""A report as one HTML page that needs no other file."""

import base64
import functools
import io
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from PIL import Image

from modeling_dualvqa.card_notes_dualvqa import WAYS
from modeling_dualvqa.model_card_dualvqa import RENAMED
from processing.image_loading_dualvqa import load_image
from processing.image_sources_dualvqa import CHECKED

from .figures import SAME_IMAGE
from .plots import ANSWERERS, HEADS, TYPES, accuracy_plot, reliability_plot, risk_coverage_plot, temperature_plot
from .statistics import LEVEL, RESAMPLES

THUMBNAIL = 320  # pixels of the longer side, twice what is shown


def percent(share, digits=1):
    return "–" if share is None else f"{100 * share:.{digits}f}"


def signed(share):
    return f"{100 * share:+.1f}".replace("-", "−")


def data_uri(content, kind):
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


def thumbnail(image):
    """The data URI of an image's small JPEG; None where it can't be read any more."""
    try:
        small = load_image(image, CHECKED)
        small.thumbnail((THUMBNAIL, THUMBNAIL), Image.Resampling.LANCZOS)
    except ValueError:
        return None
    content = io.BytesIO()
    small.save(content, "JPEG", quality=82)
    return data_uri(content.getvalue(), "jpeg")


@functools.cache
def templates():
    """Those of this folder; everything that is put in is escaped."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"percent": percent, "signed": signed}
    return environment


def render(template, **values):
    """A page of this folder."""
    fixed = {
        "answerers": ANSWERERS,
        "kinds": TYPES,
        "heads": HEADS,
        "same_image": SAME_IMAGE,
        "level": LEVEL,
        "resamples": RESAMPLES,
        "renamed": RENAMED,
        "ways": WAYS,
    }
    return templates().get_template(template).render(**fixed, **values)


def report_page(report, results, images):
    """The HTML of a report.

    Args:
        report: as report.json has it.
        results: part -> its results.
        images: part -> the `image` column of its rows.
    """
    parts = {}
    for name, figures in report["parts"].items():
        plots = {
            "accuracy": accuracy_plot(figures),
            "reliability": reliability_plot(figures),
            "risk_coverage": risk_coverage_plot(figures),
        }
        if "temperatures" in figures:
            plots["temperatures"] = temperature_plot(figures)
        parts[name] = {
            "figures": figures,
            "plots": {
                plot: {kind: data_uri(svg.encode(), "svg+xml") for kind, svg in svgs.items()}
                for plot, svgs in plots.items()
            },
            "worst": [(results[name][place], thumbnail(images[name][place])) for place in figures["worst"]],
        }
    return render("page.html.j2", report=report, parts=parts)
