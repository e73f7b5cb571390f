"""The serve half of `inline::onnx`; ships in the artifact and needs onnxruntime, numpy, tokenizers and minijinja only."""
