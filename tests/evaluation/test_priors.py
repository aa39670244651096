"""What is answered without looking."""

from __future__ import annotations

import math
from pathlib import Path

from nextmove.evaluation.priors import blind_share, priors, table
from nextmove.evaluation.samples_page import Sample, write_samples

TRAINED = [
    ("caption", "", "a red cube"),
    ("colour", "What colour is the cube?", "red"),
    ("colour", "What colour is the cube?", "red"),
    ("colour", "What colour is the ball?", "blue"),
    ("colour", "What colour is the can?", "green"),
    ("there", "Is there a cube?", "yes"),
]


def test_blind_answers_are_those_of_training() -> None:
    held = [
        ("colour", "What colour is the cube?", "red"),
        ("colour", "What colour is the ball?", "red"),
        ("colour", "What colour is the bar?", "red"),
        ("colour", "What colour is the can?", "green"),
        ("there", "Is there a ball?", "no"),
    ]
    found = priors(TRAINED, held)
    colour = found["colour"]
    assert (colour.trained, colour.held, colour.answers, colour.commonest, colour.share) == (4, 4, 3, "red", 0.5)
    # The cube's and the can's own answers, and for a question that was never asked the kind's.
    assert (colour.constant, colour.blind) == (0.75, 0.75)
    assert (found["there"].constant, found["there"].blind) == (0.0, 0.0)
    assert blind_share(found) == 3 / 5
    assert table(found)[1] == ["colour", "4", "4", "3", "red", "50.0 %", "75.0 %", "75.0 %"]


def test_nothing_held_out_is_no_figure() -> None:
    found = priors(TRAINED, [])
    assert math.isnan(found["there"].blind)
    assert math.isnan(blind_share(found))
    assert table(found)[1][-2:] == ["", ""]


def test_the_page_shows_what_is_said(tmp_path: Path) -> None:
    sample = Sample(b"png", "held-out", [("caption", "", "a <red> cube"), ("there", "Is it?", "yes")])
    write_samples(tmp_path / "page.html", "Scenes", {"aloha": [sample]}, {"Figures": [["kind"], ["there"]]}, ["Note."])
    page = (tmp_path / "page.html").read_text()
    for part in ("a &lt;red&gt; cube", "held-out", "Is it?", "cG5n", '<td class="left">there</td>', "Note."):
        assert part in page
    assert "http" not in page.replace("http-equiv", "")
