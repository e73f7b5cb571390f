"""The compile half of ``inline::onnx``: checkpoints in, small quantised ONNX graphs out, without torch; never shipped."""
