"""Canonical rows -> a batch: each different image and question once, padded to the longest question of the batch."""

import hashlib
import logging
from dataclasses import dataclass, field

import torch
from torchvision.transforms import v2

from .answers import AnswerVocabulary
from .image_loading_dualvqa import load_image
from .image_processing_dualvqa import made_size
from .image_sources_dualvqa import CHECKED

logger = logging.getLogger(__name__)

LARGEST_MARGIN = 2.0  # how much larger than the model's images those that are augmented are, at most


@dataclass
class AugmentationArguments:
    """Changes to training images. Off is 0 (1 for the crop). The defaults keep left, right, up and down."""

    random_crop_scale: float = field(
        default=0.8, metadata={"help": "Smallest share of the image's area that a random crop keeps."}
    )
    random_rotation: float = field(default=0.0, metadata={"help": "Largest rotation in degrees, either way."})
    random_shift: float = field(default=0.0, metadata={"help": "Largest shift, as a share of width and height."})
    color_jitter: float = field(default=0.1, metadata={"help": "Largest relative change of brightness and contrast."})
    horizontal_flip: float = field(
        default=0.0, metadata={"help": "How often an image is mirrored. Wrong where questions say left or right."}
    )


def build_augmentation(args):
    """A transform of uint8 tensors (3, H, W), or None where everything is off.

    Raises:
        ValueError: a value outside its range.
    """
    for name in ("random_shift", "color_jitter", "horizontal_flip"):
        if not 0 <= getattr(args, name) <= 1:
            raise ValueError(f"{name} must be in [0, 1], found {getattr(args, name)}")
    if not 0 < args.random_crop_scale <= 1:
        raise ValueError(f"random_crop_scale must be in (0, 1], found {args.random_crop_scale}")
    transforms = []
    if args.horizontal_flip:
        transforms.append(v2.RandomHorizontalFlip(args.horizontal_flip))
    if args.random_rotation or args.random_shift:
        shift = (args.random_shift, args.random_shift) if args.random_shift else None
        transforms.append(v2.RandomAffine(args.random_rotation, translate=shift, fill=127))
    if args.color_jitter:
        transforms.append(v2.ColorJitter(brightness=args.color_jitter, contrast=args.color_jitter))
    if args.random_crop_scale < 1:
        transforms.append(RandomCrop(args.random_crop_scale))
    return v2.Compose(transforms) if transforms else None


class RandomCrop(v2.Transform):
    """A crop of the image's own shape, at a random place, that keeps between `scale` and all of its area."""

    def __init__(self, scale):
        super().__init__()
        self.scale = scale

    def make_params(self, flat_inputs):
        height, width = flat_inputs[0].shape[-2:]
        side = torch.empty(1).uniform_(self.scale, 1).sqrt().item()
        h, w = max(1, round(height * side)), max(1, round(width * side))
        top = int(torch.randint(height - h + 1, (1,)))
        left = int(torch.randint(width - w + 1, (1,)))
        return {"top": top, "left": left, "height": h, "width": w}

    def transform(self, inpt, params):
        return v2.functional.crop(inpt, **params)


class VQACollator:
    """Makes the model's inputs from canonical rows, labels included where they have answers.

    Images are resized first, and what is augmented is the resized copy, so that it can be kept: see `image_cache`. A
    batch is the same with and without a cache.

    Args:
        processor: a [`DualVQAProcessor`]; its answers are the vocabulary.
        augmentation: transform of uint8 image tensors, for training only.
        seed: with epoch and image it fixes what augmentation does, whichever batch, worker or process the image is in.
        embeddings: `FrozenEmbeddings` that take the place of pixels and token ids, of the rows that they know.
        further: what else a batch has in training, such as `TeacherLogits` and `AuxiliaryTargets`: their `batch(rows)`.
        blind: every pixel is the processor's mean, 0 after normalisation: what is learned is learned without images.
    """

    def __init__(self, processor, augmentation=None, seed=0, embeddings=None, further=(), blind=False):
        self.processor = processor
        self.embeddings, self.further, self.blind = embeddings, list(further), blind
        self.epoch = torch.zeros((), dtype=torch.long).share_memory_()  # workers that live on see it change
        self.vocabulary = AnswerVocabulary.of(processor)
        self.set_augmentation(augmentation, seed)

    def set_augmentation(self, augmentation, seed=0):
        """Changes what is done to images; pixels that were kept for another size are forgotten."""
        self.augmentation, self.seed, self.cache = augmentation, seed, None
        self.frame = augmented_frame(self.processor.image_processor, augmentation)

    def set_epoch(self, epoch):
        self.epoch.fill_(epoch)

    def __call__(self, rows):
        if "image_key" not in rows[0]:
            raise ValueError(
                f"expected canonical rows, found the columns {', '.join(map(str, rows[0]))}: bring rows to them with "
                f"prepare_dataset, or leave data_collator out, and DualVQATrainer does so"
            )
        keys, image_index = different([row["image_key"] for row in rows])
        questions, question_index = different([row["question"] for row in rows])
        # The Trainer reads the number of rows off the first tensor.
        batch = {"question_index": question_index, "image_index": image_index}
        inputs = {}
        if self.embeddings and self.embeddings.has_images(keys):
            batch |= self.embeddings.of_images(keys)
        else:
            found = {row["image_key"]: row["image"] for row in rows}
            inputs = {"images": self.pixels([found[key] for key in keys], keys)}
            inputs |= self.final_options()
        if self.embeddings and self.embeddings.has_questions(questions):
            batch |= self.embeddings.of_questions(questions)
        else:
            inputs["text"] = questions
        if inputs:
            batch |= self.processor(**inputs, return_tensors="pt")
        if self.blind and "pixel_values" in batch:
            batch["pixel_values"].zero_()
        if "answer" in rows[0]:
            batch |= self.labels([self.vocabulary.rules.consensus(row["answer"]) for row in rows])
        for part in self.further:
            batch |= part.batch(rows)
        return batch

    def pixels(self, images, keys):
        """The resized images, augmented if they are to be: tensors (3, h, w) uint8."""
        pixels = self.find(keys)
        pixels = self.decode(images) if pixels is None else pixels
        return [self.augment(image, key) for image, key in zip(pixels, keys)] if self.augmentation else list(pixels)

    def find(self, keys):
        """Rows of the cache, or None where it doesn't have all of them."""
        if self.cache is None or not self.cache.has(keys):
            return None
        try:
            return self.cache.read(keys)
        except OSError as error:
            logger.warning("decoded images can't be read, they are decoded for every batch from here on: %s", error)
            self.cache = None

    def decode(self, images):
        """datasets.Image values -> resized, (U, 3, h, w) uint8."""
        processor = self.processor.image_processor
        images = [load_image(image, CHECKED) for image in images]
        options = {**self.frame, "do_rescale": False, "do_normalize": False}
        return processor(images=images, return_tensors="pt", **options)["pixel_values"]

    def final_options(self):
        """How the image processor brings pixels that `decode` has resized and cropped to the model's size."""
        crop = getattr(self.processor.image_processor, "do_center_crop", None)
        options = {"do_center_crop": False} if crop else {}
        if not self.augmentation:
            return {**options, "do_resize": False}
        return {**options, "size": dict(self.processor.image_processor.crop_size)} if crop else options

    def augment(self, image, key):
        digest = hashlib.sha256(f"{self.seed} {self.epoch.item()} {key}".encode()).digest()
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(int.from_bytes(digest[:8], "big", signed=True))
            return self.augmentation(image)

    def labels(self, answers):
        return {name: torch.tensor(labels) for name, labels in self.vocabulary.labels(answers).items()}


class PairCollator(VQACollator):
    """Makes batches of images and texts for contrastive pre-training: no labels, and who is the same in all processes.

    `pair_keys` (B, 2) int64 has 64 bits of a hash of each row's image and text.
    """

    def __call__(self, rows):
        keys = [[key_number(row["image_key"]), key_number(row["question"])] for row in rows]
        return {**super().__call__(rows), "pair_keys": torch.tensor(keys)}

    def labels(self, answers):
        return {}


def key_number(text):
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big", signed=True)


class EnsembleCollator:
    """The same rows for several models: `members`, number of the model -> its own batch, and the labels once.

    Args:
        collators: a [`VQACollator`] for each model, with the same vocabulary.
    """

    embeddings = None

    def __init__(self, collators):
        self.collators = collators

    def __call__(self, rows):
        batches = [collator(rows) for collator in self.collators]
        labels = {name: tensor for name, tensor in batches[0].items() if name.endswith("_labels")}
        members = {
            str(number): {name: tensor for name, tensor in batch.items() if not name.endswith("_labels")}
            for number, batch in enumerate(batches)
        }
        return {"members": members, **labels}


def different(keys):
    """The different keys in the order of their first places, and for each key which of these it is."""
    numbers = {key: number for number, key in enumerate(dict.fromkeys(keys))}
    return list(numbers), torch.tensor([numbers[key] for key in keys])


def augmented_frame(image_processor, augmentation):
    """The image processor's size, and its crop's, so much larger that no random crop is smaller than the model's image.

    Where images keep their shape instead of a fixed height and width, the size stays as it is.
    """
    frame = {"size": dict(image_processor.size)}
    if getattr(image_processor, "do_center_crop", None):
        frame["crop_size"] = dict(image_processor.crop_size or {})
    if augmentation is None or made_size(image_processor) is None:
        return frame
    scale = min((t.scale for t in augmentation.transforms if isinstance(t, RandomCrop)), default=1.0)
    factor = min(scale**-0.5, LARGEST_MARGIN)
    return {key: {side: round(value * factor) for side, value in sides.items()} for key, sides in frame.items()}
