"""Does a U-Net overfit where an encoder-decoder does not? `python -m benchmarks.study [--preset readme] [--keep DIR]`

Runs the real command (`pygan study skips`): six variants from the encoder-decoder to the U-Net on the built-in facades
from Canny edges, 64 pixels, in under 20 minutes on two CPU cores. A row per variant and one with the answer go to
results/study.jsonl, the study's picture to docs/pictures/study.png; `python -m benchmarks.table --write-only` writes
README's table from the rows. Stopped, it goes on with the same --keep; its minutes are then those of the last session,
and the row says so.
"""

import argparse
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks import record
from pygan.study import lab, numbers, report
from pygan.study.answer import answer
from pygan.study.plan import read

PICTURE = Path(__file__).parent.parent / "docs" / "pictures" / "study.png"


def rows(folder, minutes, *, resumed=False):
    """Rows of the finished study that lies in `folder`: one per variant, then the one with the answer."""
    plan, found = read(folder), []
    cells = numbers.cells(plan, lab.read_results(folder))
    common = record.facts() | {"run": f"{record.facts()['date']} {time.time():.0f}", "preset": plan.asked["preset"]}
    for cell in cells:
        carried = {skip: float(cell.carried(skip, "output").mean()) for skip in cell.kept}
        most = max(carried, key=carried.get) if carried else None
        gap, against = cell.gap("l1"), numbers.difference_of_gaps(cell, cells[0], "l1")
        means = {
            f"{where}_{metric}": float(cell.values(where, metric).mean())
            for where in ("train", "held_out")
            for metric in ("l1", "ssim", "edges")
        }
        found.append(
            common
            | {
                "variant": cell.variant.title,
                "parameters": cell.rows[0]["parameters"],
                "images": cell.rows[0]["images"],
            }
            | means
            | {
                "gap": [gap.mean, gap.low, gap.high],
                "against": [against.mean, against.low, against.high],
                "input_edges": float(cell.values("held_out", "input_edges").mean()),
                "copies": cell.copies(),
                "most": None if most is None else [most, carried[most]],
                "carried": carried,
            }
        )
    found.append(common | {"minutes": round(minutes, 2), "resumed": resumed, "answer": answer(plan, cells)})
    return found


def main(argv=None):
    """Returns the exit code of the study."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.study", description=__doc__.partition("\n")[0])
    parser.add_argument("--preset", default="readme", help="of the study: quick, readme or full (default: readme)")
    parser.add_argument("--keep", type=Path, help="leave the study here, or go on with it (default: deleted)")
    parser.add_argument("--picture", type=Path, default=PICTURE, help=f"where its picture goes (default: {PICTURE})")
    parser.add_argument("flags", nargs="*", help="more flags of `pygan study skips`, after --")
    args = parser.parse_args(argv)
    folder = args.keep or Path(tempfile.mkdtemp()) / "study"
    resumed, began = (folder / "study.json").exists(), time.monotonic()
    command = [sys.executable, "-m", "pygan", "study", "skips", "--preset", args.preset, "--device", "cpu"]
    try:
        code = subprocess.run([*command, "--out", str(folder), *args.flags]).returncode
        minutes = (time.monotonic() - began) / 60
        plan = read(folder)
        if code or plan is None or len(lab.read_results(folder)) < len(plan.units):
            print("the study is not finished: nothing is recorded")
            return code or 1
        record.append("study", rows(folder, minutes, resumed=resumed))
        shutil.copyfile(folder / report.PICTURE, args.picture)
        print(f"{minutes:.1f} minutes; now: python -m benchmarks.table --write-only")
        return 0
    finally:
        if args.keep is None:
            shutil.rmtree(folder.parent, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
