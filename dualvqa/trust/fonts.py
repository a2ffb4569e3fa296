"""Fonts for questions in scripts that matplotlib's own one lacks, of those that are installed."""

import contextlib
import functools
import warnings

from matplotlib.font_manager import FontProperties, findfont, fontManager, get_font


@functools.cache
def signs_of(path):
    return frozenset(get_font(path).get_charmap())


def fallback_fonts(text):
    """Names of installed fonts that have what the usual ones of a text lack; a warning where none has it."""
    usual = [FontProperties(), FontProperties(family="monospace")]
    own = frozenset.intersection(*(signs_of(findfont(font)) for font in usual))
    missing, found = {ord(sign) for sign in text if sign.isprintable()} - own, []
    for font in fontManager.ttflist if missing else ():
        if font.style != "normal" or font.name in found or "lastresort" in font.name.lower().replace(" ", ""):
            continue
        has = missing & signs_of(font.fname)
        if has:
            found.append(font.name)
            missing -= has
    if missing:
        signs = "".join(map(chr, sorted(missing)))
        warnings.warn(
            f"no installed font has the signs {signs:.20}, and boxes are drawn for them: install one of their script",
            stacklevel=3,
        )
    return found


@contextlib.contextmanager
def quiet_glyphs():
    """Without matplotlib's warning for each sign that has no font: `fallback_fonts` told it."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        yield
