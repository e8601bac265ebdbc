"""What formulas of autograd are told of the running backward pass, by several threads at once."""

import threading
from types import SimpleNamespace

import torch

from pygan.ops._autograd import gradients_for, wants
from pygan.ops.conv import Geometry, convolution


def in_a_thread(function):
    """What it returns there; its error is the test's."""
    found = []
    thread = threading.Thread(target=lambda: found.append(function()))
    thread.start()
    thread.join(20)
    return found[0]


def test_the_innermost_of_a_thread_counts_and_all_of_them_end():
    x, y = torch.zeros(1), torch.zeros(1)
    with gradients_for([x]):
        with gradients_for([y]):
            assert (wants(x), wants(y)) == (False, True)
        assert (wants(x), wants(y)) == (True, False)
    assert wants(x)
    assert wants(y)


def test_threads_do_not_ask_for_each_other():
    """Each in its own block, entered and left in turn: what one asks for is not what the other gets."""
    weight = torch.randn(4, 3, 3, 3, requires_grad=True)
    geometry = Geometry(stride=1, padding=1)
    turn, gradients = threading.Barrier(2, timeout=20), {}

    def work(name):
        x = torch.randn(1, 3, 8, 8, requires_grad=True)
        leaves = [x] if name == "search" else [x, weight]
        if name == "search":
            turn.wait()
        with gradients_for(leaves):
            if name == "train":
                turn.wait()
            turn.wait()
            loss = convolution(x, weight, None, geometry).square().sum()
            gradients[name] = torch.autograd.grad(loss, leaves, allow_unused=True)
            turn.wait()
            if name == "train":
                turn.wait()
        if name == "search":
            turn.wait()

    threads = [threading.Thread(target=work, args=(name,)) for name in ("train", "search")]
    for thread in threads:
        thread.start()
    assert in_a_thread(lambda: wants(weight))  # of a thread that says nothing
    for thread in threads:
        thread.join()
    assert all(gradient is not None for gradient in (*gradients["train"], *gradients["search"]))
    assert wants(weight)


def test_a_gpu_computes_for_whichever_thread_asks():
    """Its nodes are walked by threads of the engine, which do not know whose pass it is."""
    x, y, z = (SimpleNamespace(is_cuda=True, data_ptr=lambda k=k: k) for k in range(3))
    with gradients_for([x]):
        assert in_a_thread(lambda: (wants(x), wants(y))) == (True, False)

        def beside():
            with gradients_for([y]):
                return wants(x), wants(y), in_a_thread(lambda: (wants(x), wants(y), wants(z)))

        assert in_a_thread(beside) == (False, True, (True, True, False))
    assert in_a_thread(lambda: wants(z))
