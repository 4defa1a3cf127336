"""Does a test notice? Take one copy, wait or address update out of the CUDA backends at a time, and run its tests.

    python tests/support/mutations.py [NAME...]

prints a line per mutation and ends with 1 if the tests pass without one of them. It takes minutes; pycuda must be
installed (`tests/support/cuda_driver/install_pycuda.py`).
"""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
PACKAGE = ROOT / "runtime" / "pixrt"
CALLS, CUDA, HELD = "backends/cuda/calls.py", "backends/cuda/device.py", "backends/cuda/held.py"
EXECUTION, SCRATCH, ENGINES = (
    "backends/tensorrt/execution.py",
    "backends/tensorrt/scratch.py",
    "backends/tensorrt/plan.py",
)
BACKEND, READING, REFIT = (
    "backends/tensorrt/backend.py",
    "backends/tensorrt/reading.py",
    "backends/tensorrt/refit.py",
)
ORT = "backends/ort/device.py"
SPEC = "bundles/engine_spec.py"
TESTS = ("tensorrt", "tensorrt_failures", "tensorrt_engines", "tensorrt_teardown", "tensorrt_profiles")
TESTS += ("tensorrt_reading", "cuda")
OF_ORT = ("ort_cuda",)
# Name: file, what is there, what is put in its place.
MUTATIONS = {
    "call: no upload": (CALLS, "            upload()\n", "            pass\n"),
    "call: no download": (CALLS, "            download()\n", "            pass\n"),
    "call: no wait": (
        CALLS,
        "        run.execution(run.work)\n        self._device.synchronize()\n",
        "        run.execution(run.work)\n",
    ),
    "call: one row of many is sent": (
        CALLS,
        "        rows, size = array.shape[:2]\n",
        "        rows, size = 1, array.shape[1]\n",
    ),
    "call: nothing is held": (
        CALLS,
        "        self._device.copy(self._memory[name], copy, copy.bytes, target_offset=offset)\n",
        "",
    ),
    "call: held at the wrong place": (CALLS, "target_offset=offset)", "target_offset=offset - self._held[name])"),
    "call: all of the sample is sent": (CALLS, "array.nbytes // (rows * size) * held", "array.nbytes // rows"),
    "call: ordinary memory is not staged": (CALLS, "            np.copyto(pinned, array)\n", "            pass\n"),
    "loop: nothing is held": (
        CALLS,
        "        self._device.copy(self._memory[name], copy, copy.bytes, target_offset=row * copy.bytes)\n",
        "",
    ),
    "loop: every row is held in the first": (CALLS, "target_offset=row * copy.bytes", "target_offset=0"),
    "loop: nothing is loaded": (
        CALLS,
        "            device.upload(self._memory[name], pinned, offset=slot * self._slot_bytes(name))\n",
        "            pass\n",
    ),
    "loop: every slot is loaded into the first": (
        CALLS,
        "device.upload(self._memory[name], pinned, offset=slot * self._slot_bytes(name))",
        "device.upload(self._memory[name], pinned)",
    ),
    "loop: the first row of every table": (CALLS, "slot * self._table_rows + row", "slot * self._table_rows"),
    "loop: every slot takes the first's table": (CALLS, "slot * self._table_rows + row", "row"),
    "loop: no row of a table": (
        CALLS,
        "            device.fill_word(index, slot, slot * self._table_rows + row)\n",
        "            pass\n",
    ),
    "loop: the last picture's history": (
        CALLS,
        "                device.fill_zero(self._memory[name], offset=slot * bytes_, bytes_=bytes_)\n",
        "                pass\n",
    ),
    "loop: the history of all slots goes": (
        CALLS,
        "device.fill_zero(self._memory[name], offset=slot * bytes_, bytes_=bytes_)",
        "device.fill_zero(self._memory[name])",
    ),
    "loop: the first noise at every step": (CALLS, "offset=row * bytes_", "offset=0"),
    "loop: every slot's noise is the first's": (CALLS, "slot * bytes_, offset=row", "0, offset=row"),
    "loop: noise is not uploaded": (
        CALLS,
        "        self._device.upload(stream.memory, stream.pinned[: len(values)])\n",
        "",
    ),
    "loop: the noise of the picture before": (
        CALLS,
        "        self._in_use[slot] = [self._stream",
        "        self._in_use[slot] = self._in_use.get(slot) or [self._stream",
    ),
    "loop: a step is not waited for": (
        CALLS,
        "        self._device.run(self._device.synchronize)\n",
        "        pass\n",
    ),
    "loop: nothing is carried": (
        CALLS,
        "            self._device.copy(self._memory[given], self._memory[made], self._memory[made].bytes)\n",
        "            pass\n",
    ),
    "loop: no download": (
        CALLS,
        "        self._device.download(pinned, self._memory[name], offset=slot * pinned.nbytes)\n",
        "",
    ),
    "loop: the first slot is read": (
        CALLS,
        "self._device.download(pinned, self._memory[name], offset=slot * pinned.nbytes)",
        "self._device.download(pinned, self._memory[name])",
    ),
    "loop: no wait before reading": (
        CALLS,
        "        self._device.synchronize()\n        return pinned.copy()",
        "        return pinned.copy()",
    ),
    "loop: no wait before loading": (
        CALLS,
        "        device.synchronize()  # an earlier upload or step may still read what is overwritten here\n",
        "",
    ),
    "scratch: its move is not told": (
        EXECUTION,
        "        if not self.is_current:\n            scratch",
        "        if self._generation < 0:\n            scratch",
    ),
    "scratch: a graph outlives its move": (
        EXECUTION,
        "            self._graph = None\n            work()\n            return\n",
        "            work()\n            return\n",
    ),
    "scratch: too small": (
        SCRATCH,
        "            self._memory = self._device.allocate(bytes_)\n",
        "            self._memory = self._device.allocate(bytes_ // 2)\n",
    ),
    "addresses: one is forgotten": (
        EXECUTION,
        "for name, block in memory.items():\n            if not",
        "for name, block in list(memory.items())[1:]:\n            if not",
    ),
    "held: another array may get the identity": (
        HELD,
        "self._copies[key] = values, converted, memory",
        "self._copies[key] = np.empty(0), converted, memory",
    ),
    "held: one dtype for all": (
        HELD,
        "converted = np.ascontiguousarray(values, dtype)",
        "converted = np.ascontiguousarray(values)",
    ),
    "held: never uploaded": (HELD, "            self._device.upload(memory, converted)\n", ""),
    "loop: inputs are not zero at first": (
        CALLS,
        "        for tensor in spec.inputs:\n            device.fill_zero(self._memory[tensor.name])\n",
        "",
    ),
    "scratch: never told": (
        EXECUTION,
        "            self._context.set_device_memory(scratch.memory.address, scratch.memory.bytes)\n",
        "",
    ),
    "plan: its loading is not waited for": (
        ENGINES,
        "            self._owner.device.settle()  # the library loads on streams of its own\n",
        "",
    ),
    "refit: is not waited for": (ENGINES, "        device.settle()\n", ""),
    "pinned: not zero at first": (CUDA, "        array[...] = 0\n", ""),
    "dropped: never freed": (
        CUDA,
        "                self._dropped.popleft().free()\n",
        "                self._dropped.popleft()\n",
    ),
    "dropped: freed while in use": (
        CUDA,
        "            self._stream.synchronize()\n        finally:\n            while self._dropped",
        "            pass\n        finally:\n            while self._dropped",
    ),
    "dropped: contexts go in any thread": (
        EXECUTION,
        "            self._owner.device.drop(_Dropped(self._context, self._plan))\n",
        "            pass\n",
    ),
    "teardown: the graph after its context": (
        EXECUTION,
        "        self._graph = None  # before the execution that it was captured of\n",
        "        pass\n",
    ),
    "teardown: the runtime before its engines": (
        ENGINES,
        "        self._runtime = runtime  # it must outlive its engines\n",
        "        self._runtime = None\n",
    ),
    "teardown: the kernels before their contexts": (
        ENGINES,
        "        self._plans.pop(name).keep_kernels()\n",
        "        plan = self._plans.pop(name)\n        plan.keep_kernels()\n        plan.kernels.close()\n",
    ),
    "teardown: a plan goes in any thread": (
        ENGINES,
        "            self._owner.device.drop(_Dropped(self.kernels, self.engine, self._runtime))\n",
        "            _Dropped(self.kernels, self.engine, self._runtime).free()\n",
    ),
    "profiles: none is selected": (
        EXECUTION,
        "if len(plan.spec.profiles) > 1 and not self._select(profile):",
        "if False:",
    ),
    "profiles: the dynamic one before a static one": (
        SPEC,
        "key=lambda index: not self.profiles[index].is_static",
        "key=lambda index: self.profiles[index].is_static",
    ),
    "plan: hashed before it is needed": (
        BACKEND,
        "                check_engine(bundle.folder",
        "                __import__(check_engine.__module__, fromlist=['x']).read_engine(bundle.folder",
    ),
    "plan: changed while it is read": (READING, "        if _identity(file) != before:\n", "        if False:\n"),
    "kernels: kept when the plan is closed": (
        EXECUTION,
        "            self._plan.keep_kernels()\n",
        "            pass\n",
    ),
    "refit: while it runs": (
        ENGINES,
        "        device.synchronize()  # an engine must not be running while it is refitted\n",
        "",
    ),
    "refit: graphs keep the earlier weights": (ENGINES, "        self._owner.scratch.renew()\n", ""),
    "refit: earlier weights stay": (
        REFIT,
        "        for name, (weight, digest) in self._bases.items():\n",
        "        for name, (weight, digest) in [(n, b) for n, b in self._bases.items() if n in self._current]:\n",
    ),
}
MUTATIONS |= {
    "ort: a stream of its own": (
        ORT,
        '        self._settings = {**settings, "user_compute_stream": str(self.device.stream)}\n',
        "        self._settings = dict(settings)\n",
    ),
    "ort: every run is waited for": (ORT, 'disable_synchronize_execution_providers="1", ', ""),
    "ort: one graph for all": (ORT, "return str(MOST_GRAPHS - self._graphs_left)", "return str(MOST_GRAPHS)"),
    "ort: graphs without end": (ORT, "        if self._graphs_left == 0:\n", "        if self._graphs_left == -999:\n"),
    "ort: the first run is captured": (
        ORT,
        "        self._run(_options_of(_UNCAPTURED))\n",
        '        self._run(_options_of("99"))\n',
    ),
    "ort: no graphs": (ORT, 'open_(enable_cuda_graph="True") if owner.graphs else open_()', "open_()"),
    "ort: an input keeps another's address": (
        ORT,
        "            self._binding.bind_input(tensor.name",
        "            address = next(iter(memory.values())).address\n            self._binding.bind_input(tensor.name",
    ),
    "ort: outputs go to the inputs": (
        ORT,
        "            self._binding.bind_output(tensor.name",
        "            address = next(iter(memory.values())).address\n            self._binding.bind_output(tensor.name",
    ),
    "ort: sessions go in any thread": (
        ORT,
        "            self.owner.device.drop(_Dropped(self.session))\n",
        "            pass\n",
    ),
    "ort: scratch is not counted": (
        ORT,
        "        network.scratch_bytes += max(0, free - network.owner.device.memory()[0])\n",
        "",
    ),
    "ort: the plain network is preferred": (ORT, "    prefers_fused_step = True\n", "    prefers_fused_step = False\n"),
}


def mutated(name: str) -> str:
    """The file without it. Raises ValueError where it is not found, or not once."""
    file, old, new = MUTATIONS[name]
    text = (PACKAGE / file).read_text(encoding="utf-8")
    if text.count(old) != 1:
        raise ValueError(f"{name}: what it takes out stands {text.count(old)} times in {file}")
    return text.replace(old, new)


def passes(name: str | None) -> bool:
    """Whether the tests pass, without one of these; those of ONNX Runtime's provider for what is in its file."""
    tests = OF_ORT if name is not None and MUTATIONS[name][0] == ORT else TESTS if name is not None else TESTS + OF_ORT
    with tempfile.TemporaryDirectory() as scratch:
        package = Path(scratch) / "pixrt"
        shutil.copytree(PACKAGE, package)
        if name is not None:
            (package / MUTATIONS[name][0]).write_text(mutated(name), encoding="utf-8")
        environment = os.environ | {"PYTHONPATH": os.pathsep.join([scratch, os.environ.get("PYTHONPATH", "")])}
        command = [sys.executable, "-m", "pytest", "-q", "-x", "-m", "simulated", "-p", "no:cacheprovider"]
        command += [f"tests/simulated/test_{test}.py" for test in tests]
        command += ["--deselect", "tests/simulated/test_tensorrt.py::TestTraffic::test_a_thousand_edits_leave_nothing"]
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    if done.returncode > 1:  # neither passed nor failed, nor were ended by a signal: they did not run
        sys.exit(done.stdout + done.stderr)
    return done.returncode == 0


def main(names: list[str]) -> int:
    """Run them all, or those named."""
    for name in MUTATIONS:
        mutated(name)
    if not passes(None):
        sys.exit("the tests fail as the code is")
    left = []
    for name in names or MUTATIONS:
        noticed = not passes(name)
        print(f"{'noticed' if noticed else 'SURVIVES':9} {name}", flush=True)
        left += [] if noticed else [name]
    print(f"{len(names or MUTATIONS)} mutations, {len(left)} not noticed")
    return 1 if left else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
