"""Memory of this process, as the system counts it. Shared by benchmarks."""

from pathlib import Path


def resident(field: str, forget_peak: bool = False) -> float:
    """Memory that this process holds (VmRSS) or held at most (VmHWM), MB; NaN where the system is not Linux.

    Args:
        field: of /proc/self/status.
        forget_peak: let the most that it held count anew from here.
    """
    status = Path("/proc/self/status")
    if not status.exists():
        return float("nan")
    if forget_peak:
        Path("/proc/self/clear_refs").write_text("5")
    line = next(line for line in status.read_text().splitlines() if line.startswith(field))
    return int(line.split()[1]) / 1024
