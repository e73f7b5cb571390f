"""A real Ray cluster on this machine, for tests: a head that does no work and workers with one core each."""

from __future__ import annotations

import gc
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

_ATTEMPTS = 4
"""Ray gives a node 30 seconds to start; on a busy machine that is too little, and the figure is fixed in its code."""


@contextmanager
def ray_cluster(workers: int = 2) -> Iterator[Any]:
    """Ray's own ``Cluster``; ``.address`` is what RAY_ADDRESS wants, ``add_node`` and ``remove_node`` change it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from ray.cluster_utils import Cluster

        head = {"num_cpus": 0, "include_dashboard": False}
        made: Any = _patiently(lambda: Cluster(initialize_head=True, head_node_args=head))
        try:
            for _ in range(workers):
                _patiently(lambda: made.add_node(num_cpus=1))
            yield made
        finally:
            made.shutdown()
            gc.collect()  # Ray leaves open files to the collector, which would blame whatever test it then runs in


def _patiently(start: Callable[[], Any]) -> Any:
    for _ in range(_ATTEMPTS - 1):
        try:
            return start()
        except Exception as error:  # Ray raises nothing more special
            if "timed out during startup" not in str(error):
                raise
    return start()
