"""Masks that live in modules and hold through training.

The mask of parameter ``weight`` is the persistent bool buffer ``weight_mask`` of the same module, so it is part of `state_dict` and
follows `.to()`; the pattern's text stands beside it in the module's ``tilewright_patterns``. A hook that torch runs after every
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
    """Pattern text by parameter name. It knows its module, so that a copied or unpickled module is followed like the first."""

    def __init__(self, module: nn.Module | None = None) -> None:
        super().__init__()
        if module is not None:
            self.__setstate__(module)

    def __reduce__(self) -> tuple[Any, ...]:
        # The module is state, not an argument: copying and pickling are already under way for it, which state may refer back to.
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
    """Give a layer that takes over a masked parameter its mask: quantization-aware training, for one, replaces layers by its own."""
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
    """Return the patterns of a module, none at first."""
    patterns: _Patterns | None = module.__dict__.get(_ATTRIBUTE)
    if patterns is None:
        patterns = _Patterns(module)
        setattr(module, _ATTRIBUTE, patterns)
    return patterns


def _after_step(optimizer: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """Zero again what this optimizer moved. Modules are looked up by the parameters they hold now, not those they held once."""
    own = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
    for module in list(_followed):
        for _, parameter, mask in _pairs(module):
            if id(parameter) in own:
                zero_(parameter, mask)


def _pairs(module: nn.Module) -> Iterator[tuple[str, Tensor, Tensor]]:
    for name in module.__dict__.get(_ATTRIBUTE, ()):
        parameter, mask = module._parameters.get(name), module._buffers.get(f"{name}_mask")
        if parameter is not None and mask is not None:
            yield name, parameter, mask


@torch.no_grad()
def zero_(parameter: Tensor, mask: Tensor) -> None:
    """Set the pruned elements of a parameter to zero; of a sharded one, this process's part."""
    # Multiplying the values would turn an infinite element into NaN and a negative one into minus zero, and filling by mask takes
    # torch's CPU kernels 15 times as long as NumPy takes to multiply the bits.
    own, kept = local(parameter), own_part(mask, parameter)
    if own.device.type == "cpu":
        bits = own.view(_BITS[own.element_size()]).numpy()
        np.multiply(bits, kept.cpu().numpy(), out=bits)
    else:
        own.masked_fill_(kept.logical_not(), 0)


def set_mask_(weight: Weight, mask: Tensor, pattern: Pattern, *, in_place: bool = False) -> None:
    """Give a weight its mask, in its stored shape, in place of any it had, and zero what is pruned.

    With `in_place` an earlier mask's own memory is written to, as wrappers that hold on to buffers need.
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
    """Return the mask of every masked weight by weight name: bool, shape of the weight, True = kept. Not copies."""
    return {name: mask for name, _, mask in masked(model)}


def patterns_of(model: nn.Module) -> dict[str, Pattern]:
    """Return the pattern of every masked weight by weight name."""
    found = {}
    for module_name, module in model.named_modules():
        texts = module.__dict__.get(_ATTRIBUTE, {})
        for name, _, _ in _pairs(module):
            found[f"{module_name}.{name}" if module_name else name] = parse(texts[name])
    return found


def apply_masks_(model: nn.Module) -> None:
    """Set every pruned element of a model to zero.

    Needed only after something other than a `torch.optim` step wrote to the weights: an optimizer of another kind, an assignment,
    `load_state_dict` of a dense model.
    """
    for _, parameter, mask in masked(model):
        zero_(parameter, mask)


def remove_masks_(model: nn.Module) -> None:
    """Zero what is pruned once more and forget the masks: from here on it is an ordinary model with zeros in it."""
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
        Built like the masked one before it was pruned. (A model that already has the same masks needs only
        `load_state_dict`.)
    state
        With a ``..._mask`` entry beside every masked weight.
    patterns
        What the masks obey, which a `state_dict` does not say: one pattern for all, or one by weight name, as `patterns_of` returns.

    Raises
    ------
    FormatError
        If a mask has no weight, is not bool, or has another shape. Nothing is changed then.
    PatternError
        If no pattern is given for a mask, or the mask does not obey it. Nothing is changed then.
    """
    weights = _by_every_name(model)
    masks = {key.removesuffix("_mask"): value for key, value in state.items() if _is_mask(key, state)}
    chosen = {name: _checked(name, mask, weights, patterns) for name, mask in masks.items()}
    for name, (mask, pattern) in chosen.items():
        set_mask_(weights[name], mask, pattern)
    model.load_state_dict(state)
    apply_masks_(model)


def _by_every_name(model: nn.Module) -> dict[str, Weight]:
    """Return the prunable weights by name; those of a module registered under two names by both, as a `state_dict` has them."""
    own = {(id(weight.module), weight.parameter_name): weight for weight in prunable(model)}
    found = {}
    for module_name, module in model.named_modules(remove_duplicate=False):
        for name in module._parameters:
            if (id(module), name) in own:
                found[f"{module_name}.{name}" if module_name else name] = own[id(module), name]
    return found


def _is_mask(key: str, state: Mapping[str, Tensor]) -> bool:
    return key.endswith("_mask") and key.removesuffix("_mask") in state


def _checked(
    name: str, mask: Tensor, weights: Mapping[str, Weight], patterns: Pattern | str | Mapping[str, Pattern | str]
) -> tuple[Tensor, Pattern]:
    weight = weights.get(name)
    if weight is None:
        raise FormatError(f"the state holds a mask for {name}, and this model has no such weight that can be pruned")
    if mask.dtype != torch.bool or mask.shape != weight.tensor.shape:
        raise FormatError(
            f"the mask of {name} must be bool of shape {list(weight.tensor.shape)}; it is {mask.dtype} of shape {list(mask.shape)}"
        )
    given = patterns.get(name) if isinstance(patterns, Mapping) else patterns
    if given is None:
        raise PatternError(f"no pattern is given for {name}, which has a mask; pass the result of patterns_of")
    pattern = parse(given) if isinstance(given, str) else given
    verdict = verify_mask(pattern, as_matrix(mask.cpu().numpy(), weight.layout), check_density=False)
    if not verdict:
        raise PatternError(f"the mask of {name} does not obey {pattern}: {verdict.message}")
    return mask.clone(), pattern
