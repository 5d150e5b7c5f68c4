"""`SparseLinear`: a drop-in replacement for `torch.nn.Linear` that keeps its weight packed."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn
from torch.autograd import forward_ad
from torch.nn import functional

from ..errors import ArgumentError, FormatError
from ..formats import Packed, ValueType, pack
from ..kernels import ACTIVATIONS
from ..patterns import Layout
from .calling import activated, check_transforms, has_tangent, is_plain, parts_of, traced_by_converter, untraced
from .op import dense_weight, run, sparse_linear
from .standin import StandIn
from .tensors import ARRAYS, arrays_of, packed_of

__all__ = ["SparseLinear"]


class SparseLinear(nn.Module):
    """A linear layer whose weight ``[N, K]`` stays compressed: ``activation(x @ w.T + bias)``.

    Takes float32 ``[..., K]`` on the CPU and returns ``[..., N]``. float16 and bfloat16 inputs, and float64 inputs in a
    model that is ``double()``, are computed in float32 and returned in their own type. The layer is for inference: it has
    no gradient. It uses ``torch.get_num_threads()`` threads.

    Parameters
    ----------
    packed
        The weight.
    bias
        Bias, a float tensor ``[N]``. Default: no bias.
    activation
        Activation applied in the same pass: ``none``, ``relu``, ``gelu``, ``gelu_tanh``, ``silu`` or ``tanh``. Default:
        ``none``.
    layout
        Layout of the weight in the module it came from: ``linear``, or ``transposed`` for Hugging Face's ``Conv1D``. It only
        matters when the weight is saved. Default: ``linear``.

    Raises
    ------
    ArgumentError
        If the activation is unknown, or the bias is not a float tensor ``[N]``.

    Examples
    --------
    >>> import numpy as np
    >>> from tilewright import NM
    >>> from tilewright.formats import pack
    >>> layer = SparseLinear(pack(np.array([[0, 1, 2, 0]], dtype=np.float32), NM(2, 4)), None)
    >>> layer(torch.tensor([[1.0, 10.0, 100.0, 1000.0]]))
    tensor([[210.]])
    """

    values: torch.Tensor
    columns: torch.Tensor
    pointers: torch.Tensor
    rows: torch.Tensor | None
    positions: torch.Tensor | None
    residual_values: torch.Tensor | None
    residual_columns: torch.Tensor | None
    residual_pointers: torch.Tensor | None
    bias: nn.Parameter | None

    def __init__(
        self, packed: Packed, bias: torch.Tensor | None = None, activation: str = "none", layout: Layout = "linear"
    ) -> None:
        super().__init__()
        self.out_features, self.in_features = packed.shape
        self.pattern = str(packed.pattern)
        self.tile = packed.tile
        self.layout: Layout = layout
        self.stored_dtype: ValueType = packed.dtype
        self.surrounding = torch.float32  # type of the model around it; the layer itself stays float32
        self.activation = activation
        if activation not in ACTIVATIONS:
            raise ArgumentError(f"unknown activation {activation!r}; expected one of {', '.join(ACTIVATIONS)}")
        if bias is not None and (tuple(bias.shape) != (self.out_features,) or not bias.is_floating_point()):
            raise ArgumentError(
                f"bias must be a float tensor of shape [{self.out_features}], got {bias.dtype} {list(bias.shape)}"
            )
        with torch.inference_mode(False):  # tensors made in inference mode do not count writes, on which `op` relies
            arrays = arrays_of(packed)
            for name in ARRAYS:
                self.register_buffer(name, arrays.get(name))
            value = None if bias is None else nn.Parameter(bias.detach().float().clone(), requires_grad=False)
            self.register_parameter("bias", value)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return ``activation(x @ w.T + bias)`` ``[..., N]`` for x ``[..., K]``."""
        if x.dtype in (torch.float16, torch.bfloat16) or x.dtype == torch.float64 == self.surrounding:
            return self.forward(x.float()).to(x.dtype)
        if is_plain(x):
            # The operator's body without the dispatcher, which would cost as much as a small layer.
            return run(*self._arguments(x))
        if not torch.compiler.is_compiling():
            check_transforms()
        if traced_by_converter():
            with untraced():
                weight = self.dense().weight
            return activated(functional.linear(x, weight, self.bias), self.activation)
        if has_tangent(x):
            return self._dual(x)
        y: torch.Tensor = sparse_linear(*self._arguments(x))
        return y

    def _arguments(self, x: torch.Tensor) -> Any:
        # Attribute access would cost a microsecond per tensor.
        tensors = [self._buffers[name] for name in ARRAYS]
        bias = self._parameters["bias"]
        return (x, *tensors, bias, self.pattern, self.out_features, self.in_features, self.tile, self.activation)

    def _dual(self, x: torch.Tensor) -> torch.Tensor:
        """Differentiate in forward mode with respect to x: the layer is linear up to its activation, which torch differentiates."""
        value, tangent = parts_of(x)
        tensors = [self._buffers[name] for name in ARRAYS]
        linear = (self.pattern, self.out_features, self.in_features, self.tile, "none")
        product: Any = (run(value, *tensors, self._parameters["bias"], *linear), run(tangent, *tensors, None, *linear))  # type: ignore[arg-type,call-arg]
        return activated(forward_ad.make_dual(*product), self.activation)  # type: ignore[no-untyped-call]

    def packed(self) -> Packed:
        """Return the packed weight in the type it was stored in; float32 weights share the module's memory."""
        wide = packed_of({name: getattr(self, name) for name in ARRAYS}, self.pattern, *self.shape, self.tile)
        if self.stored_dtype == "float32":
            return wide
        from .tensors import value_array

        dense, dtype = value_array(torch.from_numpy(wide.unpack()).to(getattr(torch, self.stored_dtype)))
        return pack(dense, wide.pattern, wide.mask(), dtype=dtype)

    @property
    def shape(self) -> tuple[int, int]:
        """``(N, K)``."""
        return self.out_features, self.in_features

    @property
    def nbytes(self) -> int:
        """Size of the weight and the bias in memory, in bytes."""
        return sum(t.numel() * t.element_size() for t in (*self.buffers(), *self.parameters()))

    @property
    def weight(self) -> torch.Tensor:
        """A stand-in for code that reads the type, shape or device of a linear layer's weight; computing with it raises.

        In code compiled by `torch.compile` or exported by `torch.export` it is the weight itself, unpacked on use.
        """
        if torch.compiler.is_compiling():
            tensors = [getattr(self, name) for name in ARRAYS]
            dense: torch.Tensor = dense_weight(*tensors, self.pattern, *self.shape, self.tile)
            return dense.to(self.surrounding)
        owner = (
            f"SparseLinear(in_features={self.in_features}, out_features={self.out_features}, pattern={self.pattern})"
        )
        return StandIn(self.shape, self.surrounding, self.values.device, owner)

    def dense(self) -> nn.Linear:
        """Return a `torch.nn.Linear` with the same weight, including zeros, in the type of the surrounding model.

        The activation is not included.
        """
        with torch.device("meta"):
            layer = nn.Linear(self.in_features, self.out_features, bias=self.bias is not None)
        wide = packed_of({name: getattr(self, name) for name in ARRAYS}, self.pattern, *self.shape, self.tile)
        layer.weight = nn.Parameter(torch.from_numpy(wide.unpack()), requires_grad=False)
        if self.bias is not None:
            layer.bias = nn.Parameter(self.bias.detach().clone(), requires_grad=False)
        return layer.to(self.surrounding)

    def extra_repr(self) -> str:
        """Return the parameters shown by `print`."""
        density = (self.values.numel() + _size(self.residual_values)) / (self.out_features * self.in_features)
        act = "" if self.activation == "none" else f", activation={self.activation}"
        return f"in_features={self.in_features}, out_features={self.out_features}, pattern={self.pattern}, density={density:.3f}{act}"

    def _apply(self, fn: Callable[[torch.Tensor], torch.Tensor], recurse: bool = True) -> "SparseLinear":
        """Move with the model, but keep the types of the arrays: casts only change the type of inputs and outputs."""

        def keep(tensor: torch.Tensor) -> torch.Tensor:
            moved = fn(tensor)
            if moved.dtype == tensor.dtype:
                return moved
            self.surrounding = moved.dtype
            return tensor.to(moved.device)

        super()._apply(keep, recurse)  # type: ignore[no-untyped-call]
        return self

    def _load_from_state_dict(self, state_dict: Mapping[str, Any], prefix: str, *args: Any) -> None:
        """Accept arrays of other lengths too (another mask of the same pattern), and validate them before use."""
        given = {name: state_dict.get(prefix + name, getattr(self, name)) for name in ARRAYS}
        if any(prefix + name in state_dict for name in ARRAYS):
            try:
                packed_of(given, self.pattern, *self.shape, self.tile)
            except FormatError as error:
                raise FormatError(f"{prefix.rstrip('.') or 'the layer'} cannot load this state: {error}") from None
            for name, tensor in given.items():
                if prefix + name in state_dict:  # keep the others: with strict=False the state may be partial
                    self.register_buffer(name, torch.empty_like(tensor))
        super()._load_from_state_dict(state_dict, prefix, *args)


def _size(tensor: torch.Tensor | None) -> int:
    return 0 if tensor is None else tensor.numel()
