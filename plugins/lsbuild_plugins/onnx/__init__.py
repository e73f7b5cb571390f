"""The `inline::onnx` provider: language models and encoders compiled to ONNX and served by onnxruntime."""
