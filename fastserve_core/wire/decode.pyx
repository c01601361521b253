# distutils: language = c++
"""Inference request bodies straight into batch buffers: six times faster than by way of Python objects.

The reading is done by the C++ headers beside this file (infer.hpp and predict.hpp over tensor.hpp,
json.hpp, number.hpp); Python objects become pointers and back. What is not plainly valid is handed over,
never explained.
"""

cimport numpy as cnp
from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_CheckExact, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport int64_t
from libcpp cimport bool as cbool
from libcpp.vector cimport vector

import numpy as np

cnp.import_array()

HAND_OVER = kHandOver
NO_ROOM = kNoRoom


cdef extern from "tensor.hpp" namespace "fastserve" nogil:
    int kind_of(string_view)
    string_view as_view "std::string_view" (const char*, size_t)
    cbool read_numbers(const char*, int64_t, int, void*, int64_t) except +


cdef extern from "wide_lane.hpp" namespace "fastserve::wide" nogil:
    cbool wide_enabled "fastserve::wide::enabled"
    cbool wide_available "fastserve::wide::available" () noexcept


cdef extern from "strings.hpp" namespace "fastserve" nogil:
    # Needs the GIL all the same; `RequestDecoder` never gives it up.
    cbool put_str(void*, int64_t, const char*, size_t) noexcept


_DATATYPES = {
    np.dtype(np.bool_): "BOOL",
    np.dtype(np.uint8): "UINT8",
    np.dtype(np.uint16): "UINT16",
    np.dtype(np.uint32): "UINT32",
    np.dtype(np.uint64): "UINT64",
    np.dtype(np.int8): "INT8",
    np.dtype(np.int16): "INT16",
    np.dtype(np.int32): "INT32",
    np.dtype(np.int64): "INT64",
    np.dtype(np.float16): "FP16",
    np.dtype(np.float32): "FP32",
    np.dtype(np.float64): "FP64",
    np.dtype(object): "BYTES",
}


cdef int _kind(str datatype) except -1:
    text = datatype.encode()
    cdef int kind = kind_of(as_view(PyBytes_AS_STRING(text), PyBytes_GET_SIZE(text)))
    if kind < 0:
        raise ValueError(f"unknown datatype {datatype!r}")
    return kind


cdef class RowBuffers:
    """The batch arrays of one model, one per input in signature order, as the decoder writes them.

    Parameters
    ----------
    arrays
        C-contiguous writable arrays `[capacity_rows, *row_dims]` in native byte order, all of the same
        capacity; BYTES inputs are object arrays, whose elements become `str`.

    Not thread-safe: the owner gives each call its own rows.
    """

    def __init__(self, arrays):
        cdef Buffer buffer
        cdef cnp.ndarray array
        cdef vector[Buffer] buffers
        kept = tuple(arrays)
        if not kept:
            raise ValueError("no arrays")
        capacity = kept[0].shape[0] if kept[0].ndim else 0
        for item in kept:
            array = item
            if array.ndim == 0 or item.shape[0] != capacity:
                raise ValueError("every array needs the same number of rows")
            if not (item.flags.carray and item.dtype in _DATATYPES):
                raise ValueError("every array must be writable, C-contiguous and of a protocol datatype")
            buffer.base = <char*>cnp.PyArray_DATA(array)
            buffer.row_elements = 1
            for dim in item.shape[1:]:
                buffer.row_elements *= dim
            buffer.row_bytes = buffer.row_elements * item.dtype.itemsize
            buffer.kind = _kind(_DATATYPES[item.dtype])
            buffers.push_back(buffer)
        self.arrays = kept
        self.capacity_rows = capacity
        self.buffers = buffers


cdef class Envelope:
    """What a request says beside its tensors; reused from request to request of one connection.

    `id_json` is the id as JSON text with its quotes, `timeout_us` is -1 when absent, `selection` holds
    `(output index, binary)` in the order asked for, None meaning every output as JSON. `rows` is what the
    request needs, also after `NO_ROOM`, where it is the least that a predict request needs; `columnar` tells
    of the latter that it came as columns. Not thread-safe.
    """

    def __init__(self):
        self.timeout_us = -1


cdef class RequestDecoder:
    """Reads request bodies for one signature.

    Parameters
    ----------
    inputs
        `(name, protocol datatype, row dims)` in signature order; row dims leave the batch dimension out and
        are fixed. FP16 inputs, and rows without elements, are read in binary form only.
    outputs
        Output names in signature order.

    Not thread-safe: one per event loop.
    """

    def __init__(self, inputs, outputs):
        cdef vector[int64_t] dims
        if self.places.size():
            raise RuntimeError("a decoder is made once")
        names = [name for name, _, _ in inputs]
        if not names or len(set(names)) != len(names) or len(set(outputs)) != len(outputs):
            raise ValueError("a signature needs inputs, and names that differ")
        for name, datatype, row_dims in inputs:
            dims.clear()
            for dim in row_dims:
                dims.push_back(dim)
            self.reader.add_input(name.encode(), _kind(str(datatype)), dims)
        for name in outputs:
            self.reader.add_output(name.encode())
        self.places.resize(self.reader.input_count())
        self.all_binary = tuple([(index, True) for index in range(len(outputs))])

    def decode(
        self,
        body,
        Py_ssize_t start,
        Py_ssize_t json_length,
        Py_ssize_t stop,
        RowBuffers buffers not None,
        Py_ssize_t row,
        Py_ssize_t room_rows,
        Envelope envelope not None,
        bint predict=False,
    ):
        """Write the request in `body[start:stop]` to `buffers` at `row` and what follows.

        Parameters
        ----------
        body
            bytes, bytearray or contiguous memoryview.
        start, json_length, stop
            `body[start:start + json_length]` is JSON and the rest up to `stop` binary tensors; `json_length`
            -1 means all is JSON, 0 a raw binary request.
        row, room_rows
            The only rows that may be written: `[row, row + room_rows)`. They may be scribbled on when the
            answer is `HAND_OVER`.
        predict
            TensorFlow Serving's body behind a head, `{"instances": [row, …]}` or `{"inputs": columns}`.

        Returns
        -------
        int
            Rows written, 1 or more; `HAND_OVER` or `NO_ROOM`.

        Raises
        ------
        ValueError
            When offsets or rows lie outside the body or the buffers, or the buffers are not this signature's.
        """
        cdef Py_buffer view
        if PyBytes_CheckExact(body):
            return self._decode(
                PyBytes_AS_STRING(body), PyBytes_GET_SIZE(body),
                start, json_length, stop, buffers, row, room_rows, envelope, predict,
            )
        PyObject_GetBuffer(body, &view, PyBUF_SIMPLE)
        try:
            return self._decode(
                <char*>view.buf, view.len,
                start, json_length, stop, buffers, row, room_rows, envelope, predict,
            )
        finally:
            PyBuffer_Release(&view)

    cdef int64_t _decode(
        self,
        const char* text,
        Py_ssize_t size,
        Py_ssize_t start,
        Py_ssize_t json_length,
        Py_ssize_t stop,
        RowBuffers buffers,
        Py_ssize_t row,
        Py_ssize_t room_rows,
        Envelope envelope,
        bint predict,
    ) except? -3:
        cdef Destination to
        cdef int64_t rows
        cdef size_t i
        if start < 0 or stop < start or stop > size:
            raise ValueError("the request lies outside the body")
        if row < 0 or room_rows < 0 or row > buffers.capacity_rows - room_rows:
            raise ValueError("the rows lie outside the buffers")
        if buffers.buffers.size() != self.places.size():
            raise ValueError("the buffers do not belong to this signature")
        for i in range(self.places.size()):
            if (
                buffers.buffers[i].kind != self.reader.kind(i)
                or buffers.buffers[i].row_elements != self.reader.row_elements(i)
            ):
                raise ValueError("the buffers do not belong to this signature")
            self.places[i] = buffers.buffers[i].base + row * buffers.buffers[i].row_bytes
        to.buffers = self.places.data()
        to.room_rows = room_rows
        to.put = put_str
        if predict:
            return self._decode_predict(text, start, json_length, stop, &to, envelope)
        rows = self.reader.read(text + start, json_length, stop - start, to)
        self._fill(envelope, rows > 0)
        return rows

    cdef int64_t _decode_predict(
        self,
        const char* text,
        Py_ssize_t start,
        Py_ssize_t json_length,
        Py_ssize_t stop,
        Destination* to,
        Envelope envelope,
    ) except? -3:
        cdef int64_t rows
        envelope.id_json, envelope.selection, envelope.timeout_us, envelope.rows = None, None, -1, 0
        if json_length != -1 or start < kLookbehind:
            return kHandOver
        cdef PredictReader* reader = new PredictReader(self.reader, to[0])
        try:
            rows = reader.read(text + start, stop - start)
            envelope.rows, envelope.columnar = reader.rows, reader.columnar
        finally:
            del reader
        return rows

    cdef void _fill(self, Envelope envelope, bint good):
        cdef Options* options = &self.reader.options
        envelope.rows = options.rows
        envelope.timeout_us = options.timeout_us
        if good and options.id.size():
            envelope.id_json = PyBytes_FromStringAndSize(options.id.data(), <Py_ssize_t>options.id.size())
        else:
            envelope.id_json = None
        if options.selected.empty():
            envelope.selection = self.all_binary if options.binary_output else None
        else:
            envelope.selection = self._selection(options)

    cdef tuple _selection(self, Options* options):
        # A client asks for the same outputs again and again: the tuple made for the last request mostly fits.
        cdef size_t i
        cdef cbool same = (
            self.last_selection is not None
            and self.last_selected.size() == options.selected.size()
            and self.last_binary == options.binary_output
        )
        for i in range(options.selected.size()):
            same = same and self.last_selected[i] == options.selected[i]
        if not same:
            self.last_selection = tuple([
                (one.output, bool(options.binary_output if one.binary < 0 else one.binary))
                for one in options.selected
            ])
            self.last_selected = options.selected
            self.last_binary = options.binary_output
        return self.last_selection


def decode_numbers(bytes text not None, dtype):
    """Read one flat JSON array of numbers.

    Parameters
    ----------
    text
        `[1,2.5,…]`, white space allowed.
    dtype
        Any protocol datatype's dtype but float16 and object.

    Returns
    -------
    numpy.ndarray
        One dimension, of `dtype`: the nearest double of each number, cast.

    Raises
    ------
    ValueError
        When the text is anything else.
    """
    kind = np.dtype(dtype)
    if kind not in _DATATYPES or kind.kind == "O" or kind == np.float16:
        raise ValueError(f"{kind} is not read from JSON here")
    cdef bint empty = len(text) < 1024 and b"".join(text.split()) == b"[]"
    cdef cnp.ndarray out = np.empty(0 if empty else text.count(b",") + 1, kind)
    cdef int code = _kind(_DATATYPES[kind])
    if not empty and not read_numbers(
        PyBytes_AS_STRING(text), PyBytes_GET_SIZE(text), code, cnp.PyArray_DATA(out), cnp.PyArray_SIZE(out)
    ):
        raise ValueError("not a flat JSON array of numbers of this type")
    return out


def set_vector_level(str name):
    """Choose the instructions that read numbers, for tests: "baseline" or "avx2"; the one chosen before.

    ValueError for one that this machine does not have.
    """
    global wide_enabled
    if name not in ("baseline", "avx2") or (name == "avx2" and not wide_available()):
        raise ValueError(f"this machine has no vector level '{name}'")
    before = "avx2" if wide_enabled else "baseline"
    wide_enabled = name == "avx2"
    return before
