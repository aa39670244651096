"""The main job in Python: record, train, judge."""

import sys
from pathlib import Path

from nextmove import jobs

if __name__ == "__main__":
    minutes = float(sys.argv[1]) if len(sys.argv) > 1 else 6.0
    demos = jobs.record("pusht", Path("runs/ten/demos"), episodes=400)
    jobs.train("flow-policy", demos, out=Path("runs/ten/flow"), minutes=minutes)
    report = jobs.evaluate(Path("runs/ten/flow"), episodes=50)
    print(report["policies"]["flow"]["success"])
