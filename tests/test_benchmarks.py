"""The benchmarks' own arithmetic: floors, the check of losses, verdicts, tables. Nothing is timed here."""

import json
import math
import sys
from pathlib import Path

import pytest
import torch

sys.path.append(str(Path(__file__).parent.parent))  # last: the installed pygan, not that of the checkout

from benchmarks import (
    cases,
    export,
    floor,
    headline,
    learning,
    plan_on_a_gpu,
    profile,
    record,
    side_by_side,
    table,
    timing,
)
from pygan import gans

H200 = floor.Rates(flop_per_s=785e12, bytes_per_s=4.28e12)


def test_one_convolution():
    forward = floor.conv_pass((1, 64, 128, 128), (128, 64, 4, 4), (1, 128, 64, 64), transposed=False)
    assert forward.flop == 2 * 64 * 64 * 128 * 64 * 16
    assert forward.bytes == 2 * (64 * 128 * 128 + 128 * 64 * 16 + 128 * 64 * 64)
    back = floor.conv_pass((1, 128, 64, 64), (128, 64, 4, 4), (1, 64, 128, 128), transposed=True)
    assert back == forward  # a transposed convolution is the other's gradient


@pytest.mark.parametrize(
    ("name", "gmac_per_image", "parameters", "floor_ms", "norms_two_reads_ms"),
    [
        ("p1", 43.470, 57_182_660, 0.57, 0.03),
        ("p64", 43.470, 57_182_660, 8.97, 1.63),
        ("c1", 939.609, 28_285_832, 3.08, 0.76),
    ],
)
def test_floor_of_a_step(name, gmac_per_image, parameters, floor_ms, norms_two_reads_ms):
    """Multiply-adds, parameters and milliseconds as they were worked out by other means."""
    work = cases.work_of(cases.CASES[name])
    assert work.conv_flop / 2e9 / cases.CASES[name].batch == pytest.approx(gmac_per_image, abs=5e-4)
    assert work.parameters == parameters
    best = floor.floor(work, H200)
    assert best.ms == pytest.approx(floor_ms, abs=5e-3)
    assert best.norms_two_reads == pytest.approx(norms_two_reads_ms, abs=5e-3)
    assert best.adam == pytest.approx(28 * parameters / 4.28e12 * 1e3)


GANS = [name for name in ("pix2pix", "cyclegan") if (Path(gans.__file__).parent / name / "recipe.py").exists()]


@pytest.fixture(params=GANS)
def small_case(request):
    return cases.Case(request.param, 32, 4, 2)


@pytest.fixture
def float64():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.mark.usefixtures("float64")
def test_pygan_and_the_yardstick_lose_the_same(small_case):
    """All losses of 20 steps."""

    def losses(way):
        data = cases.batches(small_case, way, "cpu")
        return side_by_side.losses(cases.build(small_case, way, "cpu", check=True), data)

    ours, theirs = losses(cases.WAYS["pygan float32"]), losses(cases.WAYS["eager"])
    for step, expected in zip(ours, theirs, strict=True):
        assert {name: step[name] for name in expected} == pytest.approx(expected, rel=1e-9)


def test_the_check_lets_the_right_step_pass(small_case):
    found = side_by_side.check(small_case, ["eager", "pygan float32"], "cpu")
    assert found["eager"] == {"losses_off": 0.0}
    assert isinstance(found["pygan float32"], dict), found
    assert max(found["pygan float32"].values()) <= 1


def test_the_check_stops_a_wrong_step(small_case, monkeypatch):
    right = cases.ours

    def wrong(case, way, device, *, check):
        monkeypatch.setitem(cases.CHECK_LR, case.gan, 1.2 * cases.CHECK_LR[case.gan])
        return right(case, way, device, check=check)

    monkeypatch.setattr(cases, "ours", wrong)
    found = side_by_side.check(small_case, ["pygan float32"], "cpu")
    assert found["pygan float32"]["losses_off"] > 1


def test_off_counts_in_units_of_what_is_allowed():
    expected = [{"loss/D": 0.5, "loss/G": 10.0}]
    assert side_by_side.off([{"loss/D": 0.5, "loss/G": 10.0, "more": 1.0}], expected, 0.01, 0.005) == 0
    assert side_by_side.off([{"loss/D": 0.5, "loss/G": 10.105}], expected, 0.01, 0.005) == pytest.approx(1)
    assert side_by_side.off([{"loss/D": math.nan, "loss/G": 10.0}], expected, 0.01, 0.005) == math.inf
    assert side_by_side.off([{"loss/G": 10.0}], expected, 0.01, 0.005) == math.inf


def test_ways_begin_with_the_same_weights():
    case = cases.Case("pix2pix", 32, 4, 1)
    a, b = (cases.plain(case, "cpu", channels_last=last) for last in (False, True))
    for p, q in zip(a.G.parameters(), b.G.parameters(), strict=True):
        assert torch.equal(p, q)


def test_a_way_that_fails_has_a_row_with_the_reason(monkeypatch):
    case = cases.Case("pix2pix", 32, 4, 1)
    monkeypatch.setitem(cases.CASES, "small", case)
    right = cases.theirs

    def theirs(case, way, device, *, check):
        if way.compiled:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 GiB")
        return right(case, way, device, check=check)

    monkeypatch.setattr(cases, "theirs", theirs)
    ways = ["eager", "amp graph", "compile", "pygan float32"]
    found = {row["way"]: row for row in side_by_side.measure("small", ways, "cpu", rounds=1)}
    assert list(found) == ways
    assert found["compile"]["reason"] == "out of memory"
    assert "ms" not in found["compile"]
    assert found["amp graph"]["reason"] == "a CPU has no CUDA graphs"
    ours = found["pygan float32"]
    assert ours["reason"] == ""
    assert ours["images_per_s"] == pytest.approx(1e3 / ours["ms"], rel=1e-3)
    assert ours["faster_than"]["eager"] == pytest.approx(found["eager"]["ms"] / ours["ms"], rel=1e-3)
    assert ours["share_of_floor"] is None  # nobody measured this CPU's rates
    assert json.loads(json.dumps(ours)) == {**ours, "losses_tolerance": list(ours["losses_tolerance"])}


def test_interleaved_drops_who_fails():
    def fails():
        raise RuntimeError("no")

    times, failed = timing.interleaved({"a": lambda: None, "b": fails}, device="cpu", rounds=3, seconds=1e-4)
    assert len(times["a"]) == 3
    assert list(failed) == ["b"]


def row(way, ms, run="1", **more):
    base = {"device": "a GPU", "run": run, "case": "p1", "gan": "pix2pix", "size": 256, "width": 64, "batch": 1}
    base |= {"torch": "2.13.0", "date": "2026-11-21", "commit": "abc", "way": way, "title": way, "reason": ""}
    base |= {"ms": ms, "images_per_s": 1e3 / ms, "peak_gib": 1.25, "share_of_floor": 0.57 / ms, "losses_off": 0.25}
    return base | {"losses_tolerance": [0.01, 0.005], "faster_than": {"eager": 9.0 / ms, "amp": 4.0 / ms}} | more


def test_step_table():
    old = [row("eager", 99.0, run="0"), row("pygan", 77.0, run="0")]
    new = [row("eager", 9.0), row("amp", 4.0), row("pygan", 1.0), row("compile", 3.0, reason="its losses differ")]
    text = "\n".join(table.step_table(old + new))
    assert "| p1 | pix2pix, 256, 64, 1 | 9 | 4 | 1 | 1000 | 9.00x | 4.00x (amp) | 57 % | 1.2, 1.2 |" in text
    assert "99" not in text
    assert "77" not in text
    assert "No figure for compile (p1): its losses differ." in text


def test_headline_table():
    quality = headline.compared([30.0, 30.4, 30.2], [30.1, 30.5, 30.3], "lower")
    common = {"device": "a GPU", "date": "2026-11-21", "commit": "abc", "pairs": 400, "size": 256}
    timed = common | {"kind": "timed", "steps": 80000, "seconds": 88.0, "images_per_s": 909.0, "l1": 30.0, "ssim": 0.5}
    judged = common | {"kind": "quality", "steps": 20000, "seeds": 3, "l1": quality, "ssim": quality}
    assert table.headline_table([]) == ["not yet run"]
    text = "\n".join(table.headline_table([timed, judged]))
    assert "| 80,000 | 400, 256 | 88.0 | 909 |" in text
    assert "| 20,000, 3 | L1 (grey levels) | 30.200 ± 0.200 | 30.300 ± 0.200 | -0.100 ± 0.163 | within noise |" in text


def test_verdicts():
    assert headline.compared([1.0, 1.1], [2.0, 2.1], "lower")["verdict"] == "pygan is better"
    assert headline.compared([1.0, 1.1], [2.0, 2.1], "higher")["verdict"] == "pygan is worse"
    assert headline.compared([1.0], [1.0], "lower")["verdict"] == "one seed says nothing of noise"


def test_readme_is_written_and_checked(tmp_path, monkeypatch):
    readme = tmp_path / "README.md"
    readme.write_text("before\n<!-- table: headline -->\nold\n<!-- end -->\nafter\n")
    monkeypatch.setattr(table, "README", readme)
    monkeypatch.setattr(table, "HERE", tmp_path)
    assert table.main(["--check"]) == 1
    assert table.main(["--write-only"]) == 0
    assert readme.read_text() == "before\n<!-- table: headline -->\nnot yet run\n<!-- end -->\nafter\n"
    assert table.main(["--check"]) == 0


def test_classes_of_work():
    expected = {
        "cudnn::ops::nchwToNhwcKernel<__nv_bfloat16>": "copy, cast",
        "sm90_xmma_fprop_implicit_gemm_bf16bf16": "convolution",
        "void pygan::(anonymous namespace)::thin_spread_kernel": "convolution",
        "aten::convolution_backward": "convolution",
        "norm_act_backward_apply": "norm",
        "triton_poi_fused__to_copy_convolution_leaky_relu_3": "copy, cast",
        "triton_red_fused__native_batch_norm_legit_convolution_1": "norm",
        "void at::native::vectorized_elementwise_kernel<4, at::native::CUDAFunctor_add<float>>": "pointwise",
        "void at::native::(anonymous namespace)::multi_tensor_apply_kernel<FusedAdam>": "optimizer",
        "pygan::gan_loss": "loss",
        "Memcpy DtoD (Device -> Device)": "copy, cast",
        "autograd::engine::evaluate_function: ConvolutionBackward0": "other",
    }
    assert {name: profile.class_of(name) for name in expected} == expected


def test_busy_and_gaps():
    trace = {
        "traceEvents": [
            {"cat": "kernel", "name": "b", "ts": 10.0, "dur": 5.0},
            {"cat": "kernel", "name": "a", "ts": 0.0, "dur": 4.0},
            {"cat": "gpu_memcpy", "name": "c", "ts": 12.0, "dur": 1.0},  # beside b
            {"cat": "cpu_op", "name": "no", "ts": 0.0, "dur": 99.0},
        ]
    }
    found = profile.kernels(trace)
    assert [kernel.name for kernel in found] == ["a", "b", "c"]
    assert profile.busy_and_gaps(found) == (9.0, 6.0)


def test_traffic_counts_each_tensor_once():
    x, wide = torch.ones(1000), torch.ones(1).expand(1000)
    with profile.Traffic() as seen:
        y = x + wide  # 4000 in, 4 in, 4000 out
        y.view(10, 100)
    assert sum(seen.bytes.values()) == 8004
    with profile.Traffic() as seen:
        y.copy_(x)  # 4000 in, 4000 out
        y.mul_(2)  # 4000 in, 4000 out
    assert sum(seen.bytes.values()) == 16000


def test_a_profile_of_a_small_step(monkeypatch, capsys):
    monkeypatch.setitem(cases.CASES, "p1", cases.Case("pix2pix", 32, 4, 1))
    assert profile.main(["p1", "--way", "eager", "--steps", "1", "--top", "3"]) == 0
    text = capsys.readouterr().out
    assert all(kind in text for kind in profile.CLASSES)


def test_the_headline_in_small(tmp_path, monkeypatch):
    """The whole procedure, on 2 pairs of 32 pixels; what is done is not done again."""
    monkeypatch.setattr(record, "RESULTS", tmp_path)
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", torch.backends.cudnn.allow_tf32)
    words = ["--steps=4", "--pairs=2", "--size=32", "--seeds=1", f"--work={tmp_path / 'work'}"]
    assert headline.main(words) == 0
    timed, judged = (json.loads(line) for line in (tmp_path / "headline.jsonl").read_text().splitlines())
    assert (timed["steps"], timed["pairs"]) == (4, 2)
    assert timed["seconds"] > 0
    assert judged["l1"]["verdict"] == "one seed says nothing of noise"
    assert judged["l1"]["pygan"]["values"] == [pytest.approx(timed["l1"], abs=1e-4)]

    monkeypatch.setattr(headline, "train_pygan", None)
    monkeypatch.setattr(headline, "train_plain", None)
    assert headline.main(words) == 0
    with pytest.raises(SystemExit, match="another size"):
        headline.main([*words, "--size=64"])


def test_learning_table():
    row = {"gan": "g", "yardstick": "M", "margin": "at most 0.6 x the first", "held": True, "first": 0.5, "last": 0.25}
    row |= {"first_images": 10, "last_images": 2000, "minutes": 6.04, "classifier_accuracy": None, "device": "CPU"}
    row |= {"date": "2026-01-01", "commit": "abc"}
    assert table.learning_table([]) == ["not yet run"]
    lines = table.learning_table([row | {"held": False, "last": 0.4}, row | {"classifier_accuracy": 0.987}])
    assert len(lines) == 3  # the newer row of a yardstick counts
    assert "| 0.5 (10 images) | 0.25 (2,000 images) | at most 0.6 x the first | yes | 6.0 | 98.7 % right |" in lines[2]


def test_yardsticks_of_learning():
    a, b = torch.tensor([[1.0, 0.0], [0.0, 1.0]]), torch.tensor([[1.0, 1.0], [2.0, 0.0]])
    assert learning.kernel_distance(a, b) == pytest.approx(1.125)
    assert learning.kernel_distance(b, a) == pytest.approx(1.125)
    lower, higher = learning.Yardstick("x", None, factor=0.5), learning.Yardstick("x", None, plus=0.2)
    assert [lower.held(2.0, last) for last in (0.9, 1.1)] == [True, False]
    assert [higher.held(0.1, last) for last in (0.35, 0.25)] == [True, False]


def test_a_row_and_the_table_of_exported_files(tmp_path):
    assert {case.split()[0] for case in export.CASES} == set(gans.names())
    row = export.measure("dcgan demo", tmp_path, rounds=1, seconds=0.0)
    assert 0 < row["difference"] < 1e-4 < row["deviation"]  # two programs that are not the same one; an image
    assert row["megabytes"] == pytest.approx(row["weights"] * 4e-6, rel=0.1)
    common = {"device": "a CPU", "torch": "2", "onnxruntime": "1", "date": "today", "commit": "abc"}
    older = common | row | {"ms_eager": 999.0}
    text = "\n".join(table.export_table([older, common | row | {"ms_eager": 8.0, "ms_onnx": 2.0, "faster": 4.0}]))
    assert "| dcgan, demo |" in text
    assert "| 8 | 2 | 4.00x | today, abc |" in text
    assert "999" not in text
    assert table.export_table([]) == ["not yet run"]


def test_plans_on_a_gpu_are_judged_and_their_cases_are_trainings(tmp_path):
    gib = 1 << 30
    said = {"peak_bytes": 2 * gib, "phases": [{"step_s": 0.010, "row_s": 0.05}]}
    row = plan_on_a_gpu.judged(said, 1.9 * gib, 0.0105)
    assert (row["good"], row["predicted_mib"], row["predicted_step_s"]) == (True, 2048.0, pytest.approx(0.011))
    assert (row["memory_off"], row["step_off"]) == (pytest.approx(0.0526), pytest.approx(0.0476))
    assert not plan_on_a_gpu.judged(said, 1.7 * gib, 0.0105)["good"]
    assert not plan_on_a_gpu.judged(said, 2 * gib, 0.014)["good"]
    lines = table.plan_table([{"device": "H", "case": "c", "date": "d", "commit": "e"} | row])
    assert "| H | c | 2048, 1946 | +5.3 % | 11.0, 10.5 | +4.8 % | d, e |" in lines
    from pygan.__main__ import _parser

    for flags in plan_on_a_gpu.CASES.values():
        words = flags.split()
        args = _parser("train", words[0]).parse_args(["train", *words, "--data-images", "48", "--log-every", "8"])
        assert args.steps >= 6 * plan_on_a_gpu.ROW_STEPS
        assert plan_on_a_gpu.per_step(words) >= 1
