"""What every registered attack must do, in every norm it offers."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from phalanx.attacks import Attack, build_attack
from phalanx.attacks.core import Outcome, attack_points
from phalanx.attacks.target import Plain
from phalanx.models.model import InputSpec, Model
from phalanx.specs.threat import Threat

SHAPE, BOX = (1, 4, 4), (-9.0, 9.0)
RADIUS = {"linf": 0.2, "l2": 0.7, "l1": 2.0}
POINTS, ROWS = 20, 8
FEWER: dict[str, dict[str, int]] = {
    "square": {"queries": 120},
    "cw": {"search": 2, "steps": 40},
    "fab": {"steps": 8, "targets": 2},
    "apgd-ce": {"steps": 16},
    "apgd-dlr": {"steps": 16},
    "apgd-t": {"steps": 12, "targets": 3},
    "pgd": {"steps": 15},
    "arc": {"steps": 8, "targets": 2},
    "deepfool": {"steps": 10, "targets": 2},
}
"""Options under which an attack is quick, by its name."""
ENOUGH: dict[str, dict[str, int]] = {
    "square": {"queries": 1200},
    "cw": {"search": 4},
    "fab": {"steps": 30},
    "apgd-ce": {"steps": 50},
    "apgd-dlr": {"steps": 50},
    "apgd-t": {"steps": 50},
}
"""Options under which it also finds the edge of a plane."""
SCORES_ALONE = {"linf": 1.05, "l2": 2.0, "l1": 3.0}
"""Beyond which multiple of the true radius random search by patterns must succeed."""


def built(name: str, check: object) -> Attack:
    """The attack with options that make it quick, and good enough for the check."""
    options = ENOUGH if check is check_radius else FEWER
    return build_attack(name, options.get(name, {}))


def linear(shape: tuple[int, ...] = SHAPE, seed: int = 0) -> tuple[Model, Tensor, float]:
    """Two classes divided by a plane; its normal and offset: class 1 where they are positive."""
    draw = torch.Generator().manual_seed(seed)
    size = int(torch.tensor(shape).prod())
    layer = nn.Linear(size, 2)
    with torch.no_grad():
        layer.weight.copy_(torch.randn(2, size, generator=draw))
        layer.bias.copy_(torch.randn(2, generator=draw))
    network = nn.Sequential(nn.Flatten(), layer).eval()
    normal = (layer.weight[1] - layer.weight[0]).detach().double()
    offset = float((layer.bias[1] - layer.bias[0]).detach())
    return Model(network, InputSpec(BOX), 2), normal, offset


def points_at(
    threat: Threat,
    normal: Tensor,
    offset: float,
    shape: tuple[int, ...] = SHAPE,
    count: int = POINTS,
) -> tuple[Tensor, Tensor]:
    """Points whose distance from the plane, in the threat's norm, is ``threat.eps`` exactly.

    True radius = margin / dual norm of the normal.
    """
    draw = torch.Generator().manual_seed(1)
    x = torch.randn(count, len(normal), generator=draw, dtype=torch.float64)
    side = torch.where(torch.arange(count) % 2 == 0, 1.0, -1.0).double()
    wanted = side * threat.eps * float(threat.dual(normal[None]))
    x = x + ((wanted - x @ normal - offset) / (normal @ normal))[:, None] * normal
    return x.float().view(count, *shape), (side > 0).long()


def curved(classes: int = 5, seed: int = 0) -> tuple[Model, Tensor, Tensor]:
    """A small network and points that it gets right."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = nn.Sequential(
            nn.Conv2d(1, 4, 3, padding=1), nn.Tanh(), nn.Flatten(), nn.Linear(64, classes)
        )
        x = torch.rand(POINTS, *SHAPE)
    model = Model(network.eval(), InputSpec((0.0, 1.0)), classes)
    with torch.no_grad():
        network[3].bias -= model(x).mean(0)
        return model, x, model(x).argmax(1)


def run(attack: Attack, model: Model, threat: Threat, x: Tensor, y: Tensor, **more: int) -> Outcome:
    """One attack on a model."""
    return attack_points(attack, Plain(model, ROWS), threat, x, y, name="it", **more)


def check_inside_and_confirmed(attack: Attack, norm: str) -> None:
    """What is reported lies in ball and box, and does what is said in a pass of its own."""
    model, x, y = curved()
    broken = 0
    for share in (0.1, 0.4):
        threat = Threat(norm, share * RADIUS[norm])
        found = run(attack, model, threat, x, y)
        moved = (found.adversarial.double() - x.double()).flatten(1)
        order = {"linf": torch.inf, "l2": 2, "l1": 1}[norm]
        assert float(moved.norm(p=order, dim=1).max()) <= threat.eps + 1e-6
        assert float(found.adversarial.min()) >= -1e-6
        assert float(found.adversarial.max()) <= 1 + 1e-6
        with torch.no_grad():
            wrong = model(found.adversarial).argmax(1) != y
        assert (found.success == wrong).all()
        assert (found.success <= (found.before > found.after)).all()
        broken += int(found.success.sum())
    assert broken > 0


def check_radius(attack: Attack, norm: str) -> None:
    """Just outside of a linear classifier's true radius it succeeds, and just inside it cannot."""
    radius = RADIUS[norm]
    model, normal, offset = linear()
    x, y = points_at(Threat(norm, radius), normal, offset)
    beyond = 1.05 if attack.gradients else SCORES_ALONE[norm]
    outside = run(attack, model, Threat(norm, beyond * radius, *BOX), x, y)
    assert float(outside.success.double().mean()) >= 0.95
    assert not check_hopeless(attack, norm).success.any()


def check_hopeless(attack: Attack, norm: str) -> Outcome:
    """The attack where no input is adversarial."""
    model, normal, offset = linear()
    x, y = points_at(Threat(norm, RADIUS[norm]), normal, offset)
    return run(attack, model, Threat(norm, 0.95 * RADIUS[norm], *BOX), x[:4], y[:4])


def check_company(attack: Attack, norm: str, share: float = 0.25) -> None:
    """A point's outcome does not depend on the others, on their order or on the batch."""
    model, x, y = curved()
    x, y = x[:6], y[:6]
    threat = Threat(norm, share * RADIUS[norm])
    together = run(attack, model, threat, x, y)
    order = [4, 1, 5, 0]
    apart = run(attack, model, threat, x[order], y[order], samples=order, batch=3)
    assert torch.equal(apart.adversarial, together.adversarial[order])
    assert torch.equal(apart.queries, together.queries[order])
    assert torch.equal(apart.after, together.after[order])


CHECKS = [check_inside_and_confirmed, check_radius, check_company]
