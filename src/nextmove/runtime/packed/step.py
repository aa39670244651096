"""A stream of transformer blocks over some tokens of one text as one function that threads compute together.

Shapes: L tokens, P tokens remembered, W width, K inputs and N outputs of a product, E width of a head. What a product
reads lies in tiles: (tiles, K, tokens of a tile).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from nextmove.host.compiled import compiled
from nextmove.runtime.packed.team import meet
from nextmove.runtime.packed.tile import BYTES, COLUMNS, ROWS, tile

TILE = 16
"""Tokens of a tile, where there are several."""
ACTIVATIONS = ("silu", "gelu", "gelu_tanh", "quick_gelu", "relu", "relu2", "sigmoid")
LOOSE = {"reassoc", "contract", "nsz", "arcp"}
"""Sums may be computed in any order; infinities stay."""
INWARD, OUTWARD, UP, DOWN = range(4)
"""Products of a layer."""
BITS, ADDRESS, K, N, BIAS = range(5)
"""What is known of a product."""
_FOUR, _FOURS, _EIGHT, _EIGHTS = tile(4, 1), tile(4, TILE), tile(8, 1), tile(8, TILE)
_SIZE4, _SIZE8 = BYTES[4], BYTES[8]


@compiled()
def multiply(
    me: int, team: int, product: Any, bias: Any, read: Any, out: Any, length: int, lanes: int, adds: int
) -> None:  # fmt: skip
    """This thread's rows of `out` (L, N) of tiles that are read; they are added to what is there if `adds`."""
    blocks, groups = product[K] // COLUMNS, (product[N] + ROWS - 1) // ROWS
    size = blocks * (_SIZE4 if product[BITS] == 4 else _SIZE8)
    stride = out.shape[1] * 4
    for group in range(groups * me // team, groups * (me + 1) // team):
        weights = product[ADDRESS] + group * size
        if product[BIAS]:
            for t in range(length):
                for n in range(group * ROWS, min((group + 1) * ROWS, product[N])):
                    out[t, n] = bias[n] + (out[t, n] if adds else np.float32(0))
        for i in range((length + lanes - 1) // lanes):
            x = read.ctypes.data + i * lanes * product[K] * 4
            y = out.ctypes.data + i * lanes * stride + group * ROWS * 4
            if lanes == 1:
                if product[BITS] == 4:
                    _FOUR(weights, x, y, stride, blocks, adds | product[BIAS])
                else:
                    _EIGHT(weights, x, y, stride, blocks, adds | product[BIAS])
            elif product[BITS] == 4:
                _FOURS(weights, x, y, stride, blocks, adds | product[BIAS])
            else:
                _EIGHTS(weights, x, y, stride, blocks, adds | product[BIAS])


@compiled(fastmath=LOOSE)
def normalise(me: int, team: int, x: Any, norm: Any, eps: Any, centred: int, out: Any, length: int, lanes: int) -> None:
    """This thread's tokens of x (L, W), normalised, times a gain and with a bias added (2, W), into tiles."""
    width = norm.shape[1]
    for t in range(me, length, team):
        at, mean = (t // lanes) * lanes * width + t % lanes, np.float32(0)
        if centred:
            for k in range(width):
                mean += x[t, k]
            mean /= np.float32(width)
        square = np.float32(0)
        for k in range(width):
            square += (x[t, k] - mean) * (x[t, k] - mean)
        scale = np.float32(1) / np.float32(math.sqrt(square / np.float32(width) + np.float32(eps)))
        for k in range(width):
            out[at + k * lanes] = (x[t, k] - mean) * scale * norm[0, k] + norm[1, k]


@compiled(fastmath=LOOSE)
def turn(
    me: int, team: int, h: Any, cache: Any, angles: Any, rotation: int, heads: int, past: int, length: int
) -> None:  # fmt: skip
    """Rotates this thread's heads of h (L, N) of queries, keys and values, and writes down keys and values."""
    shared, width = cache.shape[1], cache.shape[3]
    half = width // 2
    turned = heads + shared
    for item in range(me, (turned + shared) * length, team):
        t, head = item // (turned + shared), item % (turned + shared)
        own = h[t, head * width : (head + 1) * width]
        if head < turned and rotation >= 0:
            for e in range(half):
                a, b, c, s = own[e], own[e + half], angles[rotation, 0, t, e], angles[rotation, 1, t, e]
                own[e], own[e + half] = a * c - b * s, b * c + a * s
        if head >= heads:
            values = int(head >= turned)
            cache[values, head - heads - values * shared, past + t] = own


@compiled(fastmath=LOOSE)
def attend(
    me: int, team: int, h: Any, cache: Any, masks: Any, window: int, scores: Any, out: Any,
    heads: int, scale: float, past: int, length: int, lanes: int,
) -> None:  # fmt: skip
    """What this thread's heads of queries h (L, N) read from the memory, into tiles; empty masks hide nothing."""
    shared, width = cache.shape[1], cache.shape[3]
    each, own, keys = heads // shared, scores[me], past + length
    columns, answer = heads * width, np.empty(width, np.float32)
    for item in range(heads * length * me // team, heads * length * (me + 1) // team):
        head, t = item // length, item % length
        asked, most = h[t, head * width : (head + 1) * width], np.float32(-np.inf)
        for s in range(keys):
            if masks.shape[1] and not masks[window, t, s]:
                own[s] = np.float32(-np.inf)
                continue
            near, key = np.float32(0), cache[0, head // each, s]
            for e in range(width):
                near += asked[e] * key[e]
            own[s] = near * np.float32(scale)
            most = max(most, own[s])
        answer[:] = 0
        total = np.float32(0)
        for s in range(keys):
            if own[s] == np.float32(-np.inf):
                continue
            share, value = np.float32(math.exp(own[s] - most)), cache[1, head // each, s]
            total += share
            for e in range(width):
                answer[e] += share * value[e]
        at = (t // lanes) * lanes * columns + head * width * lanes + t % lanes
        for e in range(width):
            out[at + e * lanes] = answer[e] / total


@compiled(fastmath=LOOSE)
def activated(x: Any, kind: int) -> Any:
    """An activation by its number among `ACTIVATIONS`."""
    one, half = np.float32(1), np.float32(0.5)
    if kind == 0:
        return x / (one + np.float32(math.exp(-x)))
    if kind == 1:
        return half * x * (one + np.float32(math.erf(x * np.float32(0.7071067811865476))))
    if kind == 2:
        inner = np.float32(0.7978845608028654) * (x + np.float32(0.044715) * x * x * x)
        return half * x * (one + np.float32(math.tanh(inner)))
    if kind == 3:
        return x / (one + np.float32(math.exp(np.float32(-1.702) * x)))
    if kind == 6:
        return one / (one + np.float32(math.exp(-x)))
    positive: Any = max(x, np.float32(0))
    return positive * positive if kind == 5 else positive


@compiled(fastmath=LOOSE)
def gate(me: int, team: int, h: Any, hidden: int, kind: int, gated: int, out: Any, length: int, lanes: int) -> None:
    """This thread's hidden units of h (L, N), activated, into tiles; gated: 0, or which half is the gate."""
    first, last = hidden * me // team, hidden * (me + 1) // team
    for t in range(length):
        at = (t // lanes) * lanes * hidden + t % lanes
        for k in range(first, last):
            if gated == 0:
                y = activated(h[t, k], kind)
            elif gated == 1:
                y = activated(h[t, k], kind) * h[t, hidden + k]
            else:
                y = activated(h[t, hidden + k], kind) * h[t, k]
            out[at + k * lanes] = y


@compiled()
def layers(
    me: int, team: int, address: int, x: Any, products: Any, biases: Any, norms: Any, eps: Any, centred: int,
    facts: Any, angles: Any, masks: Any, cache: Any, scale: float, past: int, length: int,
    h: Any, read: Any, scores: Any,
) -> None:  # fmt: skip
    """x (L, W) behind all layers, in place, the last norm not yet applied.

    products (layers, 4, 5), biases (layers, 4, most N), norms (layers, 2, 2, W) and their eps (layers, 2); facts
    (layers, 5): heads, rotation or -1, mask, activation, gate; angles (rotations, 2, L, E / 2); masks (windows, L, S);
    cache (layers, 2, heads of keys, room, E); h (L, most N) and read are room.
    """
    lanes = 1 if length == 1 else TILE
    come = 0
    for i in range(products.shape[0]):
        heads, rotation, window = facts[i, 0], facts[i, 1], facts[i, 2]
        kind, gated = facts[i, 3], facts[i, 4]
        hidden = products[i, DOWN, K]
        normalise(me, team, x, norms[i, 0], eps[i, 0], centred, read, length, lanes)
        come += team
        meet(address, come)
        multiply(me, team, products[i, INWARD], biases[i, INWARD], read, h, length, lanes, 0)
        come += team
        meet(address, come)
        turn(me, team, h, cache[i], angles, rotation, heads, past, length)
        come += team
        meet(address, come)
        attend(me, team, h, cache[i], masks, window, scores, read, heads, scale, past, length, lanes)
        come += team
        meet(address, come)
        multiply(me, team, products[i, OUTWARD], biases[i, OUTWARD], read, x, length, lanes, 1)
        come += team
        meet(address, come)
        normalise(me, team, x, norms[i, 1], eps[i, 1], centred, read, length, lanes)
        come += team
        meet(address, come)
        multiply(me, team, products[i, UP], biases[i, UP], read, h, length, lanes, 0)
        come += team
        meet(address, come)
        gate(me, team, h, hidden, kind, gated, read, length, lanes)
        come += team
        meet(address, come)
        multiply(me, team, products[i, DOWN], biases[i, DOWN], read, x, length, lanes, 1)
        come += team
        meet(address, come)


@compiled()
def spoken(
    me: int, team: int, address: int, x: Any, product: Any, bias: Any, read: Any, out: Any, length: int
) -> None:  # fmt: skip
    """Products (L, N) of x (L, K); read is room."""
    lanes, width = 1 if length == 1 else TILE, x.shape[1]
    for t in range(me, length, team):
        for k in range(width):
            read[(t // lanes) * lanes * width + k * lanes + t % lanes] = x[t, k]
    meet(address, team)
    multiply(me, team, product, bias, read, out, length, lanes, 0)
