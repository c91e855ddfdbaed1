"""libFuzzer around a target, inside a Python process.

The targets' extensions bring their own coverage. For Python code, if asked, a trace function counts pairs of lines in the extra
counters that libFuzzer looks at.
"""

from libc.stdint cimport uint8_t, uint32_t
from libc.stdio cimport fprintf, stderr
from libc.stdlib cimport abort, free, malloc

import traceback

from kernels cimport Kernel, kernel_find


cdef extern from *:
    """
    #include <frameobject.h>
    #define MIX(code, line) ((uint32_t)(((uintptr_t)(code) >> 4) * 2654435761u + (uint32_t)(line) * 40503u))
    enum { LINE_COUNTERS = 1 << 15 };
    extern uint8_t line_counters[LINE_COUNTERS];
    int LLVMFuzzerRunDriver(int *, char ***, int (*)(const uint8_t *, size_t));
    """
    uint32_t LINE_COUNTERS
    uint8_t line_counters[1]
    uint32_t MIX(PyCodeObject*, int)
    ctypedef struct PyObject:
        pass
    ctypedef struct PyFrameObject:
        pass
    ctypedef struct PyCodeObject:
        pass
    int PyTrace_LINE
    PyCodeObject* PyFrame_GetCode(PyFrameObject*)
    int PyFrame_GetLineNumber(PyFrameObject*)
    void Py_DECREF(PyCodeObject*)
    void PyEval_SetTrace(int (*)(PyObject*, PyFrameObject*, int, PyObject*), PyObject*)
    int LLVMFuzzerRunDriver(int*, char***, int (*)(const uint8_t*, size_t)) nogil


cdef Kernel chosen = NULL
cdef object function = None
cdef uint32_t last_line = 0


cdef int count_line(PyObject* unused, PyFrameObject* frame, int what, PyObject* arg) noexcept:
    global last_line
    cdef PyCodeObject* code
    cdef uint32_t line
    cdef uint8_t* counter
    if what == PyTrace_LINE:
        code = PyFrame_GetCode(frame)
        line = MIX(code, PyFrame_GetLineNumber(frame))
        Py_DECREF(code)
        counter = &line_counters[(line ^ last_line >> 1) % LINE_COUNTERS]
        counter[0] += counter[0] < 255
        last_line = line
    return 0


cdef void call(const uint8_t* data, size_t size) noexcept with gil:
    global last_line
    last_line = 0
    try:
        function((<const char*>data)[:size])
    except BaseException:
        traceback.print_exc()
        abort()


cdef int one_input(const uint8_t* data, size_t size) noexcept nogil:
    cdef int failed
    if chosen == NULL:
        call(data, size)
        return 0
    failed = chosen(data, size)
    if failed:
        fprintf(stderr, "check %d fails\n", failed)
        abort()
    return 0


def run(list arguments, str kernel=None, target=None, bint lines=False):
    """libFuzzer with its arguments on a kernel or a Python function. Ends the process."""
    global chosen, function
    cdef list texts = [b"fuzz", *(argument.encode() for argument in arguments)]
    cdef int count = len(texts)
    cdef char** values = <char**>malloc((count + 1) * sizeof(char*))
    cdef int i
    for i in range(count):
        values[i] = texts[i]
    values[count] = NULL
    if kernel is not None:
        chosen = kernel_find(kernel)
        if chosen == NULL:
            raise KeyError(kernel)
    else:
        function = target
        if lines:
            PyEval_SetTrace(count_line, NULL)
    with nogil:
        i = LLVMFuzzerRunDriver(&count, &values, one_input)
    free(values)
    return i
