"""Small libraries, built when first used, that are preloaded into the programs under test: one lets
a broker's log tell nodes apart, one moves Redis's clock, one makes a disk slow."""

import atexit
import functools
import pathlib
import shutil
import subprocess
import tempfile

SOURCES = pathlib.Path(__file__).parent / "preloads"


@functools.cache
def _folder():
    folder = tempfile.mkdtemp(prefix="mqfleet-preload-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return pathlib.Path(folder)


@functools.cache
def library(name):
    """Path of the shared library made from preloads/<name>.c."""
    path = _folder() / f"{name}.so"
    subprocess.run(["cc", "-shared", "-fPIC", "-O2", "-o", path, SOURCES / f"{name}.c", "-ldl"],
                   check=True)
    return path


def preloaded(env, name, **more):
    """The environment with the library in it. A sanitizer insists on being first otherwise."""
    options = env.get("ASAN_OPTIONS", "") + ":verify_asan_link_order=0"
    return {**env, "ASAN_OPTIONS": options, "LD_PRELOAD": str(library(name)), **more}
