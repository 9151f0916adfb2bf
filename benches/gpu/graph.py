"""CUDA graphs of mnemo's calls: that they can be captured, that a replay gives the same bits, and what it saves."""

import torch

import data as sets
from clock import Table
from library import Context, Dataset, Score

SIGMA = 1.0


def captured(work):
    """A function that replays what `work` queues. It was called before capture, on the stream of the capture: there it may
    neither allocate nor wait. It replays there too, for that stream's work space is the graph's."""
    stream, graph = torch.cuda.Stream(), torch.cuda.CUDAGraph()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(2):
            work()
    stream.synchronize()
    with torch.cuda.graph(graph, stream=stream):
        result = work()

    def replay():
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            graph.replay()
        torch.cuda.current_stream().wait_stream(stream)
        return result

    replay.keeps = work
    return replay


def cases(device, small):
    images = sets.images(device, small)
    for batch in (1, 16, 256):
        yield images, batch
    for n in (20, 1000):
        yield sets.plane(n, device), 1000


def graph(bench, on_cuda, peak):
    print(f"\n### CUDA graphs\n\nMilliseconds of mnemo_score_eval at sigma = {SIGMA:g}: called, and replayed from a graph. Bits: a "
          "replay with other numbers in x against a call.")
    table = Table("data", "B", "N", "d", "called", "replayed", "called / replayed", "bits")
    for data, batch in cases(bench.device, bench.small):
        batch = min(batch, 24) if bench.small else batch
        shape = (f"{data.name} {data.dtype}", batch, data.n, data.d)
        try:
            one(bench, on_cuda, table, data, shape)
        except Exception as error:
            bench.report(f"graph, {shape}, mnemo", error, is_ours=True)
            table.missing("failed", *shape)


def one(bench, on_cuda, table, data, shape):
    batch = shape[1]
    model = Score(Dataset(Context(on_cuda), data.raw, data.scale, data.shift))
    x = data.noised(batch, SIGMA)
    call = model.evaluation(x, SIGMA)
    works = {"mnemo, called": call}
    if bench.device.type == "cuda":
        works["mnemo, replayed"] = captured(model.evaluation(x, SIGMA))
    found = bench.race(f"graph, {shape}", works, 5)
    if len(found) < len(works):
        table.missing("failed", *shape)
        return
    # The graph reads whatever is in x now.
    x.copy_(data.noised(batch, SIGMA, seed=1))
    results = [work().clone() for work in works.values()]
    same = all(torch.equal(results[0], result) for result in results) and torch.isfinite(results[0]).all().item()
    if not same:
        bench.fail(f"graph, {shape}: a replay's bits differ from a call's")
    called, replayed = found["mnemo, called"], found.get("mnemo, replayed")
    table.row(*shape, called, replayed or "needs CUDA", replayed and called.ms / replayed.ms, "the same" if same else "differ")
