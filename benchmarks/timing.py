"""What rows of several ops share: the device, the dtypes, and how a step is timed on it."""

import torch

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
REPEATS = 20 if DEVICE == "cuda" else 1  # steps in one timed call


def graphed(step):
    """What a row times: the step itself, or on a GPU a graph of several."""
    if DEVICE == "cpu":
        return step
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        step()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for _ in range(REPEATS):
            step()

    def replay():
        graph.replay()
        torch.cuda.synchronize()

    return replay
