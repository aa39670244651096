"""FAST: the published codec to the last bit, and ids of which every allowed row is decoded whole."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from benchmarks.parity import run
from safetensors.torch import load_file
from scipy.fft import dct
from torch import Tensor

from nextmove.codecs import fast_files
from nextmove.codecs.fast import FILE, Fast
from nextmove.codecs.fast_rule import Rule
from nextmove.codecs.fast_tokens import FastTokens, most
from nextmove.config import ConfigError
from nextmove.contracts import normal, seeded

CASE = Path(__file__).parents[1] / "golden" / "fast_small"


def walks(count: int, steps: int, width: int, seed: int = 0) -> Tensor:
    return normal((count, steps, width), seeded(seed)).cumsum(1) / steps**0.5


def fitted(x: Tensor, *, length: int = 0, **options: float) -> FastTokens:
    tokens = FastTokens(Fast(**options), horizon=x.shape[1], width=x.shape[2], length=length)  # type: ignore[arg-type]
    tokens.fit([x])
    return tokens


def drawn(tokens: FastTokens, rows: int, seed: int, sharpness: float = 1.0) -> Tensor:
    """Rows of ids, each drawn at random among what the rule allows."""
    draws, ids = seeded(seed), torch.zeros(rows, 0, dtype=torch.long)
    for i in range(tokens.length):
        allowed = tokens.rule(i, ids)
        assert allowed.any(1).all()
        scores = (sharpness * torch.randn(rows, tokens.classes, generator=draws)).masked_fill(~allowed, -torch.inf)
        ids = torch.cat([ids, scores.softmax(-1).multinomial(1, generator=draws)], 1)
        if bool((ids == tokens.end).any(1).all()):
            break
    return ids


def check_whole(tokens: FastTokens, ids: Tensor) -> None:
    """Every row is, by the tokenizer's own decoder, exactly the characters of a chunk, in the fitted range."""
    fast, numbers = tokens.fast, tokens.horizon * tokens.width
    assert (ids == tokens.end).any(1).all()
    top = fast.largest - fast.least
    for text in fast.backend.decode_batch([row[: row.index(tokens.end)] for row in ids.tolist()]):
        assert len(text) == numbers
        assert max(map(ord, text)) <= top
    tokens.decode(ids)
    assert tokens.broken == 0


def test_equals_the_published_processor_and_the_tolerant_decoder(tmp_path):
    result = run(CASE, tmp_path)
    assert result["max_abs_diff"] == 0.0
    assert result["equal"]
    assert result["greedy_equal"]
    assert "not_compared" not in result


def test_another_scale_is_seen(tmp_path):
    folder = tmp_path / "case"
    folder.mkdir()
    for file in CASE.iterdir():
        folder.joinpath(file.name).write_bytes(file.read_bytes())
    config = json.loads((CASE / fast_files.CONFIG).read_text())
    (folder / fast_files.CONFIG).write_text(json.dumps(config | {"scale": 11}))
    assert "another" in run(folder, tmp_path / "made")["error"]


def test_transforms_by_hand_and_in_float64():
    fast = Fast(scale=10)
    # Of one step the transform is the number itself, of a constant chunk sqrt(T) times it and nothing else.
    assert fast.integers(torch.tensor([[[0.26, -0.26, 3.0]]])).tolist() == [[[3, -3, 30]]]
    flat = fast.integers(torch.tensor([0.1, 0.37, -0.12]).expand(1, 4, 3))
    assert flat[0, 0].tolist() == [2, 7, -2]
    assert not flat[0, 1:].any()
    # At halves float32 gives others (scipy keeps the dtype it is given).
    grid = torch.linspace(-10, 10, 4001)[:, None, None]
    assert (fast.integers(grid) == fast.integers(grid.double())).all()
    assert (fast.integers(grid) != np.around(dct(grid.numpy(), axis=1, norm="ortho") * 10)).mean() > 0.01
    x = walks(1, 5, 1).double()
    n, k = torch.arange(5.0, dtype=torch.float64), torch.arange(5.0, dtype=torch.float64)[:, None]
    basis = (2 / 5) ** 0.5 * torch.cos(torch.pi * (n + 0.5) * k / 5)
    basis[0] /= 2**0.5
    assert fast.integers(x)[0, :, 0].tolist() == (10 * basis @ x[0, :, 0]).round().long().tolist()


def test_round_trip_is_within_half_a_unit_of_each_frequency():
    x = walks(50, 12, 3)
    tokens = fitted(x, vocabulary=512, scale=20.0)
    ids = tokens.encode(x)
    assert ids.shape[1] == max(int((row >= 0).sum()) for row in ids)
    assert (ids[torch.arange(50), (ids >= 0).sum(1) - 1] == tokens.end).all()
    error = (tokens.decode(ids) - x).double()
    # The transform keeps lengths: no more than half a unit for each of the 36 frequencies.
    assert (error.flatten(1).norm(dim=1) <= 0.5 / 20 * 36**0.5).all()
    assert (tokens.outside, tokens.broken, tokens.shortened) == (0.0, 0, 0)
    torch.testing.assert_close(tokens.encode(tokens.decode(ids)), ids)


def test_fitting_is_deterministic_and_takes_chunks_of_any_length():
    chunks = [walks(1, steps, 2, seed=steps)[0] for steps in (4, 9, 16)] * 3
    first, second = Fast(vocabulary=200), Fast(vocabulary=200)
    first.fit(chunks)
    second.fit(np.asarray(chunk) for chunk in chunks)
    assert first.text == second.text
    assert torch.equal(first.state, second.state)
    assert first.pieces <= 200


def test_what_has_no_piece_becomes_the_nearest_that_has_and_is_counted():
    x = walks(40, 8, 2)
    tokens = fitted(x, vocabulary=400, scale=30.0)
    fast, wild = tokens.fast, 3 * x
    symbols = fast.symbols(wild)
    near = fast.nearest(symbols)
    known = set(fast.known.tolist())
    assert {*near.ravel().tolist()} <= known
    moved = near != symbols
    assert all(abs(n - s) == min(abs(k - s) for k in known) for n, s in zip(near[moved], symbols[moved], strict=True))
    # The published code loses them, and with them the whole chunk; here all of it is kept.
    assert not fast.decode(fast.encode(wild), steps=8, width=2).whole.all()
    decoded = tokens.decode(tokens.encode(wild))
    assert tokens.outside == pytest.approx(moved.mean())
    assert tokens.broken == 0
    assert (decoded - wild).abs().mean() < wild.abs().mean()


@pytest.mark.parametrize("kept", [0, 1, 5])
def test_a_stream_cut_short_gives_its_lowest_frequencies_and_says_so(kept, caplog):
    x = walks(30, 10, 2)
    tokens = fitted(x, vocabulary=300)
    ids = tokens.encode(x[:1])[:, :kept]
    with caplog.at_level(logging.WARNING):
        chunk = tokens.decode(ids)
    found = tokens.fast.decode(ids.tolist(), steps=10, width=2)
    assert not found.whole.any()
    assert tokens.broken == 1
    assert f"{found.found.tolist()} of 20 numbers" in caplog.text
    whole = tokens.fast.integers(x[:1])
    whole.reshape(1, -1)[:, int(found.found) :] = 0
    assert found.found[0] >= kept
    assert (tokens.fast.integers(chunk) == whole).all()
    assert bool(chunk.any()) == (kept > 0)


def test_half_a_character_ends_the_chunk_unless_it_is_taken_literally():
    x = 4 * walks(80, 8, 2)
    fast = Fast(vocabulary=1500, scale=30.0)
    fast.fit(x)
    halves = [i for i, piece in enumerate(fast.spelled) if piece[-1:] >= b"\xc2" and len(piece) == 1]
    ids = [*fast.encode(x[:1])[0][:2], halves[0], *fast.encode(x[:1])[0][2:]]
    chunk, found, whole = fast.decode([ids], steps=8, width=2)
    assert not whole.any()
    assert found < 16
    assert chunk.abs().max() <= x.abs().max() * 2
    # U+FFFD is a number like any other there.
    assert fast.decode([ids], steps=8, width=2, literal=True).chunks.abs().max() > 100


SIZES = [
    # steps, width, pieces, scale, most ids: one byte a character, two, and three; few ids left; a chunk of one number.
    (8, 3, 128, 8.0, 0),
    (10, 2, 1500, 100.0, 0),
    (6, 2, 4500, 400.0, 0),
    (12, 3, 300, 10.0, 24),
    (1, 1, 64, 10.0, 0),
]


@pytest.mark.parametrize(("steps", "width", "pieces", "scale", "length"), SIZES)
def test_every_allowed_row_is_whole(steps, width, pieces, scale, length):
    tokens = fitted(walks(60, steps, width), vocabulary=pieces, scale=scale, length=length)
    for sharpness in (0.0, 4.0):
        check_whole(tokens, drawn(tokens, 100, 1, sharpness))


@pytest.mark.slow
def test_no_row_in_a_hundred_thousand_is_broken():
    # Fewer of those with many pieces, which take longer.
    for n, (parts, (steps, width, pieces, scale, length)) in enumerate(zip((50, 4, 1, 40, 5), SIZES, strict=True)):
        tokens = fitted(walks(60, steps, width), vocabulary=pieces, scale=scale, length=length)
        for part in range(parts):
            check_whole(tokens, drawn(tokens, 1000, 100 * n + part, 2.0 * (part % 3)))


def test_encoded_chunks_keep_to_the_rule():
    for steps, width, pieces, scale, _ in SIZES[:3]:
        x = walks(60, steps, width)
        tokens = fitted(x, vocabulary=pieces, scale=scale)
        ids = tokens.encode(x)
        for i in range(ids.shape[1]):
            there = ids[:, i] >= 0
            assert tokens.rule(i, ids[:, :i])[torch.arange(len(ids)), ids[:, i].clamp(min=0)][there].all()


def test_a_rule_that_no_row_can_keep_is_refused():
    with pytest.raises(ValueError, match="length: a chunk of 3 numbers and its end: expected at least 3 ids, found 2"):
        Rule([b"a", b"aa"], count=3, top=100, length=2)
    with pytest.raises(ValueError, match="no pieces make it"):
        Rule([b"aa"], count=3, top=100, length=9)
    with pytest.raises(ValueError, match="at least 9 ids, found 2"):
        fitted(walks(60, 12, 3), vocabulary=300, length=2)


def test_longest_rows_are_known_and_longer_ones_are_cut_and_said(caplog):
    assert most(128 - 1, 10) == 11
    assert most(1024, 10) == 21
    assert most(4096, 10) == 31
    x = walks(60, 8, 3)
    tokens = fitted(x, vocabulary=300, length=12)
    with caplog.at_level(logging.WARNING):
        ids = tokens.encode(3 * x)
    assert ids.shape[1] <= 12
    assert tokens.shortened > 0
    assert "have more than 12 ids" in caplog.text


def test_published_folders_are_read_and_written(tmp_path):
    fast = fast_files.read(CASE)
    assert (fast.least, fast.vocabulary, fast.scale, fast.largest) == (-28, 320, 10.0, 29)
    fast_files.write(fast, tmp_path, steps=16, width=4)
    assert (tmp_path / "tokenizer.json").read_text() == (CASE / "tokenizer.json").read_text()
    config = json.loads((tmp_path / fast_files.CONFIG).read_text())
    assert config == json.loads((CASE / fast_files.CONFIG).read_text()) | {"time_horizon": 16, "action_dim": 4}
    again, io = fast_files.read(tmp_path), load_file(CASE / "io.safetensors")
    assert again.encode(io["in.actions"]) == fast.encode(io["in.actions"])
    for change, error in (
        ({"scale": None}, r"processor_config.json: scale: expected a number, found None"),
        ({"min_token": 1.5}, "min_token: expected a whole number"),
        ({"vocab_size": 0}, "vocabulary: expected 1 to"),
    ):
        (tmp_path / fast_files.CONFIG).write_text(json.dumps(config | change))
        with pytest.raises(ConfigError, match=error):
            fast_files.read(tmp_path)
    (tmp_path / fast_files.CONFIG).write_text(json.dumps(config))
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(ConfigError, match="tokenizer"):
        fast_files.read(tmp_path)
    (tmp_path / "tokenizer.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"expected tokenizer\.json"):
        fast_files.read(tmp_path)


def test_its_file_belongs_to_its_numbers(tmp_path):
    fast, other = Fast(vocabulary=300), Fast(vocabulary=300)
    fast.fit(walks(20, 8, 2))
    other.fit(walks(20, 8, 2, seed=1))
    (tmp_path / FILE).write_text(fast.files()[FILE])
    loaded = Fast(vocabulary=300)
    loaded.load_state_dict(fast.state_dict())
    loaded.read_files(tmp_path)
    assert loaded.encode(walks(3, 8, 2)) == fast.encode(walks(3, 8, 2))
    (tmp_path / FILE).write_text(other.files()[FILE])
    with pytest.raises(ConfigError, match="another"):
        loaded.read_files(tmp_path)
    (tmp_path / FILE).unlink()
    with pytest.raises(FileNotFoundError, match=FILE):
        loaded.read_files(tmp_path)
    loaded.load_state_dict(other.state_dict())
    with pytest.raises(ValueError, match="adopt both"):
        loaded.encode(walks(3, 8, 2))
    loaded.adopt(other)
    assert loaded.encode(walks(3, 8, 2)) == other.encode(walks(3, 8, 2))
    unfitted = Fast()
    assert unfitted.files() == {}
    unfitted.read_files(tmp_path)


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (lambda: Fast(vocabulary=0), "vocabulary: expected 1"),
        (lambda: Fast(scale=0.0), "scale: expected a finite number above 0"),
        (lambda: Fast().encode(torch.zeros(1, 2, 3)), "expected a tokenizer, found none; fit it"),
        (lambda: Fast().fit([]), "expected chunks of actions"),
        (lambda: Fast().fit([torch.full((2, 2), torch.nan)]), "finite"),
        (lambda: Fast(vocabulary=64).fit([1000 * walks(1, 4, 1)[0]]), "a vocabulary of at least"),
        (lambda: Fast().integers(torch.zeros(2, 3)), r"chunks \(B, T, D\)"),
        (lambda: Fast().take("{}", 0), "tokenizers"),
        (lambda: fast_files.read(CASE).decode([[0, 250]], steps=2, width=1), "ids: expected 0 to 249"),
    ],
)
def test_what_is_wrong_is_named(call, error):
    with pytest.raises(ValueError, match=error):
        call()
