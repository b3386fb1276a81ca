"""Arithmetic coding with the conditionals of an autoregressive model: a likelihood is a length.

A symbol of probability q takes −log2 q bits, and a file takes their sum. The coder works on whole numbers alone, so
what is decoded is exact (Martin 1979, "Range encoding: an algorithm for removing redundancy from a digitised message";
Witten, Neal and Cleary 1987, https://doi.org/10.1145/214762.214771). Only the way from a model's real numbers to whole
numbers needs care: writer and reader must round alike (see `compress`).

The form of a file: the bytes "AC" and the version; as varints the number of bytes after the header, the number of
images, of levels K and of dimensions, and the dimensions; one byte for the shift; 16 bits that check this header. Then
the stream.
"""

from __future__ import annotations

import copy
import math
import zlib
from binascii import crc_hqx
from bisect import bisect_right
from typing import NamedTuple

import torch
from torch import Tensor, nn

from genlib import _arguments as require
from genlib._shapes import like_parameters

BITS = 16  # the counts of a distribution sum to 2^16
SHIFTS = 256  # a shift is j / 256, j from 1 to 255
MARGIN = 2.0**-20  # of a count: how far from the next rounding boundary all numbers of a file stay
MAGIC = b"AC\x01"
WIDTH = 64  # bits of the coder's window


def cumulative_counts(q: Tensor, bits: int = BITS, shift: float = 0.5) -> Tensor:
    """Whole numbers 0 = c_0 < c_1 < … < c_K = 2^bits in place of cumulative probabilities, (..., K) → (..., K + 1).

    c_k = ⌊(2^bits − K) Q_k + shift⌋ + k with Q_k = q_1 + … + q_k. The counts c_k − c_{k−1} sum to 2^bits, each is at
    least 1 and above (2^bits − K) q_k. So no symbol costs log2(2^bits / (2^bits − K)) bits more than −log2 q_k.

    Args:
        q: probabilities, in float64.
        bits: at most 32.
        shift: in [0, 1); it moves the boundaries of rounding.

    Raises:
        ValueError: q is no distribution, the shift lies outside [0, 1), or K is above 2^bits.
    """
    q, shift = require.probabilities("q", q), require.share("shift", shift)
    size, total = q.shape[-1], 1 << require.whole_number("bits", bits)
    if not size <= total <= 1 << 32:
        raise ValueError(f"bits must give K = {size} symbols a count each and be at most 32, got {bits}")
    inner = (_scaled(q, bits) + shift).floor().clamp(max=total - size)
    return nn.functional.pad(inner, (1, 0)).long() + torch.arange(size + 1, device=q.device)


class Encoder:
    """An interval within [0, 1) that shrinks to the share of each symbol; the stream is a number in it.

    The window of 64 bits holds the lower end and the width of the interval; the bytes before it are written. A carry
    runs back through them.
    """

    def __init__(self) -> None:
        self.low, self.range, self.out = 0, 1 << WIDTH, bytearray()

    def put(self, low: int, high: int, bits: int) -> None:
        """Shrink the interval to [low, high) / 2^bits of itself; bits at most 48.

        Raises:
            ValueError: not 0 ≤ low < high ≤ 2^bits.
        """
        if not 0 <= low < high <= 1 << bits <= 1 << 48:
            raise ValueError(
                f"low must lie below high, both from 0 to 2^bits, got {low}, {high}, {bits} bits"
            )
        start = self.range * low >> bits
        self.low, self.range = self.low + start, (self.range * high >> bits) - start
        self._carry()
        while self.range < 1 << WIDTH - 8:
            self.out.append(self.low >> WIDTH - 8)
            self.low = (self.low << 8) % (1 << WIDTH)
            self.range <<= 8

    def finish(self) -> bytes:
        """The stream: the fewest bytes that name a number in the interval, ⌈−log2 of its width / 8⌉ at most."""
        for size in range(WIDTH // 8 + 1):
            unit = 1 << WIDTH - 8 * size
            number = -(-self.low // unit) * unit  # the least multiple of the unit, but not below the interval
            if number < self.low + self.range:
                break
        self.low = number
        self._carry()
        return bytes(self.out + self.low.to_bytes(WIDTH // 8, "big")).rstrip(b"\0")

    def _carry(self) -> None:
        if self.low >> WIDTH:
            self.low -= 1 << WIDTH
            place = len(self.out) - 1
            while self.out[place] == 255:
                self.out[place] = 0
                place -= 1
            self.out[place] += 1


class Decoder:
    """Follows the interval of an `Encoder` by its stream. Past the end of the stream all bytes are 0.

    Attributes:
        read: how many bytes were read, those of the window (8) among them.
    """

    def __init__(self, stream: bytes) -> None:
        self.stream, self.range, self.read = stream, 1 << WIDTH, WIDTH // 8
        self.above = int.from_bytes(stream[: self.read].ljust(self.read, b"\0"), "big")  # number − lower end

    def target(self, bits: int) -> int:
        """The whole number from 0 to 2^bits − 1 that lies in the share [low, high) of the symbol to come."""
        return ((self.above + 1 << bits) - 1) // self.range

    def take(self, low: int, high: int, bits: int) -> None:
        """Shrink the interval as `Encoder.put` did."""
        start = self.range * low >> bits
        self.above, self.range = self.above - start, (self.range * high >> bits) - start
        while self.range < 1 << WIDTH - 8:
            self.above = self.above << 8 | (self.stream[self.read] if self.read < len(self.stream) else 0)
            self.range <<= 8
            self.read += 1


def compress(model: object, images: Tensor) -> bytes:
    """Write images, or sequences, in about −Σ log2 Q(x) bits, (n, *E) → a file that `decompress` reads.

    The first entries of all images come first, then the second ones, and so on. After each row there are 8 bits that
    check all that came before, and in the end 32; a row is W entries in the model's order, and 8 in a sequence (L,).
    All this, with the header, adds about 27 bytes to 447 digits of 8 × 8 pixels.

    The reader need not find the writer's real numbers to the last bit, as another number of threads or another machine
    may round another way. Of 255 shifts (see `cumulative_counts`) the writer takes the one that keeps all scaled
    cumulative probabilities farthest from a boundary of rounding, by 2^−20 of a count or more. A reader whose
    cumulative probabilities are off by less than 1.4e-11 therefore has the same counts. Among N = n · |E| · (K − 1)
    numbers spread evenly the best shift keeps about ln(255) / 2N of a count; with two million numbers fewer than one
    file in a hundred is refused.

    Args:
        model: has `event_shape` E, `levels` K and ``log_conditionals(x)``, (n, *E) → (n, *E, K), log-probabilities in
            nats of each entry given those before it, in float64. `order` lists the places of the entries, flattened,
            from first to last; without it they go row by row. Of a module a copy is used, in float64 and evaluation
            mode.
        images: whole numbers from 0 to K − 1. n may be 0.

    Raises:
        ValueError: the images do not fit the model, or the model does not do what is said here.
        RuntimeError: all shifts come too close to a boundary: write fewer images to a file.
    """
    source = _source(model)
    x = require.symbols("images", images, source.event, source.levels)
    if x.ndim != 1 + len(source.event):
        raise ValueError(f"images must have shape (n, {str(tuple(source.event))[1:]}, got {tuple(x.shape)}")
    x, q = x.to(source.device), source.conditionals(x.to(source.device), source.order)  # (n, |E|, K)
    shift = _shift(_scaled(q, BITS)[..., :-1])
    cumulative = cumulative_counts(q, BITS, shift / SHIFTS)  # (n, |E|, K + 1)
    columns = x.flatten(1)[:, source.order, None].cpu()  # (n, |E|, 1)
    low, high = (cumulative.gather(-1, columns + end)[..., 0].T.tolist() for end in (0, 1))
    coder, check = Encoder(), 0
    for t in range(len(source.order)):
        for begin, end in zip(low[t], high[t], strict=True):
            coder.put(begin, end, BITS)
        check = zlib.crc32(_bytes(columns[:, t]), check)
        if source.ends_row(t):
            coder.put(check % 256, check % 256 + 1, 8)
    coder.put(check, check + 1, 32)
    stream = coder.finish()
    sizes = len(stream), len(x), source.levels, len(source.event), *source.event
    header = MAGIC + b"".join(map(_varint, sizes)) + bytes([shift])
    return header + crc_hqx(header, 0).to_bytes(2, "big") + stream


@torch.no_grad()
def decompress(model: object, file: bytes) -> Tensor:
    """Read what `compress` wrote with the same model, → (n, *E) int64 on the device of the model.

    The model is called once for each entry, with zeros in place of what is not yet read. If it has a `reader`, as those
    of `genlib.pixels` have, that one is asked instead, which may keep what it has computed.

    Raises:
        ValueError: the file is none of `compress`, is truncated or damaged, has bytes left over, or was written with
            another model. Damage that is random passes the checks with a probability of about 2^−32.
    """
    source = _source(model)
    n, shift, begin = _header(source, file)
    stream = Decoder(file[begin:])
    x = torch.zeros(n, math.prod(source.event), dtype=torch.long, device=source.device)
    check, row, good = 0, 0, begin

    def agree(expected: int, bits: int, what: str) -> None:
        if stream.target(bits) != expected:
            last = min(begin + stream.read, len(file))
            raise ValueError(
                f"file is damaged, or model is not the one it was written with: {what} disagrees with its check, "
                f"near bytes {min(good, last)} to {last} of {len(file)}"
            )
        stream.take(expected, expected + 1, bits)

    reader = source.model.reader(n) if n and hasattr(source.model, "reader") else None
    for t, place in enumerate(source.order):
        if reader is None:
            q = source.conditionals(x.unflatten(1, source.event), [place])[:, 0]  # (n, K)
        else:
            q = source.probabilities(reader.log_q(), (n, source.levels))
        symbols = []
        for cumulative in cumulative_counts(q, BITS, shift / SHIFTS).tolist():
            symbol = bisect_right(cumulative, stream.target(BITS)) - 1
            stream.take(cumulative[symbol], cumulative[symbol + 1], BITS)
            symbols.append(symbol)
        column = torch.tensor(symbols, dtype=torch.long)
        x[:, place] = column.to(x.device)
        if reader is not None:
            reader.put(x[:, place])
        check = zlib.crc32(_bytes(column), check)
        if source.ends_row(t):
            row += 1
            agree(check % 256, 8, f"row {row} of the images")
            good = begin + stream.read - WIDTH // 8
    agree(check, 32, "the sum of all images")
    return x.unflatten(1, source.event)


class _Source(NamedTuple):
    """What the coder needs of a model."""

    model: object
    event: torch.Size
    levels: int
    order: list[int]
    device: torch.device

    def ends_row(self, t: int) -> bool:
        row = self.event[-1] if len(self.event) > 1 else 8
        return (t + 1) % row == 0 or t + 1 == len(self.order)

    @torch.no_grad()
    def conditionals(self, x: Tensor, places: list[int]) -> Tensor:
        """Probabilities at some places, (n, *E) → (n, places, K), on the CPU; no model is asked about no images."""
        if not len(x):
            return torch.zeros(0, len(places), self.levels, dtype=torch.float64)
        q = self.probabilities(self.model.log_conditionals(x), (*x.shape, self.levels))
        return q.flatten(1, -2)[:, places]

    def probabilities(self, log_q: object, shape: tuple[int, ...]) -> Tensor:
        """exp, on the CPU, after checking what the model returned."""
        if not isinstance(log_q, Tensor) or log_q.shape != shape or log_q.dtype != torch.float64:
            got = f"{log_q.dtype} {tuple(log_q.shape)}" if isinstance(log_q, Tensor) else type(log_q).__name__
            raise ValueError(f"model must return log-probabilities torch.float64 {shape}, got {got}")
        return require.probabilities("the conditionals of model", log_q.exp().cpu())


def _source(model: object) -> _Source:
    """Check a model, and copy it if it is a module."""
    if any(not hasattr(model, name) for name in ("event_shape", "levels", "log_conditionals")):
        raise ValueError(
            f"model must have event_shape, levels and log_conditionals, got {type(model).__name__}"
        )
    event = torch.Size(require.whole_number("event_shape of model", size) for size in model.event_shape)
    levels = require.whole_number("levels of model", model.levels)
    if not event or levels > 1 << BITS - 1:
        raise ValueError(
            f"model must have an event shape of at least one dimension and at most {1 << BITS - 1} levels, "
            f"got {tuple(event)} and {levels}"
        )
    order = getattr(model, "order", None)
    order = list(range(event.numel())) if order is None else torch.as_tensor(order).tolist()
    if sorted(order) != list(range(event.numel())):
        raise ValueError(f"order of model must be a permutation of {event.numel()} entries, got {order}")
    if isinstance(model, nn.Module):
        model = copy.deepcopy(model).double().eval()
    return _Source(model, event, levels, order, like_parameters(model).device)


def _header(source: _Source, file: bytes) -> tuple[int, int, int]:
    """Number of images, shift, and where the stream begins; all is checked that can be."""
    if not isinstance(file, bytes):
        raise ValueError(f"file must be bytes, got {type(file).__name__}")
    if file[: len(MAGIC)] != MAGIC[: len(file)]:
        raise ValueError(
            f"file must begin with {MAGIC!r} as one of compress does, got {file[: len(MAGIC)]!r}"
        )
    at = len(MAGIC)

    def number() -> int:
        nonlocal at
        value = 0
        for place in range(0, 63, 7):
            at += 1
            value |= (file[at - 1] & 127) << place
            if file[at - 1] < 128:
                break
        return value

    try:
        size, n, levels = number(), number(), number()
        event = tuple(number() for _ in range(number()))
        shift, at = file[at], at + 1
        agrees = file[at] << 8 | file[at + 1] == crc_hqx(file[:at], 0)
    except IndexError:
        raise ValueError(f"file is truncated: its {len(file)} bytes end within the header") from None
    if not agrees:
        raise ValueError(f"file is damaged: its header, bytes 0 to {at + 1}, disagrees with its check")
    at += 2
    if len(file) < at + size:
        raise ValueError(f"file is truncated: it ends after {len(file)} bytes of {at + size}")
    if len(file) > at + size:
        raise ValueError(f"file has {len(file) - at - size} bytes left over: {len(file)}, not {at + size}")
    if (event, levels) != (tuple(source.event), source.levels):
        raise ValueError(
            f"model must have the event shape and levels of file, {event} and {levels}, "
            f"got {tuple(source.event)} and {source.levels}"
        )
    return n, shift, at


def _scaled(q: Tensor, bits: int) -> Tensor:
    """(2^bits − K) Q_k in float64, k = 1 … K, (..., K) → (..., K)."""
    cumulative = q.double().cumsum(-1)
    return ((1 << bits) - q.shape[-1]) * (cumulative / cumulative[..., -1:])


def _shift(scaled: Tensor) -> int:
    """The j from 1 to 255 that keeps scaled + j / 256 farthest from whole numbers; 0 counts as scaled too."""
    parts = torch.cat([scaled.flatten() % 1, torch.tensor([0.0, 1.0], dtype=scaled.dtype)]).sort().values
    boundary = 1 - torch.arange(1, SHIFTS, dtype=scaled.dtype) / SHIFTS
    above = torch.searchsorted(parts, boundary)
    distance = torch.minimum(parts[above] - boundary, boundary - parts[above - 1])
    if distance.max() < MARGIN:
        raise RuntimeError(
            f"no shift keeps all {scaled.numel()} cumulative probabilities 2^-20 of a count from a boundary of "
            f"rounding: write fewer images to a file"
        )
    return 1 + int(distance.argmax())


def _bytes(column: Tensor) -> bytes:
    """The symbols of one entry, as 16 bits each."""
    return column.flatten().numpy().astype("<u2").tobytes()


def _varint(number: int) -> bytes:
    """7 bits a byte, the lowest first; the eighth bit says that another byte follows."""
    return bytes([number]) if number < 128 else bytes([number & 127 | 128]) + _varint(number >> 7)
