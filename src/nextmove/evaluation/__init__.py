"""Judging policies: repeatable rollouts, intervals, paired tests, held-out errors, one report."""

from nextmove.evaluation.entry import Entry, entry_json, read_entry
from nextmove.evaluation.episode import EpisodeResult
from nextmove.evaluation.intervals import wilson
from nextmove.evaluation.latency import Latency, latency
from nextmove.evaluation.offline import Offline, offline
from nextmove.evaluation.paired import compare
from nextmove.evaluation.report import write_report
from nextmove.evaluation.rollout import RolloutError, rollout

__all__ = [
    "Entry",
    "EpisodeResult",
    "Latency",
    "Offline",
    "RolloutError",
    "compare",
    "entry_json",
    "latency",
    "offline",
    "read_entry",
    "rollout",
    "wilson",
    "write_report",
]
