"""Runs the bare command as a newcomer would, and keeps what it reached: `python -m benchmarks.demo`.

`pygan train pix2pix --amp` in an empty folder, timed from start to end; a row in results/demo.jsonl and the last sample
grid in docs/pictures/. Run it on an idle machine.
"""

import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.record import RESULTS, facts

PICTURE = Path(__file__).parent.parent / "docs" / "pictures" / "demo.png"


def main():
    """Returns the exit code of the command."""
    with tempfile.TemporaryDirectory() as folder:
        began = time.monotonic()
        done = subprocess.run([sys.executable, "-m", "pygan", "train", "pix2pix", "--amp"], cwd=folder, check=False)
        minutes = (time.monotonic() - began) / 60
        if done.returncode:
            return done.returncode
        (run,) = (Path(folder) / "runs" / "pix2pix").iterdir()
        scores = json.loads((run / "scores.json").read_text())
        row = facts() | {"preset": run.name, "minutes": round(minutes, 2), **scores}
        RESULTS.mkdir(exist_ok=True)
        with open(RESULTS / "demo.jsonl", "a") as out:
            out.write(json.dumps(row) + "\n")
        PICTURE.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(max((run / "samples").glob("*.png")), PICTURE)
    print(f"{minutes:.1f} minutes; picture in {PICTURE}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
