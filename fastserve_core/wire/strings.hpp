// BYTES elements as Python strings: the one place of the decoder that makes Python objects. The GIL is held.
#pragma once

#include <Python.h>

#include <cstdint>

namespace fastserve {

// Element `index` of an object array becomes a new str; false when the bytes are not UTF-8. Leaves no exception behind.
inline bool put_str(void* buffer, int64_t index, const char* text, size_t length) noexcept {
    PyObject* const made = PyUnicode_DecodeUTF8(text, static_cast<Py_ssize_t>(length), nullptr);
    if (made == nullptr) {
        PyErr_Clear();
        return false;
    }
    PyObject** const slot = static_cast<PyObject**>(buffer) + index;
    PyObject* const old = *slot;
    *slot = made;
    Py_XDECREF(old);  // last: it may run code that looks at the slot
    return true;
}

}  // namespace fastserve
