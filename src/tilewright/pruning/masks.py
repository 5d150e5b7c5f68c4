"""Masks that are stored in modules and hold during training.

The mask of parameter ``weight`` is the persistent bool buffer ``weight_mask`` of the same module, so it is part of `state_dict` and
follows `.to()`; the pattern's text is kept in the module's ``tilewright_patterns``. A hook that torch runs after every
optimizer step sets pruned elements back to zero, whatever weight decay and momentum did to them.
"""

import weakref
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_parameter_registration_hook
from torch.optim.optimizer import Optimizer, register_optimizer_step_post_hook

from ..errors import FormatError, PatternError
from ..patterns import Pattern, as_matrix, parse, verify_mask
from .tensors import local, own_part
from .weights import Weight, prunable

__all__ = ["apply_masks_", "load_masked_", "masked", "masks_of", "patterns_of", "remove_masks_", "set_mask_", "zero_"]

_ATTRIBUTE = "tilewright_patterns"
_BITS = {2: torch.int16, 4: torch.int32, 8: torch.int64}


class _Patterns(dict[str, str]):
    """Pattern text by parameter name. Refers to its module, so that copied and unpickled modules are followed too."""

    def __init__(self, module: nn.Module | None = None) -> None:
        super().__init__()
        if module is not None:
            self.__setstate__(module)

    def __reduce__(self) -> tuple[Any, ...]:
        # The module is passed as state, not as an argument: it is already being copied or pickled, and only state may refer back to it.
        return _Patterns, (), self._module(), None, iter(self.items())

    def __setstate__(self, module: nn.Module) -> None:
        self._module = weakref.ref(module)
        _follow(module)


_followed: "weakref.WeakSet[nn.Module]" = weakref.WeakSet()
_hooked = False
AT_FIRST: list[Callable[[], None]] = []
"""Called once, before the first module of this process gets a mask."""


def _follow(module: nn.Module) -> None:
    global _hooked
    if not _hooked:
        register_optimizer_step_post_hook(_after_step)
        register_module_parameter_registration_hook(_after_registration)
        for prepare in AT_FIRST:
            prepare()
        _hooked = True
    _followed.add(module)


def _after_registration(module: nn.Module, name: str, parameter: Any) -> None:
    """Pass the mask on to a layer that takes over a masked parameter, as when quantization-aware training replaces layers."""
    if parameter is None:
        return
    for owner in list(_followed):
        masked_here = owner._parameters.get(name) is parameter and owner is not module
        if masked_here and name in owner.__dict__.get(_ATTRIBUTE, ()) and isinstance(module, type(owner)):
            _take_over(module, name, owner)
            return


def _take_over(module: nn.Module, name: str, owner: nn.Module) -> None:
    module.register_buffer(f"{name}_mask", owner._buffers[f"{name}_mask"])
    _patterns_on(module)[name] = owner.__dict__[_ATTRIBUTE][name]


def _patterns_on(module: nn.Module) -> _Patterns:
    """Return the patterns of a module, an empty dictionary for a new one."""
    patterns: _Patterns | None = module.__dict__.get(_ATTRIBUTE)
    if patterns is None:
        patterns = _Patterns(module)
        setattr(module, _ATTRIBUTE, patterns)
    return patterns


def _after_step(optimizer: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """Zero the pruned elements that this optimizer changed. Modules are matched by the parameters they hold now."""
    stepped = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
    for module in list(_followed):
        for _, parameter, mask in _pairs(module):
            if id(parameter) in stepped:
                zero_(parameter, mask)


def _pairs(module: nn.Module) -> Iterator[tuple[str, Tensor, Tensor]]:
    for name in module.__dict__.get(_ATTRIBUTE, ()):
        parameter, mask = module._parameters.get(name), module._buffers.get(f"{name}_mask")
        if parameter is not None and mask is not None:
            yield name, parameter, mask


@torch.no_grad()
def zero_(parameter: Tensor, mask: Tensor) -> None:
    """Set the pruned elements of a parameter to zero; if it is sharded, those of this process's shard."""
    # Multiplying the values would turn infinity into NaN and negative numbers into minus zero, and torch's masked_fill_ is 15 times
    # slower on the CPU than multiplying the bits with NumPy.
    values, kept = local(parameter), own_part(mask, parameter)
    if values.device.type == "cpu":
        bits = values.view(_BITS[values.element_size()]).numpy()
        np.multiply(bits, kept.cpu().numpy(), out=bits)
    else:
        values.masked_fill_(kept.logical_not(), 0)


def set_mask_(weight: Weight, mask: Tensor, pattern: Pattern, *, in_place: bool = False) -> None:
    """Set the mask of a weight, replacing any earlier one, and zero what it prunes.

    Parameters
    ----------
    weight
        Weight to mask.
    mask
        Bool tensor of the weight's stored shape, True = kept.
    pattern
        Pattern that the mask obeys.
    in_place
        If True, write into the memory of an earlier mask, for wrappers that keep references to buffers. By default the buffer is
        replaced.
    """
    module = weight.module
    placed, old = mask.to(weight.tensor.device), module._buffers.get(f"{weight.parameter_name}_mask")
    if in_place and old is not None:
        old.copy_(placed)
    else:
        module.register_buffer(f"{weight.parameter_name}_mask", placed)
    _patterns_on(module)[weight.parameter_name] = str(pattern)
    zero_(weight.tensor, placed)


def masked(model: nn.Module) -> Iterator[tuple[str, Tensor, Tensor]]:
    """Yield (weight name, parameter, mask) of every masked weight."""
    for module_name, module in model.named_modules():
        for name, parameter, mask in _pairs(module):
            yield f"{module_name}.{name}" if module_name else name, parameter, mask


def masks_of(model: nn.Module) -> dict[str, Tensor]:
    """Return the mask of every masked weight, by weight name: bool, shape of the weight, True = kept. The masks are not copied."""
    return {name: mask for name, _, mask in masked(model)}


def patterns_of(model: nn.Module) -> dict[str, Pattern]:
    """Return the pattern of every masked weight, by weight name."""
    patterns = {}
    for module_name, module in model.named_modules():
        texts = module.__dict__.get(_ATTRIBUTE, {})
        for name, _, _ in _pairs(module):
            patterns[f"{module_name}.{name}" if module_name else name] = parse(texts[name])
    return patterns


def apply_masks_(model: nn.Module) -> None:
    """Set every pruned element of a model to zero.

    Needed only if something other than a `torch.optim` optimizer changed the weights: an optimizer of another kind, an assignment,
    or `load_state_dict` with the state of a dense model.
    """
    for _, parameter, mask in masked(model):
        zero_(parameter, mask)


def remove_masks_(model: nn.Module) -> None:
    """Zero the pruned elements and remove all masks, which leaves an ordinary model that contains zeros."""
    apply_masks_(model)
    for module in model.modules():
        for name in module.__dict__.get(_ATTRIBUTE, ()):
            module._buffers.pop(f"{name}_mask", None)
        module.__dict__.pop(_ATTRIBUTE, None)


def load_masked_(
    model: nn.Module, state: Mapping[str, Tensor], patterns: Pattern | str | Mapping[str, Pattern | str]
) -> None:
    """Load the `state_dict` of a masked model into a model that has no masks yet.

    Parameters
    ----------
    model
        Model with the architecture of the masked one. (If it already has the same masks, `load_state_dict` is enough.)
    state
        The `state_dict` of the masked model, with a ``<name>_mask`` entry for every masked weight.
    patterns
        Patterns that the masks obey, which a `state_dict` does not contain: one pattern for all weights, or a mapping from weight
        name to pattern, as returned by `patterns_of`.

    Raises
    ------
    FormatError
        If a mask belongs to no weight of the model, is not bool, or has the wrong shape. The model is unchanged.
    PatternError
        If no pattern is given for a mask, or the mask does not obey it. The model is unchanged.
    """
    weights = _by_every_name(model)
    masks = {key.removesuffix("_mask"): value for key, value in state.items() if _is_mask(key, state)}
    checked = {name: _checked(name, mask, weights, patterns) for name, mask in masks.items()}
    for name, (mask, pattern) in checked.items():
        set_mask_(weights[name], mask, pattern)
    model.load_state_dict(state)
    apply_masks_(model)


def _by_every_name(model: nn.Module) -> dict[str, Weight]:
    """Return the prunable weights by name; a module registered under two names counts under both, as in a `state_dict`."""
    weights = {(id(weight.module), weight.parameter_name): weight for weight in prunable(model)}
    by_name = {}
    for module_name, module in model.named_modules(remove_duplicate=False):
        for name in module._parameters:
            if (id(module), name) in weights:
                by_name[f"{module_name}.{name}" if module_name else name] = weights[id(module), name]
    return by_name


def _is_mask(key: str, state: Mapping[str, Tensor]) -> bool:
    return key.endswith("_mask") and key.removesuffix("_mask") in state


def _checked(
    name: str, mask: Tensor, weights: Mapping[str, Weight], patterns: Pattern | str | Mapping[str, Pattern | str]
) -> tuple[Tensor, Pattern]:
    weight = weights.get(name)
    if weight is None:
        raise FormatError(
            f"the state has a mask for {name}, but the model has no prunable weight of that name; build the same model"
        )
    if mask.dtype != torch.bool or mask.shape != weight.tensor.shape:
        raise FormatError(
            f"the mask of {name} must be bool of shape {list(weight.tensor.shape)}; got {mask.dtype} of shape {list(mask.shape)}"
        )
    value = patterns.get(name) if isinstance(patterns, Mapping) else patterns
    if value is None:
        raise PatternError(f"no pattern given for {name}, which has a mask; pass the result of patterns_of")
    pattern = parse(value) if isinstance(value, str) else value
    check = verify_mask(pattern, as_matrix(mask.cpu().numpy(), weight.layout), check_density=False)
    if not check:
        raise PatternError(f"the mask of {name} does not obey {pattern}: {check.message}")
    return mask.clone(), pattern
