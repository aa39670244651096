"""A writer of small GGUF files, straight from the layout that ggml describes."""

import struct

import numpy as np

TYPES = {"u32": (4, "<I"), "f32": (6, "<f"), "bool": (7, "<?"), "i32": (5, "<i")}
KINDS = {"F32": 0, "F16": 1, "Q4_0": 2, "Q4_1": 3, "Q8_0": 8, "IQ2_XXS": 16, "BF16": 30}


def text(value):
    raw = value.encode()
    return struct.pack("<Q", len(raw)) + raw


def value(kind, of):
    """Type number and bytes of a value; a list is given as (kind, list)."""
    if kind == "text":
        return struct.pack("<I", 8) + text(of)
    if kind == "list":
        inner, items = of
        if inner == "text":
            return struct.pack("<IIQ", 9, 8, len(items)) + b"".join(map(text, items))
        number, form = TYPES[inner]
        return struct.pack("<IIQ", 9, number, len(items)) + b"".join(struct.pack(form, x) for x in items)
    number, form = TYPES[kind]
    return struct.pack("<I", number) + struct.pack(form, of)


def write_gguf(path, metadata, tensors, *, version=3, align=32):
    """metadata: key -> (kind, value); tensors: name -> (format, shape, bytes as uint8)."""
    head = b"GGUF" + struct.pack("<IQQ", version, len(tensors), len(metadata))
    for key, (kind, of) in metadata.items():
        head += text(key) + value(kind, of)
    body = b""
    for name, (kind, shape, raw) in tensors.items():
        body += b"\0" * (-len(body) % align)
        number = KINDS[kind] if isinstance(kind, str) else kind
        head += text(name) + struct.pack("<I", len(shape)) + struct.pack(f"<{len(shape)}Q", *shape[::-1])
        head += struct.pack("<IQ", number, len(body))
        body += np.ascontiguousarray(raw).tobytes()
    path.write_bytes(head + b"\0" * (-len(head) % align) + body)
    return path


def float32(array):
    """A tensor of plain numbers."""
    array = np.asarray(array, dtype=np.float32)
    return "F32", array.shape, array.view(np.uint8)


def q8_0(array):
    """A matrix in blocks of 32 whole numbers with a scale."""
    array = np.asarray(array, dtype=np.float32)
    blocks = array.reshape(-1, 32)
    scale = (np.abs(blocks).max(1, keepdims=True) / 127).astype(np.float16)
    numbers = np.round(blocks / np.where(scale == 0, 1, scale).astype(np.float32)).clip(-127, 127).astype(np.int8)
    return "Q8_0", array.shape, np.concatenate([scale.view(np.uint8), numbers.view(np.uint8)], 1)
