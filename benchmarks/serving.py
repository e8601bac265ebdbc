"""How fast is `pygan serve` beside the plain way? `python -m benchmarks.serving [--sizes 64,128]`

Real servers over real HTTP, the same network on the same device: `plain_server.py` (FastAPI, Pillow, PyTorch eager, one
picture at a time; once with Pillow's own PNG and once with a faster one) and `pygan serve` with its defaults. Clients
are a process of their own (`serving_client.py`), and the servers take turns, round by round. Every answer is compared
with the offline result (`pygan.apply`): one that is more than a grey level off is wrong, one that does not come or is
not a picture is lost; either makes the benchmark fail. Rows go to results/serving.jsonl; `python -m benchmarks.table
--write-only` writes README's table.
"""

import argparse
import collections
import contextlib
import importlib.util
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

import numpy as np
import torch

from benchmarks import record
from pygan import apply, pixels, use

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
SIZES = {"cpu": (64, 128, 256), "cuda": (256, 512)}[DEVICE]
NGF = {"cpu": 32, "cuda": 64}[DEVICE]
WAYS = ("plain", "plain, fast PNG", "pygan")  # the second: zlib level 1, as pygan
OFF_BY = 1  # grey level
PICTURES = 32  # of each size


def train(run, ngf):
    """A network to serve: pix2pix's U-Net of six halvings, running statistics, no dropout in use; hardly trained."""
    words = ["train", "pix2pix", "--preset", "tiny", "--no-test-dropout", "--test-bn", "running", "--no-tensorboard"]
    words += ["--crop-size", "64", "--load-size", "72", "--ngf", str(ngf), "--run", str(run), "--device", DEVICE]
    subprocess.run([sys.executable, "-m", "pygan", *words], check=True, stdout=subprocess.DEVNULL)


def draw(folder, size):
    """Pictures of blocks of colour, as label maps are, each another."""
    folder.mkdir(parents=True)
    for k in range(PICTURES):
        blocks = np.random.default_rng(1000 * size + k).integers(0, 256, (size // 8, size // 8, 3), dtype=np.uint8)
        picture = pixels.Picture(blocks.repeat(8, axis=0).repeat(8, axis=1))
        (folder / f"{k:03}.png").write_bytes(pixels.encode(picture, "png"))


def offline(run, folder):
    """{name: pixels} of what the network makes of each picture, each by itself, without a server."""
    network = use.network(run, device=DEVICE)
    read = {path.name: pixels.read(path) for path in sorted(folder.glob("*.png"))}
    return {name: apply.translated(network, [picture])[0].pixels for name, picture in read.items()}


class Server:
    """One of the two as a child process; ends with the block."""

    def __init__(self, way, run, work):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        words = {
            "plain": ["benchmarks.plain_server", str(run), str(self.port), "6"],
            "plain, fast PNG": ["benchmarks.plain_server", str(run), str(self.port), "1"],
            "pygan": ["pygan", "serve", f"bench={run}", "--port", str(self.port), "--device", DEVICE],
        }[way]
        self.target = "/v1/translate/bench" if way == "pygan" else "/translate"
        self._log = open(work / f"{way}.log", "wb")  # noqa: SIM115 (closed with the server)
        self._child = subprocess.Popen([sys.executable, "-m", *words], stdout=self._log, stderr=self._log)

    def wait(self):
        """Until it is well. Errors: SystemExit if it ends or needs more than two minutes."""
        until = time.monotonic() + 120
        while time.monotonic() < until and self._child.poll() is None:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/health", timeout=5):
                    return
            except OSError:
                time.sleep(0.2)
        raise SystemExit(f"the server did not start: {Path(self._log.name).read_text()[-2000:]}")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._child.terminate()
        try:
            self._child.wait(30)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait()
        self._log.close()


def ask(server, folder, clients, seconds, warm_s, work):
    """One round: (seconds, [[picture, status, ms, hash, was it measured]], {hash: body})."""
    out = Path(tempfile.mkdtemp(dir=work))
    job = {"port": server.port, "target": server.target, "pictures": str(folder), "clients": clients}
    job |= {"seconds": seconds, "warm_s": warm_s, "out": str(out)}
    client = Path(__file__).parent / "serving_client.py"
    subprocess.run([sys.executable, str(client), json.dumps(job)], check=True)
    answers = json.loads((out / "answers.json").read_text())
    bodies = {path.name: path.read_bytes() for path in out.iterdir() if path.name != "answers.json"}
    return seconds, answers, bodies


def judge(rounds, wanted):
    """What the rounds of one way amount to; every answer is looked at, also those of the warm-up."""
    seconds, counts, latencies, known = 0.0, collections.Counter(), [], {}
    for lasted, answers, bodies in rounds:
        seconds += lasted
        for name, status, ms, kept, measured in answers:
            if status == 429:
                counts["refused"] += 1
                continue
            if status != 200:
                counts["lost"] += 1
                continue
            if (name, kept) not in known:
                known[name, kept] = _is_right(bodies[kept], wanted[name])
            counts["wrong"] += not known[name, kept]
            if measured:
                latencies.append(ms)
    p50, p99 = np.percentile(latencies, (50, 99)) if latencies else (0.0, 0.0)
    row = {"answers": len(latencies), "images_per_s": len(latencies) / seconds, "p50_ms": p50, "p99_ms": p99}
    return row | {name: counts[name] for name in ("lost", "wrong", "refused")}


def _is_right(body, wanted):
    found = pixels.read(body).pixels
    return found.shape == wanted.shape and int(np.abs(found.astype(int) - wanted).max()) <= OFF_BY


def measure(args):
    """Rows of every size and number of clients, recorded as soon as they are there. Returns whether all was right."""
    right, stamp = True, f"{record.facts()['date']} {time.time():.0f}"
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        run = args.run.resolve() if args.run else work / "run"
        if not args.run:
            train(run, args.ngf)
        with contextlib.ExitStack() as stack:
            servers = {way: stack.enter_context(Server(way, run, work)) for way in WAYS}
            for server in servers.values():
                server.wait()
            for size in args.sizes:
                given = work / f"{size}"
                draw(given, size)
                wanted = offline(run, given)
                for clients in args.clients:
                    rounds = {way: [] for way in WAYS}
                    for _ in range(args.rounds):
                        for way in WAYS:
                            rounds[way].append(ask(servers[way], given, clients, args.seconds, args.warm, work))
                    rows = [_row(way, judge(rounds[way], wanted), size, clients, args, stamp) for way in WAYS]
                    record.append("serving", rows)
                    for row in rows:
                        right &= not (row["lost"] or row["wrong"])
                        print(_told(row), flush=True)
    return right


def _row(way, found, size, clients, args, stamp):
    shape = {"way": way, "size": size, "clients": clients, "ngf": args.ngf, "rounds": args.rounds}
    return record.facts() | {"run": stamp, "cpus": len(os.sched_getaffinity(0))} | shape | found


def _told(row):
    figures = f"{row['images_per_s']:9.1f} images/s  p50 {row['p50_ms']:8.1f} ms  p99 {row['p99_ms']:8.1f} ms"
    ends = f"{row['answers']} answers, {row['lost']} lost, {row['wrong']} wrong, {row['refused']} told to come again"
    return f"{row['size']:4} pixels {row['clients']:3} clients  {row['way']:15} {figures}  {ends}"


def table(rows):
    """Lines of a Markdown table: the newest of each device, size and number of clients."""
    newest = {}
    for row in rows:
        newest.setdefault((row["device"], row["size"], row["clients"]), {})[row["way"]] = row
    newest = {key: found for key, found in newest.items() if len({row["run"] for row in found.values()}) == 1}
    newest = {key: found for key, found in newest.items() if set(found) == set(WAYS)}
    if not newest:
        return ["not yet run"]
    head = ["device", "pixels", "clients", *(f"{way}, images/s" for way in WAYS), "against plain", "against fast PNG"]
    head += ["p50, ms", "p99, ms", "lost", "wrong", "date, commit"]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for (device, size, clients), found in sorted(newest.items()):
        each = [found[way] for way in WAYS]
        rates = [row["images_per_s"] for row in each]
        cells = [device, str(size), str(clients), *(f"{rate:.1f}" for rate in rates)]
        cells += [f"{rates[-1] / rate:.2f}x" if rate else "" for rate in rates[:-1]]
        cells += [", ".join(f"{row[name]:.0f}" for row in each) for name in ("p50_ms", "p99_ms")]
        cells += [", ".join(str(row[name]) for row in each) for name in ("lost", "wrong")]
        lines.append("| " + " | ".join([*cells, f"{each[-1]['date']}, {each[-1]['commit']}"]) + " |")
    answers = sum(row["answers"] for found in newest.values() for row in found.values())
    told = f"{answers:,} answers, each compared with the offline result. Several figures in a cell: {'; '.join(WAYS)}."
    return [*lines, "", told]


def _numbers(text):
    return [int(part) for part in text.split(",") if part.strip()]


def main(argv=None):
    """Returns 1 if an answer was lost or wrong, else 0."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.serving", description=__doc__.partition("\n")[0])
    parser.add_argument("--run", type=Path, help="run of such a network (default: one is trained for seconds)")
    parser.add_argument("--ngf", type=int, default=NGF, help=f"channels of its first convolution (default: {NGF})")
    sizes = ",".join(map(str, SIZES))
    parser.add_argument("--sizes", type=_numbers, default=list(SIZES), help=f"pixels (default: {sizes})")
    parser.add_argument("--clients", type=_numbers, default=[1, 8, 64], help="at once (default: 1,8,64)")
    parser.add_argument("--seconds", type=float, default=10.0, help="of a round (default: 10)")
    parser.add_argument("--warm", type=float, default=2.0, help="seconds before it is measured (default: 2)")
    parser.add_argument("--rounds", type=int, default=2, help="of each server, in turn (default: 2)")
    args = parser.parse_args(argv)
    if importlib.util.find_spec("fastapi") is None:
        parser.error("the plain server needs FastAPI, which pygan does without: pip install fastapi")
    return int(not measure(args))


if __name__ == "__main__":
    sys.exit(main())
