"""The one class of the tokenizers wheel that is served with, loaded without the Python package around its native module.

The package imports what it offers beside it, which nothing here uses: 10 ms of a cold start.
"""

from __future__ import annotations

import sys
from importlib.machinery import PathFinder
from importlib.util import module_from_spec
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tokenizers import Tokenizer
else:
    _NATIVE = "tokenizers.tokenizers"
    if _NATIVE not in sys.modules:
        package = PathFinder.find_spec("tokenizers")
        spec = package and PathFinder.find_spec(_NATIVE, package.submodule_search_locations)
        if spec is None:
            raise ModuleNotFoundError("No module named 'tokenizers'", name="tokenizers")
        # The package, should somebody import it later, takes this very module.
        sys.modules[_NATIVE] = module_from_spec(spec)
        spec.loader.exec_module(sys.modules[_NATIVE])
    Tokenizer = sys.modules[_NATIVE].Tokenizer

__all__ = ["Tokenizer"]
