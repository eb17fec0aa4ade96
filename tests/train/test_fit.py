"""The fit before the network: sparse points, terms that add up, and a normalizer without a regression."""

import numpy as np
import torch

from harmose.representation.concatenation import TargetSettings
from harmose.train.dataset import normalize_targets
from harmose.train.fit import fit_to_samples, load_targets, read_fit, write_fit


def test_the_number_of_sparse_points_is_bounded(mixed_store):
    targets = load_targets(mixed_store, mixed_store.names()[:4], TargetSettings())
    few, all_of_them = (fit_to_samples(targets, sparse_points=n).regression.pairs for n in (2, None))
    for pair_type, pair in few.items():
        assert pair.kernel_expansion is not None
        assert len(pair.kernel_expansion.sparse_points.distance) == min(
            2, len(all_of_them[pair_type].kernel_expansion.sparse_points.distance)
        )


def assert_same_values(one, other):
    """Coefficients, weights and standard deviations of the regression."""
    for group, x in one.values.pairs.items():
        torch.testing.assert_close(x, other.values.pairs[group], rtol=0, atol=0)
    for shell_type, x in one.values.onsite.items():
        torch.testing.assert_close(x, other.values.onsite[shell_type], rtol=0, atol=0)
    np.testing.assert_array_equal(one.weights, other.weights)
    np.testing.assert_array_equal(one.std, other.std)
    assert one.std.min() > 0


def test_terms_add_up_and_files_hold_them(mixed_store, tmp_path):
    """Functions of distances; + three-centre terms; + kernel: each leaves less."""
    targets = load_targets(mixed_store, mixed_store.names(), TargetSettings())
    oriented, errors = targets.concatenated.oriented, {}
    for name, kind, n in (("pairs", "pairs", None), ("three-centre", "kernel", 0), ("kernel", "kernel", None)):
        fit = fit_to_samples(targets, kind, n)
        values = fit.regression.values(oriented)
        assert all((pair.kernel_expansion is None) == (name != "kernel") for pair in fit.regression.pairs.values())
        errors[name] = sum(float((values.pairs[g] - x).abs().sum()) for g, x in targets.coefficients.pairs.items())
        write_fit(tmp_path / "fit.safetensors", fit)
        again = read_fit(tmp_path / "fit.safetensors", targets.space)
        assert all(torch.equal(again.regression.values(oriented).pairs[g], x) for g, x in values.pairs.items())
        assert (again.leave_one_out is None) == (kind == "pairs")
        if fit.leave_one_out is not None:
            assert_same_values(again.leave_one_out, fit.leave_one_out)
            assert_same_values(again.values(targets), fit.values(targets))
    assert errors["kernel"] < errors["three-centre"] < errors["pairs"]


def test_a_fit_without_regression(mixed_store, tmp_path):
    """On-site scalars are shifted by their mean, all else is only scaled."""
    targets = load_targets(mixed_store, mixed_store.names(), TargetSettings())
    fit = fit_to_samples(targets, "none")
    assert fit.regression is None
    values = fit.values(targets)
    assert (values.weights == 1).all()
    assert (values.std == 1).all()
    write_fit(tmp_path / "fit.safetensors", fit)
    batch = normalize_targets(targets, read_fit(tmp_path / "fit.safetensors", targets.space)).pick(np.arange(9))
    for x in batch.targets.onsite.values():
        assert abs(float(x[:, 0].mean())) < 0.2
    for x in batch.targets.pairs.values():
        assert 0.05 < float(x.square().sum(1).mean().sqrt()) < 2
