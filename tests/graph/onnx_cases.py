"""One small ONNX model for every operator that is read, and for its awkward spellings."""

from __future__ import annotations

import numpy as np
from graph_helpers import model, node

RNG = np.random.default_rng(0)


def f(*shape):
    return RNG.normal(size=shape).astype(np.float32)


def i(*values):
    return np.array(values, dtype=np.int64)


def one(op, shape=(2, 4), constants=None, *, version=13, batch=1, **attributes):
    names = " ".join(["x", *(constants or {})])
    return shape, model(
        [node(op, names, **attributes)], shape, constants, version=version, batch=batch
    )


IMAGE = (2, 6, 6)

CASES = {
    **{op: one(op) for op in ("Relu", "Sigmoid", "Tanh", "Exp", "Log", "Reciprocal", "Sqrt")},
    **{op: one(op) for op in ("Sin", "Cos", "Abs", "Sign", "Floor", "Neg", "Identity")},
    "LeakyRelu": one("LeakyRelu", alpha=0.2),
    "PRelu": one("PRelu", constants={"slope": f(4)}),
    "HardSigmoid": one("HardSigmoid", alpha=0.7),
    "Gelu": one("Gelu", version=20),
    "Clip-10": one("Clip", version=10, min=0.2, max=0.5),
    "Erf": (
        (2, 4),
        model(
            [
                *(node("Div", "x r", "d"), node("Erf", "d", "e"), node("Add", "e o", "f")),
                *(node("Mul", "x f", "g"), node("Mul", "g h")),
            ],
            (2, 4),
            {"r": np.float32(2**0.5), "o": np.float32(1), "h": np.float32(0.5)},
            version=17,
        ),
    ),
    "Clip-13": one("Clip", constants={"lo": np.float32(0.2), "hi": np.float32(0.5)}),
    "Pow-2": one("Pow", constants={"e": np.float32(2)}),
    "Pow-3": one("Pow", constants={"e": np.float32(3)}),
    "Add-channel": one("Add", IMAGE, {"c": f(2, 1, 1)}),
    "Add-batch": one("Add", IMAGE, {"c": f(1, 2, 1, 6)}),
    "Add-larger": one("Add", (4,), {"c": f(3, 4)}),
    "Add-higher": one("Add", (4,), {"c": f(2, 3, 4)}),
    "Mul-higher": one("Mul", (3, 4), {"c": f(2, 3, 1, 4)}),
    "Sub-left": ((4,), model([node("Sub", "c x")], (4,), {"c": f(4)})),
    "Div": one("Div", constants={"c": f(4)}),
    "Div-left": ((4,), model([node("Div", "c x")], (4,), {"c": f(4)})),
    "Mul-self": ((4,), model([node("Mul", "x x")], (4,))),
    "Div-self": ((4,), model([node("Tanh", "x", "t"), node("Div", "t x")], (4,))),
    "Max": ((4,), model([node("Tanh", "x", "t"), node("Max", "x t c")], (4,), {"c": f(4)})),
    "Min": ((4,), model([node("Sin", "x", "t"), node("Min", "x t")], (4,))),
    "Sum": ((4,), model([node("Sin", "x", "t"), node("Sum", "x t x")], (4,))),
    "Where": (
        (4,),
        model(
            [node("Sin", "x", "t"), node("Where", "m x t")],
            (4,),
            {"m": np.array([True, False, True, False])},
        ),
    ),
    "Equal": (
        (4,),
        model(
            [node("Equal", "a b", "m"), node("Cast", "m", "n", to=1), node("Add", "x n")],
            (4,),
            {"a": i(1, 2, 3, 4), "b": i(1, 0, 3, 0)},
        ),
    ),
    "MatMul": one("MatMul", (4,), {"w": f(4, 3)}),
    "MatMul-sequence": one("MatMul", (5, 4), {"w": f(4, 3)}),
    "MatMul-left": ((4, 3), model([node("MatMul", "w x")], (4, 3), {"w": f(5, 4)})),
    "MatMul-column": (
        (4,),
        model(
            [node("Transpose", "x", "t"), node("MatMul", "w t", "z"), node("Transpose", "z")],
            (4,),
            {"w": f(5, 4)},
        ),
    ),
    "MatMul-vector": (
        (4,),
        model(
            [node("Squeeze", "x a", "t"), node("MatMul", "w t")], (4,), {"w": f(1, 5, 4), "a": i(0)}
        ),
    ),
    "MatMul-variables": (
        (3, 4),
        model([node("Transpose", "x", "t", perm=[0, 2, 1]), node("MatMul", "x t")], (3, 4)),
    ),
    "MatMul-batched": one("MatMul", (3, 4), {"w": f(2, 1, 4, 2)}),
    "MatMul-stack": (
        (6,),
        model(
            [node("Reshape", "x s", "t"), node("MatMul", "t w")],
            (6,),
            {"s": i(3, 2), "w": f(3, 2, 4)},
        ),
    ),
    "Add-ranks": (
        (3, 4),
        model(
            [node("ReduceSum", "x a", "t", keepdims=0), node("Add", "t x")],
            (3, 4),
            {"a": i(1)},
        ),
    ),
    "Gemm": one("Gemm", (4,), {"w": f(3, 4), "b": f(3)}, transB=1, alpha=0.5, beta=2.0),
    "Gemm-rounded": one("Gemm", (4,), {"w": f(4, 3), "b": f(3)}, alpha=0.1, beta=0.3),
    "Gemm-constants": (
        (4,),
        model(
            [
                node("Gemm", "w v", "g", alpha=0.7, transA=1),
                node("Exp", "g", "e"),
                node("Div", "e c", "d"),
                node("Gemm", "x d c", alpha=0.1),
            ],
            (4,),
            {"w": f(2, 4), "v": f(2, 3), "c": f(3)},
        ),
    ),
    "Concat-rounded": (
        (4,),
        model([node("Mul", "c c", "d"), node("Concat", "x d", axis=1)], (4,), {"c": f(1, 3)}),
    ),
    "Gemm-transA": (
        (4,),
        model([node("Transpose", "x", "t"), node("Gemm", "t w", transA=1)], (4,), {"w": f(4, 3)}),
    ),
    "Conv": one(
        "Conv", IMAGE, {"w": f(4, 1, 3, 3), "b": f(4)}, group=2, pads=[1] * 4, strides=[2, 1]
    ),
    "Conv-uneven": one("Conv", IMAGE, {"w": f(4, 2, 3, 3)}, pads=[0, 1, 2, 1]),
    "Conv-same": one("Conv", IMAGE, {"w": f(4, 2, 3, 3)}, auto_pad="SAME_UPPER", strides=[2, 2]),
    "Conv-1d": one("Conv", (2, 9), {"w": f(4, 2, 3)}, dilations=[2]),
    "ConvTranspose": one(
        "ConvTranspose",
        IMAGE,
        {"w": f(2, 3, 3, 3), "b": f(3)},
        pads=[1] * 4,
        strides=[2, 2],
        output_padding=[1, 1],
    ),
    "MaxPool": one("MaxPool", IMAGE, kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4),
    "MaxPool-ceil": one("MaxPool", IMAGE, kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1),
    "AveragePool": one("AveragePool", IMAGE, kernel_shape=[3, 3], pads=[1] * 4),
    "AveragePool-counted": one(
        "AveragePool", IMAGE, kernel_shape=[2, 2], pads=[0, 0, 1, 1], count_include_pad=1
    ),
    "GlobalAveragePool": one("GlobalAveragePool", IMAGE),
    "GlobalMaxPool": one("GlobalMaxPool", IMAGE),
    "BatchNormalization": one(
        "BatchNormalization", IMAGE, {"g": f(2), "b": f(2), "m": f(2), "v": np.abs(f(2))}
    ),
    "Softmax": one("Softmax", (3, 4)),
    "Softmax-9": one("Softmax", (3, 4), version=9),
    "Flatten": one("Flatten", IMAGE),
    "Flatten-all": one("Flatten", (2, 3), axis=0),
    "Reshape": one("Reshape", IMAGE, {"s": i(0, 12, -1)}),
    "Reshape-merged": (
        (6,),
        model(
            [node("Reshape", "x s", "t"), node("MatMul", "t w")], (6,), {"s": i(3, 2), "w": f(2, 4)}
        ),
    ),
    "Reshape-by-shape": (
        (2, 6),
        model(
            [
                node("Shape", "x", "s"),
                node("Gather", "s z", "n"),
                node("Concat", "n m", "t", axis=0),
                node("Reshape", "x t"),
            ],
            (2, 6),
            {"z": i(0), "m": i(-1)},
        ),
    ),
    "Transpose": one("Transpose", IMAGE, perm=[0, 2, 3, 1]),
    "Squeeze": ((2, 1, 3), model([node("Squeeze", "x a")], (2, 1, 3), {"a": i(2)})),
    "Unsqueeze": one("Unsqueeze", (3,), {"a": i(1, 3)}),
    "Unsqueeze-11": one("Unsqueeze", (3,), version=11, axes=[0]),
    "Concat": (
        (2, 3),
        model([node("Tanh", "x", "t"), node("Concat", "x t c", axis=2)], (2, 3), {"c": f(1, 2, 1)}),
    ),
    "Concat-batch": ((3,), model([node("Tanh", "x", "t"), node("Concat", "x t", axis=0)], (3,))),
    "Slice": one("Slice", IMAGE, {"s": i(1, -1), "e": i(5, -7), "a": i(2, 3), "t": i(2, -2)}),
    "Slice-9": one("Slice", IMAGE, version=9, starts=[1], ends=[100], axes=[3]),
    "Gather": one("Gather", IMAGE, {"n": np.array([[0, 2], [-1, 1]])}, axis=2),
    "Gather-scalar": one("Gather", IMAGE, {"n": np.int64(1)}, axis=1),
    "Pad": one("Pad", IMAGE, {"p": i(0, 0, 1, 2, 0, 0, 0, 1), "v": np.float32(0.5)}),
    "Pad-reflect": one("Pad", IMAGE, {"p": i(0, 0, 1, 2, 0, 0, 0, 1)}, mode="reflect"),
    "Pad-edge": one("Pad", IMAGE, {"p": i(0, 0, 1, 2, 0, 0, 0, 1)}, mode="edge"),
    "Upsample": one("Upsample", IMAGE, {"s": np.float32([1, 1, 2, 3])}, version=9),
    "Resize": (
        (2, 4),
        model([node("Resize", "x - s")], (2, 4), {"s": np.float32([1, 2, 3])}),
    ),
    "Resize-asymmetric": (
        (2, 4),
        model(
            [
                node(
                    "Resize",
                    "x - - s",
                    coordinate_transformation_mode="asymmetric",
                    nearest_mode="floor",
                )
            ],
            (2, 4),
            {"s": i(1, 2, 12)},
        ),
    ),
    "Resize-10": one("Resize", (2, 4), {"s": np.float32([1, 1, 2])}, version=10),
    "ReduceSum-all": one("ReduceSum", IMAGE, {"a": i()}),
    "ReduceSum-none": one("ReduceSum", IMAGE, {"a": i()}, noop_with_empty_axes=1),
    "ReduceSum": one("ReduceSum", IMAGE, {"a": i(2, 3)}, keepdims=0),
    "ReduceSum-batch": one("ReduceSum", (2, 3), {"a": i(0, 2)}, keepdims=0),
    "ReduceMean": one("ReduceMean", IMAGE, axes=[-1]),
    "Expand": one("Expand", (1, 3), {"s": i(1, 4, 3)}),
    "Dropout": one("Dropout", version=10),
    "Constant": (
        (3,),
        model([node("Constant", "", "c", value_float=2.0), node("Add", "x c")], (3,)),
    ),
    "ConstantOfShape": (
        (3,),
        model(
            [node("ConstantOfShape", "s", "c"), node("Concat", "x c", axis=1)], (3,), {"s": i(1, 2)}
        ),
    ),
    "Split": (
        (6,),
        model([node("Split", "x s", "a b", axis=1), node("Div", "a b")], (6,), {"s": i(3, 3)}),
    ),
    "Split-equal": (
        (6,),
        model([node("Split", "x", "a b", axis=1), node("Sub", "b a")], (6,), version=11),
    ),
    "no-batch": one("Relu", (5,), batch=None),
    "symbolic-batch": one("MatMul", (4,), {"w": f(4, 3)}, batch="N"),
}
