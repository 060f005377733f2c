import numpy as np
import torch

from phalanx.training.batches import FlipCrop, Keys, StepNoise, epoch_order

X = torch.zeros(6, 3, 8, 8)


def noise(keys: Keys, *, epoch: int = 0, step: int = 0, rows: slice = slice(0, 6)) -> StepNoise:
    return StepNoise(keys, epoch, step, rows, 6, like=X[rows])


def test_an_order_has_every_image_once_and_differs_by_epoch_member_and_seed():
    orders = [
        epoch_order(keys, 50, epoch)
        for keys in (Keys(0, "0"), Keys(0, "1"), Keys(1, "0"))
        for epoch in (0, 1)
    ]
    assert all(sorted(order) == list(range(50)) for order in orders)
    assert len({tuple(order) for order in orders}) == 6
    assert np.array_equal(orders[0], epoch_order(Keys(0, "0"), 50, 0))


def test_noise_repeats_for_its_draw_and_for_nothing_else():
    keys = Keys(0, "0")
    assert torch.equal(noise(keys)(0), noise(keys)(0))
    others = [
        noise(keys)(1),
        noise(keys, step=1)(0),
        noise(keys, epoch=1)(0),
        noise(Keys(0, "1"))(0),
        noise(Keys(1, "0"))(0),
    ]
    for other in others:
        correlation = torch.corrcoef(torch.stack([noise(keys)(0).flatten(), other.flatten()]))
        assert abs(correlation[0, 1]) < 0.15


def test_the_rows_of_a_process_are_those_of_the_whole_step():
    whole = noise(Keys(0, "0"))(2)
    assert torch.equal(noise(Keys(0, "0"), rows=slice(2, 5))(2), whole[2:5])


def test_flip_crop_takes_the_pixels_it_says():
    x = torch.arange(2 * 3 * 8 * 8, dtype=torch.float32).view(2, 3, 8, 8) + 1
    stay = torch.full((2, 2), 4)
    assert torch.equal(FlipCrop(torch.tensor([False, False]), stay)(x), x)
    assert torch.equal(FlipCrop(torch.tensor([True, True]), stay)(x), x.flip(-1))
    corner = FlipCrop(torch.tensor([False, True]), torch.tensor([[0, 8], [0, 8]]))(x)
    assert torch.equal(corner[0, :, 4:, 4:], x[0, :, :4, :4])
    assert corner[0, :, :4].abs().sum() == 0
    # a mirrored crop is the crop, mirrored
    plain = FlipCrop(torch.tensor([False]), torch.tensor([[8], [8]]))(x[1:])
    assert torch.equal(corner[1], plain[0].flip(-1))


def test_flip_crop_draws_do_not_depend_on_the_share():
    keys = Keys(0, "0")
    whole = FlipCrop.draw(keys.generator("augment", 0, 0), 6, slice(0, 6))
    part = FlipCrop.draw(keys.generator("augment", 0, 0), 6, slice(2, 4))
    assert torch.equal(part.mirrored, whole.mirrored[2:4])
    assert torch.equal(part.offset, whole.offset[:, 2:4])
