"""Benchmarks: ratios of times, each measured within one run. ``python -m benchmarks --help``.

    training     a training step against a naive implementation
    objectives   loss and gradient of each method against MD4's
    generation   240 tokens against GPT-2 with its cache, and against naive loops
    blocks       GPT-2 in blocks of 32 against itself, token by token
    batches      the same for batches of 1, 8 and 32, with a smaller network
    backends     torch in eight bits and OpenVINO, against torch in float32
    startup      from the start of the process to the first frame
    overhead     the sampler's loop over the bare calls of its network

Weights are random and configurations real: times do not depend on the weights, with one exception.
Top-p without top-k is slower on the nearly uniform predictions of a random network than on those of
a trained one; only rows that name it use it. Every preset draws with its own filters.
LLaDA2Pipeline draws without filters, as ``maskgit`` does, and GPT-2 with top-k 50 and top-p 0.95,
as ``refine`` does.
"""
