"""What a measurement was made on: processor, cores, versions; and how much memory a process has taken."""

from __future__ import annotations

import os
import platform
import re
import sys
from importlib import metadata
from pathlib import Path
from typing import Any, Final

import callus

PACKAGES: Final = ("openvino", "onnxruntime", "numpy", "opencv-python-headless", "pillow", "pydicom")
"""What the time depends on."""
INSTRUCTIONS: Final = ("avx2", "avx_vnni", "avx512f", "avx512_vnni", "amx_int8", "asimd", "asimddp", "i8mm")
"""Vector instructions that decide how fast a network is, as Linux names them; those with int8 products foremost."""


def machine(cores: int) -> dict[str, Any]:
    """The processor, its instructions, the system, and how busy the machine is already.

    Args:
        cores: that this process may use.

    Returns:
        processor, instructions (None where the system does not tell), system, cores, load_average (of the last
        minute; None on Windows).
    """
    told = _cpuinfo()
    name = re.search(r"^(?:model name|Model|cpu model)\s*:\s*(.+)$", told, re.MULTILINE)
    flags = re.search(r"^(?:flags|Features)\s*:\s*(.+)$", told, re.MULTILINE)
    return {
        "processor": name[1].strip() if name else platform.processor() or platform.machine(),
        "instructions": [one for one in INSTRUCTIONS if one in flags[1].split()] if flags else None,
        "system": platform.platform(terse=True),
        "cores": cores,
        "load_average": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
    }


def versions() -> dict[str, str]:
    """The versions of callus, of Python and of what the time depends on; a package that is missing is left out."""
    found = {"callus": callus.__version__, "python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def peak_memory() -> float | None:
    """The most memory that this process has had at once since it began, MiB; None on Windows."""
    try:
        # Linux gives a new program its parent's getrusage; this counts from the program's own start.
        status = Path("/proc/self/status").read_text(encoding="utf-8")
        return int(status.partition("VmHWM:")[2].split()[0]) / 1024
    except (OSError, IndexError):
        pass
    try:
        import resource  # noqa: PLC0415 - Windows has none
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 1024  # bytes there, KiB elsewhere


def _cpuinfo() -> str:
    try:
        return Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:  # not Linux
        return ""
