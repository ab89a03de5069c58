"""Results of one part, a JSON object a line on standard output, for report.py."""

import json
import os


def put(part, **values):
    print(json.dumps({"part": part, **values}), flush=True)


def turn(names, number):
    """The names, each round beginning with another, so that a busy spell meets them all; of them those in ONLY, if any."""
    only = [name for name in os.environ.get("ONLY", "").split(";") if name]
    names = [name for name in names if not only or name in only]
    number %= max(len(names), 1)
    return names[number:] + names[:number]
