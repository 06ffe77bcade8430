"""What the suite is to do: `spec.py ADDRESS FOLDER [CASES…]`, as JSON on standard output."""

import json
import sys

address, folder, *cases = sys.argv[1:]
json.dump(
    {
        "outdir": folder,
        "servers": [{"agent": "dims", "url": f"ws://{address}"}],
        "cases": cases or ["*"],
        # Compression is an extension that the station does not offer.
        "exclude-cases": ["12.*", "13.*"],
        "exclude-agent-cases": {},
    },
    sys.stdout,
)
