"""The compiled core as a plain list; everything else about the package is in pyproject.toml."""

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

HEADERS = sorted(str(path) for path in Path("fastserve_core").rglob("*.hpp"))
"""A change in any builds every extension anew: headers include headers, which Cython does not follow."""


def extension(name: str) -> Extension:
    return Extension(
        name,
        [name.replace(".", "/") + ".pyx"],
        depends=HEADERS,
        language="c++",
        include_dirs=["fastserve_core", "fastserve_core/wire", np.get_include()],
        define_macros=[("NPY_NO_DEPRECATED_API", "NPY_2_0_API_VERSION")],
        extra_compile_args=["-std=c++17", "-O3", "-fno-math-errno", "-fvisibility=hidden", "-Wall"],
    )


EXTENSIONS = [
    extension("fastserve_core.wire.head"),
    extension("fastserve_core.wire.decode"),
    extension("fastserve_core.wire.encode"),
    extension("fastserve_core.batching"),
    extension("fastserve_core.lane"),
]

if __name__ == "__main__":
    setup(ext_modules=cythonize(EXTENSIONS, compiler_directives=DIRECTIVES, build_dir="build/cython"))
