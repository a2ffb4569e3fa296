"""What frozen towers make of each image and question: computed once, kept in files beside the run."""

import hashlib
import json
import logging
import os
import shutil

import torch
from accelerate import PartialState
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import DataLoader

from dualvqa_light.folder import file_hash
from processing.image_keys import UnchangedRows

logger = logging.getLogger(__name__)

FORMAT = 3  # another number where the layout of the files or how images are opened changes
SHARD_BYTES = 256 * 2**20
MEMORY_BYTES = 2 * 2**30  # where nothing can be written


class EmbeddingStore:
    """Sequences of vectors by key.

    Args:
        places: key -> (shard, first row, number of rows).
        shards: tensors (rows, C), mapped from files or in memory.
    """

    def __init__(self, places, shards):
        self.places, self.shards = places, shards

    def __len__(self):
        return len(self.places)

    def has(self, keys):
        return all(key in self.places for key in keys)

    def get(self, keys):
        """A list of the sequences (L, C) of these keys."""
        places = (self.places[key] for key in keys)
        return [self.shards[shard][first : first + length] for shard, first, length in places]


class FrozenEmbeddings:
    """The part of a batch that frozen towers would compute.

    Args:
        images, questions: [`EmbeddingStore`]s by image key and by question; None for a tower that runs in every step.
    """

    def __init__(self, images=None, questions=None):
        self.images, self.questions = images, questions

    def has_images(self, keys):
        """Whether all of these images are known."""
        return self.images is not None and self.images.has(keys)

    def has_questions(self, questions):
        """Whether all of these questions are known."""
        return self.questions is not None and self.questions.has(questions)

    def of_images(self, keys):
        """`image_embeds` (U, 1 + S, C_vision)."""
        return {"image_embeds": torch.stack(self.images.get(keys))}

    def of_questions(self, questions):
        """`text_embeds` (V, T, C_text) and `attention_mask` (V, T)."""
        texts = self.questions.get(questions)
        lengths = torch.tensor([len(text) for text in texts])
        mask = (torch.arange(int(lengths.max())) < lengths[:, None]).long()
        return {"text_embeds": pad_sequence(texts, batch_first=True), "attention_mask": mask}


def reasons_against(model, augmentation, streaming):
    """Why embeddings can't be computed once for a whole run: "vision" and "text" -> reason, or None where they can."""
    common = None
    if streaming:
        common = "streamed rows are not known beforehand; leave out --streaming"
    elif any(hasattr(parameter, "ds_numel") for parameter in model.parameters()):
        common = "ZeRO-3 has spread the towers over the processes; use DDP, ZeRO-2 or FSDP"
    reasons = {}
    for tower in ("vision", "text"):
        reasons[tower] = common
        if not getattr(model.config, f"freeze_{tower}"):
            reasons[tower] = f"the {tower} tower changes in training; freeze it with --config freeze_{tower}=true"
        elif tower == "vision" and augmentation is not None and not common:
            turn_off = "turn it off with --random_crop_scale 1 --color_jitter 0"
            reasons[tower] = f"augmentation changes the images in every epoch; {turn_off}"
    return reasons


def embed_parts(model, collator, parts, folder, towers=("vision", "text"), batch_size=64):
    """The embeddings of all images and questions of all parts, from the folder where it has them.

    Files of other towers, settings or data, and damaged ones, are made again. Where nothing can be written the
    embeddings stay in memory, up to 2 GiB.

    Args:
        model: a model of which these towers are frozen; it is left on this process's device.
        collator: makes its batches, without augmentation.
        parts: name -> canonical rows.
        folder: where the files go.
        towers: "vision" for the images, "text" for the questions.

    Returns:
        [`FrozenEmbeddings`], or None where they fit neither on the disk nor in memory.
    """
    processor, device = collator.processor, PartialState().device
    rows_of_images, questions = {}, {}
    for part, rows in parts.items():
        for number, (key, question) in enumerate(zip(rows["image_key"][:], rows["question"][:])):
            rows_of_images.setdefault(key, (part, number))
            questions.setdefault(question, None)
    questions = sorted(questions, key=lambda question: (len(question), question))  # alike in length: little padding
    reads = "sequences" if model.fusion.uses_sequences else f"pooled, text {model.config.text_pooling}"
    image_print = fingerprint(model.vision_encoder, reads, processor.image_processor.to_json_string())
    tokenizer = processor.tokenizer
    rules = json.loads(tokenizer.backend_tokenizer.to_str())
    rules = {name: rule for name, rule in rules.items() if name not in ("padding", "truncation")}  # of its last call
    text_print = fingerprint(model.text_encoder, reads, json.dumps(rules), str(tokenizer.model_max_length))

    def image_items():
        for part, rows in parts.items():
            numbers = [number for of_part, number in rows_of_images.values() if of_part == part]
            # A generator of its own: the loader draws a seed, and training goes on as if nothing had been drawn.
            own = torch.Generator()
            loader = DataLoader(rows.select(numbers), batch_size, collate_fn=UnchangedRows(collator), generator=own)
            keys = iter(rows.select(numbers)["image_key"])
            for batch in loader:
                for embedding in model.encode_images(batch["pixel_values"].to(device)).cpu():
                    yield next(keys), embedding

    def question_items():
        for start in range(0, len(questions), 4 * batch_size):
            texts = questions[start : start + 4 * batch_size]
            batch = processor(text=texts, return_tensors="pt").to(device)
            embeddings = model.encode_questions(**batch).cpu()
            for text, embedding, real in zip(texts, embeddings, batch["attention_mask"].bool().cpu()):
                yield text, embedding[real] if len(embedding) == len(real) else embedding

    model.to(device)
    found = {}
    with PartialState().main_process_first(), torch.inference_mode():
        if "vision" in towers:
            keys = set(rows_of_images)
            found["images"] = open_or_build(os.path.join(folder, "images"), image_print, keys, image_items)
        if "text" in towers:
            keys = set(questions)
            found["questions"] = open_or_build(os.path.join(folder, "questions"), text_print, keys, question_items)
    return None if None in found.values() else FrozenEmbeddings(**found)


def fingerprint(tower, *settings):
    """Hash of a tower's weights and of what else its embeddings depend on."""
    digest = hashlib.sha256("\n".join((str(FORMAT), torch.__version__, *settings)).encode())
    for name, tensor in tower.state_dict().items():
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()


def open_or_build(folder, wanted_print, keys, items):
    """The store in a folder, made anew from `items()` unless it is whole and has the fingerprint and all keys."""
    name = os.path.basename(folder)
    if os.path.isdir(folder):
        try:
            return open_store(folder, wanted_print, keys)
        except (OSError, ValueError, KeyError, RecursionError, SafetensorError) as error:
            logger.warning("embeddings of %s in %s are computed again: %s", name, folder, error)
    else:
        logger.info("computing the embeddings of %d %s once", len(keys), name)
    return build_store(folder, wanted_print, items())


def open_store(folder, wanted_print, keys):
    """
    Raises:
        OSError, ValueError, KeyError, RecursionError, SafetensorError: it is incomplete, damaged, or not the one
            that is wanted.
    """
    with open(os.path.join(folder, "index.json"), encoding="utf-8") as file:
        index = json.load(file)
    if not isinstance(index, dict):
        raise ValueError(f"index.json is not as it was written: a {type(index).__name__}")
    if index["fingerprint"] != wanted_print:
        raise ValueError("they are of other weights or settings")
    if index["checksum"] != checksum(index):
        raise ValueError("index.json is not as it was written")
    if not keys <= set(index["places"]):
        raise ValueError(f"{len(keys - set(index['places']))} are missing")
    shards = []
    for shard, digest in index["shards"].items():
        path = os.path.join(folder, shard)
        if file_hash(path) != digest:
            raise ValueError(f"{shard} is damaged")
        shards.append(load_file(path)["embeddings"])
    return EmbeddingStore(index["places"], shards)


def checksum(index):
    """Hash of all that an index says: whose embeddings these are, where each is, and the hash of each shard."""
    content = [index[name] for name in ("fingerprint", "places", "shards")]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def build_store(folder, wanted_print, items):
    """Writes (key, (L, C)) pairs to a folder, a shard at a time, and opens it; see `embed_parts`."""
    writer = StoreWriter(folder)
    for key, embedding in items:
        writer.add(key, embedding)
        if writer.in_memory > MEMORY_BYTES:
            logger.warning(
                "%s can't be written (%s), and the embeddings are too large for memory: the towers run in every epoch",
                folder,
                writer.problem,
            )
            return None
    store = writer.finish(wanted_print)
    if writer.problem is not None:
        logger.warning("%s can't be written (%s): the embeddings stay in memory", folder, writer.problem)
    return store


class StoreWriter:
    """Gathers embeddings and writes them in shards; once that fails, for the reason in `problem`, it keeps them."""

    def __init__(self, folder):
        self.folder, self.half_written = folder, f"{folder}.tmp"
        self.places, self.shards, self.hashes = {}, [], {}
        self.pending, self.rows = [], 0
        self.in_memory, self.problem = 0, None
        shutil.rmtree(self.half_written, ignore_errors=True)
        self.attempt(os.makedirs, self.half_written)

    def attempt(self, action, *args):
        """The result of something that needs the disk; None once something has failed."""
        if self.problem is None:
            try:
                return action(*args)
            except (OSError, SafetensorError) as error:
                self.problem = error
                shutil.rmtree(self.half_written, ignore_errors=True)  # mapped files can still be read
        return None

    def add(self, key, embedding):
        self.places[key] = [len(self.shards), self.rows, len(embedding)]
        self.pending.append(embedding.clone())
        self.rows += len(embedding)
        if self.rows * embedding[0].nbytes >= SHARD_BYTES:
            self.flush()

    def flush(self):
        if not self.pending:
            return
        shard = torch.cat(self.pending)
        self.pending, self.rows = [], 0
        mapped = self.attempt(self.write, shard)
        if mapped is None:
            self.in_memory += shard.nbytes
        self.shards.append(shard if mapped is None else mapped)

    def write(self, shard):
        path = os.path.join(self.half_written, f"{len(self.shards)}.safetensors")
        save_file({"embeddings": shard}, path)
        self.hashes[os.path.basename(path)] = file_hash(path)
        return load_file(path)["embeddings"]

    def finish(self, wanted_print):
        self.flush()
        self.attempt(self.publish, wanted_print)
        return EmbeddingStore(self.places, self.shards)

    def publish(self, wanted_print):
        with open(os.path.join(self.half_written, "index.json"), "w", encoding="utf-8") as file:
            index = {"fingerprint": wanted_print, "places": self.places, "shards": self.hashes}
            json.dump({**index, "checksum": checksum(index)}, file)
        if os.path.isdir(self.folder):
            shutil.rmtree(self.folder)
        os.replace(self.half_written, self.folder)
