"""The container form: an image for arm64 on Debian packages, without CUDA, and the files that start it with the GPU."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from lsbuild.api import Bundle
from lsbuild.packing import bundle_image
from lsbuild.packing.archive import Member
from lsbuild.packing.oci import Layout, Settings
from lsbuild.packing.rootfs import TAR
from lsbuild_targets.jetson.options import Options

FOLDER = "oci"
COMPOSE = "compose.yaml"
_LIBRARIES = "/opt/jetson"
"""Where the image looks for the device's CUDA, cuDNN and TensorRT."""
_COMPOSE = """\
# Starts {name} on a {title} with JetPack {jetpack}.
# Load the image first:  skopeo copy oci:{folder} docker-daemon:{name}:latest   (or podman pull oci:{folder})
# The driver comes in with the GPU (nvidia-ctk cdi generate --output=/etc/cdi/nvidia.yaml, once). CUDA, cuDNN and TensorRT
# are the device's own: `run doctor` of the tar says which are there. Put them (links do not leave a mount, so the files
# themselves) into /opt/lsbuild-cuda:
#   sudo mkdir -p /opt/lsbuild-cuda
#   sudo cp -L /usr/local/cuda/lib64/lib{{cudart,cublas,cublasLt,cufft,curand,nvrtc}}*.so.[0-9]* \\
#     /usr/lib/aarch64-linux-gnu/lib{{cudnn,nvinfer,nvonnxparser}}*.so.[0-9]* /opt/lsbuild-cuda/
# The same by hand:
#   podman run --device nvidia.com/gpu=all -v /opt/lsbuild-cuda:{libraries}:ro -v {name}-state:/state -p {port}:{port} {name}
services:
  {name}:
    image: {name}:latest
    read_only: true
    cap_drop: [ALL]
    security_opt: ["no-new-privileges:true"]
    devices: ["nvidia.com/gpu=all"]
    ports: ["{port}:{port}"]
    volumes:
      - /opt/lsbuild-cuda:{libraries}:ro
      - state:/state
    tmpfs: [/tmp]
volumes:
  state: {{}}
"""


def write(folder: Path, bundle: Bundle, options: Options, mtime: int) -> None:
    """Write the layout and the Compose file into ``folder``."""
    layout = Layout(folder / FOLDER, mtime)
    layers = [layout.tar_layer(bundle.extras["rootfs"] / TAR, f"Debian {options.base.suite}")]
    layers += bundle_image.layers(layout, bundle)
    layers.append(layout.layer(_state(options), "state folder"))
    image = layout.image("arm64", layers, _settings(bundle, options))
    layout.index([image], f"{bundle.manifest.name}:latest")
    text = _COMPOSE.format(
        name=bundle.manifest.name,
        title=options.of.title,
        jetpack=options.jetpack,
        folder=FOLDER,
        libraries=_LIBRARIES,
        port=bundle.manifest.server.port,
    )
    (folder / COMPOSE).write_text(text)


def _state(options: Options) -> Iterator[Member]:
    """An empty folder of the server's user, which a volume takes its owner from."""
    yield Member("state", None, 0o700, owner=options.user)


def _settings(bundle: Bundle, options: Options) -> Settings:
    python, port = f"/usr/bin/python{bundle.platform.python}", bundle.manifest.server.port
    return Settings(
        entrypoint=bundle_image.entrypoint(python, port),
        user=f"{options.user}:{options.user}",
        port=port,
        env=(
            "PATH=/usr/bin",
            "LANG=C.UTF-8",
            "HOME=/tmp",
            "LSBUILD_STATE=/state",
            f"LD_LIBRARY_PATH={_LIBRARIES}",
            # What NVIDIA's container runtime reads where there is no CDI.
            "NVIDIA_VISIBLE_DEVICES=all",
            "NVIDIA_DRIVER_CAPABILITIES=compute,utility",
        ),
        labels={
            "org.opencontainers.image.title": bundle.manifest.name,
            "org.opencontainers.image.description": f"{bundle.manifest.name} for a {options.of.title}, by lsbuild",
            "org.opencontainers.image.base.name": f"debian:{options.base.suite}",
        },
        health=bundle_image.health_check(python, port, "/v1/live"),
    )
