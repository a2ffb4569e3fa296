"""Dynamic batching: rows that arrive while a batch is computed form the next one."""

import logging
import queue
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

from .steps import Steps

logger = logging.getLogger(__name__)

END = None  # in the queue: there will be no more


class Stopped(RuntimeError):
    """A row that came after the end."""


@dataclass
class Job:
    """A row on its way: what to do, and the future of its answers."""

    item: object
    options: dict
    questions: int
    future: Future = field(default_factory=Future)


class Batcher:
    """Reads rows in threads of their own, and answers together those that wait, in one thread.

    Args:
        pipe: a pipeline, light or not; see [`Steps`].
        max_batch_size: how many questions are answered together; more where one row has more.
        max_wait_ms: how long a row may wait for others when nothing is computed. Rows that arrive while a batch is
            computed are the next batch without any waiting.
        readers: threads that decode images. Each may need the memory of the largest image.
    """

    def __init__(self, pipe, max_batch_size=32, max_wait_ms=0.0, readers=2):
        self.steps, self.max_batch_size, self.max_wait = Steps(pipe), max_batch_size, max_wait_ms / 1000
        self.waiting, self.stopped, self.lock = queue.SimpleQueue(), False, threading.Lock()
        self.readers = ThreadPoolExecutor(readers, "dualvqa-read")
        self.thread = threading.Thread(target=self.run, name="dualvqa-answer", daemon=True)
        self.thread.start()

    @property
    def alive(self):
        """Whether rows are taken and answered."""
        return not self.stopped and self.thread.is_alive()

    def read(self, function):
        """The future of a function that gives a row and its options, and of the job that these are."""
        return self.readers.submit(self.prepare, function)

    def prepare(self, function):
        row, options = function()
        questions = row["question"]
        return Job(self.steps.read(row, options), options, len(questions) if isinstance(questions, list) else 1)

    def answer(self, job):
        """The future of a job's answers.

        Raises:
            Stopped: nothing is answered any more.
        """
        with self.lock:
            if not self.alive:
                raise Stopped("nothing is answered any more")
            self.waiting.put(job)
        return job.future

    def close(self):
        """Answers what waits, and ends."""
        with self.lock:
            if not self.stopped:
                self.stopped = True
                self.waiting.put(END)
        self.thread.join()
        self.readers.shutdown(cancel_futures=True)

    def run(self):
        while (first := self.waiting.get()) is not END:
            batch, end = self.gather(first)
            self.compute([job for job in batch if job.future.set_running_or_notify_cancel()])
            if end:
                return

    def gather(self, first):
        """The first job with those that wait behind it, and whether the end is reached."""
        batch, deadline = [first], time.monotonic() + self.max_wait
        while sum(job.questions for job in batch) < self.max_batch_size:
            try:
                left = deadline - time.monotonic()
                job = self.waiting.get(timeout=left) if left > 0 else self.waiting.get_nowait()
            except queue.Empty:
                break
            if job is END:
                return batch, True
            batch.append(job)
        return batch, False

    def compute(self, jobs):
        """Answers jobs; those with the same options together."""
        groups = {}
        for job in jobs:
            groups.setdefault(tuple(sorted(job.options.items())), []).append(job)
        for group in groups.values():
            try:
                found = self.steps.answer_each([job.item for job in group], group[0].options)
            except Exception as error:
                logger.exception("a batch of %d failed", len(group))
                found = [error] * len(group)
            for job, answers in zip(group, found, strict=True):
                done = job.future.set_exception if isinstance(answers, Exception) else job.future.set_result
                done(answers)
