"""Pictures and questions that hardly any model is meant for: a fit of familiarity shows them to the towers.

They are made here, so that nothing has to be downloaded, and are the same every time. What is foreign in other ways
lies in their direction too (outlier exposure, Hendrycks et al. 2019), as docs/results/unfamiliar.md measures: shapes,
radiographs, food, traffic, German and Spanish are not among them on purpose.
"""

import numpy as np
from PIL import Image, ImageDraw, ImageOps

from .everyday_questions import EVERYDAY, THINGS

SIDE = 224
EACH = 16  # pictures of a kind

LANGUAGES = """
qu'est-ce qu'on voit sur la photo ? | est-ce que c'est normal ? | combien de personnes y a-t-il ? | où est le chien ? |
quelle est la couleur du ciel ? | y a-t-il quelque chose de rouge ? | qui a ouvert la fenêtre ? | c'est un cercle ? |
che cosa si vede nell'immagine? | quanti oggetti ci sono? | di che colore è la forma? | il cuore è normale? |
dove si trova il gatto? | c'è qualcosa di blu? | è una fotografia antica? | chi ha aperto la porta? |
o que se vê na imagem? | quantas pessoas existem? | qual é a cor da figura? | onde está o cachorro? |
há alguma coisa verde? | isto é normal? | quem abriu a janela? | wat is er op de foto te zien? | is dit normaal? |
hoeveel mensen zijn er? | welke kleur heeft de lucht? | waar is de hond? | wie heeft het raam geopend? |
co widać na zdjęciu? | ile jest osób? | jaki kolor ma niebo? | gdzie jest pies? | czy to jest normalne? |
vad syns på bilden? | hur många människor finns det? | vilken färg har himlen? | var är hunden? | är det normalt? |
这张图片里有什么？ | это нормально? | что видно на картинке? | この写真には何がありますか？
"""


def foreign_questions():
    """Kind -> a list of questions."""
    rng = np.random.default_rng(0)
    letters = list("abcdefghijklmnopqrstuvwxyz")
    words = [["".join(rng.choice(letters, rng.integers(2, 10))) for _ in range(rng.integers(2, 9))] for _ in range(40)]
    listed = {"everyday": EVERYDAY, "things": THINGS, "language": LANGUAGES}
    listed = {kind: [one.strip(" |") for one in " ".join(text.split()).split(" | ")] for kind, text in listed.items()}
    return {**listed, "nonsense": [" ".join(line) + "?" for line in words]}


def foreign_images():
    """Kind -> a list of `EACH` PIL images."""
    rng = np.random.default_rng(0)
    return {kind: [picture(rng, number) for number in range(EACH)] for kind, picture in PICTURES.items()}


def as_image(values):
    """(H, W, 1 or 3) of [0, 1] -> PIL image; one channel is grey."""
    values = np.broadcast_to(values, (*values.shape[:2], 3))
    return Image.fromarray((255 * values.clip(0, 1)).round().astype(np.uint8))


def shades(rng, number, count=1):
    """(count, 3) colours, of every other picture greys."""
    return rng.random((count, 3)) if number % 2 else np.repeat(rng.random((count, 1)), 3, axis=1)


def one_colour(rng, number):
    colour = np.full(3, (number // 2) / (EACH // 2 - 1)) if number % 2 == 0 else shades(rng, number)[0]
    return as_image(np.ones((SIDE, SIDE, 1)) * colour)


def dark(rng, number):
    """Nearly black, as of a lens that is covered: every other one with a camera's noise."""
    spread = 0.006 * (number % 2)
    return as_image(0.05 * number / (EACH - 1) + spread * rng.normal(size=(SIDE, SIDE, 3)))


def light(rng, number):
    return ImageOps.invert(dark(rng, number))


def noise(rng, number):
    spread = 0.02 * 1.3**number  # from hardly visible to black and white
    return as_image(rng.random() + spread * rng.normal(size=(SIDE, SIDE, 1 + 2 * (number % 2))))


def gradient(rng, number):
    first, last = shades(rng, number, 2)
    angle = 2 * np.pi * rng.random()
    y, x = np.mgrid[:SIDE, :SIDE] / SIDE - 0.5
    share = (0.5 + (np.cos(angle) * x + np.sin(angle) * y) / 1.42)[..., None]
    return as_image(share * first + (1 - share) * last)


def pattern(rng, number):
    """Stripes and checkerboards."""
    first, last = shades(rng, number, 2)
    y, x = np.mgrid[:SIDE, :SIDE] // rng.integers(4, 60)
    odd = ((x + y * (number // 2 % 2)) % 2)[..., None]
    return as_image(odd * first + (1 - odd) * last)


def clouds(rng, number):
    """Noise with the spectrum of photographs, amplitude 1 / frequency (Field 1987)."""
    frequency = np.hypot(np.fft.fftfreq(SIDE)[:, None], np.fft.fftfreq(SIDE)[None]) + 1 / SIDE
    channels = []
    for _ in range(1 + 2 * (number % 2)):
        waves = np.fft.fft2(rng.normal(size=(SIDE, SIDE))) / frequency ** (1 + rng.random())
        channel = np.fft.ifft2(waves).real
        channels.append(rng.random() + 0.25 * channel / channel.std())
    return as_image(np.stack(channels, axis=-1))


def page(rng, number):
    """Lines of letters, dark on light or the other way round."""
    dark = number % 2
    picture = Image.new("RGB", (SIDE, SIDE), (12, 12, 14) if dark else (250, 249, 245))
    draw = ImageDraw.Draw(picture)
    for y in range(6, SIDE - 12, int(rng.integers(11, 22))):
        line = "".join(rng.choice(list("abcdefghij klmnop rstuv "), rng.integers(8, 36)))
        draw.text((6, y), line, fill=(230, 230, 230) if dark else (20, 20, 25))
    return picture


PICTURES = {
    "dark": dark,
    "light": light,
    "one colour": one_colour,
    "noise": noise,
    "gradient": gradient,
    "pattern": pattern,
    "clouds": clouds,
    "page": page,
}
