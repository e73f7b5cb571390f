"""What the declarations of models and of shields share: names of modules, tools and wheels; nothing else."""

COMPILE = "lsbuild_plugins.onnx.compile"
SERVE = "lsbuild_plugins.onnx.serve"
READ = tuple(
    f"{SERVE}.{name}"
    for name in ("calls", "format", "forms", "labels", "pairs", "template", "text", "tools", "windows")
)
"""What the compile half uses of the serve half: the step's key changes with it."""
TOOLS = ("numpy", "onnx", "onnxruntime", "tokenizers", "minijinja", "jinja2")
WHEELS = ("onnxruntime>=1.31,<1.32", "tokenizers>=0.22")
"""What every local model is served with: of onnxruntime the shared library, or its Python module where numpy is beside it."""
DECODER_WHEELS = (*WHEELS, "numpy>=2.2", "minijinja>=3.0.5", "llguidance>=1.6.1,<2")
"""What a language model is served with."""
