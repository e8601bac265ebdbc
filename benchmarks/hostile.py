"""Does anything break `pygan translate` and `pygan serve`? `python -m benchmarks.hostile RUN [--count 10000]`

Throws that many hostile files (tests/hostile_files.py) at the real command and that many hostile requests
(tests/hostile_requests.py) at a real server, each a child process. What must hold, else it is a fault: no crash and no
hang; one line for each bad file, a 4xx of one line for each bad request, never a 5xx; good pictures among them answered
as offline, within one grey level; nothing written outside the output folder; memory bounded. A row for each goes to
results/hostile.jsonl.
"""

import argparse
import collections
import concurrent.futures
import contextlib
import hashlib
import http.client
import json
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks import record
from pygan import apply, pixels, use
from pygan.data import index
from pygan.errors import UserError

sys.path.append(str(Path(__file__).parent.parent / "tests"))

import hostile_files
import hostile_requests

MOST_MIB = 3000  # of memory, of a process with torch in it that translates pictures of a million pixels
PER_COMMAND = 500  # files
ANSWER_S = 60.0  # a request that waits longer than this hangs
OFF_BY = 1  # grey level


class Found:
    """What happened so far: how often what, and every fault as one line."""

    def __init__(self):
        self.counts, self.faults = collections.Counter(), []

    def fault(self, text):
        self.faults.append(text)
        print(f"fault: {text!r}"[:300], file=sys.stderr, flush=True)


def seen(folder, but=()):
    """{path below folder: what is there}, without what lies in the folders `but`: to compare with later."""
    there = {}
    for at, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if Path(at, name) not in but]
        for name in names + folders:
            path = Path(at, name)
            facts = path.lstat()
            whole = path.is_file() and not path.is_symlink()
            there[str(path)] = (facts.st_mode, hashlib.sha256(path.read_bytes()).hexdigest() if whole else "")
    return there


class Offline:
    """What each picture must become: pygan.apply on the run, in this process."""

    def __init__(self, run):
        self._network, self._known = use.network(Path(run), device="cpu"), {}

    def right(self, given, made):
        """Is `made`, a file's bytes, what becomes of `given`? None if this process cannot read `given` either."""
        if given not in self._known:
            try:
                picture = pixels.read(given)
                self._known[given] = apply.translated(self._network, [picture])[0].pixels
            except UserError:
                self._known[given] = None
        wanted = self._known[given]
        if wanted is None:
            return None
        found = pixels.read(made).pixels
        return found.shape == wanted.shape and np.abs(found.astype(float) - wanted).max() <= OFF_BY


def _environment(work):
    """Of the child: whatever it writes at home or as a temporary file is seen too."""
    for name in ("home", "tmp", "cwd"):
        (work / name).mkdir(parents=True, exist_ok=True)
    home = {"HOME": str(work / "home"), "TMPDIR": str(work / "tmp"), "XDG_CACHE_HOME": str(work / "home" / "cache")}
    return os.environ | home | {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1")}


# translate


def _lay(folder, some, first, rng):
    """Write files under odd names, some in odd folders; {token: (path, file)}."""
    laid = {}
    for k, file in enumerate(some, first):
        token = f"h{k:06}"
        where = folder / rng.choice(("", "", "", "a b", "ä\n", "..x", "-o"))
        where.mkdir(parents=True, exist_ok=True)
        path = where / hostile_files.name_of(rng, token, hostile_files.SUFFIXES[file.kind])
        path.write_bytes(file.data)
        laid[token] = (path, file)
    return laid


def _lay_special(folder, precious):
    """What is no ordinary file under a picture's name. Each is skipped or told in a line; none may be waited for."""
    os.mkfifo(folder / "pipe.png")
    (folder / "folder.png").mkdir()
    (folder / "zero.png").symlink_to("/dev/zero")
    (folder / "nowhere.png").symlink_to(folder / "nothing.png")
    (folder / "loop.png").symlink_to(folder / "loop.png")
    (folder / "up").symlink_to(folder)
    (folder / "out.png").symlink_to(precious)


def throw_at_translate(run, work, count, seed, found, per_command=PER_COMMAND):
    """The real command over folders, and over paths as arguments, in turn. Returns the greatest peak memory, MiB."""
    offline, peak = Offline(run), 0.0
    files = hostile_files.files(count, seed)
    environment = _environment(work)
    (work / "precious.png").write_bytes(hostile_files.good_picture(random.Random(seed)))
    for number, first in enumerate(range(0, count, per_command)):
        some = [next(files) for _ in range(min(per_command, count - first))]
        given, output = work / f"in{number}", work / f"out{number}"
        laid = _lay(given, some, first, random.Random(seed + first))
        as_folder = number % 2 == 0
        if as_folder:
            _lay_special(given, work / "precious.png")
        before = seen(work, but=(output,))
        words = [str(given)] if as_folder else [str(path) for path, _ in laid.values()]
        command = [sys.executable, "-m", "pygan", "translate", str(run), "-o", str(output), "--device", "cpu", "--"]
        code, lines, mib = _watched([*command, *words], work / "cwd", environment, 60 + per_command)
        peak = max(peak, mib)
        if (bad := code != 2) and any(file.meant == hostile_files.BAD for file in some):
            found.fault(f"exit code {code} of translate, seed {seed}, files {first} to {first + len(some)}")
        if bad:
            found.fault("last lines: " + " | ".join(lines[-3:]))
        if (after := seen(work, but=(output,))) != before:
            changed = sorted(name for name in after.keys() ^ before.keys()) or "contents"
            found.fault(f"something outside the output folder changed: {changed}")
        listed = set(index.list_images(given)) if as_folder else set()
        passed_over = {path for path, _ in laid.values() if path not in listed} if as_folder else set()
        _judge_files(laid, output, lines, passed_over, offline, found)
    return peak


def _watched(command, cwd, environment, limit_s):
    """(exit code, or None if it was killed after `limit_s`, lines of stderr, peak memory in MiB) of a child process."""
    with tempfile.TemporaryFile() as errors:
        child = subprocess.Popen(command, cwd=cwd, env=environment, stdout=subprocess.DEVNULL, stderr=errors)
        until = time.monotonic() + limit_s
        code, peak = None, 0.0
        while code is None and time.monotonic() < until:
            peak = max(peak, _peak_mib(child.pid))  # ru_maxrss is at least what this process had when it forked
            code = child.poll()
            time.sleep(0.05)
        if code is None:
            child.kill()
            child.wait()
        errors.seek(0)
        return code, errors.read().decode(errors="replace").splitlines(), peak


def _judge_files(laid, output, lines, passed_over, offline, found):
    """One result or one line for every file, and the right result where there is one.

    passed_over: what a folder's listing leaves alone, hidden or without a picture's ending.
    """
    made, told = {}, collections.Counter()
    for at, _, names in os.walk(output):
        for name in names:
            made.setdefault(_token(name), []).append(Path(at, name))
    for line in lines:
        token = _token(line)
        told[token] += 1
        if not line.startswith("pygan: "):
            found.fault(f"a line that is not pygan's: {line}")
    for token, (path, file) in laid.items():
        results = made.get(token, [])
        what = f"{file.why} ({file.kind}, {token})"
        if len(results) > 1 or told[token] > 1:  # a result may have one line: "several pages, the first is used"
            found.fault(f"{len(results)} results and {told[token]} lines for {what}")
        elif results:
            found.counts["translated"] += 1
            right = offline.right(file.data, results[0].read_bytes())
            if file.meant == hostile_files.BAD:
                found.fault(f"translated: {what}")
            elif right is False:
                found.fault(f"wrongly translated: {what}")
        elif told[token]:
            found.counts["one line"] += 1
            if file.meant == hostile_files.GOOD:
                found.fault(f"refused, though nothing is wrong: {what}")
        elif path in passed_over:
            found.counts["left alone in its folder"] += 1
        else:
            found.fault(f"neither a result nor a line: {what}")


def _token(text):
    """The first h000123 in a text, or ""."""
    at = text.find("h0")
    return text[at : at + 7] if at >= 0 and text[at + 1 : at + 7].isdigit() else ""


# serve


@contextlib.contextmanager
def served(run, work, *more, log="serve.log"):
    """A real `pygan serve` as a child process: (port, process). It ends with the block, by SIGTERM."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "pygan", "serve", str(run), "--port", str(port), "--device", "cpu", *more]
    with open(work / log, "wb") as errors:
        child = subprocess.Popen(
            command, cwd=work / "cwd", env=_environment(work), stdout=subprocess.DEVNULL, stderr=errors
        )
        try:
            for _ in range(600):
                if child.poll() is not None:
                    raise SystemExit(f"the server did not start: {(work / log).read_text()}")
                with contextlib.suppress(OSError):
                    if ask(port, b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")[0] == 200:
                        break
                time.sleep(0.1)
            yield port, child
        finally:
            child.send_signal(signal.SIGTERM)
            try:
                child.wait(30)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()


def ask(port, data, *, ends=False):
    """Send bytes, read one HTTP answer: (status, headers, body). ends: say that no more bytes come.

    Errors: OSError, http.client.HTTPException where there is no answer.
    """
    with socket.create_connection(("127.0.0.1", port), timeout=ANSWER_S) as line:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # an answer may come before all is sent
            line.sendall(data)
            if ends:
                line.shutdown(socket.SHUT_WR)
        answer = http.client.HTTPResponse(line)
        answer.begin()
        return answer.status, answer.headers, answer.read()


def throw_at_serve(run, work, count, seed, found, at_once=16):
    """A real server, that many requests at once. Returns its peak memory in MiB."""
    offline = Offline(run)
    (work / "cwd").mkdir(parents=True, exist_ok=True)
    with served(run, work) as (port, child):
        _, _, listing = ask(port, b"GET /v1/models HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        model = json.loads(listing)["models"][0]["name"]
        before = seen(work, but=(work / "home" / "cache",))
        requests = list(hostile_requests.requests(count, seed, model))
        with concurrent.futures.ThreadPoolExecutor(at_once) as pool:
            for request, outcome in zip(requests, pool.map(lambda one: _outcome(port, one), requests), strict=True):
                _judge_answer(request, outcome, offline, found)
        # Afterwards it is as well as before.
        picture = hostile_files.good_picture(random.Random(seed))
        last = hostile_requests.translate(model, picture, "image/png")
        _judge_answer(last, _outcome(port, last), offline, found)
        peak = _peak_mib(child.pid)
        if child.poll() is not None:
            found.fault(f"the server ended by itself with {child.returncode}")
        after = seen(work, but=(work / "home" / "cache",))
        if changed := sorted(name for name in after.keys() ^ before.keys() if not name.endswith(".log")):
            found.fault(f"the server wrote files: {changed}")
    if child.returncode not in (0, -signal.SIGTERM, 128 + signal.SIGTERM):
        found.fault(f"asked to end, the server ended with {child.returncode}")
    if "Traceback" in (log := (work / "serve.log").read_text(errors="replace")):
        found.fault("a traceback in the server's log: " + log[log.index("Traceback") :][:2000])
    return peak


def _outcome(port, request):
    """(status, headers, body); a status of 0 if the connection was closed, of -1 if nothing came in time.

    A full queue says when to come again: a well-behaved client does.
    """
    for _ in range(200):
        try:
            status, headers, body = ask(port, request.data, ends=not request.whole)
        except TimeoutError:
            return -1, {}, b""
        except (OSError, http.client.HTTPException):
            return 0, {}, b""
        if status != 429:
            break
        if "Retry-After" not in headers:
            return -2, {}, b""
        time.sleep(0.1)
    return status, headers, body


def _judge_answer(request, outcome, offline, found):
    status, headers, body = outcome
    what = f"{request.why}: {request.data[:100]!r}"
    found.counts[str(status) if status > 0 else {0: "closed", -1: "hung", -2: "429 without Retry-After"}[status]] += 1
    if status == -1 or status == -2 or (status == 0 and request.whole):
        found.fault(f"{'no answer' if status else 'closed without an answer'} to {what}")
    elif status >= 500 or 0 < status < 200 or 300 <= status < 400:
        found.fault(f"{status} to {what}: {body[:200]!r}")
    elif status >= 400:
        if request.meant == hostile_files.GOOD:
            found.fault(f"{status} {body[:200]!r} to a good picture: {what}")
        text = body.decode(errors="replace")
        if headers.get_content_type() == "application/json":
            text = json.loads(text).get("error", "")
        if not text.strip() or "\n" in text.strip() or len(text) > 1000:
            found.fault(f"{status} is not told in one line: {body[:200]!r} to {what}")
    elif status:
        if request.meant == hostile_files.BAD:
            found.fault(f"{status} to {what}")
        if request.picture and offline.right(request.picture, body) is False:
            found.fault(f"a wrong picture for {what}")


def _peak_mib(pid):
    """The most memory that a process has had, MiB."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    return 0.0


def main(argv=None):
    """Returns 1 if there was a fault, else 0."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.hostile", description=__doc__.partition("\n")[0])
    parser.add_argument("run", type=Path, help="run directory of a GAN that translates, best a tiny one")
    parser.add_argument("--count", type=int, default=10_000, help="files, and requests (default: 10000)")
    parser.add_argument("--seed", type=int, default=0, help="of what is thrown (default: 0)")
    parser.add_argument("--only", choices=("translate", "serve"), help="one of the two (default: both)")
    args = parser.parse_args(argv)
    failed = False
    for verb, throw in (("translate", throw_at_translate), ("serve", throw_at_serve)):
        if args.only not in (None, verb):
            continue
        found, began = Found(), time.monotonic()
        with tempfile.TemporaryDirectory() as folder:
            peak = throw(args.run.resolve(), Path(folder), args.count, args.seed, found)
        if peak > MOST_MIB:
            found.fault(f"{peak:.0f} MiB of memory; {MOST_MIB} are the bound")
        row = {"verb": verb, "count": args.count, "seed": args.seed, "minutes": (time.monotonic() - began) / 60}
        row |= {"outcomes": dict(sorted(found.counts.items())), "peak_mib": peak, "faults": len(found.faults)}
        record.append("hostile", [record.facts() | row])
        print(json.dumps(row), flush=True)
        failed |= bool(found.faults)
    return int(failed)


def table(rows):
    """Lines of a Markdown table of the newest run against each verb."""
    newest = {row["verb"]: row for row in rows}
    if not newest:
        return ["not yet run"]
    head = ["against", "thrown", "outcomes", "faults", "peak memory, MiB", "minutes", "device", "date, commit"]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for verb, row in newest.items():
        outcomes = ", ".join(f"{name}: {count:,}" for name, count in row["outcomes"].items())
        cells = [f"`pygan {verb}`", f"{row['count']:,}", outcomes, str(row["faults"]), f"{row['peak_mib']:,.0f}"]
        cells += [f"{row['minutes']:.1f}", row["device"], f"{row['date']}, {row['commit']}"]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


if __name__ == "__main__":
    sys.exit(main())
