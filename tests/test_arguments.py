"""The checks of arguments: what is refused, and that the message names the argument and what was given."""

import math
import re
from types import MappingProxyType

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from genlib import _arguments as require

STEADY = settings(max_examples=60)


@pytest.mark.parametrize("value", [0, -1, 1.0, 2.5, True, "3", None, math.nan, torch.tensor(3)])
def test_whole_number_refuses(value):
    with pytest.raises(ValueError, match=rf"^size must be a whole number .*{re.escape(repr(value))}"):
        require.whole_number("size", value)


@STEADY
@given(st.integers(-5, 50), st.integers(-5, 50))
def test_whole_number_keeps_what_is_large_enough(value, least):
    if value >= least:
        assert require.whole_number("n", np.int64(value), least) == value
        assert type(require.whole_number("n", np.int64(value), least)) is int
    else:
        with pytest.raises(ValueError, match=f"at least {least}"):
            require.whole_number("n", value, least)


@pytest.mark.parametrize("value", [0, 0.0, -0.5, math.nan, math.inf, -math.inf, True, "1", None, 1j])
def test_positive_refuses(value):
    with pytest.raises(ValueError, match=rf"^scale must be .*{re.escape(repr(value))}"):
        require.positive("scale", value)


@pytest.mark.parametrize("value", [1, 0.5, np.float32(0.5), np.int64(3), 5e-324])
def test_positive_returns_a_float(value):
    assert require.positive("scale", value) == float(value)
    assert type(require.positive("scale", value)) is float


@STEADY
@given(st.dictionaries(st.text(max_size=3), st.integers(), min_size=1), st.text(max_size=3))
def test_one_of_returns_what_is_named(choices, value):
    for name, choice in choices.items():
        assert require.one_of("loss", name, choices) is choice
    if value not in choices:
        with pytest.raises(ValueError, match="^loss must be one of "):
            require.one_of("loss", value, choices)


@pytest.mark.parametrize("value", ["c", "", "A", None, 3, ["a"], ("a",), {"a"}, b"a", math.nan])
def test_one_of_refuses_and_lists_the_names(value):
    message = f"loss must be one of a, b, z, got {value!r}"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        require.one_of("loss", value, {"z": 1, "a": 2, "b": None})


def test_one_of_reads_names_alone():
    for key in (3, None):
        with pytest.raises(ValueError, match=f"^loss must be one of .*, got {key!r}$"):
            require.one_of("loss", key, MappingProxyType({"a": 1, "3": 2}))
    assert require.one_of("loss", "b", MappingProxyType({"a": 1, "b": None})) is None


@pytest.mark.parametrize("shape", [(), (2, 3), 5, "5", None, torch.tensor([5]), (0,), (-2,), (2.0,), (True,)])
def test_sample_count_refuses(shape):
    with pytest.raises(ValueError, match="shape"):
        require.sample_count(shape)


@pytest.mark.parametrize("shape", [(7,), [7], torch.Size([7]), (np.int64(7),)])
def test_sample_count_reads(shape):
    assert require.sample_count(shape) == 7


@pytest.mark.parametrize("value", ["abc", None, object(), [[1, 2], [3]], {"a": 1}, [1.0, None]])
def test_real_tensor_refuses_what_is_no_number(value):
    with pytest.raises(ValueError, match="^means must hold numbers"):
        require.real_tensor("means", value)


def test_real_tensor_refuses_complex_and_non_finite_numbers():
    with pytest.raises(ValueError, match="^means must hold real numbers, got dtype torch.complex64"):
        require.real_tensor("means", torch.tensor([1j]))
    for bad in (math.nan, math.inf, -math.inf):
        with pytest.raises(ValueError, match=r"^means must hold finite numbers.*\[1.0, -?(nan|inf)\]"):
            require.real_tensor("means", [1.0, bad])
    with pytest.raises(ValueError, match=r"a tensor of shape \(9,\)"):
        require.real_tensor("means", [math.nan] * 9)


def test_real_tensor_keeps_or_takes_the_dtype():
    assert require.real_tensor("a", torch.ones(2, dtype=torch.float64)).dtype == torch.float64
    assert require.real_tensor("a", np.ones(2)).dtype == torch.float64
    assert require.real_tensor("a", [1, 2]).dtype == torch.get_default_dtype()
    assert require.real_tensor("a", True).dtype == torch.get_default_dtype()
    like = torch.empty(0, dtype=torch.float64)
    assert require.real_tensor("a", [1, 2], like=like).dtype == torch.float64
    assert require.real_tensor("a", torch.ones(2), like=like).dtype == torch.float64


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([0.5, 0.6], r"must sum to 1, got a sum that is off by 0\.1 in \[0\.5, 0\.60*"),
        ([0.5, 0.49998], "must sum to 1"),
        ([[0.5, 0.5], [0.5, 0.4]], "must sum to 1"),
        ([1.5, -0.5], r"must not be negative, got \[1\.5, -0\.5\]"),
        ([0.5, math.nan], "finite"),
        ([1.0, math.inf], "finite"),
        ([], r"at least one probability, got shape \(0,\)"),
        (1.0, r"at least one probability, got shape \(\)"),
    ],
)
def test_probabilities_refuse(value, message):
    with pytest.raises(ValueError, match="^probs " + ".*" + message):
        require.probabilities("probs", value)


def test_probabilities_allow_rounding_zeros_and_an_empty_batch():
    for value in ([0.1] * 10, [0.0, 1.0], [0.5, 0.499999], [[1.0], [1.0]]):
        torch.testing.assert_close(require.probabilities("p", value), torch.tensor(value), rtol=0, atol=0)
    assert require.probabilities("p", torch.empty(0, 3)).shape == (0, 3)


def test_events_refuse_and_name_the_shape():
    with pytest.raises(ValueError, match="^x must be a torch tensor, got list"):
        require.events("x", [1.0, 2.0], (2,))
    for shape in [(3,), (2, 3), (), (2, 1)]:
        with pytest.raises(
            ValueError, match=r"^x must have shape \(\.\.\., 2\), got " + re.escape(str(shape))
        ):
            require.events("x", torch.zeros(shape), (2,))
    with pytest.raises(ValueError, match="^x must not hold NaN, got 2 of them"):
        require.events("x", torch.tensor([math.nan, 1.0, math.nan]), ())


def test_events_pass_unchanged():
    for shape, event in [((5, 2), (2,)), ((2,), (2,)), ((4, 5, 2, 3), (2, 3)), ((), ()), ((0, 2), (2,))]:
        x = torch.zeros(shape)
        assert require.events("x", x, event) is x
    infinite = torch.tensor([math.inf, -math.inf])
    assert require.events("x", infinite, ()) is infinite


def test_symbols_refuse():
    for x in (torch.zeros(2), torch.zeros(2, dtype=torch.bool), torch.zeros(2, dtype=torch.complex64)):
        with pytest.raises(ValueError, match=f"^x must hold whole numbers, got dtype {x.dtype}"):
            require.symbols("x", x, (), 3)
    for values in ([0, 3], [-1, 2], [-1, 3]):
        with pytest.raises(
            ValueError, match=f"^x must lie between 0 and 2, got values from {values[0]} to {values[1]}"
        ):
            require.symbols("x", torch.tensor(values), (), 3)


def test_symbols_become_int64():
    for dtype in (torch.uint8, torch.int8, torch.int32, torch.int64):
        x = torch.tensor([0, 1, 2], dtype=dtype)
        assert require.symbols("x", x, (), 3).dtype == torch.int64
        assert require.symbols("x", x, (), 3).tolist() == [0, 1, 2]
    assert require.symbols("x", torch.zeros(0, dtype=torch.int64), (), 3).shape == (0,)


ROWS = st.lists(st.lists(st.integers(0, 4), min_size=1, max_size=5), min_size=1, max_size=4)


@STEADY
@given(ROWS, st.integers(-9, 99))
def test_sequences_keep_what_counts(rows, fill):
    longest = max(map(len, rows))
    x = torch.tensor([row + [fill] * (longest - len(row)) for row in rows])
    mask = torch.tensor([[t < len(row) for t in range(longest)] for row in rows])
    before = x.clone()
    tokens, kept = require.sequences("x", x.int(), mask, 5, None)
    assert (tokens.dtype, tokens.shape) == (torch.int64, x.shape)
    assert tokens.tolist() == [row + [0] * (longest - len(row)) for row in rows]
    assert torch.equal(kept, mask)
    assert torch.equal(x, before)


def test_sequences_without_a_mask_count_throughout():
    for x in (
        torch.tensor([[1, 2], [3, 0]], dtype=torch.uint8),
        [[1, 2], [3, 0]],
        [torch.tensor([1, 2]), [3, 0]],
    ):
        for end in (None, 0, 4):
            tokens, mask = require.sequences("x", x, None, 5, end)
            assert tokens.tolist() == [[1, 2], [3, 0]]
            assert (tokens.dtype, mask.dtype) == (torch.int64, torch.bool)
            assert mask.tolist() == [[True, True], [True, True]]


@pytest.mark.parametrize(
    "x",
    [
        torch.tensor([1, 2]),
        torch.tensor(1),
        torch.zeros(1, 2, 2, dtype=torch.int64),
        torch.zeros(0, 2, dtype=torch.int64),
        torch.zeros(2, 0, dtype=torch.int64),
        [],
        [[]],
        [1, 2],
        [torch.tensor(1)],
        [[1, 2], 3],
        np.ones((2, 2), dtype=int),
        None,
        "12",
    ],
)
def test_sequences_refuse_wrong_shapes(x):
    with pytest.raises(
        ValueError, match=r"^text must be a tensor of shape \(B, L\) with B, L at least 1, got "
    ):
        require.sequences("text", x, None, 5, None)


def test_sequences_refuse_and_name_the_argument():
    yes = torch.ones(1, 3, dtype=torch.bool)
    for mask in (None, yes):
        for tokens in ([0, 5, 1], [0, -1, 1]):
            with pytest.raises(ValueError, match="^text must lie between 0 and 4"):
                require.sequences("text", torch.tensor([tokens]), mask, 5, None)
        for dtype in (torch.float32, torch.bool):
            with pytest.raises(ValueError, match="^text must hold whole numbers"):
                require.sequences("text", torch.ones(1, 3, dtype=dtype), mask, 5, None)
    for rows in ([[1, 2], [3]], [torch.tensor([1]), torch.tensor([1, 2])]):
        with pytest.raises(ValueError, match="^mask must be given where text has rows of unequal lengths"):
            require.sequences("text", rows, None, 5, None)
    with pytest.raises(
        ValueError, match="^mask must be given where rows of text end before their last place"
    ):
        require.sequences("text", torch.tensor([[1, 0, 2]]), None, 5, 0)


@pytest.mark.parametrize(
    "mask",
    [
        torch.ones(1, 3),
        torch.ones(1, 2, dtype=torch.bool),
        torch.ones(3, dtype=torch.bool),
        [[True, True, True]],
        torch.tensor([[False, True, True]]),
        torch.tensor([[False, False, False]]),
        torch.tensor([[True, False, True]]),
    ],
)
def test_sequences_refuse_masks(mask):
    with pytest.raises(ValueError, match="^mask must"):
        require.sequences("x", torch.tensor([[1, 2, 3]]), mask, 5, None)


BATCHES = [
    ((5, 2), (2,)),
    ((1, 2, 3), (2, 3)),
    ((0, 2), (2,)),
    ((4,), ()),
    ((5, 2), (2, ...)),
    ((5, 2, 3, 4), (2, ...)),
    ((5,), (...,)),
    ((5, 7, 1), (...,)),
]


@pytest.mark.parametrize(("shape", "event"), BATCHES)
def test_batch_passes_unchanged(shape, event):
    for dtype in (torch.float32, torch.float64):
        x = torch.zeros(shape, dtype=dtype)
        assert require.batch("x", x, event) is x


@pytest.mark.parametrize(
    ("shape", "event", "wanted"),
    [
        ((2,), (2,), "B, 2"),
        ((), (2,), "B, 2"),
        ((5, 3), (2,), "B, 2"),
        ((5, 1), (2,), "B, 2"),
        ((5, 2, 1), (2,), "B, 2"),
        ((4, 5, 2), (2,), "B, 2"),
        ((5, 3, 2), (2, 3), "B, 2, 3"),
        ((), (), "B"),
        ((5, 2), (), "B"),
        ((2,), (2, ...), "B, 2, ..."),
        ((5, 3, 2), (2, ...), "B, 2, ..."),
        ((2, 5), (2, ...), "B, 2, ..."),
        ((), (...,), "B, ..."),
    ],
)
def test_batch_refuses_wrong_shapes(shape, event, wanted):
    expected = f"z must have shape ({wanted}), got {shape}"
    with pytest.raises(ValueError, match=f"^{re.escape(expected)}$"):
        require.batch("z", torch.zeros(shape), event)


@pytest.mark.parametrize(
    ("x", "got"),
    [
        ([[1.0, 2.0]], "list"),
        (np.ones((1, 2)), "ndarray"),
        (None, "NoneType"),
        (torch.ones(1, 2, dtype=torch.int64), "torch.int64"),
        (torch.ones(1, 2, dtype=torch.bool), "torch.bool"),
        (torch.ones(1, 2, dtype=torch.complex64), "torch.complex64"),
    ],
)
def test_batch_refuses_what_is_no_tensor_of_reals(x, got):
    with pytest.raises(ValueError, match=f"^z must be a tensor of real numbers, got {got}$"):
        require.batch("z", x, (2,))


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_batch_refuses_nan_and_infinity(bad):
    for event in ((2,), (...,)):
        with pytest.raises(
            ValueError, match=r"^z must hold finite numbers, got NaN or infinity in \[\[0.0, "
        ):
            require.batch("z", torch.tensor([[0.0, bad]]), event)


def test_batch_checks_the_shape_only_inside_vmap():
    x = torch.tensor([[[0.0, 1.0]], [[2.0, math.nan]]])
    doubled = torch.func.vmap(lambda x: 2 * require.batch("z", x, (2,)))(x)
    torch.testing.assert_close(doubled, 2 * x, equal_nan=True)
    with pytest.raises(ValueError, match=r"^z must have shape \(B, 3\), got \(1, 2\)"):
        torch.func.vmap(lambda x: require.batch("z", x, (3,)))(x)


@STEADY
@given(st.lists(st.booleans(), min_size=0, max_size=6), st.booleans())
def test_mask_must_pass_some_and_change_others(values, as_row):
    mask = torch.tensor(values, dtype=torch.bool)
    mask = mask[None] if as_row else mask
    if len(set(values)) == 2:
        assert require.mask("m", mask) is mask
    else:
        counts = f"got {sum(values)} of {len(values)}"
        with pytest.raises(ValueError, match=f"^m must pass some entries and change others, {counts}$"):
            require.mask("m", mask)


@pytest.mark.parametrize(
    ("value", "got"),
    [
        (torch.tensor([1, 0]), "torch.int64"),
        (torch.tensor([1.0, 0.0]), "torch.float32"),
        ([True, False], "list"),
        (np.array([True, False]), "ndarray"),
        (None, "NoneType"),
    ],
)
def test_mask_must_be_bool(value, got):
    with pytest.raises(ValueError, match=f"^m must be a tensor of bool, got {got}$"):
        require.mask("m", value)


@pytest.mark.parametrize(
    "x", [[[1.0]], torch.zeros(3), torch.zeros(0, 2), torch.zeros(2, 0), torch.zeros(1, 1, 1)]
)
def test_points_refuse_wrong_shapes(x):
    got = str(tuple(x.shape)) if isinstance(x, torch.Tensor) else "list"
    with pytest.raises(ValueError, match=r"^x must be a tensor of shape \(n, D\).*got " + re.escape(got)):
        require.points("x", x)


def test_points_refuse_nan_and_turn_whole_numbers_into_reals():
    with pytest.raises(ValueError, match="^x must hold finite numbers"):
        require.points("x", torch.tensor([[math.nan, 0.0]]))
    assert require.points("x", torch.ones(1, 1, dtype=torch.int64)).is_floating_point()


@STEADY
@given(st.floats(allow_nan=True))
def test_a_share_lies_from_0_to_below_1(value):
    if 0 <= value < 1:
        assert require.share("dropout", value) == value
    else:
        with pytest.raises(ValueError, match="^dropout must "):
            require.share("dropout", value)


def test_levels_fall_and_are_a_copy():
    levels = torch.tensor([2.0, 1.0, 0.5])
    found = require.falling("levels", levels)
    assert torch.equal(found, levels)
    assert found.data_ptr() != levels.data_ptr()
    for wrong in ([1.0, 1.0], [1.0, 2.0], [1.0, 0.0], [], [[2.0, 1.0]]):
        with pytest.raises(ValueError, match="^levels must "):
            require.falling("levels", wrong)


def test_what_a_function_gave_has_the_shape_of_the_batch():
    x = torch.zeros(2, 3)
    assert require.same_shape("net", x, x) is x
    for wrong, got in ((torch.zeros(2), "(2,)"), (None, "NoneType")):
        with pytest.raises(ValueError, match=f"^net must return shape {re.escape('(2, 3), got ' + got)}$"):
            require.same_shape("net", wrong, x)


def test_vectors_have_at_least_two_dimensions():
    assert require.vectors("x", torch.zeros(2, 1, 3)).shape == (2, 1, 3)
    with pytest.raises(
        ValueError, match=r"^x must have shape \(B, \*E\) with at least two dimensions, got \(2,\)"
    ):
        require.vectors("x", torch.zeros(2))


def test_another_precision_than_the_models_is_named():
    net = torch.nn.Linear(1, 1)
    require.same_dtype("x", torch.zeros(1), net)
    require.same_dtype("x", torch.zeros(1, dtype=torch.int64), net)
    require.same_dtype("x", torch.zeros(1).double(), torch.nn.ReLU())  # nothing to differ from
    with pytest.raises(ValueError, match=r"^x must be in torch.float32 as the model is, got torch.float64$"):
        require.same_dtype("x", torch.zeros(1).double(), net)


def test_gradients_that_are_forbidden():
    with torch.no_grad():
        require.gradients("mala")
    with torch.inference_mode(), pytest.raises(RuntimeError, match="^mala needs gradients"):
        require.gradients("mala")
