"""Answers over HTTP with Ray Serve, from as many processes and machines as there are:

python examples/ray_serve.py EXPORTED

A request is {"image": <base64 text or data URL>, "question": ...}, its answer a row of [`Answerer`]'s columns. Requests
that wait are answered together. `pip install 'ray[serve]'`
"""

import asyncio
import sys

from dualvqa_light import Answerer

SETTINGS = {"options": {"top_k": 3}, "pipeline": {"threads": 1, "image_sources": "objects"}}


class Answers:
    """What Ray Serve makes in each of its processes."""

    def __init__(self, folder):
        self.answerer = Answerer(folder, **SETTINGS)

    async def answer(self, rows):
        """The answers to several requests."""
        columns = {name: [row.get(name) for row in rows] for name in ("image", "question")}
        found = await asyncio.to_thread(self.answerer, columns)
        return [{name: found[name][place] for name in found} for place in range(len(rows))]

    async def __call__(self, request):
        return await self.answer(await request.json())


if __name__ == "__main__":
    from ray import serve

    class Batched(Answers):
        @serve.batch(max_batch_size=32, batch_wait_timeout_s=0.005)
        async def answer(self, rows):
            return await Answers.answer(self, rows)

    serve.run(serve.deployment(Batched).bind(sys.argv[1]), blocking=True)
