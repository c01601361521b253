"""Distances between two sets of histograms, all features in one pass: what a window's drift is judged by.

The arithmetic is in measures.hpp; this file checks every argument before a count is read.
"""

from collections import namedtuple

from libc.math cimport isfinite
from libc.stdint cimport int64_t
from libcpp cimport bool as cpp_bool
from libcpp.vector cimport vector

cimport numpy as cnp

cnp.import_array()

cdef extern from "distance/measures.hpp" namespace "fastserve::distance" nogil:
    cdef enum:
        kMeasures
    int64_t total(const int64_t* counts, int64_t bins) noexcept
    int64_t measure(
        const int64_t* reference, const int64_t* live, int64_t bins, const double* edges, cpp_bool steps,
        double epsilon, int64_t rows, int64_t live_rows, double* out, int64_t stride,
    ) noexcept

cdef enum:
    SHORT = 4096  # so few bins are done sooner than another thread would wake

Distances = namedtuple(
    "Distances",
    "psi psi_raw jensen_shannon hellinger total_variation kolmogorov_smirnov wasserstein chi_square degrees",
    module="fastserve_core.distance.measures",
)
Distances.__doc__ = """One value a feature: float64 arrays [features], `degrees` int64 [features]."""


cdef cnp.ndarray checked(object array, int typenum, str name):
    """The array itself, when it is flat, C-contiguous, aligned, native and of the wanted dtype."""
    if not cnp.PyArray_Check(array):
        raise TypeError(f"{name} must be a NumPy array, not {type(array).__name__}")
    if not cnp.PyArray_EquivTypenums(cnp.PyArray_TYPE(array), typenum):
        wanted = "int64" if typenum == cnp.NPY_INT64 else "float64"
        raise ValueError(f"{name} must be {wanted}, not {array.dtype}")
    if cnp.PyArray_NDIM(array) != 1:
        raise ValueError(f"{name} must have one dimension, not {array.ndim}")
    if not cnp.PyArray_ISCARRAY_RO(array):
        raise ValueError(f"{name} must be C-contiguous, aligned and of native byte order")
    return <cnp.ndarray>array


cdef int check_offsets(const vector[int64_t]& offsets, int64_t bins) except -1:
    cdef size_t f
    if offsets.empty():
        raise ValueError("offsets must hold one value more than there are features, so at least one")
    if offsets.front() != 0 or offsets.back() != bins:
        raise ValueError(
            f"offsets must run from 0 to the number of counts ({bins}), "
            f"not from {offsets.front()} to {offsets.back()}"
        )
    for f in range(1, offsets.size()):
        if offsets[f] < offsets[f - 1]:
            raise ValueError(f"offsets must not fall: {offsets[f]} follows {offsets[f - 1]}")
    return 0


cdef int check_edges(const double* edges, int64_t size, const vector[int64_t]& offsets) except -1:
    cdef int64_t features = <int64_t>offsets.size() - 1, f, i
    if size != offsets.back() + features:
        raise ValueError(
            "edges must hold one boundary a bin and one more a feature, "
            f"{offsets.back() + features} in all, not {size}"
        )
    for f in range(features):
        for i in range(offsets[f] + f, offsets[f + 1] + f + 1):
            if not isfinite(edges[i]):
                raise ValueError(f"feature {f}: edges must be finite, not {edges[i]}")
            if i > offsets[f] + f and edges[i] < edges[i - 1]:
                raise ValueError(f"feature {f}: edges must not fall: {edges[i]} follows {edges[i - 1]}")
    return 0


cdef int sum_up(
    const int64_t* counts, const vector[int64_t]& offsets, vector[int64_t]& rows, str name
) except -1:
    """Rows of every feature."""
    cdef size_t f
    cdef int64_t sum
    for f in range(offsets.size() - 1):
        sum = total(counts + offsets[f], offsets[f + 1] - offsets[f])
        if sum == -1:
            raise ValueError(f"feature {f}: {name} counts must not be negative")
        if sum == -2:
            raise ValueError(f"feature {f}: {name} counts sum to more than 2**63 - 1")
        rows.push_back(sum)
    return 0


cdef struct Plan:
    const int64_t* reference
    const int64_t* live
    const double* edges
    cpp_bool steps
    double epsilon


cdef void measure_all(
    const Plan& plan, const vector[int64_t]& offsets, const vector[int64_t]& rows,
    const vector[int64_t]& live_rows, double* out, int64_t* degrees,
) noexcept nogil:
    cdef int64_t features = <int64_t>rows.size(), f, at
    for f in range(features):
        at = offsets[f]
        degrees[f] = measure(
            plan.reference + at, plan.live + at, offsets[f + 1] - at,
            plan.edges + at + f if plan.edges != NULL else NULL, plan.steps, plan.epsilon,
            rows[f], live_rows[f], out + f, features,
        )


def distances(reference, live, offsets, edges=None, *, bint steps=False, double epsilon=1e-4):
    """Distances of every feature between the reference's counts and the live ones.

    Parameters
    ----------
    reference, live : int64 [counts], not negative
        Counts of all features, one after the other, over the same bins on both sides.
    offsets : int64 [features + 1]
        Feature f owns the counts [offsets[f], offsets[f + 1]); from 0 to the number of counts, not falling.
    edges : float64 [counts + features], optional
        Bin boundaries in the feature's own unit, one more than bins a feature; finite, not falling. Feature f
        owns [offsets[f] + f, offsets[f + 1] + f + 1). Without them the bins, like categories, have no order.
    steps : bool
        False: the mass of a bin lies evenly between its boundaries. True: boundary i is the value that count
        i counts (the last boundary is not used), so that Wasserstein is that of the samples themselves.
    epsilon : float, above 0 and below 1
        What the shares of PSI are raised to where they are smaller.

    Returns
    -------
    Distances
        With p, q the shares of m reference rows and n live rows, B the bins, F, G the cumulative shares:
        psi_raw: sum (p - q) ln(p / q), shares floored at `epsilon`; psi: the same less (B - 1)(1/n + 1/m),
        about what it comes to without drift (Yurdakul and Naranjo, J. Risk Model Validation);
        jensen_shannon: distance, base 2, 0 to 1; hellinger, total_variation: 0 to 1;
        kolmogorov_smirnov: max |F - G| at the ends of bins; wasserstein: integral of |F - G| in the feature's
        unit; both NaN without edges; chi_square: Pearson's statistic of the 2 x B table without correction;
        degrees: its degrees of freedom, bins with a count on either side less one.
        A feature without rows on one side: NaN, and 0 degrees.

    Raises
    ------
    ValueError
        Wrong dtype, shape, order, offsets or edges; negative counts, or a feature's sum past 2**63 - 1.
    TypeError
        Something other than an array.
    """
    cdef cnp.ndarray counts = checked(reference, cnp.NPY_INT64, "reference")
    cdef cnp.ndarray live_counts = checked(live, cnp.NPY_INT64, "live")
    cdef cnp.ndarray starts = checked(offsets, cnp.NPY_INT64, "offsets")
    cdef cnp.ndarray bounds = None
    cdef int64_t bins = cnp.PyArray_SIZE(counts)
    cdef Plan plan
    cdef vector[int64_t] at, rows, live_rows
    if cnp.PyArray_SIZE(live_counts) != bins:
        raise ValueError(f"live has {cnp.PyArray_SIZE(live_counts)} counts, reference {bins}")
    if not 0.0 < epsilon < 1.0:
        raise ValueError(f"epsilon must lie between 0 and 1, not {epsilon}")
    # A copy: what was checked stays as it was, whatever another thread does to the array.
    cdef const int64_t* first = <int64_t*>cnp.PyArray_DATA(starts)
    at.assign(first, first + cnp.PyArray_SIZE(starts))
    check_offsets(at, bins)
    plan.reference = <int64_t*>cnp.PyArray_DATA(counts)
    plan.live = <int64_t*>cnp.PyArray_DATA(live_counts)
    plan.edges = NULL
    plan.steps = steps
    plan.epsilon = epsilon
    if edges is not None:
        bounds = checked(edges, cnp.NPY_FLOAT64, "edges")
        plan.edges = <double*>cnp.PyArray_DATA(bounds)
        check_edges(plan.edges, cnp.PyArray_SIZE(bounds), at)
    sum_up(plan.reference, at, rows, "reference")
    sum_up(plan.live, at, live_rows, "live")

    cdef cnp.npy_intp shape[2]
    shape[0], shape[1] = kMeasures, <cnp.npy_intp>rows.size()
    cdef cnp.ndarray out = cnp.PyArray_EMPTY(2, shape, cnp.NPY_FLOAT64, 0)
    cdef cnp.ndarray degrees = cnp.PyArray_EMPTY(1, shape + 1, cnp.NPY_INT64, 0)
    cdef double* values = <double*>cnp.PyArray_DATA(out)
    cdef int64_t* freedom = <int64_t*>cnp.PyArray_DATA(degrees)
    if bins <= SHORT:
        measure_all(plan, at, rows, live_rows, values, freedom)
    else:
        with nogil:
            measure_all(plan, at, rows, live_rows, values, freedom)
    return Distances(*out, degrees)
