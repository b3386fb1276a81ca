"""Stored runs are read as they were written, and are those that their benchmark plans."""

import importlib.util
import math
from pathlib import Path

import pytest
import torch

from genlib import runs

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def bench():
    spec = importlib.util.spec_from_file_location("bench_gan", ROOT / "benchmarks" / "gan.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_what_is_saved_is_loaded(tmp_path, monkeypatch):
    rows = [{"name": "a, b", "share": 0.1, "count": 3}, {"name": "c", "share": math.inf, "count": 0}]
    runs.save(tmp_path / "small.csv", rows, "made by hand")
    assert (
        (tmp_path / "small.csv").read_text(encoding="utf-8").startswith("# made by hand\nname,share,count\n")
    )
    monkeypatch.setattr(runs, "FOLDER", tmp_path)
    assert runs.load("small") == rows


@pytest.mark.parametrize("name", ["", "other", "../runs/ring_games", None])
def test_unknown_tables_are_refused(name):
    with pytest.raises(ValueError, match=r"^name must be one of ring_films, ring_games, got "):
        runs.load(name)


def test_nothing_is_written_without_rows(tmp_path):
    with pytest.raises(ValueError, match="^rows must"):
        runs.save(tmp_path / "empty.csv", [], "made by hand")
    assert not (tmp_path / "empty.csv").exists()


def test_the_games_on_the_ring_are_those_of_the_plan(bench):
    rows = runs.load("ring_games")
    settings = ("recipe", "weight", "momentum", "rate", "seed")
    assert [tuple(row[key] for key in settings) for row in rows] == bench.plan(range(5))
    for row in rows:
        assert 0 <= row["modes"] <= 8
        assert 0 <= row["good"] <= 1
        assert row["kl"] >= 0


def test_the_films_are_twelve_starts_for_each_weight():
    rows = runs.load("ring_films")
    assert [(row["weight"], row["seed"]) for row in rows] == [
        (weight, seed) for weight in (0, 1, 3, 10) for seed in range(200, 212)
    ]
    assert {(row["recipe"], row["momentum"], row["rate"]) for row in rows} == {
        ("non-saturating, R1", 0.9, 3e-3)
    }


def test_a_game_is_judged_at_every_moment_and_by_its_worst(bench, monkeypatch):
    seen = iter([(8, 0.5, 0.1), (6, 0.7, 0.2), (8, 0.6, 0.1)])
    monkeypatch.setattr(bench, "ROUNDS", 4)
    monkeypatch.setattr(bench, "JUDGED", (2, 3, 4))
    monkeypatch.setattr(bench, "report", lambda *_: next(seen))
    row = bench.contest("DRAGAN", 1.0, 0.9, 3e-3, 0)
    assert (row["modes"], row["good"], row["kl"]) == (6, 0.6, 0.2)


@pytest.mark.parametrize(
    "recipe", ["minimax", "non-saturating, R2", "non-saturating, anywhere", "Wasserstein, clipped"]
)
def test_each_kind_of_penalty_is_played(bench, monkeypatch, recipe):
    played = []
    monkeypatch.setattr(bench, "JUDGED", (1,))
    monkeypatch.setattr(bench, "report", lambda model, *_: played.append(model) or (8, 1.0, 0.0))

    def fit(model, batches, steps, after, **rules):
        after(1)
        played.append(rules)

    monkeypatch.setattr(bench.gan, "fit", fit)
    bench.contest(recipe, 0.1, 0.0, 3e-3, 0)
    model, rules = played
    assert rules["clip" if "clipped" in recipe else "weight"] == 0.1
    assert model.penalty is {"minimax": bench.gan.r1, "non-saturating, R2": bench.gan.r2}.get(
        recipe, bench.anywhere if "anywhere" in recipe else bench.gan.r1
    )


def test_anywhere_is_in_the_square_and_at_neither_data_nor_samples(bench):
    places = []

    def critic(x):
        places.append(x.detach())
        return x.square().sum(1)

    real = torch.full((2000, 2), 50.0)
    fine = bench.anywhere(critic, real, -real)
    (x,) = places
    assert x.abs().max() < 3
    assert x.std(0).sub(3**0.5).abs().max() < 0.1  # uniform on (−3, 3)
    torch.testing.assert_close(fine, 2 * x.square().sum(1))
