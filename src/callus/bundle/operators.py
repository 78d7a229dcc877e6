"""ONNX's operators that a bundle's network may be made of, and the fewest inputs that each takes.

Of ONNX 13 to 26: what computes on tensors, without control flow, chance, text, sequences, what trains, and what makes
large tensors out of a number (ConstantOfShape, Tile, Range). OpenVINO 2026.4 follows a null pointer where an operator
lacks an input that it needs, so that has to be known here.
"""

from __future__ import annotations

from typing import Final

_BY_INPUTS: Final = {
    0: "Constant",
    1: "Abs Acos ArgMax ArgMin Asin Atan AveragePool Cast Ceil Clip Concat Cos DepthToSpace Dropout Einsum Elu Erf "
    "Exp Flatten Floor Gelu GlobalAveragePool GlobalMaxPool HardSigmoid HardSwish Identity IsInf IsNaN "
    "LeakyRelu Log LogSoftmax LpNormalization LRN Max MaxPool Mean Min Mish Neg NonZero Not Reciprocal ReduceL1 "
    "ReduceL2 ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum ReduceSumSquare Relu Resize "
    "Round Selu Shape Sigmoid Sign Sin Size Softmax Softplus Softsign SpaceToDepth Split Sqrt Squeeze Sum Tan "
    "Tanh Transpose Trilu",
    2: "Add And CastLike Conv ConvTranspose CumSum DequantizeLinear Div Equal Expand Gather GatherElements "
    "GatherND Gemm Greater GreaterOrEqual LayerNormalization Less LessOrEqual MatMul Mod Mul Or Pad Pow PRelu "
    "QuantizeLinear Reshape Sub TopK Unsqueeze Xor",
    3: "GroupNormalization InstanceNormalization ScatterElements ScatterND Slice Where",
    5: "BatchNormalization",
}
FEWEST_INPUTS: Final = {name: count for count, names in _BY_INPUTS.items() for name in names.split()}
