"""Benchmarks: ratios of times, every one measured inside one run. ``python -m benchmarks --help``.

    training     a training step against the plain way to write one
    objectives   what each method's loss and gradient cost, against MD4's
    generation   240 tokens against GPT-2 with its cache, and against the plain loops
    blocks       GPT-2 in blocks of 32 against itself, token by token
    batches      the same for 1, 8 and 32 rows, with a smaller network
    backends     torch in eight bits and OpenVINO, against torch in float32
    startup      from the start of the process to the first frame
    overhead     the sampler's loop over the bare calls of its network

Weights are random and configurations real: time does not depend on what the weights say, with one
exception. Top-p without top-k works harder on the nearly flat guesses of a random network than on
those of a trained one; only rows that name it have it. The presets draw as they do, LLaDA2Pipeline
without filters as ``maskgit``, and GPT-2 with top-k 50 and top-p 0.95 as ``refine``.
"""
