# pixrt for x86-64 machines with an NVIDIA GPU. They need the driver 580 or newer (CUDA 13) and NVIDIA's Container
# Toolkit. This image has not been built or run yet: where it was written there is neither docker nor a GPU.
#
#   docker build -t pixrt .                                  # with TensorRT
#   docker build -t pixrt --build-arg EXTRA=tensorrt-rtx .   # with TensorRT-RTX
#   docker run --rm --gpus all pixrt doctor
#   docker run --rm --gpus all --user "$(id -u):$(id -g)" -v "$PWD:/pictures" pixrt build ./ip2p
#   docker run --rm --gpus all --user "$(id -u):$(id -g)" -v "$PWD:/pictures" \
#       pixrt edit photo.jpg "make it winter" -b ./ip2p -o winter.jpg
#
# Versions of the distribution's own packages are not pinned: its archive keeps only the newest.
# --user: results are yours, and pixrt opens an engine only if it belongs to the user who runs it, or to root.
# -v pixrt-models:/models keeps bundles that are found by name, as ~/.local/share/pixrt/models does outside;
# -v pixrt-cache:/cache TensorRT-RTX's kernels, and which engines were built here (others are not run: --trust-engines).

ARG CUDA=13.0.2

# pycuda has no wheel. It is compiled in a stage of its own, so that compiler and headers stay out of the image.
FROM nvidia/cuda:${CUDA}-devel-ubuntu24.04 AS build
ARG EXTRA=tensorrt
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends g++ python3-dev python3-venv \
    && rm -rf /var/lib/apt/lists/* \
    && python3 -m venv /opt/pixrt
# Beside nvcc pycuda finds CUDA's headers and a stub of the driver's library to be linked to: no driver is here yet.
ENV PATH=/usr/local/cuda/bin:$PATH
WORKDIR /src
COPY pyproject.toml constraints.txt README.md LICENSE NOTICE ./
COPY runtime runtime
COPY engines engines
COPY export export
# .aksetup-defaults.py: pycuda would be linked to cuRAND otherwise, and pixrt draws its noise without it.
# cpu: onnxruntime, which --backend auto falls back to. TensorRT's libraries come from NVIDIA's index, not from PyPI.
RUN --mount=type=cache,target=/cache \
    echo "CUDA_ENABLE_CURAND = False" > ~/.aksetup-defaults.py \
    && /opt/pixrt/bin/pip install --cache-dir /cache -c constraints.txt ".[${EXTRA},cpu]"

FROM nvidia/cuda:${CUDA}-runtime-ubuntu24.04
# The virtual environment's python is a link to this one.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends python3 \
    && rm -rf /var/lib/apt/lists/*
COPY --from=build /opt/pixrt /opt/pixrt
LABEL org.opencontainers.image.title=pixrt org.opencontainers.image.version=0.1.0 org.opencontainers.image.licenses=Apache-2.0
# /cache: compiled networks and kernels, and which engines were built here. Kept, the next container starts warm.
ENV PATH=/opt/pixrt/bin:$PATH PIXRT_MODELS=/models XDG_CACHE_HOME=/cache XDG_DATA_HOME=/cache/data
# As /tmp is: --user may be anybody, and nobody may remove another's files.
RUN install -d -m 1777 /models /cache
VOLUME ["/models", "/cache"]
WORKDIR /pictures
USER 1000:1000
# Of the server; what ends by itself, such as an edit, needs none: --no-healthcheck.
HEALTHCHECK --interval=10s --timeout=5s --retries=3 --start-period=15m \
    CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8765/health/ready', timeout=4)"]
ENTRYPOINT ["pixrt"]
CMD ["--help"]
