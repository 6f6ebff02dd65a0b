"""Features, model, loss and corruption of the world model."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch
from frames import ALL, pack, random_columns, random_records

from runctl.config.model import Encoding, LossWeights, Model, Training
from runctl.tasks.worldmodel import losses
from runctl.tasks.worldmodel.corrupt import corrupt, rate
from runctl.tasks.worldmodel.encoding import columns
from runctl.tasks.worldmodel.features import Features
from runctl.tasks.worldmodel.model import Predictions, WorldModel
from runctl.tasks.worldmodel.targets import NUMBERS, PREDICTED_IDS

torch.set_num_threads(1)
AGE = {"state_age_as_embed": True}
SMALL = Model(d_model=16, headdim=8, n_layers=2, d_state=8, context_len=5, chunk_size=5, dropout=0.0)


def model(encoding=None, *, shape=SMALL, trained=False, **options):
    """A small world model; `trained`: its heads of numbers no longer start at zero."""
    torch.manual_seed(0)
    built = WorldModel(encoding or Encoding(**AGE), shape, **options)
    for name in NUMBERS if trained else ():
        torch.nn.init.normal_(built.heads[name].weight, std=0.1)
    return built


@pytest.mark.parametrize(
    ("flags", "floats", "ids"),
    [(AGE, 56, 17), (ALL, 144, 17), ({**ALL, "projectiles": False}, 138, 17), ({}, 58, 15)],
)
def test_features_have_the_counts_that_the_encoding_says(flags, floats, ids):
    encoding = Encoding(**flags)
    found = Features(columns(encoding), encoding)(random_records(encoding, 3, 4))
    assert found[0].shape == (3, 4, floats)
    assert found[1].shape == (3, 4, ids)
    assert found[0].dtype == torch.float32


SCALES = {"x": 0.05, "y": 0.05, "item_dx": 0.05, "item_dy": 0.05, "percent": 0.01, "shield": 0.01, "hitlag": 0.1,
          "stocks": 0.25, "combo": 0.1, "hitstun": 0.02, "state_age": 0.01, "items": 0.1}  # fmt: skip


@pytest.mark.parametrize("flags", [AGE, ALL, {}])
def test_every_feature_is_its_stored_value_times_its_scale(flags):
    encoding = Encoding(**flags)
    values = random_columns(encoding, (2, 3))
    features = Features(columns(encoding), encoding)
    floats, ids = features(pack(columns(encoding), values))
    for place, name in enumerate(features.float_names):
        if name[3:].startswith("flag"):
            bit = int(name[-2:])
            expected = (values[f"{name[:3]}flags{bit // 8}"] >> (bit % 8)) & 1
        else:
            velocity = name.endswith(("air_x", "self_y", "attack_x", "attack_y", "ground_x"))
            expected = values[name] * SCALES.get(name[3:], 0.05 if velocity else 1.0)
        np.testing.assert_allclose(floats[..., place].numpy(), expected, rtol=1e-6, err_msg=name)
    for place, name in enumerate(features.id_names):
        np.testing.assert_array_equal(ids[..., place].numpy(), values[name], err_msg=name)


def test_features_cover_every_stored_column_once():
    encoding = Encoding(**ALL)
    features = Features(columns(encoding), encoding)
    names = [*features.float_names, *features.id_names]
    assert len(set(names)) == len(names)
    whole = {name for name in names if "_flag" not in name}
    assert whole == {name for name in columns(encoding).names() if "_flags" not in name}


def test_large_ids_survive_their_two_bytes():
    encoding = Encoding(**AGE, action_vocab=65_536)
    values = random_columns(encoding, (1,))
    values["p1_action"] = np.array([65_535])
    features = Features(columns(encoding), encoding)
    _, ids = features(pack(columns(encoding), values))
    assert ids[0, features.id_columns("action")][1] == 65_535


@pytest.mark.parametrize("flags", [AGE, ALL, {}])
@pytest.mark.parametrize("delta_target", ["delta", "residual"])
def test_every_weight_takes_part_in_the_loss(flags, delta_target):
    encoding = Encoding(**flags)
    built = model(encoding, trained=True, delta_target=delta_target)
    records = random_records(encoding, 6, 6)
    total, parts = losses.loss(built(records), records, LossWeights(), built.targets)
    total.backward()
    assert set(parts) == set(LossWeights.model_fields)
    for name, weights in built.named_parameters():
        assert weights.grad is not None, name
        assert weights.grad.abs().sum() > 0, name


def test_the_loss_is_the_weighted_sum_of_its_parts():
    built, records = model(trained=True), random_records(Encoding(**AGE), 4, 6)
    weights = LossWeights(action=3.0, binary=0.0, continuous=0.25)
    total, parts = losses.loss(built(records), records, weights, built.targets)
    expected = sum(getattr(weights, name) * part for name, part in parts.items())
    torch.testing.assert_close(total.detach(), expected)
    assert not any(part.requires_grad for part in parts.values())


def test_the_parts_equal_their_plain_definitions():
    encoding = Encoding(**AGE)
    built, records = model(encoding, trained=True), random_records(encoding, 4, 6)
    predictions = built(records)
    _, parts = losses.loss(predictions, records, LossWeights(), built.targets)
    floats, ids = built.features(records)
    names = built.features.float_names
    before, after = floats[:, -2], floats[:, -1]
    places = [names.index(f"{player}_{field}") for player in ("p0", "p1") for field in ("percent", "x", "y", "shield")]
    errors = (predictions.outputs["continuous"] - (after - before)[:, places]).abs().detach()
    assert errors.min() < 1 < errors.max()
    torch.testing.assert_close(parts["continuous"], torch.where(errors < 1, errors**2 / 2, errors - 0.5).mean())
    p1 = predictions.outputs["action"][:, 1].log_softmax(-1)
    p0 = predictions.outputs["action"][:, 0].log_softmax(-1)
    picked = [-(p0[row, ids[row, -1, 0].item()] + p1[row, ids[row, -1, 1].item()]) / 2 for row in range(4)]
    torch.testing.assert_close(parts["action"], torch.stack(picked).mean().detach())


def test_only_the_controller_of_the_target_frame_is_read():
    encoding = Encoding(**ALL)
    built = model(encoding, trained=True)
    first, other = random_columns(encoding, (3, 6)), random_columns(encoding, (3, 6), seed=1)
    pad = {"stick_x", "stick_y", "cstick_x", "cstick_y", "shoulder"}

    def predict(change):
        values = {name: column.copy() for name, column in first.items()}
        for name in values:
            is_pad = name[3:] in pad or name[3:].startswith("button_")
            if is_pad == (change == "controller") and change:
                values[name][:, -1] = other[name][:, -1]
        return built(pack(columns(encoding), values))

    expected, same, changed = predict(""), predict("everything else"), predict("controller")
    for name, output in expected.outputs.items():
        assert torch.equal(output, same.outputs[name]), name
        assert not torch.equal(output, changed.outputs[name]), name


def test_every_given_frame_can_matter_and_no_window_sees_another():
    built, records = model(trained=True), random_records(Encoding(**AGE), 3, 6)
    expected = built(records).outputs["action"]
    for t in range(5):
        changed = records.clone()
        changed[1, t] = random_records(Encoding(**AGE), 1, seed=9)[0]
        found = built(changed).outputs["action"]
        assert torch.equal(found[[0, 2]], expected[[0, 2]])
        assert not torch.allclose(found[1], expected[1])


@pytest.mark.parametrize("delta_target", ["delta", "residual"])
def test_an_untrained_model_repeats_the_frame_or_the_last_movement(delta_target):
    encoding = Encoding(**AGE)
    built, records = model(encoding, delta_target=delta_target), random_records(encoding, 4, 6)
    predictions = built(records)
    floats, _ = built.features(records)
    last, previous = (built.targets.of(floats[:, t], "continuous") for t in (-2, -3))
    assert not predictions.outputs["continuous"].any()
    expected = last.clone()
    if delta_target == "residual":
        moved = [1, 2, 5, 6]  # x and y of both players
        change = (last - previous)[:, moved]
        flown = change.abs() <= 20 * encoding.xy_scale
        assert flown.any()
        assert not flown.all()
        expected[:, moved] += change * flown
    torch.testing.assert_close(predictions.origin["continuous"], expected)


@pytest.mark.parametrize("delta_target", ["delta", "residual"])
def test_measured_scales_are_typical_distances_from_the_origin(delta_target):
    encoding = Encoding(**AGE)
    built = model(encoding, delta_target=delta_target)
    values = random_columns(encoding, (400,))
    values["p0_x"] = np.cumsum(np.random.default_rng(0).choice([-1, 1], 400)).astype(np.float32) * 2
    values["p1_shield"][:] = 60
    records = pack(columns(encoding), values).numpy()
    starts = np.arange(395)
    built.measure(records, starts, 5)
    steps = np.diff(values["p0_x"])[3:399]  # the change before and the change that each window is asked for
    away = steps[1:] if delta_target == "delta" else np.diff(steps)
    assert len(away) == len(starts)
    expected = np.abs(away).mean() * encoding.xy_scale
    assert built.targets.continuous_scale[1].item() == pytest.approx(expected, rel=0.01)
    assert built.targets.continuous_scale[7].item() == 1.0  # never changes


def test_inputs_are_standardised_by_what_training_frames_show():
    encoding = Encoding(**AGE)
    built, values = model(encoding), random_columns(encoding, (400,))
    values["p1_y"] = values["p1_y"] * 3 + 50
    values["p0_shield"][:] = values["p1_shield"][:] = 60
    values["p1_hitlag"][7] = np.nan
    built.measure(pack(columns(encoding), values).numpy(), np.arange(395), 5)
    places = {name: built.features.float_names.index(name) for name in built.features.float_names}
    y, shield, hitlag = places["p1_y"], places["p0_shield"], places["p1_hitlag"]
    both = np.concatenate([values["p0_y"], values["p1_y"]]) * 0.05
    assert built.input_mean[y].item() == pytest.approx(both.mean(), rel=0.03)
    assert built.input_scale[y].item() == pytest.approx(both.std(), rel=0.03)
    assert built.input_mean[y] == built.input_mean[places["p0_y"]]
    for name in ("p0_button_z", "p1_facing", "p0_stick_x", "p1_stocks"):
        assert (built.input_mean[places[name]], built.input_scale[places[name]]) == (0.0, 1.0)
    assert built.input_scale[shield].item() == 1.0
    assert torch.isfinite(built.input_mean).all()
    assert torch.isfinite(built.input_scale).all()
    assert (built.input_mean[hitlag], built.input_scale[hitlag]) == (0.0, 1.0)


def test_scales_are_saved_with_the_weights_and_are_no_parameters():
    built = model()
    built.targets.velocity_scale.fill_(3.0)
    built.input_mean.fill_(2.0)
    state = built.state_dict()
    scales = {name for name, _ in built.named_buffers() if name in state}
    assert scales == {"input_mean", "input_scale", *(f"targets.{name}_scale" for name in NUMBERS)}
    assert {name for name, _ in built.named_parameters()} == set(state) - scales
    other = model()
    other.load_state_dict(state)
    assert torch.equal(other.targets.velocity_scale, torch.full((10,), 3.0))
    assert torch.equal(other.input_mean, built.input_mean)


def test_scaled_targets_give_the_same_prediction_for_the_same_error():
    """A scale changes the unit in which an error counts, not what is right."""
    built, records = model(), random_records(Encoding(**AGE), 4, 6)
    _, unscaled = losses.loss(built(records), records, LossWeights(), built.targets)
    built.targets.dynamics_scale.fill_(1000.0)
    _, scaled = losses.loss(built(records), records, LossWeights(), built.targets)
    assert scaled["dynamics"] < unscaled["dynamics"] / 500


def test_state_dict_names_are_stable():
    names = {name.partition(".")[0] for name in model().state_dict()}
    weights = {"embeddings", "frame", "norms", "blocks", "norm", "controller", "heads"}
    assert names == weights | {"targets", "input_mean", "input_scale"}
    assert set(model().heads) == {*NUMBERS, "binary", *PREDICTED_IDS}


def test_bf16_autocast_gives_finite_losses_and_gradients():
    encoding = Encoding(**ALL)
    built, records = model(encoding), random_records(encoding, 4, 6)
    with torch.autocast("cpu", torch.bfloat16):
        total, _ = losses.loss(built(records), records, LossWeights(), built.targets)
    total.backward()
    assert total.dtype == torch.float32
    assert all(torch.isfinite(weights.grad).all() for weights in built.parameters())


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_recomputed_blocks_give_the_same_bits_and_draw_the_same_numbers(precision, dropout):
    encoding = Encoding(**ALL)
    shape = SMALL.model_copy(update={"n_layers": 3, "dropout": dropout})
    records = random_records(encoding, 4, 6)
    found = []
    for recompute in (False, True):
        built = model(encoding, shape=shape, trained=True, recompute=recompute)
        torch.manual_seed(1)
        forward = Counter()
        for number, block in enumerate(built.blocks):
            block.register_forward_pre_hook(lambda *_, number=number, seen=forward: seen.update([number]))
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            total, _ = losses.loss(built(records), records, LossWeights(), built.targets)
        total.backward()
        assert [forward[number] for number in (0, 1)] == [1 + recompute] * 2
        grads = [weights.grad for weights in built.parameters()]
        found.append([total.detach(), *grads, torch.get_rng_state()])
    assert all(map(torch.equal, *found))


@pytest.mark.parametrize("delta_target", ["delta", "residual"])
def test_predictions_after_every_frame_end_with_those_of_the_last_one(delta_target):
    """The same windows, weights and answer; and each position is what a window that ends there would give."""
    encoding = Encoding(**ALL)
    built, records = model(encoding, trained=True, delta_target=delta_target), random_records(encoding, 4, 6)
    last, every = built(records), built(records, every=True)
    for name, output in every.outputs.items():
        assert output.shape == (4, 5, *last.outputs[name].shape[1:])
        torch.testing.assert_close(output[:, -1], last.outputs[name])
    for name, origin in every.origin.items():
        assert torch.equal(origin[:, -1], last.origin[name])
    shorter, names = built(records[:, :4]), ("action", "continuous")
    for name in names:
        torch.testing.assert_close(every.outputs[name][:, 2], shorter.outputs[name])
    assert torch.equal(every.origin["continuous"][:, 2], shorter.origin["continuous"])
    assert torch.equal(
        every.origin["continuous"][:, 0], built.targets.of(built.features(records)[0][:, 0], "continuous")
    )


def test_the_loss_after_every_frame_is_the_mean_of_the_losses_of_its_positions():
    encoding = Encoding(**ALL)
    built, records = model(encoding, trained=True, delta_target="residual"), random_records(encoding, 4, 6)
    total, parts = losses.loss(built(records, every=True), records, LossWeights(), built.targets)
    alone = [
        losses.loss(built(records[:, : t + 2]), records[:, : t + 2], LossWeights(), built.targets) for t in range(1, 5)
    ]
    every = built(records, every=True)
    first = Predictions(
        {name: output[:, 0] for name, output in every.outputs.items()},
        {name: origin[:, 0] for name, origin in every.origin.items()},
    )
    alone.insert(0, losses.loss(first, records[:, :2], LossWeights(), built.targets))
    torch.testing.assert_close(total, torch.stack([one for one, _ in alone]).mean())
    for name, part in parts.items():
        torch.testing.assert_close(part, torch.stack([each[name] for _, each in alone]).mean())
    total.backward()
    assert all(weights.grad.abs().sum() > 0 for weights in built.parameters())


def test_a_few_steps_learn_a_batch_by_heart():
    encoding = Encoding(**AGE)
    built, records = model(encoding), random_records(encoding, 8, 6)
    built.measure(records.reshape(48, -1).numpy(), np.arange(0, 43), 5)
    optimizer = torch.optim.AdamW(built.parameters(), lr=1e-2)
    seen = []
    for _ in range(60):
        total, parts = losses.loss(built(records), records, LossWeights(), built.targets)
        seen.append({name: part.item() for name, part in parts.items()})
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
    for name in seen[0]:
        assert seen[-1][name] < 0.5 * seen[0][name], name


SAMPLING = Training(scheduled_sampling=0.4, ss_noise_scale=0.2, ss_corrupt_frames=2, ss_anneal_epochs=2.0)


def test_the_rate_of_corruption_grows_from_zero_and_stays():
    assert [rate(SAMPLING, epochs) for epochs in (0.0, 1.0, 2.0, 5.0)] == [0.0, 0.2, 0.4, 0.4]
    assert rate(Training(scheduled_sampling=0.3), 0.0) == 0.3
    assert rate(Training(), 3.0) == 0.0


def corrupted(share, seed=0, batch=400):
    encoding = Encoding(**ALL)
    features = Features(columns(encoding), encoding)
    floats, _ = features(random_records(encoding, batch, 5))
    before = floats.clone()
    found = corrupt(floats, features, SAMPLING, share, torch.Generator().manual_seed(seed))
    assert torch.equal(floats, before)
    return features, found - floats


def test_noise_falls_on_core_and_velocities_of_the_last_frames_only():
    features, noise = corrupted(1.0)
    touched = {features.float_names[place] for place in noise.abs().sum((0, 1)).nonzero().flatten()}
    fields = {"percent", "x", "y", "shield", "self_air_x", "self_y", "attack_x", "attack_y", "self_ground_x"}
    assert touched == {f"{player}_{field}" for player in ("p0", "p1") for field in fields}
    assert not noise[:, :3].any()
    places = features.columns(tuple(fields))
    assert noise[:, 3:][..., places].std().item() == pytest.approx(0.2, rel=0.05)


def test_about_the_rate_of_the_windows_is_corrupted_and_the_same_ones_for_a_seed():
    _, noise = corrupted(0.25)
    share = (noise.abs().sum((1, 2)) > 0).float().mean().item()
    assert 0.18 < share < 0.32
    assert torch.equal(noise, corrupted(0.25)[1])
    assert not torch.equal(noise, corrupted(0.25, seed=1)[1])


def test_a_rate_of_zero_draws_nothing():
    encoding = Encoding(**AGE)
    generator = torch.Generator().manual_seed(0)
    before = generator.get_state()
    floats = torch.ones(2, 3, 56)
    assert corrupt(floats, Features(columns(encoding), encoding), SAMPLING, 0.0, generator) is floats
    assert torch.equal(generator.get_state(), before)


def test_noise_longer_than_the_window_falls_on_all_of_it():
    encoding = Encoding(**AGE)
    features = Features(columns(encoding), encoding)
    training = Training(scheduled_sampling=1.0, ss_corrupt_frames=50)
    found = corrupt(torch.zeros(2, 3, 56), features, training, 1.0, torch.Generator().manual_seed(0))
    assert found[:, 0].any()


@pytest.mark.parametrize("delta_target", ["delta", "residual"])
def test_the_target_of_a_corrupted_window_leads_back_to_the_true_frame(delta_target):
    """The origin moves with the noise and the truth does not, so the head is asked for the difference."""
    encoding = Encoding(**AGE)
    built, values = model(encoding, delta_target=delta_target), random_columns(encoding, (4, 6))
    values["p0_x"] /= 10  # slow enough for its movement to be repeated
    records = pack(columns(encoding), values)
    place = built.features.columns(("x",))[0]

    def shift(floats):
        moved = floats.clone()
        moved[:, -1, place] += 0.25
        return moved

    clean, noisy = built(records), built(records, shift)
    moved = (noisy.origin["continuous"] - clean.origin["continuous"])[:, built.targets.positions[0]]
    torch.testing.assert_close(moved, torch.full((4,), 0.5 if delta_target == "residual" else 0.25))
    floats, _ = built.features(records)
    wanted = built.targets.of(floats[:, -1], "continuous") - noisy.origin["continuous"]
    _, parts = losses.loss(noisy, records, LossWeights(), built.targets)
    torch.testing.assert_close(parts["continuous"], torch.nn.functional.smooth_l1_loss(0 * wanted, wanted))
