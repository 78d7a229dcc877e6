"""ONNX's operators that a bundle's network may be made of, and what each gives and takes.

Those of ONNX 13 to 26 that callus writes, with what computes number by number, and what marks numbers as int8. Each has
a rule for its sizes, so that what a network takes is known before a runtime is given it; where that could not be told
(control flow, chance, text, sizes that are computed) it is not here. OpenVINO 2026.4 follows a null pointer where an
operator lacks an input that it needs, so the fewest are known too.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from callus.bundle import shape_rules as rules
from callus.bundle.cost import GROUPED, PLAIN_WORK, POOLED

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from callus.bundle.given import Given, Tensor
    from callus.bundle.onnx_reader import Step

_SLOW: Final = {"Gather": 4, "LogSoftmax": 32, "Pow": 8, "ReduceLogSumExp": 16, "Resize": 4, "Softmax": 32, "TopK": 32}
"""How many times longer than others they take for a number (measured in ONNX Runtime and OpenVINO)."""


@dataclass(frozen=True)
class Operator:
    """What callus knows of an operator.

    Attributes:
        fewest: inputs that it needs.
        rule: what it gives, from what it is given.
        harmless: attributes that change no size.
    """

    fewest: int
    rule: Callable[[Given], list[Tensor]]
    harmless: tuple[str, ...] = ()

    def gives(self, given: Given) -> list[Tensor]:
        """Tell what it gives.

        Raises:
            ValueError: that cannot be told.
        """
        given.any(*self.harmless)
        gives = self.rule(given)
        given.rest()
        for one in gives:
            if len(one.shape) > rules.MOST_SIDES or not one.count:
                raise ValueError(f"gives {one.shape}"[:80])
        return gives


_NUMBER_BY_NUMBER: Final = (
    "Abs Ceil Clip Elu Erf Exp Floor Gelu HardSigmoid HardSwish LeakyRelu Log Mish Neg Not Reciprocal Relu Round Selu "
    "Sigmoid Sign Softplus Softsign Sqrt Tanh LogSoftmax Softmax"
)
_PAIRS: Final = "Add And Div Equal Greater GreaterOrEqual Less LessOrEqual Mul Or PRelu Pow Sub Xor"
_REDUCTIONS: Final = (
    "ReduceL1 ReduceL2 ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum ReduceSumSquare"
)
PLAIN: Final = frozenset(
    (*_NUMBER_BY_NUMBER.split(), *_PAIRS.split(), "BatchNormalization", "Cast", "Identity", "Where")
)
"""What computes number by number."""
OPERATORS: Final = {
    **{
        name: Operator(1, rules.same, ("alpha", "beta", "gamma", "approximate", "axis"))
        for name in _NUMBER_BY_NUMBER.split()
    },
    **{name: Operator(2, rules.stretched) for name in _PAIRS.split()},
    **{name: Operator(1, rules.stretched) for name in ("Max", "Mean", "Min", "Sum")},
    **{name: Operator(1, rules.reduce) for name in _REDUCTIONS.split()},
    "AveragePool": Operator(1, rules.pool),
    "BatchNormalization": Operator(5, rules.normalised),
    "Cast": Operator(1, rules.kept),
    "Concat": Operator(1, rules.concat),
    "Constant": Operator(0, rules.constant),
    "Conv": Operator(2, rules.conv),
    "DequantizeLinear": Operator(2, rules.same, ("axis",)),
    "Expand": Operator(2, rules.expand),
    "Flatten": Operator(1, rules.flatten),
    "Gather": Operator(2, rules.gather),
    "Gemm": Operator(2, rules.gemm),
    "GlobalAveragePool": Operator(1, rules.global_pool),
    "GlobalMaxPool": Operator(1, rules.global_pool),
    "Identity": Operator(1, rules.kept),
    "MatMul": Operator(2, rules.matmul),
    "MaxPool": Operator(1, rules.pool),
    "Pad": Operator(2, rules.pad),
    "QuantizeLinear": Operator(2, rules.same, ("axis", "saturate")),
    "Reshape": Operator(2, rules.reshape),
    "Resize": Operator(1, rules.resize),
    "Shape": Operator(1, rules.shape),
    "Squeeze": Operator(1, rules.squeeze),
    "TopK": Operator(2, rules.top_k),
    "Transpose": Operator(1, rules.transpose),
    "Unsqueeze": Operator(2, rules.unsqueeze),
    "Where": Operator(3, rules.stretched),
}


def work(step: Step, taken: Sequence[Tensor], gives: Sequence[Tensor]) -> int:
    """Tell how much work a step is, in multiplications."""
    moved = sum(one.count for one in (*taken, *gives))
    each = 0
    if step.operator == "Conv":
        each = math.prod(taken[1].shape[1:]) * (GROUPED if step.attributes.get("group", 1) != 1 else 1)
    elif step.operator in ("MatMul", "Gemm"):
        each = max(taken[0].shape[-2:])
    elif step.operator in ("AveragePool", "MaxPool"):
        each = POOLED * math.prod(step.attributes["kernel_shape"])
    return moved * PLAIN_WORK * _SLOW.get(step.operator, 1) + each * gives[0].count
