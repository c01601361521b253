"""One version from its directory to a warm session, with all checks on the way."""

import logging
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from fastserve.batching import BatchingOptions
from fastserve.batching.ring import least_rows, most_rows
from fastserve.clock import monotonic_ns
from fastserve.errors import ConfigError, RegistryError
from fastserve.lifecycle import directory
from fastserve.lifecycle.memory import Room
from fastserve.lifecycle.options import LifecycleOptions
from fastserve.lifecycle.probe import Prober
from fastserve.lifecycle.turn import Turn
from fastserve.registry import Hold, Registry, VersionRecord
from fastserve.registry.onnx_file import read_facts
from fastserve.runtime import OnnxRuntime, Runtime, RuntimeOptions, observed, warm
from fastserve.runtime.memory import use_huge_pages
from fastserve.types import Signature

log = logging.getLogger("fastserve.lifecycle")

_INLINE_US = 1_000
_INLINE_ONE_CORE_US = 10_000
_LARGE_BYTES = 4 * 2**20
_NEED_VALUES = frozenset({"LSTM", "GRU", "DynamicQuantizeLSTM", "FeatureVectorizer"})
"""Operators by which onnxruntime (1.32) ends the whole process when a sequence or a batch is empty."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """A version that can serve: loaded, warm, measured."""

    model: str
    version: int
    runtime: Runtime
    max_batch_rows: int
    """0: the model has no batch dimension."""
    row_ns: float
    base_ns: float
    """est(n) = row_ns·n + base_ns, from the warm-up's table."""
    batching: BatchingOptions
    hold: Hold | None = None
    """Keeps the version's directory from being collected."""
    size_bytes: int = 0
    """Of the version's files."""
    took_ns: int = 0
    """How long the load took, without the time that it waited for its turn."""
    example_shapes: tuple[tuple[int, ...], ...] = ()
    """One an input, in signature order: shapes that the model ran with."""
    needs_values: bool = False
    """An input without any elements would end the process."""


class _TakesLong(Exception):
    """A load that is not done in a moment."""


class Loader:
    """Loads versions of one registry. Thread-safe; a load blocks for as long as it takes."""

    def __init__(
        self,
        registry: Registry,
        runtime: RuntimeOptions,
        batching: BatchingOptions,
        lifecycle: LifecycleOptions,
        *,
        threads: int,
        ahead: Mapping[tuple[str, int], Loaded] | None = None,
    ) -> None:
        """`ahead`: what this process has got with its birth, by model and version (see `load_ahead`)."""
        self._registry = registry
        self._runtime = runtime
        self._batching = batching
        self._lifecycle = lifecycle
        self._threads = threads
        self._ahead = dict(ahead or {})
        self._room = Room(self._lifecycle.memory_bytes)
        for loaded in self._ahead.values():
            self._room.keep(loaded.size_bytes)
        self._prober = Prober(registry.path, self._lifecycle) if self._lifecycle.probe else None
        # Small models load in thousands of short steps that all want the interpreter: two threads at it take
        # longer than one (600 models: 6.7 s, not 6.3). And two warm-ups side by side would time each other.
        self._small = threading.Lock()
        self._one_warms = threading.Lock()

    def load(self, model: str, version: int) -> Loaded:
        """Check, load and warm one version.

        Raises
        ------
        RegistryError, ModelRejected, ProviderUnavailable, RuntimeMissing, ModelFailed, NotEnoughMemory
        """
        return self._ahead.pop((model, version), None) or self._fetch(model, version)

    def load_quickly(self, model: str, version: int) -> bool:
        """Load a version and keep it at hand, if that takes a moment; False if it takes longer.

        A large one takes longer, and one that has to be tested. What fails here, `load` will report.
        """
        try:
            if not self.at_hand(model, version):
                self.keep(self._fetch(model, version, quickly=True))
        except _TakesLong:
            return False
        except Exception:
            log.debug("model %s version %d was not loaded ahead", model, version, exc_info=True)
        return True

    def _fetch(self, model: str, version: int, *, quickly: bool = False) -> Loaded:
        began_ns = monotonic_ns()
        path = self._registry.path / model / str(version)
        with Turn(self._small) as turn:
            # Held before it is read: nothing is collected between the check and the load.
            hold = self._registry.hold(model, version)
            try:
                files = directory.stamp(path)
                # Before the checksums: those of a large version take long as well.
                large = sum(size for _, size, *_ in files) >= _LARGE_BYTES
                if large and quickly:
                    raise _TakesLong
                if large:
                    turn.leave()
                look = self._registry.verify if self._lifecycle.verify else self._registry.describe
                record = look(model, version)
                with self._room.loading(record) as size_bytes:
                    if self._prober is not None and not self._prober.passed(record):
                        if quickly:
                            raise _TakesLong
                        turn.leave()
                        self._prober.check(record)
                        if not large:
                            turn.take()
                    loaded = self._load(record, hold, size_bytes, began_ns + turn.waited_ns)
                    # onnxruntime opens files by name: those that were checked may not be those it read.
                    if directory.stamp(path) != files:
                        loaded.runtime.close()
                        raise RegistryError(f"{model}/{version} was changed while it was loaded")
            except BaseException:
                hold.close()
                raise
        _tell(loaded)
        return loaded

    def free(self, loaded: Loaded) -> None:
        """Give back what a version held; nobody uses it any more."""
        loaded.runtime.close()
        self._room.give(loaded.size_bytes)
        if loaded.hold is not None:
            loaded.hold.close()

    def at_hand(self, model: str, version: int) -> bool:
        """Tell whether it was loaded ahead, so that `load` takes no time."""
        return (model, version) in self._ahead

    def keep(self, loaded: Loaded) -> None:
        """Have a version at hand until somebody asks for it."""
        self._ahead[loaded.model, loaded.version] = loaded

    def take_ahead(self) -> dict[tuple[str, int], Loaded]:
        """Everything at hand; it is the caller's from now on."""
        ahead, self._ahead = self._ahead, {}
        return ahead

    def free_ahead(self) -> None:
        """Give back what was loaded ahead and nobody has asked for."""
        for loaded in self.take_ahead().values():
            self.free(loaded)

    def get_ready(self) -> None:
        """Start the process that test loads happen in; takes a moment."""
        if self._prober is not None:
            self._prober.get_ready()

    def close(self) -> None:
        """End the process that test loads happen in."""
        if self._prober is not None:
            self._prober.close()

    def _load(self, record: VersionRecord, hold: Hold, size_bytes: int, began_ns: int) -> Loaded:
        batching = self._batching_of(record.model)
        runtime = OnnxRuntime(record.path, self._runtime, self._threads)
        record.check_signature(runtime.signature)
        with self._one_warms:
            runtime.signature, row = observed(runtime)
            table = warm(
                runtime,
                most_rows(batching.max_batch_rows, least_rows(runtime.signature.inputs), batching),
                self._runtime.warmup_budget_ms,
                max_bucket_ms=self._runtime.max_bucket_ms,
                example=row,
            )
        if size_bytes >= _LARGE_BYTES:
            use_huge_pages()
        if runtime.signature.batched and not table.batchable:
            log.warning(
                "model %s version %d is served unbatched: %s", record.model, record.version, table.reason
            )
        return Loaded(
            record.model,
            record.version,
            runtime,
            table.max_rows,
            table.row_ns,
            table.base_ns,
            batching,
            hold,
            size_bytes,
            monotonic_ns() - began_ns,
            tuple(array.shape for array in row),
            _needs_values(record.path, runtime.signature),
        )

    def _batching_of(self, model: str) -> BatchingOptions:
        try:
            options = self._batching.overridden(self._registry.settings(model).batching)
        except ConfigError as error:
            raise RegistryError(f"model.yaml of model '{model}': {error}") from error
        if options.inline_max_us is None:
            inline_us = _INLINE_ONE_CORE_US if self._threads == 1 else _INLINE_US
            options = options.model_copy(update={"inline_max_us": inline_us})
        return options


def _needs_values(path: Path, signature: Signature) -> bool:
    """Tell whether a client can send an empty tensor to an operator that cannot take one."""
    if all(dim >= 0 for spec in signature.inputs for dim in spec.shape[signature.batched :]):
        return False
    return any(operator in _NEED_VALUES for _, operator in read_facts(path, path.name).operators)


def _tell(loaded: Loaded) -> None:
    log.info(
        "model %s version %d is warm on %s after %.1f ms: est(n) = %.1f us + %.2f us * n, %s",
        loaded.model,
        loaded.version,
        loaded.runtime.provider,
        loaded.took_ns / 1e6,
        loaded.base_ns / 1e3,
        loaded.row_ns / 1e3,
        f"up to {loaded.max_batch_rows} rows a batch" if loaded.max_batch_rows else "unbatched",
    )
