"""Many clients of a server, in a process of their own: what `benchmarks.serving` starts. It imports no torch.

Each client keeps its connection and sends the next picture when the last one is answered. Nothing is decoded while
time is measured: bodies are kept, each once, and compared afterwards. What is answered between the warm-up and the end
is measured; what is then still on its way is waited for, and only looked at.
"""

import asyncio
import hashlib
import json
import sys
import time
from pathlib import Path

ANSWER_S = 120.0


async def _client(number, job, pictures, until, answers, bodies):
    """One client until `until`: appends [picture, status, ms, hash of the body, was it measured] to answers."""
    reader = writer = None
    k = number * 7  # they do not all send the same at the same time
    while time.monotonic() < until[1]:
        name, data = pictures[k % len(pictures)]
        k += 1
        head = f"POST {job['target']} HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/png\r\n"
        request = head.encode() + f"Content-Length: {len(data)}\r\n\r\n".encode() + data
        began, status, body, headers = time.monotonic(), 0, b"", {}
        try:
            if writer is None:
                reader, writer = await asyncio.open_connection("127.0.0.1", job["port"], limit=1 << 20)
            writer.write(request)
            status, headers, body = await asyncio.wait_for(_answer(reader), ANSWER_S)
        except (OSError, asyncio.IncompleteReadError, TimeoutError, ValueError):
            status = 0
        ended = time.monotonic()
        kept = hashlib.sha256(body).hexdigest()
        if status == 200:
            bodies[kept] = body
        answers.append([name, status, 1000 * (ended - began), kept, until[0] <= ended <= until[1]])
        if status == 429:
            await asyncio.sleep(float(headers.get("retry-after", 1)))
        if status == 0 or headers.get("connection", "").lower() == "close":
            if writer is not None:
                writer.close()
            reader = writer = None
    if writer is not None:
        writer.close()


async def _answer(reader):
    """(status, headers, body) of one HTTP/1.1 answer with a Content-Length."""
    lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    headers = {}
    for line in lines[1:]:
        name, _, value = line.partition(":")
        headers[name.strip().lower()] = value.strip()
    return int(lines[0].split()[1]), headers, await reader.readexactly(int(headers["content-length"]))


async def _all(job):
    pictures = [(path.name, path.read_bytes()) for path in sorted(Path(job["pictures"]).glob("*.png"))]
    began = time.monotonic() + job["warm_s"]
    until = (began, began + job["seconds"])
    answers, bodies = [], {}
    await asyncio.gather(*(_client(k, job, pictures, until, answers, bodies) for k in range(job["clients"])))
    out = Path(job["out"])
    out.mkdir(parents=True, exist_ok=True)
    for kept, body in bodies.items():
        (out / kept).write_bytes(body)
    (out / "answers.json").write_text(json.dumps(answers))


if __name__ == "__main__":
    asyncio.run(_all(json.loads(sys.argv[1])))
