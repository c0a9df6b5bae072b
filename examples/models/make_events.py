"""Make requests, and the labels that arrive later: the same ones each time."""

import json
import random
from pathlib import Path

chance = random.Random(7)
with Path("requests.jsonl").open("w") as requests, Path("labels.jsonl").open("w") as labels:
    for number in range(2000):
        x1, x2 = chance.gauss(0, 1), chance.gauss(0, 1)
        label = int(x1 * 1.5 - x2 + chance.gauss(0, 0.7) > 0)
        requests.write(json.dumps({"id": number, "x1": x1, "x2": x2}) + "\n")
        labels.write(json.dumps({"id": number, "label": label}) + "\n")
