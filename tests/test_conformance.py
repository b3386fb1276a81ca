"""One interface, held by every model and every source: shapes, dtypes, devices, generators, copies and messages."""

import copy
import importlib
import inspect
import pickle
import pkgutil
import re

import pytest
import torch
from torch import nn

import genlib
from genlib import (
    data,
    diffusion,
    discrete,
    energy,
    flow_matching,
    flows,
    gan,
    inverse,
    latents,
    metrics,
    mixture,
    pixels,
    plotting,
    score,
    sde,
    sequence,
    vae,
)
from genlib.conditional import Conditional
from genlib.nets import (
    MADE,
    MLP,
    ImageNet,
    Ink,
    Potential,
    Scaled,
    ScoreNet,
    Tilt,
    Together,
    perceptron,
)
from genlib.scorecard import images, points, protocol, recipe

pytestmark = pytest.mark.filterwarnings(
    "ignore:`torch.jit.script` is deprecated:DeprecationWarning"
)  # torch's jvp
POINTS = torch.randn(60, 2, generator=torch.Generator().manual_seed(0))
DIGITS = data.digits().train.images[:60]
LITTLE = DIGITS[:, 3:5, 3:6]  # (60, 2, 3)


def a_flow(event=(2,)):
    layers = [flows.Coupling(flows.alternating(2), flows.Spline(4), MLP(1, 1, 11)), flows.ActNorm(2)]
    return flows.Flow(layers, event)


def a_vae(decoder=None):
    decoder = decoder or vae.NormalMeanNet(perceptron(2, 2, (4,)), learn=True)
    return vae.VAE(vae.NormalNet(perceptron(2, 4, (4,))), decoder, vae.MixturePrior(2, 3))


def a_vae_of_digits():
    encoder = vae.NormalNet(nn.Sequential(Scaled(), perceptron(64, 4, (4,))))
    decoder = vae.CategoricalNet(nn.Sequential(perceptron(2, 128, (4,)), Tilt(DIGITS)))
    return vae.VAE(encoder, decoder, vae.StandardPrior(2))


def a_vq_vae():
    encoder = nn.Sequential(Scaled(), perceptron(64, 12, (4,)), nn.Unflatten(1, (2, 3, 2)))
    decoder = Together(vae.CategoricalNet(nn.Sequential(perceptron(12, 128, (4,)), Tilt(DIGITS))))
    prior = pixels.PixelCNN(pixels.Softmax(5), (2, 3), 4)
    return latents.VQVAE(encoder, latents.CodeBook(5, 2), decoder, prior)


def a_vq_vae_of_two_levels():
    above = nn.Sequential(Scaled(), perceptron(64, 4, (4,)), nn.Unflatten(1, (1, 2, 2)))
    below = Together(nn.Sequential(perceptron(68, 12, (4,)), nn.Unflatten(1, (2, 3, 2))))
    decoder = Together(vae.CategoricalNet(nn.Sequential(perceptron(16, 128, (4,)), Tilt(DIGITS))))
    priors = (
        pixels.PixelCNN(pixels.Softmax(4), (1, 2), 4),
        pixels.PixelCNN(pixels.Softmax(5), (2, 3), 4, condition=4),
    )
    return latents.TwoLevels(above, latents.CodeBook(4, 2), below, latents.CodeBook(5, 2), decoder, *priors)


def a_gan():
    return gan.GAN(perceptron(3, 2, (4,)), perceptron(2, 1, (4,)), 3)


def a_gan_of_images():
    hidden = [nn.Linear(3, 8), nn.BatchNorm1d(8), nn.ReLU()]
    return gan.GAN(
        nn.Sequential(*hidden, nn.Linear(8, 64), Ink()), nn.Sequential(Scaled(), nn.Linear(64, 1)), 3
    )


def a_score():
    return score.ScoreModel(ScoreNet(2, 4), (2,), score.geometric_levels(2.0, 0.5, 3))


def a_score_sde():
    return sde.ScoreSDE(ScoreNet(2, 4), (2,), sde.VariancePreserving(0.1, 5.0), 0.5)


def a_grey_score():
    return sde.GreyScore(ImageNet(2, 4, told=2), DIGITS)


def a_masked_diffusion(kind=diffusion.Absorbing):
    timed = kind is diffusion.Uniform
    return kind(diffusion.Reader(5, 8, timed=timed), 4, 5)


def a_flow_matching():
    return flow_matching.FlowMatching(flow_matching.ToldLevel(ScoreNet(2, 4)), (2,))


def a_consistency_model():
    return flow_matching.ConsistencyModel(flow_matching.ToldLevel(ScoreNet(2, 4)), a_flow_matching(), 4)


def cells():
    return points.Cells(4.0, 16)


def a_posterior():
    prior = data.GaussianMixture(torch.eye(2), 0.5)
    return inverse.MixturePosterior(prior, inverse.Linear(torch.ones(1, 2), 0.3), torch.tensor([0.8]))


def a_machine():
    weight = torch.tensor([[0.0, 1.0, -0.5], [1.0, 0.0, 2.0], [-0.5, 2.0, 0.0]])
    return energy.Boltzmann(weight, torch.tensor([0.2, -1.0, 0.0]), 1.5)


def an_energy_of_levels():
    return energy.MultiScaleEnergy(Potential(ScoreNet(2, 4)), (2,), score.geometric_levels(2.0, 0.5, 3))


def a_law_of_an_energy():
    model = energy.EnergyModel(perceptron(2, 1, (4,)), (2,))
    return energy.Normalised(model.energy, ((-6.0, 6.0), (-6.0, 6.0)), 0.5)


def a_pixel_cnn(condition=0):
    return pixels.PixelCNN(pixels.Histogram(LITTLE), (2, 3), 4, condition=condition)


def in_any_order():
    net = nn.Sequential(nn.Flatten(), perceptron(12, 30, (4,)), nn.Unflatten(1, (2, 3, 5)))
    return pixels.AnyOrder(net, pixels.Softmax(5), (2, 3), torch.tensor([5, 0, 3, 1, 4, 2]))


def a_deep_mixture():
    below = mixture.Layer(torch.randn(2, 2, 1), torch.randn(2, 2), torch.full((2, 2), 0.3), [0.4, 0.6])
    above = mixture.Layer(torch.randn(3, 1, 1), torch.randn(3, 1), torch.full((3, 1), 0.3), [0.2, 0.3, 0.5])
    return mixture.DeepMixture([below, above])


def dequantised(event=(2,)):
    return flows.Dequantised(a_flow(event), 5)


MODELS = {
    "mixture of bits": lambda: mixture.BernoulliMixture(
        torch.tensor([[0.1, 0.6, 0.5], [0.9, 0.2, 0.5]]), [0.3, 0.7]
    ),
    "mixture of symbols": lambda: mixture.CategoricalMixture(torch.rand(2, 3, 5).softmax(-1), [0.3, 0.7]),
    "mixture of grey levels": lambda: mixture.LevelMixture(
        4 * torch.rand(2, 2, 3), 1 + torch.rand(2, 2, 3), levels=5
    ),
    "mixture of shared parts": lambda: mixture.PartsMixture(
        torch.rand(1, 2, 3, 2).softmax(-1),
        4 * torch.rand(1, 2, 2, 2, 2),
        1 + torch.rand(1, 2, 2, 2, 2),
        levels=5,
    ),
    "mixture of normals": lambda: mixture.NormalMixture(torch.randn(3, 2), torch.eye(2), kind="tied"),
    "deep mixture": a_deep_mixture,
    "softmax": lambda: discrete.Softmax(5, (2,)),
    "naive Bayes": lambda: discrete.NaiveBayes(5, (2,), 3),
    "n-gram": lambda: sequence.NGram(3, 2, length=4),
    "recurrent": lambda: sequence.Recurrent(3, 5, length=4),
    "Transformer": lambda: sequence.Transformer(3, 8, heads=2, layers=1, context=4, length=4),
    "base": lambda: flows.StandardNormal((2,)),
    "flow": a_flow,
    "dequantised flow": dequantised,
    "VAE": a_vae,
    "VAE of bits": lambda: a_vae(vae.BernoulliNet(perceptron(2, 2, (4,)))),
    "VAE of digits": a_vae_of_digits,
    "VQ-VAE": a_vq_vae,
    "VQ-VAE of two levels": a_vq_vae_of_two_levels,
    "linear Gaussian": lambda: vae.LinearGaussian(torch.ones(2, 1), torch.zeros(2), 0.5),
    "Boltzmann machine": a_machine,
    "restricted machine": lambda: energy.RBM(3, 2),
    "deep belief net": lambda: energy.DeepBelief(energy.RBM(3, 2), energy.RBM(2, 4)),
    "deep Boltzmann machine": lambda: energy.DeepBoltzmann(3, 2, 4),
    "energy at noise levels": an_energy_of_levels,
    "law of an energy": a_law_of_an_energy,
    "pixels by masks": a_pixel_cnn,
    "pixels by two stacks": lambda: pixels.TwoStacks(pixels.Logistics(17), (2, 3), 4),
    "pixels in order": lambda: pixels.InOrder(
        MADE(6, 5, (6,)), pixels.Softmax(5), (2, 3), torch.tensor([5, 0, 3, 1, 4, 2])
    ),
    "pixels in any order": in_any_order,
    "pixels of classes": lambda: pixels.ClassMixture(a_pixel_cnn(2), torch.tensor([0.3, 0.7])),
    "GAN": a_gan,
    "GAN of images": a_gan_of_images,
    "score model": a_score,
    "score SDE": a_score_sde,
    "grey score": a_grey_score,
    "masked diffusion": a_masked_diffusion,
    "uniform diffusion": lambda: a_masked_diffusion(diffusion.Uniform),
    "flow matching": a_flow_matching,
    "consistency model": a_consistency_model,
    "posterior of a mixture": a_posterior,
    "condition filled in": lambda: Conditional(
        flows.Flow([flows.Coupling(flows.alternating(2), flows.Affine(), MLP(1, 1, 2, condition=1))], (2,)), 1
    )(torch.ones(1)),
    "scorecard: table": lambda: points.Table(cells()),
    "scorecard: digit by digit": lambda: points.DigitByDigit(cells(), 2, sequence.Recurrent(4, 5)),
    "scorecard: kernels": lambda: recipe.Neighbours(POINTS, 0.3),
    "scorecard: mixture": lambda: recipe.Mixture(POINTS, 2, "full"),
    "scorecard: map": lambda: points.Bent(2, masked=True),
    "scorecard: in data units": lambda: protocol.InDataUnits(a_flow(), torch.zeros(2), torch.ones(())),
    "scorecard: pixels read": lambda: images.Reading(sequence.Recurrent(17, 5)),
    "scorecard: flow of images": lambda: images.Reshaped(
        flows.image_splines(images._soft(DIGITS), hidden=(4,))
    ),
    "scorecard: VAE of images": lambda: images.WithBound(a_vae_of_digits()),
    "scorecard: rounded": lambda: images.Rounded(a_gan_of_images()),
    "scorecard: rounded down": lambda: images.RoundedDown(recipe.Neighbours(DIGITS.flatten(1).double(), 1.0)),
}
SOURCES = {
    name: lambda name=name: data.source(name, **({"probs": [0.2, 0.8]} if name == "categorical" else {}))
    for name in data.SOURCES
} | {
    "mixture in 3": lambda: data.GaussianMixture(torch.eye(3), 0.5),
    "Markov chain": lambda: data.MarkovChain(torch.tensor([[0.2, 0.8], [0.6, 0.4]]), 5),
    "grammar": data.english,
    "Ising": lambda: data.Ising(3, 2, 2.0),
}
EVERYTHING = MODELS | SOURCES
VARIABLE = ("n-gram", "recurrent", "Transformer", "grammar")  # sequences may be shorter than event_shape says
LEARNT = [
    name for name, make in MODELS.items() if isinstance(make(), nn.Module) and list(make().parameters())
]
STEPS = {
    "score model": {"steps": 2},
    "score SDE": {"steps": 2},
    "energy at noise levels": {"steps": 2},
    "grey score": {"calls": 2},
    "uniform diffusion": {"steps": 2},
    "flow matching": {"steps": 2},
}  # settings that keep a draw short


@pytest.fixture(params=EVERYTHING)
def name(request):
    return request.param


def made(name):
    torch.manual_seed(0)
    model = EVERYTHING[name]()
    return model.eval() if isinstance(model, nn.Module) else model


def draw(name, model, n, generator=None):
    return model.sample((n,), generator=generator, **STEPS.get(name, {}))


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def densities(model):
    """What the model says about x, by name, each (B, *E) → (B,)."""
    told = {
        key: getattr(model, key)
        for key in ("log_prob", "pseudo_log_prob", "elbo", "loss")
        if hasattr(model, key)
    }
    if hasattr(model, "bound"):
        told["bound"] = lambda x: model.bound(x, 3)
    if isinstance(model, vae.LinearGaussian):
        del told["elbo"]  # it takes a guess, not a draw
    if isinstance(model, score.ScoreModel):
        told["score"] = lambda x: model.score(x, 1.0)[:, 0]
    if isinstance(model, data.Grammar):
        told = {"log_prob": lambda x: model.log_prob(x, data.until_end(x, model.end))}
    if isinstance(model, gan.GAN):
        told["value"] = model.value
    return told


def test_every_public_model_and_source_is_here():
    missing = []
    shown = {type(make()) for make in EVERYTHING.values()}
    for found in pkgutil.walk_packages(genlib.__path__, "genlib."):
        module = importlib.import_module(found.name)
        for label, kind in vars(module).items():
            if not inspect.isclass(kind) or kind.__module__ != module.__name__ or label.startswith("_"):
                continue
            if getattr(kind, "_is_protocol", False):
                continue
            if not (hasattr(kind, "sample") or hasattr(kind, "log_prob")) or inspect.isabstract(kind):
                continue
            if not any(issubclass(other, kind) for other in shown):
                missing.append(f"{found.name}.{label}")
    assert missing == []


def test_samples_have_the_shape_of_the_event_and_no_gradient(name):
    model = made(name)
    assert isinstance(model.event_shape, torch.Size)
    for n in (1, 3):
        x = draw(name, model, n)
        if name in VARIABLE:
            assert x.shape[0] == n
            assert x.shape[1] <= model.event_shape[0]
        else:
            assert x.shape == (n, *model.event_shape)
        assert not x.requires_grad
    for shape in (3, (0,), (2, 2), "3"):
        with pytest.raises(ValueError, match="shape"):
            model.sample(shape)


def test_a_generator_decides_the_draws_and_the_global_one_stays(name):
    model = made(name)
    state = torch.get_rng_state()
    x, again, other = (draw(name, model, 40, seeded(seed)) for seed in (1, 1, 2))
    assert torch.equal(x, again)
    assert x.shape != other.shape or not torch.equal(x, other)
    assert torch.equal(torch.get_rng_state(), state)


def test_densities_are_one_number_an_example(name):
    model = made(name)
    x = draw(name, model, 5)
    for key, say in densities(model).items():
        torch.manual_seed(1)
        assert say(x).shape == (5,), key
        assert say(x[:1]).shape == (1,), key
        if "VAE" in name:  # torch's distributions have no empty batches
            with pytest.raises(ValueError, match="^x must be a tensor .* with B at least 1, got "):
                say(x[:0])
        elif name not in VARIABLE:
            assert say(x[:0]).shape == (0,), key


def test_another_shape_is_refused_by_name(name):
    model = made(name)
    if name in VARIABLE or not len(model.event_shape):
        wrong = torch.zeros(2, 2, 2, dtype=torch.int64) if name in VARIABLE else torch.zeros(2)
    else:
        wrong = torch.zeros(3, *model.event_shape, 1).to(draw(name, model, 1).dtype)[:, 0]
    for key, say in densities(model).items():
        if key in ("score", "value") or name == "base":  # a flow may lay its latent numbers out differently
            continue
        with pytest.raises(ValueError, match="^[xvz] must"):
            say(wrong)


def test_copies_and_pickles_are_the_same(name):
    model = made(name)
    x = draw(name, model, 4, seeded(3))
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert torch.equal(draw(name, twin, 4, seeded(3)), x)
        for key, say in densities(model).items():
            values = []
            for speaker in (say, densities(twin)[key]):
                torch.manual_seed(2)
                values.append(speaker(x))
            assert torch.equal(*values), key


@pytest.mark.parametrize("name", LEARNT)
def test_a_state_dict_carries_everything(name):
    model = made(name)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1
    torch.manual_seed(7)
    twin = EVERYTHING[name]().eval()
    twin.load_state_dict(model.state_dict())
    if name == "n-gram":
        return
    assert torch.equal(draw(name, twin, 4, seeded(3)), draw(name, model, 4, seeded(3)))


FLOATING = [
    "base",
    "flow",
    "VAE",
    "GAN",
    "GAN of images",
    "score model",
    "score SDE",
    "scorecard: map",
    "scorecard: kernels",
    "scorecard: mixture",
]


@pytest.mark.parametrize("name", [name for name in LEARNT if name not in VARIABLE])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_models_work_in_their_own_precision(name, dtype):
    model = made(name).to(dtype)
    x = draw(name, model, 4)
    if x.is_floating_point() and name not in ("scorecard: table", "scorecard: digit by digit"):
        assert x.dtype == dtype
    for key, say in densities(model).items():
        value = say(x)
        if not name.startswith("scorecard"):
            assert value.dtype == dtype, key


@pytest.mark.parametrize("name", ["flow", "VAE", "GAN", "score model", "score SDE", "energy at noise levels"])
def test_data_of_another_precision_are_refused_with_both_named(name):
    model = made(name)
    x = draw(name, model, 4).double()
    for key, say in densities(model).items():
        with pytest.raises(
            ValueError, match="^x must be in torch.float32 as the model is, got torch.float64$"
        ):
            say(x)
        assert key
    if name == "GAN":
        with pytest.raises(
            ValueError, match="^x must be in torch.float32 as the model is, got torch.float64$"
        ):
            model.critic_loss(x, x)


@pytest.mark.parametrize("name", [*SOURCES])
def test_sources_live_in_one_precision(name):
    if name in ("categorical", "grammar", "Ising", "Markov chain", "mixture in 3"):
        return
    for dtype in (torch.float32, torch.float64):
        source = data.source(name, dtype=dtype)
        x = source.sample((3,))
        assert x.dtype == source.log_prob(x).dtype == source.entropy().dtype == dtype


ON_META = [
    "softmax",
    "recurrent",
    "Transformer",
    "base",
    "flow",
    "VAE",
    "VAE of bits",
    "GAN",
    "score model",
    "score SDE",
    "grey score",
    "scorecard: map",
]


@pytest.mark.parametrize("name", ON_META)
def test_no_number_is_left_on_the_default_device(name):
    """There need not be a GPU: a model that was moved to the device without memory must not meet numbers on the CPU."""
    model = made(name).to("meta")
    shape = (4, *model.event_shape)
    whole = name in ("softmax", "recurrent", "Transformer")
    x = torch.zeros(shape, dtype=torch.int64 if whole else None, device="meta")
    if name in ("softmax", "recurrent", "Transformer"):  # their checks look at values
        value = model(x)[0] if name != "softmax" else model.probs
    elif name in ("score model", "score SDE"):
        value = model.net(x, torch.zeros(4, device="meta"))
    elif name == "grey score":
        value = model.clean(x.flatten(1), 1.0)
    elif name in ("GAN", "VAE", "VAE of bits"):
        value = model.generator(torch.zeros(4, 3, device="meta")) if name == "GAN" else model.encode(x).mean
    elif name == "scorecard: map":
        value = model(x)
    elif name == "base":
        value = model.log_prob(x)
    else:
        value = model._inverse(x)[1]
    assert value.device.type == "meta"


def test_the_default_device_is_no_part_of_a_model():
    for name in ("flow", "VAE", "GAN", "score model", "score SDE", "grey score", "scorecard: map", "softmax"):
        model, x = made(name), draw(name, made(name), 3)
        with torch.device("meta"):
            assert draw(name, model, 2).device.type == "cpu", name
            for say in densities(model).values():
                assert say(x).device.type == "cpu", name


def test_losses_of_the_two_players_can_be_pickled():
    f = torch.tensor([-0.5, 2.0])
    for pays in gan.LOSSES.values():
        twin = pickle.loads(pickle.dumps(pays))
        for ours, again in zip(pays, twin, strict=True):
            assert torch.equal(ours(f), again(f))


def test_a_picture_of_a_density_is_drawn_in_the_models_precision():
    from matplotlib.figure import Figure

    ax = Figure().add_subplot()
    for model in (a_flow().double(), a_flow(), data.ring(dtype=torch.float64)):
        plotting.density(ax, model, ((-2, 2), (-2, 2)), size=4)


def test_an_exact_source_stands_in_for_a_model_and_a_model_is_measured():
    ring = data.ring(3)
    assert metrics.kl_to_truth(ring, ring, 100).value == 0
    assert metrics.kl_to_truth(ring, a_flow(), 100).value > 0


def test_messages_name_what_was_given():
    with pytest.raises(ValueError, match=re.escape("x must have shape (B, 2), got (3, 3)")):
        a_flow().log_prob(torch.zeros(3, 3))
