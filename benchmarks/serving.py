"""The server against the pipeline in process: questions a second of 16 clients, and what many requests leave behind.

python benchmarks/serving.py --folder runs/easy_vqa [--output docs/results/serving.md]

The folder is a saved model, which is exported first. Rows are questions of easy-VQA's test part, each about one of its
images, in a random order; nothing is kept of images and questions seen before (`--embedding_cache_mib 0`), as if each
were new. In turn, round after round: the PyTorch pipeline and the light one answer them in this process with batch_size
8; then 16 clients ask the server, a process of its own, one question at a time each. Then as many requests as
`--requests` says, each with an id: every id must come back once, with the answer of the light pipeline to its question;
the server's memory is read before and after.
"""

import base64
import http.client
import json
import random
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path
from statistics import median

from easy_vqa import get_test_image_paths, get_test_questions
from measure import machine
from pages import ROOT, build_parser, command, table, write_page

sys.path.insert(0, str(ROOT))
from dualvqa.deployment.answerer import open_pipeline
from dualvqa.deployment.onnx_export import export_onnx

WARM = 200  # requests before memory is read


class Served:
    """A server in a process of its own, by the command that a person would give."""

    def __init__(self, folder, cache):
        command = [sys.executable, "-m", "dualvqa_light.serve", str(folder), "--port", "0"]
        command += ["--embedding_cache_mib", str(cache)]
        self.process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)
        for line in self.process.stderr:
            if found := re.search(r"running on http://127.0.0.1:(\d+)", line):
                self.port = int(found[1])
                break
        threading.Thread(target=self.process.stderr.read, daemon=True).start()

    def memory(self):
        """MiB that the process has resident."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+)", status)[1]) / 1024

    def ask(self, rows, clients):
        """(row's number, id that came back, answers) of each row; as many clients at a time share them out."""
        found, waiting = [], iter(enumerate(rows))
        lock = threading.Lock()

        def client():
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)
            while True:
                with lock:
                    number, row = next(waiting, (None, None))
                if row is None:
                    return connection.close()
                headers = {"Content-Type": "application/json", "X-Request-ID": str(number)}
                connection.request("POST", "/answer", row["body"], headers)
                response = connection.getresponse()
                content = json.loads(response.read())
                found.append((number, response.headers["X-Request-ID"], content if response.status == 200 else None))

        threads = [threading.Thread(target=client) for _ in range(clients)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return found

    def stop(self):
        """The exit code after SIGTERM."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60)


def make_rows(count, seed):
    """Questions about images, each as a row of the pipeline and as a request's body."""
    paths, questions = get_test_image_paths(), list(zip(*get_test_questions()))
    images = {number: Path(path).read_bytes() for number, path in paths.items()}
    chosen = random.Random(seed).choices(questions, k=count)
    return [
        {
            "image": images[image],
            "question": question,
            "body": json.dumps({"image": base64.b64encode(images[image]).decode(), "question": question}),
        }
        for question, _, image in chosen
    ]


def rate(function, count):
    start = time.perf_counter()
    function()
    return count / (time.perf_counter() - start)


def check(found, rows, pipe):
    """What became of the requests: lost, answered twice, with another id, with another answer than the pipeline's."""
    times = Counter(number for number, _, answers in found if answers)
    asked = [{"image": row["image"], "question": row["question"]} for row in rows]
    expected = [best[0]["answer"] for best in pipe(asked, batch_size=32)]
    return {
        "requests": len(rows),
        "lost": sum(number not in times for number in range(len(rows))),
        "answered twice": sum(count > 1 for count in times.values()),
        "another request's id": sum(str(number) != name for number, name, _ in found),
        "another answer than in process": sum(best[0]["answer"] != expected[n] for n, _, best in found if best),
    }


def found(middle, became, growth):
    """What the measurement shows, in words."""
    pytorch, light, served = middle.values()
    wrong = sum(became.values()) - became["requests"]
    kept = "none was lost, answered twice or mixed up" if not wrong else "SOME WERE LOST OR MIXED UP: see below"
    return (
        f"**Found:** the server answers {served / pytorch:.2f} times as many questions a second as the PyTorch "
        f"pipeline does in process, and {served / light:.2f} times as many as the light one; of "
        f"{became['requests']:,} requests {kept}, and its memory grew by {max(0.0, growth):.1f} MiB."
    )


def main():
    parser = build_parser(__doc__)
    parser.add_argument("--folder", required=True, help="a saved model")
    parser.add_argument("--questions", type=int, default=800, help="of a round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--requests", type=int, default=5000, help="whose answers are counted")
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--embedding_cache_mib", type=int, default=0, help="64 is what pipelines and server have")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path)
    args = parser.parse_args()
    rows = make_rows(args.questions, args.seed)
    asked = [{"image": row["image"], "question": row["question"]} for row in rows]
    with tempfile.TemporaryDirectory() as folder:
        export_onnx(args.folder, folder)
        cache = {"embedding_cache_mib": args.embedding_cache_mib}
        pipe, light = open_pipeline(args.folder, **cache), open_pipeline(folder, **cache)
        server = Served(folder, args.embedding_cache_mib)
        ways = {
            "PyTorch pipeline in process, batch_size 8": lambda: pipe(asked, batch_size=8),
            "light pipeline in process, batch_size 8": lambda: light(asked, batch_size=8),
            f"server, {args.clients} clients": lambda: server.ask(rows, args.clients),
        }
        for way in ways.values():  # first calls take longer
            way()
        rates = {name: [] for name in ways}
        for _ in range(args.rounds):
            for name, way in ways.items():
                rates[name].append(rate(way, len(rows)))
        many = make_rows(args.requests, args.seed + 1)
        server.ask(many[:WARM], args.clients)
        before = server.memory()
        became = check(server.ask(many, args.clients), many, light)
        growth, code = server.memory() - before, server.stop()
    middle = {name: median(found) for name, found in rates.items()}
    pytorch, onnx, _ = middle.values()
    lines = [
        [
            name,
            f"{found:,.0f}",
            f"{found / pytorch:.2f}",
            f"{found / onnx:.2f}",
            f"{min(rates[name]):,.0f} to {max(rates[name]):,.0f}",
        ]
        for name, found in middle.items()
    ]
    text = table(["questions/s", "median", "of PyTorch's", "of the light one's", "rounds"], lines)
    served = [*became.items(), ("growth of the server's memory, MiB", f"{growth:+.1f} on {before:.0f}")]
    text += "\n" + table(["the server", ""], [*served, ("exit code after SIGTERM", code)])
    text += f"\nseed {args.seed}; {args.rounds} rounds of {args.questions} questions, one image and one question each; "
    text += f"{args.embedding_cache_mib} MiB of embeddings kept. {machine()}.\n"
    print(text)
    if args.output:
        heading = f"# Serving\n\n{found(middle, became, growth)}\n\n```bash\n{command()}\n```\n\n"
        write_page(args.output, heading + text)
    if became["lost"] or became["answered twice"] or became["another request's id"]:
        sys.exit("requests were lost or mixed up")


if __name__ == "__main__":
    main()
