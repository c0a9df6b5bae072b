"""Read a DS18B20 thermometer on a Raspberry Pi's 1-Wire bus: one JSON line a reading.

Without such a device it simulates one, says so, and gives a history up to now at once.
"""

import argparse
import json
import math
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path


def fahrenheit(device: Path) -> float | None:
    text = (device / "w1_slave").read_text()  # the kernel's driver asks the device meanwhile
    return int(text.rpartition("t=")[2]) / 1000 * 9 / 5 + 32 if "YES" in text else None


options = argparse.ArgumentParser(description=__doc__)
options.add_argument("--count", type=int, default=300)
options.add_argument("--every", type=float, default=5.0, help="seconds between two readings")
chosen = options.parse_args()
device = next(Path("/sys/bus/w1/devices").glob("28-*"), None)
if device is None:
    print("no DS18B20 here: simulating one", file=sys.stderr)
begun = datetime.now(UTC) - timedelta(seconds=chosen.count * chosen.every)
for n in range(chosen.count):
    at, value = begun + timedelta(seconds=n * chosen.every), 68 + 9 * math.sin(n / 40)
    if device is not None:
        time.sleep(chosen.every)
        at, value = datetime.now(UTC), fahrenheit(device)
    if value is not None:  # None: the cable has garbled it
        name = device.name if device else "28-simulated"
        line = {"sensor": name, "time": at.isoformat(), "fahrenheit": round(value, 4)}
        print(json.dumps(line), flush=True)
