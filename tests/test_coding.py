"""Arithmetic coding: the coder against exact fractions, files against likelihoods, and what damage and rounding do."""

import inspect
import math
import os
import re
import subprocess
import sys
import zlib
from fractions import Fraction

import pytest
import torch
from exactness import FEW, REAL, STEADY, seeded
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from genlib import coding
from genlib.coding import Decoder, Encoder, compress, cumulative_counts, decompress
from genlib.data import digits

SEEDS = st.integers(0, 10**6)


class Chain:
    """Each entry given the one before it in an order, by a table of log-probabilities (|E|, K + 1, K)."""

    def __init__(self, shape, log_q, order=None):
        self.event_shape, self.levels, self.log_q = torch.Size(shape), log_q.shape[-1], log_q
        self.places = list(range(self.event_shape.numel())) if order is None else order.tolist()
        if order is not None:
            self.order = order

    def log_conditionals(self, x):
        flat, last = x.flatten(1), torch.full((len(x),), self.levels)
        out = torch.empty(*flat.shape, self.levels, dtype=self.log_q.dtype)
        for t, place in enumerate(self.places):
            out[:, place], last = self.log_q[t, last], flat[:, place]
        return out.unflatten(1, self.event_shape)


class Fixed:
    """Independent entries with the same probabilities, or with those of a table (*E, K)."""

    def __init__(self, shape, q):
        q = torch.as_tensor(q, dtype=REAL)
        self.event_shape, self.levels, self.log_q = torch.Size(shape), q.shape[-1], q.log()

    def log_conditionals(self, x):
        return self.log_q.expand(*x.shape, self.levels)


class Causal(nn.Module):
    """A small network: each pixel given those above it and to its left."""

    def __init__(self, size=6, levels=5, width=16):
        super().__init__()
        self.event_shape, self.levels = torch.Size([size, size]), levels
        self.above, self.left = nn.Conv2d(1, width, (2, 5)), nn.Conv2d(1, width, (1, 2))
        self.drop = nn.Dropout(0.5)
        self.out = nn.Sequential(nn.Conv2d(width, width, 1), nn.Tanh(), nn.Conv2d(width, levels, 1))

    def log_conditionals(self, x):
        x = x[:, None].to(self.above.weight) / self.levels
        above = self.above(nn.functional.pad(x, (2, 2, 2, 0))[..., :-1, :])
        left = self.left(nn.functional.pad(x, (2, 0))[..., :-1])
        return self.out(self.drop(torch.tanh(above + left))).movedim(1, -1).log_softmax(-1)


def nll_bits(model, x):
    return -model.log_conditionals(x).gather(-1, x[..., None]).sum().item() / math.log(2)


def drawn(*shape, levels, seed=0):
    return torch.randint(levels, shape, generator=seeded(seed))


def stream_at(file):
    """Where the header ends: after the magic, varints, one byte of shift, two of check."""
    at, values = 3, []
    while len(values) < 4 or len(values) < 4 + values[3]:
        value, place = 0, 0
        while file[at] > 127:
            value, place, at = value + ((file[at] - 128) << place), place + 7, at + 1
        values, at = [*values, value + (file[at] << place)], at + 1
    return at + 3


# whole numbers


@STEADY
@given(SEEDS, st.integers(1, 40), st.integers(6, 20), st.integers(0, 255), st.sampled_from([0.0, 1.0, 9.0]))
def test_counts_against_fractions(seed, size, bits, j, skew):
    q = (skew * torch.randn(size, generator=seeded(seed), dtype=REAL)).softmax(-1)
    q[torch.rand(size, generator=seeded(seed)) < 0.2] = 0
    q = q / q.sum() if q.sum() > 0 else torch.ones(size, dtype=REAL) / size
    c = cumulative_counts(q, bits, j / 256)
    assert c.dtype == torch.long
    assert (c[0], c[-1]) == (0, 2**bits)
    counts = c.diff()
    assert (counts >= 1).all()
    assert (counts > (2**bits - size) * q - 1e-8).all()
    exact = [Fraction(p) for p in q.tolist()]
    for k in range(1, size):
        value = (2**bits - size) * sum(exact[:k]) / sum(exact) + Fraction(j, 256)
        if abs(value - round(value)) > 1e-8:
            assert c[k] == math.floor(value) + k


def test_rare_symbols_get_one_count():
    q = torch.tensor([0.0, 0.3, 1e-12, 0.7 - 2e-12, 0.0, 1e-12, 0.0], dtype=REAL)
    counts = cumulative_counts(q).diff()
    assert counts[[0, 2, 4, 5, 6]].tolist() == [1] * 5
    assert counts.sum() == 2**16


def test_counts_of_a_batch_and_of_the_largest_shift():
    q = torch.randn(3, 4, 5, generator=seeded(), dtype=REAL).softmax(-1)
    together = cumulative_counts(q, 12, 0.3)
    assert together.shape == (3, 4, 6)
    assert torch.equal(together[1, 2], cumulative_counts(q[1, 2], 12, 0.3))
    assert cumulative_counts(q, 16, 1 - 2**-53)[..., -1].eq(2**16).all()
    assert torch.equal(
        cumulative_counts(q * (1 + 5e-6), 12), cumulative_counts(q, 12)
    )  # they need not quite sum to 1
    assert cumulative_counts(torch.ones(4, dtype=REAL) / 4, 2).tolist() == [0, 1, 2, 3, 4]


def test_counts_refuse():
    q = torch.ones(5, dtype=REAL) / 5
    for kw in ({"shift": 1.0}, {"shift": -0.1}, {"bits": 2}, {"bits": 33}, {"bits": 0}, {"bits": 8.0}):
        with pytest.raises(ValueError, match=next(iter(kw))):
            cumulative_counts(q, **kw)
    for bad in (q * 2, -q, torch.tensor([math.nan, 1.0]), torch.ones(3, 0)):
        with pytest.raises(ValueError, match="q must"):
            cumulative_counts(bad)


# the coder

SHARE = st.integers(1, 24).flatmap(
    lambda bits: st.tuples(st.integers(0, 2**bits - 1), st.integers(1, 2**bits), st.just(bits)).map(
        lambda s: (min(s[0], s[1] - 1), max(s[0] + 1, s[1]), s[2])
    )
)
NARROW = st.integers(0, 2**16 - 1).map(lambda low: (low, low + 1, 16))
EDGE = st.sampled_from([(0x7FFF, 0x8001, 16), (0x8000, 0x8001, 16), (0x7FFF, 0x8000, 16), (127, 129, 8)])


def coded(shares):
    coder = Encoder()
    for share in shares:
        coder.put(*share)
    return coder.finish()


def number(stream):
    return Fraction(int.from_bytes(stream, "big"), 256 ** len(stream))


@STEADY
@given(st.lists(SHARE | NARROW | EDGE, max_size=200))
def test_a_stream_leads_back_to_its_symbols(shares):
    stream = coded(shares)
    ideal = sum(bits - math.log2(high - low) for low, high, bits in shares)
    assert len(stream) <= math.ceil(ideal / 8 + 1e-9)
    decoder = Decoder(stream)
    for low, high, bits in shares:
        assert low <= decoder.target(bits) < high
        decoder.take(low, high, bits)


@STEADY
@given(st.lists(SHARE | EDGE, max_size=12))
def test_a_stream_is_the_shortest_number_in_the_interval(shares):
    while sum(bits for *_, bits in shares) > 64:  # up to here the coder divides without a remainder
        shares.pop()
    low, width = Fraction(0), Fraction(1)
    for begin, end, bits in shares:
        low, width = low + width * Fraction(begin, 2**bits), width * Fraction(end - begin, 2**bits)
    stream = coded(shares)
    assert low <= number(stream) < low + width
    shorter = 256 ** (len(stream.rstrip(b"\0")) - 1) if stream.rstrip(b"\0") else 0
    assert not shorter or math.ceil(low * shorter) >= (low + width) * shorter


@pytest.mark.parametrize("run", [1, 3, 4, 40, 500])
def test_a_carry_runs_through_all_bytes(run):
    middle = [(0x7FFF, 0x8001, 16), *[(0x7FFF, 0x8001, 16)] * run]
    assert number(coded([*middle, (0x8000, 0x8001, 16)])) == Fraction(1, 2)
    below = coded([*middle, (0x7FFF, 0x8000, 16)])
    assert below[: len(below) // 2].startswith(b"\x7f" + b"\xff" * (len(below) // 2 - 1))
    top = coded([(0xFFFF, 0x10000, 16)] * run)
    assert top == b"\xff\xff" * run


def test_any_bytes_decode_to_something():
    stream = torch.randint(256, (300,), generator=seeded(1)).tolist()
    decoder, shares = Decoder(bytes(stream)), []
    for bits in [1, 16, 24, 3] * 50:
        target = decoder.target(bits)
        assert 0 <= target < 2**bits
        shares.append((target, target + 1, bits))
        decoder.take(*shares[-1])
    assert coded(shares)[:270] == bytes(stream)[:270]


@STEADY
@given(st.integers(2**56, 2**64), st.integers(1, 24), st.data())
def test_the_target_at_both_ends_of_a_share(width, bits, data):
    decoder, low = Decoder(b""), data.draw(st.integers(0, 2**bits - 1))
    decoder.range = width
    for decoder.above in (width * low >> bits, (width * (low + 1) >> bits) - 1):
        assert decoder.target(bits) == low
    assert Decoder(b"\xff" * 8).target(bits) == 2**bits - 1


def test_no_share_no_code():
    assert coded([]) == b""
    for share in [(3, 3, 8), (-1, 2, 8), (4, 3, 8), (0, 257, 8), (0, 1, 49)]:
        with pytest.raises(ValueError, match="low must lie below high"):
            Encoder().put(*share)


# files


def chain(seed, shape, levels, skew, order=False):
    size, generator = math.prod(shape), seeded(seed)
    logits = skew * torch.randn(size, levels + 1, levels, generator=generator, dtype=REAL)
    kind = torch.rand(logits.shape, generator=generator)
    logits[kind < 0.1], logits[kind > 0.95] = -math.inf, math.log(1e-12)
    logits[..., -1] = logits[..., -1].clamp(min=-1)  # one symbol at least can come
    return Chain(shape, logits.log_softmax(-1), torch.randperm(size, generator=generator) if order else None)


SHAPES = st.sampled_from([(1,), (5,), (19,), (1, 1), (1, 6), (6, 1), (3, 4), (2, 2, 3)])


@FEW
@given(SEEDS, SHAPES, st.integers(1, 12) | st.just(60), st.integers(0, 9), st.floats(0, 12), st.booleans())
def test_round_trip(seed, shape, levels, n, skew, order):
    model = chain(seed, shape, levels, skew, order)
    x = drawn(n, *shape, levels=levels, seed=seed)
    file = compress(model, x)
    back = decompress(model, file)
    assert back.dtype == torch.long
    assert torch.equal(back, x)
    ideal = nll_bits(model, x)
    rows = 0 if not n else -(-math.prod(shape) // (shape[-1] if len(shape) > 1 else 8))
    most = ideal + x.numel() * math.log2(2**16 / (2**16 - levels)) + 8 * rows + 32
    assert math.isinf(ideal) or len(file) - stream_at(file) <= math.ceil(most / 8 + 1e-6)


def test_a_uniform_file_spells_its_symbols():
    for shape, row in {(2, 4): 4, (19,): 8, (2, 2, 3): 3}.items():
        x = drawn(3, *shape, levels=256, seed=4)
        size = math.prod(shape)
        order = torch.randperm(size, generator=seeded(2))
        model = Fixed(shape, torch.ones(256) / 256)
        for model.order in (None, order, order.tolist()):
            file = compress(model, x)
            spelled, sofar = b"", b""
            columns = x.flatten(1).T if model.order is None else x.flatten(1).T[order]
            for t, column in enumerate(columns.tolist()):
                spelled += bytes(column)
                sofar += b"".join(value.to_bytes(2, "little") for value in column)
                if (t + 1) % row == 0 or t + 1 == size:
                    spelled += bytes([zlib.crc32(sofar) % 256])
            spelled += zlib.crc32(sofar).to_bytes(4, "big")
            assert file[stream_at(file) :].ljust(len(spelled), b"\0") == spelled
            assert torch.equal(decompress(model, file), x)


def histograms(x, levels=17):
    counts = nn.functional.one_hot(x, levels).to(REAL).sum(0) + 0.5
    return Fixed(x.shape[1:], counts / counts.sum(-1, keepdim=True))


def pairs(x, levels=17, alpha=0.05):
    flat = x.flatten(1)
    before = nn.functional.pad(flat, (1, 0), value=levels)[:, :-1]
    counts = torch.full((flat.shape[1], levels + 1, levels), alpha, dtype=REAL)
    where = torch.arange(flat.shape[1]).expand_as(flat)
    counts.index_put_((where, before, flat), torch.ones(flat.shape, dtype=REAL), accumulate=True)
    return Chain(x.shape[1:], (counts / counts.sum(-1, keepdim=True)).log())


@pytest.mark.parametrize("fit", [histograms, pairs])
def test_a_likelihood_is_a_length(fit):
    data = digits()
    x = data.test.images
    model = fit(data.train.images)
    file = compress(model, x)
    assert torch.equal(decompress(model, file), x)
    assert stream_at(file) == 14
    assert abs(8 * len(file) - nll_bits(model, x)) < 230  # what 50,000 bits allow is 0.5 % and 32: 282
    assert len(file) > nll_bits(model, x) / 8


def test_the_header_grows_with_its_numbers_alone():
    model = Fixed((4, 4), [0.5, 0.5])
    assert stream_at(compress(model, drawn(0, 4, 4, levels=2))) == 12
    assert len(compress(model, drawn(0, 4, 4, levels=2))) == 12
    one_symbol = Fixed((4, 4), [1.0])
    file = compress(one_symbol, drawn(1000, 4, 4, levels=1))
    assert len(file) == 13 + 4 + 4
    assert torch.equal(decompress(one_symbol, file), torch.zeros(1000, 4, 4, dtype=torch.long))


# rounding


class Perturbed:
    """The same model, with cumulative probabilities that are off by `off`: one way, or by a seed either way."""

    def __init__(self, model, off, seed=None):
        self.model, self.off, self.generator = model, off, seed if seed is None else seeded(seed)
        self.event_shape, self.levels = model.event_shape, model.levels

    def log_conditionals(self, x):
        cumulative = self.model.log_conditionals(x).exp().cumsum(-1)
        inner = cumulative[..., :-1]
        up = self.generator is None or torch.rand(inner.shape, generator=self.generator) < 0.5
        inner = (inner + (2 * up - 1) * self.off).clamp(0, 1).sort(-1).values
        ends = torch.zeros_like(cumulative[..., :1]), torch.ones_like(cumulative[..., :1])
        return torch.cat([ends[0], inner, ends[1]], -1).diff().log()


def on_a_boundary(fractions, shape):
    """Two levels, with (2^16 − 2) Q_1 at these distances above a whole number."""
    first = (1000 + torch.as_tensor(fractions, dtype=REAL)) / (2**16 - 2)
    return Fixed(shape, torch.stack([first, 1 - first], -1))


def test_the_margin_bears_other_rounding():
    x = drawn(40, 4, 4, levels=6)
    half = on_a_boundary(torch.full((4, 4), 0.5), (4, 4))  # the shift 1/2 would be the worst
    for model in (chain(3, (4, 4), 6, 2.0), Fixed((4, 4), torch.ones(6) / 6), half):
        images = x.clamp(max=model.levels - 1)
        file = compress(model, images)
        for seed in range(3):
            other = Perturbed(model, 1.4e-11, seed)
            assert torch.equal(decompress(other, file), images)
        with pytest.raises(ValueError, match="damaged, or model is not the one"):
            decompress(Perturbed(model, 1e-3, 0), file)


def test_the_margin_is_kept_to_the_end():
    fractions = [1 - j / 256 for j in range(1, 256)]
    fractions[99] += 1.01 * 2**-20  # the only shift that is left is 100 / 256, and only just
    model = on_a_boundary(fractions, (255,))
    x = drawn(2, 255, levels=2)
    file = compress(model, x)
    assert file[stream_at(file) - 3] == 100
    for off in (1.4e-11, -1.4e-11):
        assert torch.equal(decompress(Perturbed(model, off), file), x)
    with pytest.raises(ValueError, match="damaged"):
        decompress(Perturbed(model, -1.6e-11), file)


def test_no_shift_left():
    fractions = [1 - j / 256 for j in range(1, 256)]
    fractions[99] += 0.99 * 2**-20
    with pytest.raises(
        RuntimeError, match="no shift keeps all 510 cumulative .* write fewer images to a file"
    ):
        compress(on_a_boundary(fractions, (255,)), drawn(2, 255, levels=2))


@given(SEEDS, st.integers(1, 300))
@FEW
def test_the_best_shift(seed, size):
    scaled = 1000 * torch.rand(size, generator=seeded(seed), dtype=REAL)
    distance = [
        min(abs(v + j / 256 - round(v + j / 256)) for v in [0.0, *scaled.tolist()]) for j in range(1, 256)
    ]
    assert distance[coding._shift(scaled) - 1] == pytest.approx(max(distance), abs=1e-9)


def test_as_many_numbers_as_the_digits_have():
    for seed in range(3):
        scaled = 65519 * torch.rand(447 * 64 * 16, generator=seeded(seed), dtype=REAL)
        j = coding._shift(scaled)
        assert ((scaled + j / 256) - (scaled + j / 256).round()).abs().min() > 2**-19


READ = """
import inspect, sys, torch
from torch import nn
from genlib.coding import decompress
exec(open(sys.argv[1] + "/model.py").read())
model = Causal()
model.load_state_dict(torch.load(sys.argv[1] + "/state.pt"))
file, images = open(sys.argv[1] + "/file", "rb").read(), torch.load(sys.argv[1] + "/images.pt")
for threads in (1, 2):
    torch.set_num_threads(threads)
    assert torch.get_num_threads() == threads
    print(torch.equal(decompress(model, file), images))
"""


def test_a_network_in_another_process(tmp_path):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = Causal()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    images = drawn(20, 6, 6, levels=5)
    file = compress(model, images)
    assert model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert file == compress(model, images)  # without dropout, that is
    assert torch.equal(decompress(model, file), images)
    torch.save(model.state_dict(), tmp_path / "state.pt")
    torch.save(images, tmp_path / "images.pt")
    (tmp_path / "file").write_bytes(file)
    (tmp_path / "model.py").write_text(inspect.getsource(Causal), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-c", READ, str(tmp_path)],
        capture_output=True,
        encoding="utf-8",
        timeout=120,
        env={**os.environ, "OMP_NUM_THREADS": "2", "OMP_WAIT_POLICY": "passive"},
    )
    assert (done.stdout, done.stderr) == ("True\nTrue\n", "")


# damage


@pytest.fixture(scope="module")
def written():
    model = chain(1, (4, 4), 5, 1.0)
    x = drawn(12, 4, 4, levels=5, seed=3)
    return model, x, compress(model, x)


def test_no_flipped_byte_gives_other_images(written):
    model, x, file = written
    begin, right, near, rows = stream_at(file), 0, 0, set()
    for place in range(len(file)):
        for flip in (1 << place % 8, 255) if place >= begin else (1, 2, 4, 8, 16, 32, 64, 128, 255):
            bad = bytearray(file)
            bad[place] ^= flip
            try:
                assert torch.equal(decompress(model, bytes(bad)), x)
                assert place >= len(file) - 1  # the last byte may say more than is needed
                right += 1
            except ValueError as error:
                message = str(error)
                assert message.startswith("file ")
                found = re.search(r"(row (\d) of|the sum of).*near bytes (\d+) to (\d+) of (\d+)$", message)
                assert bool(found) == (place >= begin), message
                if found:
                    assert int(found[5]) == len(file)
                    near += int(found[3]) <= place <= int(found[4])
                    rows.add(found[2])
    count = 2 * (len(file) - begin)
    assert near >= 0.95 * (count - right)  # a check of 8 bits misses one damage in 256
    assert rows >= {"1", "2", "3", "4"}


def test_every_truncation_is_told(written):
    model, _, file = written
    for size in range(len(file)):
        with pytest.raises(ValueError, match=f"file is truncated: .*{size} bytes") as caught:
            decompress(model, file[:size])
        where = "end within the header" if size < stream_at(file) else f"bytes of {len(file)}$"
        assert re.search(where, str(caught.value))


def test_files_that_are_none(written):
    model, _, file = written
    for bad, message in {
        b"PK\3\4 and more": "file must begin with b'AC.x01' as one of compress does, got b'PK.x03'",
        b"AC\2" + file[3:]: "file must begin with b'AC.x01'",
        file + b"xyz": f"file has 3 bytes left over: {len(file) + 3}, not {len(file)}",
        file[:5] + b"\7" + file[6:]: "file is damaged: its header, bytes 0 to 11, disagrees with its check",
    }.items():
        with pytest.raises(ValueError, match=message):
            decompress(model, bad)
    for bad in (None, "text", 3, [1, 2]):
        with pytest.raises(ValueError, match="file must be bytes"):
            decompress(model, bad)


def test_another_model(written):
    model, _, file = written
    for other in (chain(1, (2, 8), 5, 1.0), chain(1, (4, 4), 6, 1.0), chain(1, (16,), 5, 1.0)):
        theirs = f"{tuple(other.event_shape)} and {other.levels}"
        message = f"model must have the event shape and levels of file, (4, 4) and 5, got {theirs}"
        with pytest.raises(ValueError, match=re.escape(message)):
            decompress(other, file)
    with pytest.raises(ValueError, match="model is not the one it was written with: row 1 of the images"):
        decompress(chain(2, (4, 4), 5, 1.0), file)
    assert model.levels == 5


def test_a_model_that_looks_ahead():
    class Ahead(Fixed):
        def log_conditionals(self, x):
            return (torch.arange(5) * x.flip(1)[..., None]).to(REAL).log_softmax(-1)

    model = Ahead((8,), torch.ones(5) / 5)
    with pytest.raises(ValueError, match="disagrees"):
        decompress(model, compress(model, drawn(30, 8, levels=5)))


def test_images_are_checked(written):
    model, x, _ = written
    for bad in (x + 1, x - 1, x.double(), x > 2, x[0], x[None], x[:, :3], x.tolist(), None):
        with pytest.raises(ValueError, match="images must"):
            compress(model, bad)
    assert compress(model, x.to(torch.uint8)) == compress(model, x)


def test_models_are_checked(written):
    _, x, file = written
    q = torch.ones(5, dtype=REAL) / 5

    def changed(**attributes):
        model = Fixed((4, 4), q)
        for name, value in attributes.items():
            setattr(model, name, value)
        return model

    for bad, message in [
        (nn.Linear(2, 2), "model must have event_shape, levels and log_conditionals, got Linear"),
        (changed(levels=0), "levels of model must be a whole number"),
        (changed(levels=2**15 + 1), "at most 32768 levels, got"),
        (changed(event_shape=()), "an event shape of at least one dimension"),
        (changed(order=torch.arange(15)), "order of model must be a permutation of 16"),
        (changed(order=torch.arange(16) // 2), "order of model must be a permutation of 16"),
    ]:
        for use, what in ((compress, x), (decompress, file)):
            with pytest.raises(ValueError, match=message):
                use(bad, what)
    for bad, message in [
        (changed(log_q=q.log().float()), "model must return log-probabilities torch.float64 .*, got .*32"),
        (changed(log_conditionals=lambda x: q.log().expand(2, 5)), r"got torch.float64 \(2, 5\)"),
        (changed(log_conditionals=lambda x: None), "got NoneType"),
        (changed(log_q=q), "the conditionals of model must sum to 1"),
        (changed(log_q=q * math.nan), "the conditionals of model must hold finite numbers"),
    ]:
        with pytest.raises(ValueError, match=message):
            compress(bad, x)


def test_nothing_is_left_half_done(written):
    model, x, file = written
    bad = bytearray(file)
    bad[-3] ^= 16
    copy = x.clone()
    with pytest.raises(ValueError, match="damaged"):
        decompress(model, bytes(bad))
    assert torch.equal(x, copy)
    assert torch.equal(decompress(model, file), x)


def test_the_damaged_bytes_are_named_closely():
    model, x = Fixed((6, 4), [0.2] * 5), drawn(400, 6, 4, levels=5)
    file = compress(model, x)
    for share in (0.15, 0.5, 0.85):
        place = int(share * len(file))
        bad = bytearray(file)
        bad[place] ^= 255
        with pytest.raises(ValueError, match=r"near bytes \d+ to \d+") as told:
            decompress(model, bytes(bad))
        first, last = map(int, re.search(r"near bytes (\d+) to (\d+)", str(told.value)).groups())
        assert first <= place <= last
        assert last - first < len(file) / 4  # one row of six
