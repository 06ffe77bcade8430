"""Counts the suite's results and fails if one is not as it should be: `judge.py index.json`."""

import collections
import json
import sys

# A text inside one long frame is looked at when the frame is whole: what is wrong in its first half
# is found late, which the suite calls "non-strict", and the RFC allows.
LATE = {"6.4.3", "6.4.4"}

with open(sys.argv[1], encoding="utf-8") as file:
    (cases,) = json.load(file).values()

counts = collections.Counter()
wrong = []
for name, case in cases.items():
    said, closing = case["behavior"], case["behaviorClose"]
    counts[said] += 1
    fine = said in ("OK", "INFORMATIONAL") or (said == "NON-STRICT" and name in LATE)
    if not fine or closing not in ("OK", "INFORMATIONAL"):
        wrong.append(f"{name}: {said}, closing {closing} (code {case['remoteCloseCode']})")

print(f"{len(cases)} cases:", ", ".join(f"{count} {said}" for said, count in sorted(counts.items())))
print("\n".join(wrong) if wrong else "all passed")
sys.exit(1 if wrong or not cases else 0)
