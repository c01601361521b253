"""A data plane without queue and batching, one run of onnxruntime a request, for the ordinary path alone."""

import asyncio
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext

import numpy as np
import onnxruntime

from fastserve.batching import BatchingOptions
from fastserve.dataplane import IndexEntry
from fastserve.dataplane.check import check_inputs
from fastserve.dataplane.statistics import Statistics
from fastserve.errors import FastserveError, ModelFailed, ModelNotFound, NotReady, VersionNotFound
from fastserve.runtime.examples import first_that_runs
from fastserve.runtime.signature import signature_of
from fastserve.types import Array, VersionStats
from fastserve_core.wire.encode import ResponseEncoder


class PlainServed:
    """One version in one session."""

    def __init__(self, plane: "PlainDataPlane", name: str, version: str, model: bytes) -> None:
        self.plane = plane
        self.name = name
        self.version = version
        self.session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
        self.signature = signature_of(self.session.get_inputs(), self.session.get_outputs())
        self.max_batch_rows = 64 if self.signature.batched else 0
        self.example_shapes = [array.shape for array in first_that_runs(self.signature, self._run)[0]]
        self.options = BatchingOptions()
        self.stats = VersionStats()
        self.encoder = ResponseEncoder(
            name, version, [(spec.name, str(spec.datatype)) for spec in self.signature.outputs]
        )

    def held(self) -> AbstractContextManager[None]:
        return nullcontext()

    def deadline_ns(self, timeout_us: int | None) -> int | None:
        self.plane.timeouts_us.append(timeout_us)
        return None if timeout_us is None else timeout_us * 1_000

    async def infer(self, inputs: Mapping[str, Array], deadline_ns: int | None) -> list[Array]:
        plane = self.plane
        plane.deadlines_ns.append(deadline_ns)
        if plane.failure is not None:
            raise plane.failure
        if plane.crash is not None:
            raise plane.crash
        if plane.pause is not None:
            try:
                await plane.pause.wait()
            except asyncio.CancelledError:
                plane.cancelled += 1
                raise
        arrays, rows = check_inputs(self.signature, inputs)
        outputs = self._run(arrays)
        self.stats.inference_count += rows
        self.stats.execution_count += 1
        self.stats.success.add(1_000)
        return [np.asarray(output, order="C") for output in outputs]

    def _run(self, arrays: list[Array]) -> list[Array]:
        feeds = {spec.name: array for spec, array in zip(self.signature.inputs, arrays, strict=True)}
        try:
            outputs: list[Array] = self.session.run(None, feeds)
        except Exception as error:
            raise ModelFailed("the run failed") from error
        return outputs


class PlainDataPlane:
    """Serves what it was given; `failure` makes every run fail, `pause` makes every run wait."""

    def __init__(self) -> None:
        self.loaded: dict[str, dict[str, PlainServed]] = {}
        self.broken: list[IndexEntry] = []
        self.failure: FastserveError | None = None
        self.crash: Exception | None = None
        self.pause: asyncio.Event | None = None
        self.deadlines_ns: list[int | None] = []
        self.timeouts_us: list[int | None] = []
        self.cancelled = 0
        self.statistics = Statistics()

    def add(self, name: str, model: bytes, version: str = "1") -> PlainServed:
        served = PlainServed(self, name, version, model)
        self.loaded.setdefault(name, {})[version] = served
        return served

    def models(self) -> list[str]:
        return sorted({entry.name for entry in self.index()})

    def versions(self, model: str) -> list[str]:
        if model not in self.models():
            raise ModelNotFound(model)
        return sorted(self.loaded.get(model, {}), key=int)

    def aliases(self, model: str) -> dict[str, str]:
        return {}

    def index(self) -> list[IndexEntry]:
        ready = [
            IndexEntry(name, version, "READY")
            for name, versions in self.loaded.items()
            for version in versions
        ]
        return sorted([*ready, *self.broken], key=lambda entry: (entry.name, int(entry.version)))

    def ready(self) -> bool:
        return not self.broken

    def resolve(self, model: str, version: str | None = None) -> PlainServed:
        versions = self.versions(model)
        if version in versions or (version is None and versions):
            return self.loaded[model][version or versions[-1]]
        for entry in self.broken:
            if entry.name == model and version in (None, entry.version):
                raise NotReady(model, entry.version, entry.reason)
        raise VersionNotFound(model, str(version))
