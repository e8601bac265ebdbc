"""The gates on compiled kernels (tools/static_gates.py): what they read, what they let through and what they stop."""

import sys
from pathlib import Path

import pytest

TOOLS = Path(__file__).parents[1] / "tools"
sys.path.insert(0, str(TOOLS))
import static_gates  # noqa: E402

PTXAS = """
ptxas info    : 0 bytes gmem
ptxas info    : Compiling entry function '_Z5firstPf' for 'sm_80'
ptxas info    : Function properties for _Z5firstPf
    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 40 registers, used 1 barriers, 6216 bytes smem, 569 bytes cmem[0]
ptxas info    : Compiling entry function '_Z6secondPf' for 'sm_80'
ptxas info    : Function properties for _Z6secondPf
    16 bytes stack frame, 8 bytes spill stores, 12 bytes spill loads
ptxas info    : Used 255 registers, 360 bytes cmem[0]
"""
SASS = """
.text._Z5firstPf:
        /*0010*/                   LDG.E.128 R4, [R2.64] ;
        /*0020*/                   STG.E [R2.64], R4 ;
.text._Z6secondPf:
        /*0010*/                   LDL R4, [R1] ;
        /*0020*/                   STG.E.128.STRONG.SM [R2.64], R4 ;
"""
# A loop over an array that the index decides of: it has to live in local memory, which is stack.
BAD_KERNEL = """
__global__ void narrow(float* x) {
  float local[32];
  for (int i = 0; i < 32; ++i) local[i] = x[i] * 2.0f;
  for (int i = 0; i < 32; ++i) x[i] = local[(int)x[i] & 31];
}
"""


def kernel(**values):
    values = {"op": "loss", "arch": "80", "symbol": "_Z4loss", "family": "loss", "registers": 40} | values
    return static_gates.Kernel(**values)


def test_reads_ptxas_and_machine_code():
    first, second = static_gates.parse_ptxas(PTXAS, "op", "80")
    static_gates.read_machine_code(SASS, [first, second])
    assert (first.registers, first.spills, first.stack, first.local_memory) == (40, 0, 0, False)
    assert (first.wide_load, first.wide_store) == (True, False)
    assert (second.registers, second.spills, second.stack, second.local_memory) == (255, 20, 16, True)
    assert (second.wide_load, second.wide_store) == (False, True)


@pytest.mark.parametrize(
    ("demangled", "family"),
    [
        ("void pygan::(anonymous namespace)::forward<float, 4>(pygan::Args, long)", "forward"),
        ("void pygan::_GLOBAL__N__cb_norm_cu_0b::apply<__nv_bfloat16, pygan::Vec<int, 2> >(A<B>)", "apply"),
        ("plain(float*)", "plain"),
    ],
)
def test_family_of_a_kernel(demangled, family):
    assert static_gates.family_of(demangled) == family


def test_what_the_table_says_passes():
    kernels = [kernel(wide_load=True), kernel(arch="120", wide_load=True, registers=38)]
    table = static_gates.summarize(kernels)
    assert table == {"loss/loss": {"registers": 40, "instances": 1, "wide_loads": 1, "wide_stores": 0}}
    assert static_gates.violations(kernels, table, {"loss"}) == []


@pytest.mark.parametrize(
    ("worse", "said"),
    [
        ({"registers": 41}, "41 registers, the gate is 40"),
        ({"spills": 8}, "8 bytes of spills"),
        ({"stack": 8}, "8 bytes of stack"),
        ({"local_memory": True}, "local memory"),
        ({"wide_load": False}, "0 instances have 16-byte loads, the gate is 1"),
        ({"wide_store": False}, "0 instances have 16-byte stores, the gate is 1"),
        ({"family": "other"}, "not in static_gates.json"),
    ],
)
def test_a_worse_kernel_is_stopped(worse, said):
    good = {"wide_load": True, "wide_store": True}
    table = static_gates.summarize([kernel(**good)])
    found = static_gates.violations([kernel(**{**good, **worse})], table, {"loss"})
    assert any(said in line for line in found)


def test_table_and_source_name_the_same_kernels():
    table = static_gates.summarize([kernel()])
    assert "no longer in the source" in static_gates.violations([], table, {"loss"})[0]
    assert static_gates.violations([], table, {"other"}) == []  # an op that was not compiled
    assert "2 instances" in static_gates.violations([kernel(), kernel(symbol="_Z5loss2")], table, {"loss"})[0]


def test_without_nvcc(monkeypatch, capsys):
    monkeypatch.setenv("CUDACXX", "no-such-nvcc")
    monkeypatch.setattr(sys, "argv", ["static_gates.py"])
    assert static_gates.main() == 2
    monkeypatch.setattr(sys, "argv", ["static_gates.py", "--if-possible"])
    assert static_gates.main() == 0
    assert capsys.readouterr().out.count("no nvcc on this machine") == 2


def test_a_kernel_in_local_memory_is_stopped(tmp_path):
    try:
        tools = static_gates.find_nvcc(), static_gates.find_nvdisasm()
    except static_gates.CannotTellError as missing:
        pytest.skip(str(missing))
    source = tmp_path / "bad" / "bad_cuda.cu"
    source.parent.mkdir()
    source.write_text(BAD_KERNEL)
    kernels = static_gates.compile_op(source, "80", *tools, tmp_path)
    static_gates.name_families(kernels)
    assert [k.family for k in kernels] == ["narrow"]
    found = static_gates.violations(kernels, static_gates.summarize(kernels), {"bad"})
    assert any("bytes of stack, the gate is 0" in line for line in found)
