"""The main job in Python: record, train, judge.

python examples/ten_lines.py [MINUTES] [DEMONSTRATIONS] [EPISODES] [FOLDER]
"""

import sys
from pathlib import Path

from nextmove import jobs

if __name__ == "__main__":
    given = dict(enumerate(sys.argv[1:]))
    folder = Path(given.get(3, "runs/ten"))
    demos = jobs.record("pusht", out=folder / "demos", episodes=int(given.get(1, 400)))
    jobs.train("flow-policy", demos, out=folder / "flow", minutes=float(given.get(0, 6)))
    report = jobs.evaluate(folder / "flow", episodes=int(given.get(2, 50)))
    print(report["policies"]["flow"]["success"])
