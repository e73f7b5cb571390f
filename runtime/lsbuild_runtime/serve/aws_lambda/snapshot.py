"""SnapStart: what is done before a snapshot is taken and after a copy of it wakes up."""

from __future__ import annotations

import gc
import os
import sys

from lsbuild_runtime.serve.aws_lambda.runtime_api import RuntimeApi


def hold(api: RuntimeApi) -> None:
    """Let the snapshot be taken; returns in a restored copy, with randomness of its own. Raises RuntimeApiError."""
    gc.collect()
    gc.freeze()  # what is opened stays; collecting it again in every copy would only touch its pages
    api.restore()
    try:
        reseed()
    except Exception as error:
        api.fail_restore(error)
        raise


def reseed() -> None:
    """Give every generator that is loaded a new seed: all copies of a snapshot have the same one.

    What is drawn from the kernel (request ids, ``random=None`` samplers) differs without that.
    """
    if "random" in sys.modules:
        sys.modules["random"].seed()
    if "numpy.random" in sys.modules:
        sys.modules["numpy.random"].seed(int.from_bytes(os.urandom(4), "little"))
