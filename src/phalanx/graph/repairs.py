"""What to write in place of operators that are not read."""

from __future__ import annotations

FORMULAS = {
    "elu": "relu(x) + alpha * (exp(-relu(-x)) - 1)",
    "celu": "relu(x) + alpha * (exp(-relu(-x) / alpha) - 1)",
    "selu": "1.0507009873554805 * (relu(x) + 1.6732632423543772 * (exp(-relu(-x)) - 1))",
    "softplus": "relu(x) + log(1 + exp(-abs(x)))",
    "logsigmoid": "-relu(-x) - log(1 + exp(-abs(x)))",
    "mish": "x * tanh(relu(x) + log(1 + exp(-abs(x))))",
    "hardswish": "x * clamp(x / 6 + 0.5, 0, 1)",
    "hardsigmoid": "clamp(x / 6 + 0.5, 0, 1)",
    "softsign": "x / (1 + abs(x))",
    "softshrink": "relu(x - lambd) - relu(-x - lambd)",
    "prelu": "relu(x) - weight * relu(-x)",
    "sinh": "(exp(x) - exp(-x)) / 2",
    "cosh": "(exp(x) + exp(-x)) / 2",
    "ceil": "-floor(-x)",
}
"""The same functions in operators that are read and bounded, in torch's words."""

_LARGEST = "max-pool over that axis, or a tree of pairs max(a, b) = b + relu(a - b)"
_SMALLEST = "-max(-x): max-pool over that axis, or a tree of pairs min(a, b) = b - relu(b - a)"
_NORMALISED = (
    "BatchNorm, or reshape and write (x - mean) / sqrt(variance + eps) with mean, square and sqrt"
)
_FIXED = "register it as a buffer of the module; unroll a recurrent layer that makes it"
_MAKERS = (
    *("zeros", "ones", "full", "eye", "arange", "linspace", "scalartensor", "liftfreshcopy"),
    *("newzeros", "newones", "newfull"),
)
_UNROLLED = "unroll it into linear layers, sigmoid, tanh and products"

WAYS = {
    "erf": "GELU is read, as nn.GELU and as x * 0.5 * (1 + erf(x / sqrt(2))) with the constants in"
    " full; tanh or sigmoid are bounded in place of any other erf",
    **dict.fromkeys(("amax", "max", "reducemax"), _LARGEST),
    **dict.fromkeys(("amin", "min", "reducemin"), _SMALLEST),
    **dict.fromkeys(
        ("adaptivemaxpool1d", "adaptivemaxpool2d"), "max_pool with the window that fits"
    ),
    "argmax": "return the logits: which is largest is asked of them",
    "logsoftmax": "return the logits: differences and order of the classes are the same",
    **dict.fromkeys(
        ("logsumexp", "reducelogsumexp"), "log of the sum of exp(x), while x stays below 88"
    ),
    **dict.fromkeys(("groupnorm", "instancenorm", "instancenormalization"), _NORMALISED),
    "layernormalization": "export with opset_version=16 or lower, which spells it out",
    **dict.fromkeys(("lstm", "gru", "rnn"), _UNROLLED),
    "cumsum": "a product with a triangular matrix of ones",
    **dict.fromkeys(("flip", "roll"), "index_select with the indices in that order"),
    **dict.fromkeys(("repeat", "tile"), "cat of the copies"),
    **dict.fromkeys(("pixelshuffle", "depthtospace"), "reshape, permute, reshape"),
    **dict.fromkeys(_MAKERS, _FIXED),
    "einsum": "matmul, with permute around it",
}
"""In words, of what is no formula of one number."""

NOT_READ = "this operator is not read"
"""Why it is refused, whatever its attributes."""

OTHERWISE = (
    "build it of operators that have bounds (phalanx list operators), or certify the torch module"
    " by smoothing, which needs no graph"
)


def repair_of(operator: str) -> str:
    """What to do about an operator, by its name in ATen or ONNX.

    >>> repair_of("hardsigmoid_"), repair_of("ReduceMax").partition(",")[0]
    ('write clamp(x / 6 + 0.5, 0, 1), the same function', 'max-pool over that axis')
    """
    name = str(operator).lower().replace("_", "")
    if name in FORMULAS:
        return f"write {FORMULAS[name]}, the same function"
    return WAYS.get(name, OTHERWISE)
