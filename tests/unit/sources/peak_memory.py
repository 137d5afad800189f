"""What reading every case of a catalogue takes at most, measured in a process of its own."""

import subprocess
import sys
from pathlib import Path

PROGRAM = """
import resource, sys
from pathlib import Path
sys.path.insert(0, {services!r})
from backlane.testing import {module}
resource.setrlimit(resource.RLIMIT_CPU, (100, 100))
for case in {module}.{cases}:
    folder = Path(sys.argv[1]) / case.name
    folder.mkdir()
    {module}.refusal(case, folder)
# Not ru_maxrss: that remembers the process that started this one.
status = Path("/proc/self/status").read_text()
print(1024 * int(status.partition("VmHWM:")[2].split()[0]))
"""
ROOT = Path(__file__).resolve().parents[3]


def peak_memory_bytes(module: str, cases: str, folder: Path) -> int:
    """Runs every case of a module of backlane.testing; returns the most memory that it held."""
    program = PROGRAM.format(module=module, cases=cases, services=str(ROOT / "services"))
    done = subprocess.run(
        [sys.executable, "-c", program, str(folder)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return int(done.stdout)
