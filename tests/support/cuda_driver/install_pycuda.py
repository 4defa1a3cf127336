"""Install pycuda where there is no GPU, no driver and no CUDA toolkit.

    python tests/support/cuda_driver/install_pycuda.py

pycuda has no wheels. It is built here against NVIDIA's headers from the package index and the simulated driver, without
optimisation (its own code is thin) and without CURAND. Give a folder to keep the wheel and use it the next time.
It must not import pixrt.
"""

import argparse
import importlib
import os
import subprocess
import sys
import tempfile
from pathlib import Path

SUPPORT = Path(__file__).resolve().parent.parent
PYCUDA = "pycuda==2026.1"
HEADERS = "nvidia-cuda-runtime>=13,<14"
# pycuda's metadata and build run in this environment: an isolated one would install NumPy a second time.
BUILD = ("setuptools>=70.1", "numpy", HEADERS)
RUN = ("cuda-bindings>=13,<14",)

# What pycuda uses of this header; the package of cuda.h does not have it.
PROFILER = """#include <cuda.h>
typedef enum { CU_OUT_KEY_VALUE_PAIR = 0, CU_OUT_CSV = 1 } CUoutput_mode;
extern "C" {
CUresult CUDAAPI cuProfilerInitialize(const char *, const char *, CUoutput_mode);
CUresult CUDAAPI cuProfilerStart(void);
CUresult CUDAAPI cuProfilerStop(void);
}
"""


def pip(*words: str, **environment: str) -> None:
    """Run pip of this interpreter."""
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet", *words]
    subprocess.run(command, check=True, env=os.environ | environment)


def build(wheels: Path, constraints: tuple[str, ...]) -> None:
    """Build the wheel of pycuda into `wheels`."""
    pip("install", *constraints, *BUILD)
    importlib.invalidate_caches()  # the headers came with the line above
    sys.path.insert(0, str(SUPPORT))
    from simulated_cuda import build_driver, cuda_headers

    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        (folder / "cudaProfiler.h").write_text(PROFILER)
        settings = {
            "CUDA_ROOT": None,
            "CUDA_INC_DIR": [str(cuda_headers()), scratch],
            "CUDADRV_LIB_DIR": [str(build_driver().parent)],
            "CUDA_ENABLE_CURAND": False,
            "CXXFLAGS": ["-O0", "-g0", "-w"],
        }
        lines = [f"{name} = {value!r}\n" for name, value in settings.items()]
        (folder / ".aksetup-defaults.py").write_text("".join(lines))
        # pycuda reads its settings from the home folder: give it one, and leave pip's own settings where they are.
        home = Path.home()
        kept = {"XDG_CONFIG_HOME": home / ".config", "XDG_CACHE_HOME": home / ".cache", "NETRC": home / ".netrc"}
        environment = {name: os.environ.get(name, str(path)) for name, path in kept.items()}
        options = ("--no-deps", "--no-build-isolation", "--no-binary", "pycuda", "--wheel-dir", str(wheels))
        pip("wheel", *options, PYCUDA, HOME=scratch, **environment)


def main() -> None:
    """Install pycuda and cuda-bindings into the environment of this interpreter."""
    parser = argparse.ArgumentParser(description="Install pycuda without a GPU")
    parser.add_argument("--wheels", type=Path, help="keep the built wheel here, and use it if it is there")
    parser.add_argument("--constraints", type=Path, help="a file of versions for pip")
    given = parser.parse_args()
    constraints = ("-c", str(given.constraints)) if given.constraints else ()
    with tempfile.TemporaryDirectory() as scratch:
        wheels = (given.wheels or Path(scratch)).resolve()
        tag = f"cp{sys.version_info.major}{sys.version_info.minor}"
        if not list(wheels.glob(f"pycuda-2026.1-{tag}-{tag}-*.whl")):
            build(wheels, constraints)
        (wheel,) = wheels.glob(f"pycuda-2026.1-{tag}-{tag}-*.whl")
        pip("install", *constraints, HEADERS, *RUN, str(wheel))


if __name__ == "__main__":
    main()
