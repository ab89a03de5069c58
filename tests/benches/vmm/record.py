"""Results of one part, a JSON object a line on standard output, for report.py."""

import json


def put(part, **values):
    print(json.dumps({"part": part, **values}), flush=True)


def turn(names, number):
    """The names, each round beginning with another, so that a busy spell meets them all."""
    names = list(names)
    number %= len(names)
    return names[number:] + names[:number]
