"""Side-by-side benchmarks: our figures and those of named peers from one run on one machine; nothing here ships.

``make bench`` measures everything, ``make bench ONLY=decode`` what begins with that word. Each figure is one line,
``name ours=… peer=… ratio=… unit`` with ``ratio = ours / peer``; ``peer=-`` means that nobody was measured beside us, and
the ratio is then to the budget of the design. ``bench/results/latest.json`` has the same with the peer's name, the
direction that is better, the budget and the conditions: rounds, spread, and how busy the machine was (NOISY when it was).

The retrieval group (``ONLY=retrieval``, or one corpus: ``retrieval_docs``, ``retrieval_10k``, ``retrieval_100k``) also prints
tables of every engine and of how our cost grows, and keeps the last run of each corpus in ``bench/results/retrieval.md``.
A million vectors take half an hour and 8 GB of disk, so they are measured only by ``ONLY=retrieval_1m``.

Peers live in ``.venv-bench`` (and ``.venv-bench-ogx``), which the first run makes. Wall and CPU time are both measured;
on a busy machine only the second says something, and a row with two threads says nothing about either side: threads
that wait for one another wait for the other programs too. Only the standard library is imported by what peers run.
"""
