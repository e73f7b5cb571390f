"""The target ``jetson``: NVIDIA's modules with JetPack."""
