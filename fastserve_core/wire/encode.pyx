"""Answers of infer and predict requests: output arrays to response bytes, rendered once and copied once.

The writers of numbers and strings are in encode.hpp; this file checks arrays before a byte of them is read.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_Check, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.object cimport PyObject
from cpython.unicode cimport PyUnicode_Check
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.string cimport memcpy
from libcpp cimport bool as cpp_bool

cimport numpy as cnp

cnp.import_array()

cdef extern from "Python.h":
    Py_ssize_t PyUnicode_GET_LENGTH(object text)
    int PyUnicode_KIND(object text)
    void* PyUnicode_DATA(object text)

cdef extern from "shortest.hpp" namespace "fastserve::answer" nogil:
    cdef int LOWEST_POWER, HIGHEST_POWER
    void set_power(int k, uint64_t high, uint64_t low) noexcept

cdef enum:
    BYTES_KIND = 12  # the last of encode.hpp's Kind

# In the order of encode.hpp's Kind: v2 datatype, NumPy kind, item size.
DATATYPES = (
    ("BOOL", "b", 1), ("INT8", "i", 1), ("INT16", "i", 2), ("INT32", "i", 4), ("INT64", "i", 8),
    ("UINT8", "u", 1), ("UINT16", "u", 2), ("UINT32", "u", 4), ("UINT64", "u", 8),
    ("FP16", "f", 2), ("FP32", "f", 4), ("FP64", "f", 8), ("BYTES", "O", sizeof(PyObject*)),
)
cdef dict KINDS = {row[0]: (kind, ord(row[1]), row[2]) for kind, row in enumerate(DATATYPES)}


cdef int fill_powers() except -1:
    """Give the number writer its powers of ten: 128 bits, the highest one set, rounded up."""
    for k in range(LOWEST_POWER, HIGHEST_POWER + 1):
        over, under = 10 ** max(k, 0), 10 ** max(-k, 0)
        shift = 127 + under.bit_length() if k < 0 else 128 - over.bit_length()
        if shift < 0:
            under <<= -shift
        scaled = -(-(over << max(shift, 0)) // under)
        set_power(k, scaled >> 64, scaled & 0xffffffffffffffff)
    return 0


fill_powers()

cdef inline int done(cpp_bool written) except -1:
    if not written:
        raise MemoryError("no memory for the response")
    return 0


cdef inline int put(Scratch& out, bytes text) except -1:
    return done(out.append(PyBytes_AS_STRING(text), PyBytes_GET_SIZE(text)))


cdef inline int write_text(Scratch& out, object text, bint escape) except -1:
    cdef Py_ssize_t length = PyUnicode_GET_LENGTH(text)
    return done(write_string(out, PyUnicode_KIND(text), PyUnicode_DATA(text), length, escape))


cdef bytes quoted(str text):
    """The string as JSON text."""
    cdef Scratch out
    put(out, b'"')
    write_text(out, text, True)
    put(out, b'"')
    return PyBytes_FromStringAndSize(out.data(), <Py_ssize_t> out.size())


cdef class ResponseEncoder:
    """Renders the answers of one model version; one thread at a time (it never lets go of the GIL).

    Parameters
    ----------
    model_name, model_version : str
        As they stand in every answer.
    outputs : sequence of (str, str)
        Name and v2 datatype of each output, in signature order.
    """

    def __init__(self, str model_name, str model_version, outputs):
        self.prefix = b'{"model_name":' + quoted(model_name) + b',"model_version":' + quoted(model_version)
        self.heads = []
        self.names = []
        self.labels = []
        self.outputs.clear()
        for name, datatype in outputs:
            if datatype not in KINDS:
                raise ValueError(f"output {name}: datatype {datatype} is not one that can be encoded")
            kind, letter, item_bytes = KINDS[datatype]
            self.outputs.push_back(Output(kind, letter, item_bytes))
            self.names.append(name)
            self.labels.append(quoted(name) + b":")
            datatype_text = datatype.encode()
            self.heads.append(b'{"name":' + quoted(name) + b',"datatype":"' + datatype_text + b'","shape":[')

    def body(self, list arrays, Py_ssize_t start, Py_ssize_t rows, bytes id_json, tuple selection):
        """The answer's body and the length of its JSON part, -1 when no output is binary.

        Parameters
        ----------
        arrays : list of ndarray
            One C-contiguous array of each output's dtype (object of str or bytes for BYTES), in signature
            order.
        start, rows : int
            The answer is array[start:start + rows]; rows == -1 with start == 0 takes the whole array.
        id_json : bytes or None
            The request's id as JSON text, quotes included.
        selection : tuple of (int, bool) or None
            Output index and whether it is sent binary, in the order of the answer; None: all of them as JSON.

        Raises
        ------
        ValueError
            When an array does not fit; nothing outside of it was read.
        """
        self.render(arrays, start, rows, id_json, selection)
        cdef bytes result = PyBytes_FromStringAndSize(NULL, <Py_ssize_t> (self.text.size() + self.tail_bytes))
        cdef Py_ssize_t json_bytes = <Py_ssize_t> self.text.size() if self.any_binary else -1
        self.copy_body(PyBytes_AS_STRING(result))
        return result, json_bytes

    cpdef bytes http(
        self, list arrays, Py_ssize_t start, Py_ssize_t rows, bytes id_json, tuple selection,
        bytes default_headers
    ):
        """The whole HTTP/1.1 answer as one bytes object: status line, `default_headers` (rendered lines, each
        with its CRLF), the framing headers, and what `body` gives for the same arguments."""
        if default_headers is None:
            raise TypeError("default_headers is None, not bytes")
        self.render(arrays, start, rows, id_json, selection)
        return self.framed(default_headers)

    def predict_body(self, list arrays, bint columnar):
        """TensorFlow Serving's body of whole arrays: `{"predictions": [row, …]}`, or `{"outputs": …}` when
        `columnar`; one output stands without its name. `arrays` and ValueError as in `body`.
        """
        self.render_predictions(arrays, 0, -1 if columnar or not arrays else len(arrays[0]), columnar)
        cdef bytes result = PyBytes_FromStringAndSize(self.text.data(), <Py_ssize_t> self.text.size())
        self.text.clear()
        return result

    cpdef bytes predict_http(
        self, list arrays, Py_ssize_t start, Py_ssize_t rows, bint columnar, bytes default_headers
    ):
        """The whole HTTP/1.1 answer around what `predict_body` gives for rows `[start, start + rows)`."""
        if default_headers is None:
            raise TypeError("default_headers is None, not bytes")
        self.render_predictions(arrays, start, rows, columnar)
        return self.framed(default_headers)

    cdef bytes framed(self, bytes default_headers):
        """What has been rendered, behind its head."""
        cdef size_t body_bytes = self.text.size() + self.tail_bytes
        self.head.clear()
        put(self.head, b"HTTP/1.1 200 OK\r\n")
        put(self.head, default_headers)
        if self.any_binary:
            put(self.head, b"inference-header-content-length: ")
            done(write_integer(self.head, <int64_t> self.text.size()))
            put(self.head, b"\r\ncontent-length: ")
        else:
            put(self.head, b"content-length: ")
        done(write_integer(self.head, <int64_t> body_bytes))
        if self.any_binary:
            put(self.head, b"\r\ncontent-type: application/octet-stream\r\n\r\n")
        else:
            put(self.head, b"\r\ncontent-type: application/json\r\n\r\n")
        cdef size_t head_bytes = self.head.size()
        cdef bytes result = PyBytes_FromStringAndSize(NULL, <Py_ssize_t> (head_bytes + body_bytes))
        memcpy(PyBytes_AS_STRING(result), self.head.data(), head_bytes)
        self.copy_body(PyBytes_AS_STRING(result) + head_bytes)
        return result

    cdef int copy_body(self, char* at) noexcept:
        cdef Tail tail
        memcpy(at, self.text.data(), self.text.size())
        at += self.text.size()
        for tail in self.tails:
            if tail.length:
                memcpy(at, self.blob.data() + tail.at if tail.data == NULL else tail.data, tail.length)
            at += tail.length
        self.text.clear()
        self.blob.clear()
        return 0

    cdef int render(
        self, list arrays, Py_ssize_t start, Py_ssize_t rows, bytes id_json, tuple selection
    ) except -1:
        """Fills text, tails and blob; pointers in tails live as long as the caller's arrays."""
        cdef Py_ssize_t index, expected = self.begin(arrays)
        cdef bint binary, first = True
        put(self.text, self.prefix)
        if id_json is not None:
            put(self.text, b',"id":')
            put(self.text, id_json)
        put(self.text, b',"outputs":[')
        if selection is None:
            for index in range(expected):
                self.output(index, False, arrays[index], start, rows, index == 0)
        else:
            for index, binary in selection:
                if not 0 <= index < expected:
                    raise ValueError(f"output index {index} of {expected} outputs")
                self.output(index, binary, arrays[index], start, rows, first)
                first = False
        return put(self.text, b"]}")

    cdef Py_ssize_t begin(self, list arrays) except -1:
        """Forget the answer before; the number of outputs, which is that of `arrays`."""
        cdef Py_ssize_t expected = <Py_ssize_t> self.outputs.size()
        self.text.clear()
        self.blob.clear()
        self.tails.clear()
        self.tail_bytes = 0
        self.any_binary = False
        if arrays is None or len(arrays) != expected:
            raise ValueError(f"{0 if arrays is None else len(arrays)} arrays for {expected} outputs")
        return expected

    cdef int render_predictions(
        self, list arrays, Py_ssize_t start, Py_ssize_t rows, bint columnar
    ) except -1:
        """Fills text; columns may be whole arrays, with `rows` -1."""
        cdef Py_ssize_t index, row, expected = self.begin(arrays)
        cdef vector[const char*] at
        for index in range(expected):
            array = arrays[index]
            self.check(index, array, start, rows)
            at.push_back(<const char*> cnp.PyArray_DATA(array))
            if start:
                at[index] += start * cnp.PyArray_STRIDE(array, 0)
        if columnar:
            put(self.text, b'{"outputs":')
            self.named(arrays, 0, rows, at)
            return put(self.text, b"}")
        put(self.text, b'{"predictions":[')
        for row in range(rows):
            if row:
                put(self.text, b",")
            self.named(arrays, 1, -1, at)
        return put(self.text, b"]}")

    cdef int named(self, list arrays, int axis, Py_ssize_t size, vector[const char*]& at) except -1:
        """One value, or an object with one of each output, from `at` on, which is moved behind it."""
        cdef Py_ssize_t index
        if self.outputs.size() == 1:
            return self.nested(0, arrays[0], axis, size, at[0])
        for index in range(<Py_ssize_t> self.outputs.size()):
            put(self.text, b"," if index else b"{")
            put(self.text, <bytes> self.labels[index])
            self.nested(index, arrays[index], axis, size, at[index])
        return put(self.text, b"}")

    cdef int nested(
        self, Py_ssize_t index, array, int axis, Py_ssize_t size, const char*& at
    ) except -1:
        """The elements of the axes from `axis` on as nested lists; a bare value where there are none.

        `size` is how many of the first of these axes, -1: all.
        """
        cdef int ndim = cnp.PyArray_NDIM(array)
        cdef Py_ssize_t i
        if size < 0:
            size = cnp.PyArray_DIM(array, axis) if axis < ndim else 1
        if axis < ndim:
            put(self.text, b"[")
        if axis >= ndim - 1:
            self.values(index, at, size)
        else:
            for i in range(size):
                if i:
                    put(self.text, b",")
                self.nested(index, array, axis + 1, -1, at)
        return put(self.text, b"]") if axis < ndim else 0

    cdef int values(self, Py_ssize_t index, const char*& at, Py_ssize_t count) except -1:
        cdef Output output = self.outputs[index]
        cdef const char* data = at
        (&at)[0] += count * output.item_bytes
        if output.kind == BYTES_KIND:
            return self.strings(index, <PyObject**> data, count)
        return done(write_numbers(self.text, output.kind, data, <size_t> count))

    cdef int output(
        self, Py_ssize_t index, bint binary, array, Py_ssize_t start, Py_ssize_t rows, bint first
    ) except -1:
        cdef Py_ssize_t count = self.check(index, array, start, rows)
        cdef Output output = self.outputs[index]
        cdef Py_ssize_t length = cnp.PyArray_DIM(array, 0) if cnp.PyArray_NDIM(array) else 1
        cdef Py_ssize_t row_items = cnp.PyArray_SIZE(array) // length if length else 0
        cdef const char* data = <const char*> cnp.PyArray_DATA(array) + start * row_items * output.item_bytes
        if not first:
            put(self.text, b",")
        put(self.text, <bytes> self.heads[index])
        self.shape(array, rows)
        if binary:
            self.binary(output, index, data, count)
        else:
            put(self.text, b'],"data":[')
            self.values(index, data, count)
            put(self.text, b"]}")
        return 0

    cdef Py_ssize_t check(self, Py_ssize_t index, array, Py_ssize_t start, Py_ssize_t rows) except -1:
        """The number of elements in the answer, once everything that the writers rely on holds."""
        cdef Output output = self.outputs[index]
        cdef Py_ssize_t length
        cdef int ndim
        if not cnp.PyArray_Check(array):
            raise ValueError(f"output {self.names[index]}: not an array but {type(array).__name__}")
        cdef char letter = (<cnp.ndarray> array).descr.kind
        if letter != output.letter or cnp.PyArray_ITEMSIZE(array) != output.item_bytes:
            raise ValueError(f"output {self.names[index]}: array has dtype {array.dtype}, "
                             f"the signature says {DATATYPES[output.kind][0]}")
        if not cnp.PyArray_ISCARRAY_RO(array):
            raise ValueError(f"output {self.names[index]}: array is not C-contiguous, aligned and in native "
                             "byte order")
        ndim = cnp.PyArray_NDIM(array)
        if rows == -1 and start == 0:
            return cnp.PyArray_SIZE(array)
        length = cnp.PyArray_DIM(array, 0) if ndim else 0
        if ndim == 0 or start < 0 or rows < 0 or start > length or rows > length - start:
            raise ValueError(f"output {self.names[index]}: {rows} rows from {start} of an array of shape "
                             f"{array.shape}")
        return rows * (cnp.PyArray_SIZE(array) // length) if length else 0

    cdef int shape(self, array, Py_ssize_t rows) except -1:
        cdef int axis
        for axis in range(cnp.PyArray_NDIM(array)):
            if axis:
                put(self.text, b",")
            done(write_integer(self.text, rows if axis == 0 and rows >= 0 else cnp.PyArray_DIM(array, axis)))
        return 0

    cdef int binary(self, Output output, Py_ssize_t index, const char* data, Py_ssize_t count) except -1:
        cdef Tail tail
        if output.kind == BYTES_KIND:
            tail.data = NULL
            tail.at = self.blob.size()
            self.prefixed(index, <PyObject**> data, count)
            tail.length = self.blob.size() - tail.at
        else:
            tail.data = data
            tail.at = 0
            tail.length = <size_t> (count * output.item_bytes)
        self.tails.push_back(tail)
        self.tail_bytes += tail.length
        self.any_binary = True
        put(self.text, b'],"parameters":{"binary_data_size":')
        done(write_integer(self.text, <int64_t> tail.length))
        return put(self.text, b"}}")

    cdef int strings(self, Py_ssize_t index, PyObject** items, Py_ssize_t count) except -1:
        """Elements as JSON strings; bytes that are not UTF-8 get U+FFFD."""
        cdef Py_ssize_t i
        for i in range(count):
            put(self.text, b',"' if i else b'"')
            item = self.item(index, items[i])
            if PyBytes_Check(item):
                item = item.decode("utf-8", "replace")
            write_text(self.text, item, True)
            put(self.text, b'"')
        return 0

    cdef int prefixed(self, Py_ssize_t index, PyObject** items, Py_ssize_t count) except -1:
        """Elements as <u32 little-endian length><bytes>."""
        cdef Py_ssize_t i
        cdef size_t at, length
        for i in range(count):
            at = self.blob.size()
            put(self.blob, b"\0\0\0\0")
            item = self.item(index, items[i])
            if PyBytes_Check(item):
                put(self.blob, item)
            else:
                write_text(self.blob, item, False)
            length = self.blob.size() - at - 4
            if length > <size_t> 0xffffffff:
                raise ValueError(f"output {self.names[index]}: an element has {length} bytes, limit 2^32 - 1")
            self.blob.set_length(at, <uint32_t> length)
        return 0

    cdef object item(self, Py_ssize_t index, PyObject* pointer):
        item = None if pointer == NULL else <object> pointer
        if not PyUnicode_Check(item) and not PyBytes_Check(item):
            raise ValueError(f"output {self.names[index]}: an element is {type(item).__name__}, "
                             "not str or bytes")
        return item
