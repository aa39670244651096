"""The page asks nothing of a network and claims what the numbers allow; the JSON is what it promises."""

from __future__ import annotations

import dataclasses
import json
import re
from xml.etree import ElementTree

import numpy as np
import pytest
from tests.evaluation.test_paired import played
from tests.evaluation.toys import Drawn, Point

from nextmove.control import history
from nextmove.evaluation import (
    Entry,
    entry_json,
    latency,
    offline,
    read_entry,
    rollout,
    wilson,
    write_report,
)
from nextmove.evaluation.beside import Beside, Errors, labels, worst_dims
from nextmove.evaluation.entry import read_train_log
from nextmove.evaluation.film import film
from nextmove.evaluation.keys import ranges
from nextmove.evaluation.plots import calls_plot, efficiency_plot, standalone
from nextmove.evaluation.report import _count, _number, _p, _signed, by_demonstrations
from nextmove.evaluation.summary import summarise
from nextmove.evaluation.trajectory import Trajectory

NASTY = '<b>"A&B"</b> $x_1$'


def batches():
    generator = np.random.default_rng(0)
    return [{"observation.state": _tensor(generator, 8, 2, 2), "action": _tensor(generator, 8, 6, 2)}]


def _tensor(generator, *shape):
    import torch

    return torch.from_numpy(generator.normal(size=shape).astype(np.float32))


@pytest.fixture(scope="module")
def entries():
    obs = history([{"observation.state": np.zeros(2)}] * 2)
    wide, narrow = Drawn(noise=0.3), Drawn(noise=0.01)
    curve = {"step": [10, 20, 30], "loss": [3.0, 1.0, 0.5]}
    one = Entry(
        "steady",
        rollout(Point, lambda: narrow, range(12), workers=0, video=2),
        latency(narrow, obs, n=5),
        offline(narrow, batches(), draws=2),
        facts={"parameters": 4_100_000, "minutes": 10.0, "windows": 1234, "optim": {"lr": 1e-3}},
        curve=curve,
        command="nextmove train steady",
    )
    other = Entry(NASTY, rollout(Point, lambda: wide, range(12), workers=0, video=2), curve=curve)
    return [one, other]


@pytest.fixture(scope="module")
def report(entries, tmp_path_factory):
    out = tmp_path_factory.mktemp("report")
    content = write_report(
        entries, out, title="Two <policies>", task="Reach the origin.", unit="m", commands=["nextmove evaluate a & b"]
    )
    return content, (out / "report.html").read_text(), out


def test_the_page_is_alone_in_the_world(report):
    _, page, _ = report
    assert not re.search(r"https?://|//[a-z]+\.", page)
    assert not re.search(r"<(script|link|iframe|object|embed)\b|@import", page)
    for source in re.findall(r'(?:src|href)="([^"]*)"', page):
        assert source.startswith(("data:video/mp4;base64,", "#")), source[:60]
    assert not re.search(r"url\((?!#)", page)


def test_ids_are_unique_and_links_within_figures_lead_somewhere(report):
    _, page, _ = report
    ids = re.findall(r'\bid="([^"]*)"', page)
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'(?:url\(|href=")#([\w-]+)', page)) <= set(ids)


def test_names_and_commands_are_escaped(report):
    _, page, _ = report
    assert "<b>" not in page
    assert "Two &lt;policies&gt;" in page
    assert "nextmove evaluate a &amp; b" in page


def test_figures_take_their_colours_from_the_page(report):
    _, page, _ = report
    body = page[page.index("<body") :]
    assert page.count("<svg") == 6
    assert "prefers-color-scheme: dark" in page
    assert not re.search(r"#0[0-9]0a0a|#010101|#020202|#030303", body)
    assert "<image" not in body
    for label in (
        "success rate, % of episodes",
        "time per plan, ms",
        "optimiser steps",
        "mean absolute error / spread",
    ):
        assert label in body


def test_films_are_there_failures_first(report, entries):
    _, page, _ = report
    assert page.count("<video") == sum(bool(r.video) for entry in entries for r in entry.results) == 4
    shown = re.findall(r"<figcaption><span class=\"tag (won|lost)\">", page)
    assert shown == ["won", "won", "lost", "won"]


def test_json_holds_what_it_promises(report, entries):
    content, _, out = report
    assert json.loads((out / "report.json").read_text()) == content
    steady = content["policies"]["steady"]
    rate = wilson(sum(r.success for r in entries[0].results), 12)
    assert steady["success"] == {
        "successes": rate.successes,
        "episodes": 12,
        "rate": rate.rate,
        "low": rate.low,
        "high": rate.high,
    }
    assert steady["mean_max_reward"] == pytest.approx(np.mean([r.max_reward for r in entries[0].results]))
    assert steady["ms_per_chunk"]["measured"] == "alone"
    assert steady["hz"]["per_replan"] == pytest.approx(1000 / steady["ms_per_chunk"]["p99"])
    assert steady["hz"]["per_action"] == pytest.approx(4000 / steady["ms_per_chunk"]["p99"])
    assert steady["jerk"] == pytest.approx(np.mean([r.jerk for r in entries[0].results]))
    assert steady["parameters"] == 4_100_000
    assert steady["train_minutes"] == 10.0
    assert [e["seed"] for e in steady["episodes"]] == list(range(12))
    assert steady["offline"]["draws"] == 2
    other = content["policies"][NASTY]
    assert other["ms_per_chunk"]["measured"] == "during rollouts"
    assert other["hz"] is None
    assert set(content["comparisons"][0]) >= {"a", "b", "p", "p_adjusted", "success", "max_reward"}


def test_verdicts_claim_what_the_tests_allow():
    def verdict_of(**results):
        return summarise([Entry(name, r) for name, r in results.items()], title="")["verdict"]

    good, bad = played([1] * 20), played([0] * 20)
    assert verdict_of(a=good) == "a succeeds in 20 of 20 episodes (100 %, 95 % interval 84 to 100 %)."
    assert verdict_of(a=bad, b=good).endswith("It beats a beyond chance (p < 0.001).")
    close = verdict_of(a=good, b=played([1] * 18 + [0] * 2), c=bad)
    assert close.endswith("It beats c beyond chance (p < 0.001). These seeds cannot tell it from b.")
    apart = summarise([Entry("a", good), Entry("b", played([1] * 20, first=5))], title="")
    assert apart["verdict"].endswith("The policies played different seeds and are not compared.")
    assert apart["comparisons"] == []
    assert "a and b played different seeds" in apart["not_compared"]


def test_different_seeds_and_many_policies_still_make_a_page(tmp_path):
    many = [Entry(f"policy-{i}", played([j % 12 < i for j in range(12)])) for i in range(10)]
    write_report(many, tmp_path, title="Ten")
    page = (tmp_path / "report.html").read_text()
    assert page.index("policy-9") < page.index("policy-0")
    write_report([many[0], Entry("late", played([1], first=99))], tmp_path, title="Apart")
    assert "played different seeds, so their difference" in (tmp_path / "report.html").read_text()


def test_held_out_errors_alone_make_a_report(tmp_path):
    found = offline(
        Drawn(noise=9.0), batches(), now=2, state="observation.state", names=("pan", "lift"), latency_calls=2
    )
    drawn = Trajectory(7, np.zeros((9, 2)), np.array([0, 4, 8]), np.ones((3, 4, 2)), 10.0)
    entry = Entry("policy", offline=dataclasses.replace(found, trajectories=(drawn,)))
    content = write_report([entry], tmp_path, title="Offline", unit="rad")
    assert content["policies"]["policy"]["success"] is None
    assert content["policies"]["policy"]["hz"] is not None
    assert re.match(r"policy misses the demonstrated action by [\d.]+ rad", content["verdict"])
    beside = content["policies"]["policy"]["offline"]["beside"]
    assert beside["verdict"] in content["verdict"]
    page = (tmp_path / "report.html").read_text()
    assert "Beside the demonstrations" in page
    assert re.findall(r'<span class="label" title="(\w+)">', page) == beside["names"] == ["pan", "lift"]
    assert page.count('<span class="track"') == 2
    for who in beside["errors"]:
        assert len(beside["errors"][who]["by_episode"]) == len(beside["episodes"]) == 1
        assert who == "policy" or f'<th scope="row">{who}</th>' in page
    assert 'class="verdict bad"' in page
    assert "Demonstrated and planned actions of episode 7" in page
    assert "trajectories" not in content["policies"]["policy"]["offline"]
    assert "Paired tests" not in page


def test_what_the_camera_saw_lies_beside_the_plans_and_survives_a_file(tmp_path):
    found = offline(Drawn(noise=9.0), batches(), now=2, state="observation.state", names=("pan", "lift"))
    drawn = Trajectory(7, np.zeros((9, 2)), np.array([0, 4, 8]), np.ones((3, 4, 2)), 10.0)
    frames = [np.full((48, 64, 3), 25 * i, np.uint8) for i in range(9)]
    films = (film(7, "observation.images.top", range(9), frames),)
    entry = Entry("policy", offline=dataclasses.replace(found, trajectories=(drawn,), films=films))
    (tmp_path / "entry.json").write_text(json.dumps(entry_json(entry)))
    entry = read_entry(tmp_path / "entry.json")
    content = write_report([entry, Entry("other", offline=found)], tmp_path, title="Seen", unit="rad")
    page = (tmp_path / "report.html").read_text()
    assert page.count('<figure class="card filmed"') == 1
    assert page.count(films[0].data) == 1
    assert 'data-steps="0,1,2,3,4,5,6,7,8" data-last="8" data-fps="10.0"' in page
    assert '<input type="range" min="0" max="8"' in page
    assert page.count("<script>") == 1
    # A line in the plot of each joint, which the script moves.
    assert len(re.findall(r'<g id="episode7-now\d"', page)) == 2
    assert "films" not in content["policies"]["policy"]["offline"]
    assert len(page) < 200_000


def test_a_policy_better_than_doing_nothing_is_not_called_worse(tmp_path):
    class Knowing(Drawn):
        def act(self, obs, *, rng, known=None):
            return dataclasses.replace(super().act(obs, rng=rng), actions=batches()[0]["action"][:, 2:])

    content = write_report(
        [Entry("knows", offline=offline(Knowing(), batches(), now=2, state="observation.state"))],
        tmp_path,
        title="Good",
    )
    assert "Better than doing nothing at every step of the horizon: error 0 of" in content["verdict"]
    page = (tmp_path / "report.html").read_text()
    assert 'class="verdict"' in page
    assert '<span class="tag won">better</span> than doing nothing' in page


def test_of_many_joints_the_worst_are_drawn():
    errors = Errors(np.stack([np.arange(40.0)] * 2), np.full((1, 2), 19.5))
    found = Beside(np.ones(40), np.array([0]), np.ones((1, 2), int), {"policy": errors, "holding the state": errors})
    assert worst_dims(found, 32) == list(range(8, 40))
    assert labels(found)[39] == "dimension 39"


def test_entries_survive_their_file(entries, tmp_path):
    for i, entry in enumerate(entries):
        path = tmp_path / f"{i}.json"
        path.write_text(json.dumps(entry_json(entry) | {"date": "today"}, allow_nan=False))
        again = read_entry(path)
        assert entry_json(again) == entry_json(entry)
        one, other = (summarise([e], title="")["policies"] for e in (entry, again))
        assert one == other
    path.write_text("{}")
    with pytest.raises(ValueError, match=r"1.json: not an entry of a report: expected the keys"):
        read_entry(path)


def test_entries_have_names_and_something_to_say(entries):
    with pytest.raises(ValueError, match="each with its own name"):
        summarise([entries[0], entries[0]], title="")
    with pytest.raises(ValueError, match="'empty': expected episodes or held-out errors"):
        summarise([Entry("empty")], title="")
    with pytest.raises(ValueError, match="expected every seed once"):
        summarise([dataclasses.replace(entries[0], results=list(entries[0].results) * 2)], title="")


def test_training_logs_are_thinned(tmp_path):
    lines = [json.dumps({"kind": "step", "step": i, "loss": float(i)}) for i in range(1, 401)]
    lines += ['{"kind": "validation", "step": 400, "loss": 9e9}', '{"kind": "step", "step": 401, "loss": null}', '{"st']
    (tmp_path / "train.jsonl").write_text("\n".join(lines))
    curve = read_train_log(tmp_path / "train.jsonl", points=100)
    assert len(curve["step"]) == 100
    assert curve["step"][:2] == [2.5, 6.5]
    assert curve["loss"] == curve["step"]
    (tmp_path / "train.jsonl").write_text("")
    assert read_train_log(tmp_path / "train.jsonl") == {"step": [], "loss": []}


def test_numbers_read_well():
    assert [_number(v) for v in (None, 0, 1.0, 0.9609, 0.81, 41.02, 6251.7, 0.00012345, 12)] == [
        "–",
        "0",
        "1.00",
        "0.961",
        "0.810",
        "41.0",
        "6\u202f252",
        "0.000123",
        "12",
    ]
    assert [_count(v) for v in (None, 950, 4_100_000)] == ["–", "950", "4.1\u202fM"]
    assert [_signed(v) for v in (3.2, -3.2, 0.2)] == ["+3", "−3", "0"]
    assert [_p(v) for v in (0.0001, 0.0123, 0.5)] == ["< 0.001", "= 0.012", "= 0.50"]
    assert ranges([1, 2, 3, 7, 9, 10]) == "1–3, 7, 9–10"


def test_success_by_demonstrations_pools_training_seeds():
    def policy(entry, demonstrations, k):
        success = {"successes": k, "episodes": 10}
        return {"facts": {"entry": entry, "demonstrations": demonstrations}, "success": success}

    policies = {
        "a": policy("flow", 100, 6), "b": policy("flow", 100, 8), "c": policy("flow", 25, 1), "d": policy("bc", 25, 2)
    }  # fmt: skip
    rates = by_demonstrations(policies)
    assert list(rates) == ["flow"]
    assert (rates["flow"][100]["successes"], rates["flow"][100]["episodes"]) == (14, 20)
    assert list(rates["flow"]) == [25, 100]


@pytest.mark.parametrize(
    ("svg", "label"),
    [
        (efficiency_plot({"flow": {n: {"rate": 0.5, "low": 0.4, "high": 0.6} for n in (25, 100)}}), "demonstrations"),
        (calls_plot({"flow": [(1, 0.3), (4, 0.1)], "gan": [(1, 0.2)]}, "distance"), "distance"),
    ],
)
def test_figures_are_files_of_their_own_in_the_pages_colours(svg, label):
    drawn = standalone(svg)
    assert ElementTree.fromstring(drawn).tag == "{http://www.w3.org/2000/svg}svg"
    assert label in drawn
    assert "prefers-color-scheme: dark" in drawn
    assert "--p1: #" in drawn
