"""A loaded ONNX model: the runtime that serving uses, and the look into a file that publishing takes."""

import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path

import numpy as np

from fastserve.errors import ModelFailed, ProviderUnavailable, RunStopped
from fastserve.runtime._ort import Session, built_in, reason, was_interrupted
from fastserve.runtime.memory import give_back
from fastserve.runtime.options import Provider, RuntimeOptions
from fastserve.runtime.protocol import Bound
from fastserve.runtime.signature import signature_of
from fastserve.runtime.sizes import SharedSizes
from fastserve.types import Array, DataType, Signature

_log = logging.getLogger("fastserve.runtime")

_MARK = 0xA5


class OnnxRuntime:
    """One ONNX model in one session. `run` is safe from several threads; a `Bound` belongs to one caller."""

    def __init__(self, model_path: Path, options: RuntimeOptions | None = None, threads: int = 1) -> None:
        """Load the file; `threads` work inside one run unless the options say how many."""
        options = options or RuntimeOptions()
        session, self.provider = _open(model_path, options, options.intra_op_threads or threads)
        self.signature = signature_of(session.inputs, session.outputs)
        self._session: Session | None = session
        self._sizes = SharedSizes(session.inputs)
        self._input_names = [tensor.name for tensor in self.signature.inputs]
        self._run = session.run
        self._writes_bound: bool | None = None
        """Whether a run writes all bound outputs; not known before the first that is bound."""

    def run(self, inputs: Sequence[Array]) -> list[Array]:
        """Run the model once.

        Parameters
        ----------
        inputs
            One array per input, in signature order; BYTES as object arrays of `str`.

        Returns
        -------
        list of arrays
            One C-contiguous array per output, in signature order, that nobody else holds.

        Raises
        ------
        ModelFailed
            The run failed, whatever the cause; the session is usable afterwards. RunStopped: by `interrupt`.
        InvalidRequest
            So it did, and dimensions that the model calls by one name had several sizes.
        """
        try:
            return self._run(dict(zip(self._input_names, inputs, strict=True)))
        except Exception as error:  # onnxruntime's errors share no base class
            if was_interrupted(error):
                raise RunStopped from error
            why = reason(error)
            raise self._sizes.refusal(inputs, why) or ModelFailed(why) from error

    def bind(self, inputs: Sequence[Array]) -> Bound | None:
        """Prepare a run over exactly these arrays; for a small model it costs a third less than `run`.

        Parameters
        ----------
        inputs
            One C-contiguous array per input, in signature order, all with the same number of rows.

        Returns
        -------
        callable or None
            Each call reads the inputs as they are then and gives the same output arrays, overwritten in
            place: one caller at a time, done with an answer before the next call. None where outputs cannot
            be laid out beforehand (strings, inner dimensions that vary), do not live in CPU memory, or are
            not written: onnxruntime leaves those alone that are an input or a constant of the graph.
        """
        session, outputs = self._session, self._outputs_for(inputs)
        if session is None or outputs is None or self._writes_bound is False:
            return None
        call = session.bind(
            dict(zip(self._input_names, inputs, strict=True)),
            {tensor.name: array for tensor, array in zip(self.signature.outputs, outputs, strict=True)},
        )

        if self._writes_bound is None:
            self._writes_bound = _writes(call, outputs)
            if self._writes_bound is None:
                with suppress(ModelFailed):  # the rows are at fault: nothing is known yet
                    self.run(inputs)
                    self._writes_bound = False
            if not self._writes_bound:
                return None

        # The session knows addresses only: what is bound must live as long as it may be called, hence `held`.
        def bound(held: Sequence[Array] = tuple(inputs)) -> list[Array]:
            try:
                call()
            except Exception as error:
                raise (RunStopped() if was_interrupted(error) else ModelFailed(reason(error))) from error
            return outputs

        return bound

    def interrupt(self) -> None:
        """Stop the runs under way at their next operator with RunStopped; later ones are not concerned."""
        if session := self._session:
            session.interrupt()

    def close(self) -> None:
        """Give the session's memory back once no run and no `Bound` holds it; `run` afterwards fails."""
        self._session = None
        self._run = _closed
        give_back()

    def _outputs_for(self, inputs: Sequence[Array]) -> list[Array] | None:
        """Allocate outputs for these inputs, or None where binding does not apply."""
        specs, skip = self.signature.inputs, int(self.signature.batched)
        if self.provider != Provider.CPU or len(inputs) != len(specs) or not specs:
            return None
        rows = inputs[0].shape[:skip]
        if 0 in rows:
            return None
        for spec, array in zip(specs, inputs, strict=True):
            fits = array.shape == rows + spec.shape[skip:] and array.dtype == spec.datatype.dtype
            if spec.datatype is DataType.BYTES or not fits or not array.flags.c_contiguous:
                return None
        outputs = self.signature.outputs
        if any(spec.datatype is DataType.BYTES or -1 in spec.shape[skip:] for spec in outputs):
            return None
        return [np.zeros(rows + spec.shape[skip:], spec.datatype.dtype) for spec in outputs]


def _writes(call: Callable[[], None], outputs: Sequence[Array]) -> bool | None:
    """Tell whether a run writes over a mark in each output; None when it fails."""
    marked = [array.reshape(-1).view(np.uint8) for array in outputs]
    for octets in marked:
        octets.fill(_MARK)
    try:
        call()
    except Exception:  # noqa: BLE001 - the run that is not bound will say it
        return None
    return all(octets.size == 0 or bool((octets != _MARK).any()) for octets in marked)


def can_be_forked(options: RuntimeOptions, threads: int) -> bool:
    """Tell whether sessions opened here serve in processes forked later: those of one thread, on the CPU."""
    cpu = options.provider is Provider.CPU
    cpu |= options.provider is Provider.AUTO and Provider.CUDA not in built_in()
    return cpu and threads == 1


def inspect(path: Path) -> Signature:
    """Load the file on the CPU as serving would and give its signature, or raise ModelRejected."""
    session, _ = _open(path, RuntimeOptions(provider=Provider.CPU), threads=1)
    return signature_of(session.inputs, session.outputs)


def _open(path: Path, options: RuntimeOptions, threads: int) -> tuple[Session, str]:
    """Open a session on the provider asked for; `auto` settles for the CPU and says so."""
    if options.provider is not Provider.AUTO:
        return Session(path, options.provider, options, threads), options.provider.value
    why = "this onnxruntime is built without CUDA"
    if Provider.CUDA in built_in():
        try:
            session = Session(path, Provider.CUDA, options, threads)
        except ProviderUnavailable as error:
            why = str(error)
        else:
            _tell(f"provider auto took cuda: device {options.device_id} is there and starts")
            return session, Provider.CUDA.value
    session = Session(path, Provider.CPU, options, threads)
    _tell(f"provider auto took cpu: {why}")
    return session, Provider.CPU.value


@cache
def _tell(choice: str) -> None:
    """Log what `auto` took, once a process and not with every model."""
    _log.info("%s", choice)


def _closed(feed: object) -> list[Array]:
    raise RuntimeError("its session is closed")
