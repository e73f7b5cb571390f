"""What the declarations of models and of shields share: names of modules, tools and wheels; nothing else."""

COMPILE = "lsbuild_plugins.onnx.compile"
SERVE = "lsbuild_plugins.onnx.serve"
READ = tuple(
    f"{SERVE}.{name}"
    for name in ("calls", "format", "forms", "labels", "pairs", "template", "text", "tools", "windows")
)
"""What the compile half uses of the serve half: the step's key changes with it."""
TOOLS = ("numpy", "onnx", "onnxruntime", "tokenizers", "minijinja", "jinja2")
WHEELS = ("onnxruntime>=1.31,<1.32", "numpy>=2.2", "tokenizers>=0.22")
"""What every local model is served with."""
