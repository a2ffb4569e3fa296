"""Decoded, resized images of one run, each read from its file once: uint8 rows in a file, or in memory."""

import hashlib
import json
import logging
import os
import shutil
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import PIL
import torch
import torchvision

from processing.image_keys import unchanged
from processing.wording import worded

logger = logging.getLogger(__name__)

MAGIC = b"DUALVQA IMAGES 3\n"  # another number where the file's layout changes, or how images are opened
MEMORY_BYTES = 2**30  # kept in memory where no file can be written, all processes of a machine together
DIGEST_BYTES = hashlib.sha256().digest_size  # at the end, of the pixels
BLOCK = 256  # images decoded before they are written
PATIENCE = 20  # seconds between two lines about how far it is
NOT_IN_PIXELS = ("do_rescale", "rescale_factor", "do_normalize", "image_mean", "image_std")


class ImageCache:
    """Rows of pixels by image key.

    A file is read with plain reads and not mapped: mapped pages would count as this process's memory, the system's own
    cache of files does not, and is as fast. It is opened for every batch, so that workers share nothing.

    Args:
        keys: the image of each row.
        shape: that of a row, (3, H, W).
        path, offset: the file and where its rows begin; or
        memory: (U, 3, H, W) uint8 array.
    """

    def __init__(self, keys, shape, path=None, offset=0, memory=None):
        self.places = {key: place for place, key in enumerate(keys)}
        self.shape, self.path, self.offset, self.memory = tuple(shape), path, offset, memory

    def has(self, keys):
        return all(key in self.places for key in keys)

    def read(self, keys):
        """The rows of some images, (U, 3, H, W) uint8.

        Raises:
            OSError: the file is gone or shorter than it was.
        """
        places = [self.places[key] for key in keys]
        if self.memory is not None:
            return torch.from_numpy(self.memory[places])
        rows = np.empty((len(places), *self.shape), dtype=np.uint8)
        with open(self.path, "rb", buffering=0) as file:
            for row, place in zip(rows, places):
                file.seek(self.offset + place * row.nbytes)
                if file.readinto(row.data) != row.nbytes:
                    raise OSError(f"{self.path} is shorter than it was")
        return torch.from_numpy(rows)


def cache_images(rows, collator, folder, limit_gib=8.0, processes=1):
    """Gives a collator the decoded images of a part, where they fit; else it goes on decoding, and the log says why.

    Several processes may call this at once, for the first on a machine to fill the file: see `accelerate`'s
    `local_main_process_first`. A file is complete as soon as it has its name, which is that of its content.

    Args:
        rows: canonical Dataset.
        collator: a `VQACollator`.
        folder: where the file is, or is put.
        limit_gib: the largest file, which also never takes more than half of the disk's free space.
        processes: how many on this machine share the memory, where no file can be written.
    """
    keys = rows["image_key"][:]
    first = {}
    for place, key in enumerate(keys):
        first.setdefault(key, place)
    keys = sorted(first)
    shape = collator.decode([rows[first[keys[0]]]["image"]])[0].shape
    header = make_header(collator, keys, shape)
    path = os.path.join(folder, f"{hashlib.sha256(header).hexdigest()[:16]}.pixels")
    index = "".join(keys).encode()
    offset = len(header) + len(index)
    total = offset + len(keys) * int(np.prod(shape)) + DIGEST_BYTES
    blocks = decoded_blocks(rows, [first[key] for key in keys], shape, collator)
    try:
        if os.path.exists(path):
            problem = find_damage(path, header, index, total)
            if not problem:
                collator.cache = ImageCache(keys, shape, path, offset)
                return
            logger.warning("%s: %s; it is made anew", path, problem)
            os.remove(path)
        os.makedirs(folder, exist_ok=True)
        room = min(limit_gib * 2**30, shutil.disk_usage(folder).free / 2)
        if total <= room:
            write_file(path, [header, index], blocks)
            collator.cache = ImageCache(keys, shape, path, offset)
            logger.info("%d decoded images in %s, %s", len(keys), path, in_words(total))
            return
        if total > limit_gib * 2**30:
            logger.warning(
                worded("%d decoded images need %s, more than --image_cache_gib %g: they are decoded for every batch"),
                len(keys),
                in_words(total),
                limit_gib,
            )
            return
        problem = f"its disk has {in_words(2 * room)} free, and half of that is too little"
    except UnequalShapesError as error:
        logger.warning("%s: they are decoded for every batch", error)
        return
    except OSError as error:
        problem = error.strerror or error
    # A generator that has failed or was closed gives nothing more.
    blocks = decoded_blocks(rows, [first[key] for key in keys], shape, collator)
    reason = f"{folder} can't hold decoded images: {problem}"
    collator.cache = keep_in_memory(keys, shape, blocks, MEMORY_BYTES // processes, reason)


def in_words(size):
    """So many bytes, for messages."""
    return f"{size / 2**30:.2f} GiB" if size >= 2**30 else f"{size / 2**20:.1f} MiB"


def keep_in_memory(keys, shape, blocks, limit, reason):
    """What is left where no file can be written, for `reason`; None where that takes more than `limit` bytes."""
    size = len(keys) * int(np.prod(shape))
    if size > limit:
        logger.warning("%s. They would need %s of memory: they are decoded for every batch", reason, in_words(size))
        return None
    try:
        memory = np.concatenate(list(blocks))
    except UnequalShapesError as error:
        logger.warning("%s: they are decoded for every batch", error)
        return None
    advice = worded("or name another --image_cache_dir")
    logger.warning("%s. They are kept in memory, %s; %s", reason, in_words(size), advice)
    return ImageCache(keys, shape, memory=memory)


def make_header(collator, keys, shape):
    """Magic, then all that the pixels depend on, in one line: a file with the same header has the same rows."""
    settings = {k: v for k, v in collator.processor.image_processor.to_dict().items() if k not in NOT_IN_PIXELS}
    settings |= {**collator.frame, "shape": list(shape), "images": len(keys)}
    settings |= {"torchvision": torchvision.__version__, "pillow": PIL.__version__}  # decoders and resizing differ
    settings["index"] = hashlib.sha256("".join(keys).encode()).hexdigest()
    return MAGIC + json.dumps(settings, sort_keys=True, default=str).encode() + b"\n"


def find_damage(path, header, index, total):
    """What is wrong with a file, in words, or None."""
    if os.path.getsize(path) != total:
        return f"has {os.path.getsize(path)} bytes, expected {total}"
    with open(path, "rb") as file:
        if file.read(len(header)) != header:
            return "was written with other settings or by another version"
        if file.read(len(index)) != index:
            return "its index is damaged"
        digest, left = hashlib.sha256(), total - file.tell() - DIGEST_BYTES
        while left:
            chunk = file.read(min(left, 2**20))
            digest.update(chunk)
            left -= len(chunk)
        if file.read() != digest.digest():
            return "its pixels are damaged"


class UnequalShapesError(ValueError):
    """Images that don't come out of the image processor in one size."""


def decoded_blocks(rows, places, shape, collator):
    """The pixels of the images at some places, up to `BLOCK` at a time: (u, 3, H, W) uint8 arrays."""
    started = shown = time.monotonic()
    with ThreadPoolExecutor() as pool:
        for start in range(0, len(places), BLOCK):
            found = [rows[place] for place in places[start : start + BLOCK]]
            decoded = list(pool.map(lambda row: collator.decode([unchanged(row)["image"]])[0].numpy(), found))
            other = next((pixels for pixels in decoded if pixels.shape != shape or pixels.dtype != np.uint8), None)
            if other is not None:
                raise UnequalShapesError(
                    f"the image processor gives {other.dtype} of shape {other.shape} beside uint8 {tuple(shape)}, and "
                    f"images are kept in one size"
                )
            yield np.stack(decoded)
            if time.monotonic() - shown > PATIENCE:
                shown = time.monotonic()
                done = min(start + BLOCK, len(places))
                logger.info("%d of %d images decoded, %.0f s", done, len(places), shown - started)


def write_file(path, head, blocks):
    """Writes a file that has its name only once it is complete; what fails leaves nothing."""
    handle, temporary = tempfile.mkstemp(dir=os.path.dirname(path), suffix=".part")
    try:
        with os.fdopen(handle, "wb") as file:
            file.writelines(head)
            digest = hashlib.sha256()
            for block in blocks:
                file.write(block.data)
                digest.update(block.data)
            file.write(digest.digest())
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        os.remove(temporary)
        raise
