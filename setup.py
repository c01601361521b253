"""The compiled core as a plain list; everything else about the package is in pyproject.toml."""

import os
from pathlib import Path

import numpy as np
from Cython.Build import cythonize
from setuptools import Extension, setup

DIRECTIVES = {
    "language_level": 3,
    "boundscheck": False,
    "wraparound": False,
    "cdivision": True,
    "initializedcheck": False,
    "embedsignature": True,
}

FLAGS = ["-std=c++17", "-O3", "-fno-math-errno", "-fvisibility=hidden", "-Wall", "-Wno-psabi"]

CORES = os.cpu_count() or 1

SERVING = ["*.hpp", "wire/*.hpp"]


def extension(name: str, headers: list[str]) -> Extension:
    """Headers include headers, which Cython does not follow: a change in any builds the module anew."""
    core = Path("fastserve_core")
    return Extension(
        name,
        [name.replace(".", "/") + ".pyx"],
        depends=sorted(str(path) for pattern in headers for path in core.glob(pattern)),
        language="c++",
        include_dirs=["fastserve_core", "fastserve_core/wire", np.get_include()],
        define_macros=[("NPY_NO_DEPRECATED_API", "NPY_2_0_API_VERSION")],
        extra_compile_args=FLAGS,
    )


EXTENSIONS = [
    extension("fastserve_core.wire.head", SERVING),
    extension("fastserve_core.wire.decode", SERVING),
    extension("fastserve_core.wire.encode", SERVING),
    extension("fastserve_core.batching", SERVING),
    extension("fastserve_core.lane", SERVING),
    extension("fastserve_core.histogram", SERVING),
    extension("fastserve_core.sketch.number", ["sketch/*.hpp"]),
    extension("fastserve_core.sketch.category", ["sketch/*.hpp"]),
    extension("fastserve_core.distance.measures", ["distance/*.hpp"]),
]

if __name__ == "__main__":
    setup(
        ext_modules=cythonize(
            EXTENSIONS, nthreads=CORES, compiler_directives=DIRECTIVES, build_dir="build/cython"
        ),
        options={"build_ext": {"parallel": CORES}},
    )
