"""Training rows that are read while training goes on, for data that don't fit in memory.

Each process reads its own row groups of the Parquet files, each of its workers a part of them. Memory holds the rows of
the shuffle buffer, of ten row groups and of the batches on their way, however many rows there are.
"""

import copy
import glob
import hashlib
import itertools
import logging
from collections import OrderedDict

import torch
from datasets import load_dataset
from datasets.features.features import require_decoding
from torch.utils.data import IterableDataset, get_worker_info

from .bad_rows import BadExampleError, image_name
from .canonical import BadCellError, RowReader
from .columns import find_columns
from .datasets import image_key
from .exclusion import Exclusion, check_rules
from .files import check_file
from .hub_data import find_source, text_files
from .public_sets import set_name
from .rows import plain
from .summary import summarise
from .yes_no import settle_rules

logger = logging.getLogger(__name__)

LOOKED_AT = 10_000  # rows in which the words for yes and no are looked for
IMAGES_REMEMBERED = 4096  # how many of the last images are known to be readable


def open_stream(args, columns=None):
    """The training part as a stream of rows as their source has them.

    Its shards are row groups, not files: of a file that is being read, Arrow decodes the rest ahead into memory.

    Args:
        args: `DataArguments`. `train_file` is a Parquet file or a pattern of several.
        columns: those to read, or None for all.

    Raises:
        ValueError: no source, no such file, a file of another kind.
    """
    if args.train_file:
        files = sorted(glob.glob(args.train_file))
        if not files:
            raise ValueError(f"{args.train_file}: no such file")
        for file in files:
            if not file.endswith(".parquet"):
                raise ValueError(f"--streaming reads Parquet files, found {file}")
            check_file(file, (".parquet",))
        return load_dataset("parquet", data_files=files, split="train", streaming=True, columns=columns).reshard()
    if not args.dataset_name or set_name(args.dataset_name):
        raise ValueError("--streaming needs --train_file with Parquet files, or the --dataset_name of a Hub data set")
    source, builder = find_source(args)
    if text_files(builder, args.dataset_name):
        raise ValueError(
            f"--streaming reads Parquet files, and {args.dataset_name} has JSON or CSV; leave out --streaming, or "
            f"convert it"
        )
    stream = load_dataset(**source, split="train", streaming=True)
    return (stream.select_columns(columns) if columns else stream).reshard()


class StreamedRows(IterableDataset):
    """The canonical rows of one process, epoch by epoch: see `processing.datasets` for the columns.

    An epoch has the same number of rows in every process; where a process or a worker has fewer of its own, it begins
    again, and where it has more, the rest is left out. Which row groups are whose changes with the epoch.

    Args:
        args: `DataArguments`.
        process, processes: which of how many processes this is.
        batch_size: rows of a batch, so that several workers leave one incomplete batch an epoch and not several.
        seed: with the epoch it fixes the order.
        stream: a `datasets.IterableDataset` to read in place of what the arguments name.

    Raises:
        ValueError: a column is missing, there are fewer row groups than processes, or no row that can be used.
        BadExampleError: while iterating, where a row is bad and `on_bad_example` is "error".
    """

    def __init__(self, args, process=0, processes=1, batch_size=1, seed=0, stream=None):
        self.args, self.batch_size, self.seed = copy.copy(args), batch_size, seed  # its words are found in the rows
        self.process, self.processes = process, processes
        self.epoch = torch.zeros((), dtype=torch.long).share_memory_()  # workers that live on see it change
        self.given = stream
        self.source = "the stream" if stream is not None else args.train_file or args.dataset_name
        self.stream = self.open()
        names = self.stream.column_names or list(next(iter(self.stream), {}))
        self.columns = args.found_columns = find_columns(names, self.source, args, needs_answers=True)
        if "exclude_rows" not in args.from_recipe:
            check_rules(args.exclude_rows, names)
        self.exclusion = Exclusion(args.exclude_rows, self.source, names)
        self.reader = RowReader(args, self.source)
        self.stream = self.open(list(dict.fromkeys([*self.columns.values(), *self.exclusion.columns])))
        if self.stream.num_shards < processes:
            raise ValueError(
                f"{self.source} has {self.stream.num_shards} row groups for {processes} processes, and each process "
                f"reads its own; write it with at least {processes} row groups, or start fewer processes"
            )
        self.features = self.stream.features or {}
        if require_decoding(self.features):
            self.stream = self.stream.decode(False)
        self.summary = self.survey()
        self.length = self.summary.rows // processes
        if not self.length:
            raise ValueError(f"{self.source} has no rows that can be used")

    def open(self, columns=None):
        """The rows as their source has them, with some of their columns or all."""
        if self.given is None:
            return open_stream(self.args, columns)
        stream = self.given
        if columns and stream.column_names:
            stream = stream.select_columns(columns)
        return stream.reshard()

    def survey(self):
        """The [`TrainingSummary`] of all processes' rows. Images are not read for it."""
        columns = {name: column for name, column in self.columns.items() if name != "image"}
        rows = self.open(list(dict.fromkeys([*columns.values(), *self.exclusion.columns])))
        rows = map(self.plain, rows)
        found = (self.read(row, columns) for row in rows if not self.exclusion.leaves_out(row))
        pairs = ((row["question"], row.get("answer")) for row, problem in found if not problem)
        first = list(itertools.islice(pairs, LOOKED_AT))
        rules = settle_rules(self.args, [answer for _, answer in first])
        summary = summarise(itertools.chain(first, pairs), rules=rules)
        self.exclusion.report()
        self.reader.report()
        return summary

    def plain(self, row):
        return {name: plain(value, self.features.get(name)) for name, value in row.items()}

    def read(self, row, columns):
        """The canonical values of some columns of a row, and what is wrong with them or None."""
        found, problems = {}, []
        for name, column in columns.items():
            try:
                found[name] = getattr(self.reader, name)(row[column])
                if name == "answer" and found[name] is None:
                    problems.append("no answer")
            except BadCellError as error:
                found[name] = None
                problems.append(f"column {column!r}: {error}")
        if "answer" in found and not problems:
            found["question"] = self.args.text(found["question"], found["answer"])
        return found, "; ".join(problems) or None

    def set_epoch(self, epoch):
        self.epoch.fill_(epoch)

    def check_workers(self, workers):
        """Refuses more workers than this process has row groups."""
        groups = self.stream.shard(self.processes, self.process).num_shards
        if workers > groups:
            raise ValueError(
                f"{self.source} has {groups} row groups for each process, and {workers} workers need one each; give "
                f"--dataloader_num_workers {groups}, or write it with more row groups"
            )

    def __len__(self):
        return self.length

    def __iter__(self):
        info = get_worker_info()
        worker, workers = (info.id, info.num_workers) if info else (0, 1)
        batches = -(-self.length // self.batch_size)
        own = len(range(worker, batches, workers)) * self.batch_size
        if (batches - 1) % workers == worker:  # the incomplete batch is this worker's
            own -= batches * self.batch_size - self.length
        while own > 0:
            found = 0
            for row in self.once():
                found += 1
                yield row
                own -= 1
                if not own:
                    return
            if not found:
                raise ValueError(f"{self.source}: process {self.process} has no rows that can be used")

    def once(self):
        """One pass over this process's (and worker's) row groups in the order of the epoch."""
        seed = self.seed + self.epoch.item()
        rows = self.stream.shuffle(seed=seed, buffer_size=self.args.shuffle_buffer).shard(self.processes, self.process)
        known = OrderedDict()  # images that were read without trouble, the last ones only
        for row in map(self.plain, rows):
            if self.exclusion.leaves_out(row):
                continue
            found, problem = self.read(row, self.columns)
            if not problem:
                image = found["image"]
                image = image if isinstance(image, dict) else {"path": image, "bytes": None}
                content = image["bytes"] if image.get("bytes") is not None else image["path"].encode()
                digest = hashlib.sha256(content).hexdigest()[:16]
                if digest not in known:
                    key = image_key(image, self.args.image_sources)
                    problem = f"unreadable image: {key}" if isinstance(key, Exception) else None
                    known[digest] = None
                    if problem or len(known) > IMAGES_REMEMBERED:
                        known.popitem(last=bool(problem))
            if not problem:
                yield {**found, "image": image, "image_key": digest}
            elif self.args.on_bad_example == "error":
                raise BadExampleError(
                    f"{self.source}, question {found['question']!r} ({image_name(found['image'])}): {problem}. "
                    f"Mend it, or leave such rows out with --on_bad_example skip"
                )
            else:
                logger.warning("%s: left out question %r: %s", self.source, found["question"], problem)


def open_training_rows(args, training_args, stream=None):
    """The [`StreamedRows`] of this process, checked against its workers.

    Args:
        stream: a `datasets.IterableDataset` to read in place of what `args` names.
    """
    rows = StreamedRows(
        args,
        training_args.process_index,
        training_args.world_size,
        training_args.train_batch_size,
        training_args.seed if training_args.data_seed is None else training_args.data_seed,
        stream,
    )
    if training_args.workers_chosen:  # those of the machine may be more than there is to read
        groups = rows.stream.shard(rows.processes, rows.process).num_shards
        training_args.dataloader_num_workers = min(training_args.dataloader_num_workers, groups)
    rows.check_workers(training_args.dataloader_num_workers)
    return rows
