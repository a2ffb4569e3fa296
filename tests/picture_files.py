"""Picture files of the kinds that people have, for the browser and Python to read alike."""

import numpy as np
from PIL import Image, ImageCms

ORIENTATION = 0x0112


def photo(width, height, seed=0):
    """Smooth colours with edges, as in a photo: JPEG keeps them, and resizing shows at the edges."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width]
    base = np.stack([x * 255 / width, y * 255 / height, (x + y) * 255 / (width + height)], axis=-1)
    for _ in range(6):
        left, top = rng.integers(0, width), rng.integers(0, height)
        base[top : top + height // 3, left : left + width // 3] = rng.integers(0, 256, 3)
    return Image.fromarray(base.astype(np.uint8))


def write_pictures(folder):
    """Writes one of each kind; their names."""
    folder.mkdir()

    def save(name, image, **options):
        image.save(folder / name, **options)
        names.append(name)

    names, image = [], photo(97, 61)
    save("odd.png", image)
    save("large.jpg", photo(1203, 801, 1), quality=92)
    save("tiny.png", photo(3, 2, 2))
    save("tall.webp", photo(40, 333, 3), lossless=True)
    for turn in range(1, 9):
        exif = Image.Exif()
        exif[ORIENTATION] = turn
        save(f"turned_{turn}.jpg", photo(90, 60, turn), exif=exif, quality=95)
        save(f"turned_{turn}.webp", photo(90, 60, turn), exif=exif, lossless=True)
    clear = photo(64, 80, 4).convert("RGBA")
    clear.putalpha(Image.fromarray(np.linspace(0, 255, 64 * 80).reshape(80, 64).astype(np.uint8)))
    save("clear.png", clear)
    save("clear.webp", clear, lossless=True)
    save("grey.png", photo(50, 70, 5).convert("L"))
    save("grey.jpg", photo(50, 70, 5).convert("L"), quality=95)
    save("grey_clear.png", clear.convert("LA"))
    save("palette.png", photo(70, 50, 6).quantize(32))
    save("palette_clear.gif", photo(70, 50, 6).quantize(32), transparency=3)
    save("deep.png", deep(50, 70))
    save("bilevel.png", photo(70, 50, 7).convert("1"))
    save("cmyk.jpg", photo(80, 60, 8).convert("CMYK"), quality=95)
    save("profile.png", photo(60, 60, 9), icc_profile=wide_profile())
    save("bitmap.bmp", photo(61, 33, 10))
    return names


def deep(width, height):
    """Grey values of 16 bits, as a scanner measures them: none is 0 or the largest."""
    grey = np.asarray(photo(width, height, 11).convert("L")).astype(np.uint16)
    return Image.fromarray(grey * np.uint16(190) + np.arange(width, dtype=np.uint16) + np.uint16(3000))


def wide_profile():
    """A colour profile that is not sRGB: a browser that applied it would show other values than are in the file."""
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("XYZ")).tobytes()
