"""What the proxy costs, measured against nginx and against no proxy at all. Linux only; ``docs/benchmark.md`` explains.

::

    __main__.py   the command line
    plan.py       what is measured: profiles, how many streams at what pace
    rounds.py     runs every target in turn, several times over
    targets.py    starts nginx and the proxy in their variants
    backend.py    a process: a fake Ollama that paces streams and puts the time into each chunk
    load.py       a process: the clients, and the clocks
    meter.py      CPU time and memory of a process, from the kernel
    report.py     medians, ratios, the table
"""
