"""A session of onnxruntime's Python module behind the face of `capi.Session`: where a language model or an accelerator
has that module shipped anyway, its shared library is not there a second time.
"""

from __future__ import annotations

from array import array
from collections.abc import Mapping

import numpy as np

from lsbuild_plugins.onnx.serve.ort import ort
from lsbuild_plugins.onnx.serve.tensor import FLOAT32, Tensor


class Session:
    """A graph on whatever the session was opened on. Runs of several threads may overlap."""

    def __init__(self, session: ort.InferenceSession) -> None:
        self._session = session
        self.inputs: tuple[str, ...] = tuple(value.name for value in session.get_inputs())

    def run(self, output: str, feeds: Mapping[str, Tensor]) -> Tensor:
        """The output of that name as float32. Raises what onnxruntime raises."""
        arrays = {
            name: np.frombuffer(tensor.values, tensor.values.typecode).reshape(tensor.shape)
            for name, tensor in feeds.items()
        }
        (found,) = self._session.run([output], arrays)
        numbers = np.asarray(found, np.float32)
        return Tensor(array(FLOAT32, numbers.tobytes()), numbers.shape)
