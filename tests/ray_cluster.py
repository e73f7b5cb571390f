"""A real Ray cluster on this machine, for tests: a head that does no work and workers with one core each."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def ray_cluster(workers: int = 2) -> Iterator[Any]:
    """Ray's own ``Cluster``; ``.address`` is what RAY_ADDRESS wants, ``add_node`` and ``remove_node`` change it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from ray.cluster_utils import Cluster

        made = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
        for _ in range(workers):
            made.add_node(num_cpus=1)
        try:
            yield made
        finally:
            made.shutdown()
