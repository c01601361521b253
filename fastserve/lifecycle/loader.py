"""One version from its directory to a warm session, with all checks on the way."""

import logging
from dataclasses import dataclass
from difflib import get_close_matches

from pydantic import ValidationError

from fastserve.batching import BatchingOptions
from fastserve.errors import RegistryError
from fastserve.registry import Registry
from fastserve.runtime import OnnxRuntime, Runtime, RuntimeOptions, warm

log = logging.getLogger("fastserve.lifecycle")

_INLINE_US = 1_000
_INLINE_ONE_CORE_US = 5_000


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


class Loader:
    """Loads versions of one registry. Thread-safe; a load blocks for as long as it takes."""

    def __init__(
        self,
        registry: Registry,
        runtime: RuntimeOptions,
        batching: BatchingOptions,
        *,
        threads: int,
        verify: bool,
    ) -> None:
        self._registry = registry
        self._runtime = runtime
        self._batching = batching
        self._threads = threads
        self._verify = verify

    def load(self, model: str, version: int) -> Loaded:
        """Check, load and warm one version.

        Raises
        ------
        RegistryError, ModelRejected, ProviderUnavailable, RuntimeMissing
        """
        record = self._registry.describe(model, version)
        if self._verify:
            self._registry.verify(model, version)
        batching = self._batching_of(model)
        runtime = OnnxRuntime(record.path, self._runtime, self._threads)
        record.check_signature(runtime.signature)
        table = warm(
            runtime,
            batching.max_batch_rows,
            self._runtime.warmup_budget_ms,
            max_bucket_ms=self._runtime.max_bucket_ms,
        )
        max_batch_rows = table.max_rows if table.batchable else 0
        if runtime.signature.batched and not table.batchable:
            log.warning("model %s version %d is served unbatched: %s", model, version, table.reason)
        log.info(
            "model %s version %d is warm on %s: est(n) = %.1f us + %.2f us * n, up to %d rows a batch",
            model,
            version,
            runtime.provider,
            table.b_ns / 1e3,
            table.a_ns / 1e3,
            max_batch_rows,
        )
        return Loaded(model, version, runtime, max_batch_rows, table.a_ns, table.b_ns, batching)

    def _batching_of(self, model: str) -> BatchingOptions:
        settings = {**self._batching.model_dump(), **self._registry.settings(model).batching}
        if settings["inline_max_us"] is None:
            settings["inline_max_us"] = _INLINE_ONE_CORE_US if self._threads == 1 else _INLINE_US
        try:
            return BatchingOptions.model_validate(settings)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"])
            if first["type"] == "extra_forbidden":
                near = get_close_matches(where, BatchingOptions.model_fields, 1)
                hint = f"; did you mean '{near[0]}'?" if near else ""
                raise RegistryError(
                    f"model.yaml of model '{model}': batching.{where} is not a setting{hint}"
                ) from error
            raise RegistryError(f"model.yaml of model '{model}': batching.{where}: {first['msg']}") from error
