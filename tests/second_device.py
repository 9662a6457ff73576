"""A second device for tests: tensors that are not the CPU's, each computed by a CPU tensor.

    set_up()  # once in a process, before its first backward pass
    torch.randn(3).to("second").sum().item()
    traffic  # {"to_device": 1, "reads": 1}

PyTorch takes it for an accelerator of another maker (its "private use" backend): modules move
there, autograd runs its backward pass in a thread of its own, optimisers fuse. As on a GPU,
operands of two devices are refused, except a number () of the CPU's, and values have to be copied
to be read, for which the program waits. It has no kernels, streams, memory and autocast of its own.
PyTorch then answers some questions differently: tests that need it run in a separate process.
"""

from collections import Counter

import torch
from torch import Tensor
from torch.utils import backend_registration
from torch.utils._pytree import tree_leaves, tree_map

NAME = "second"
CPU = torch.device("cpu")
aten = torch.ops.aten
FACTORIES = (  # make a tensor from none; all others are made from these
    aten.empty.memory_format, aten.empty_strided.default, aten.arange.default, aten.arange.start,
    aten.arange.start_step,
)  # fmt: skip
traffic = Counter()  # copies to the device, and how often the program waits for it


class SecondTensor(Tensor):
    """A tensor of the device; `behind` is the CPU's, which has its values."""

    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, behind):
        return Tensor._make_wrapper_subclass(
            cls, behind.shape, strides=behind.stride(), storage_offset=behind.storage_offset(),
            dtype=behind.dtype, device=f"{NAME}:0",
        )  # fmt: skip

    def __init__(self, behind):
        self.behind = behind

    def __repr__(self):
        return f"{NAME}: {self.behind}"

    def tolist(self):  # PyTorch's own refuses subclasses
        return self.cpu().tolist()

    @classmethod
    def __torch_dispatch__(cls, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if function is aten.copy_.default:
            return copy(*args[:2])
        if function is aten._to_copy.default and kwargs.get("device", args[0].device) == CPU:
            traffic["reads"] += 1
            return function(args[0].behind, **kwargs)
        for x in tree_leaves((args, kwargs)):
            if isinstance(x, Tensor) and x.device == CPU and x.dim() > 0:
                raise RuntimeError(f"operands of two devices, one {tuple(x.shape)}: {function}")
        traffic["reads"] += torch.Tag.data_dependent_output in function.tags  # as of `x.item()`
        if torch.Tag.dynamic_output_shape in function.tags:  # as of `x.nonzero()`, `x[x > 0]`
            indices = [x for x in args[1] if x is not None] if function is aten.index.Tensor else []
            traffic["reads"] += not indices or any(x.dtype == torch.bool for x in indices)
        return compute(function, args, kwargs)


def compute(function, args, kwargs):
    """The result of an operation, computed by the CPU; an operand that it changes is returned."""
    own = {}

    def to_cpu(x):
        if isinstance(x, SecondTensor):
            own[id(x.behind)] = x
            return x.behind
        return CPU if isinstance(x, torch.device) else x

    def to_device(x):
        if id(x) in own:
            return own[id(x)]
        return SecondTensor(x) if isinstance(x, Tensor) else x

    args, kwargs = tree_map(to_cpu, (args, kwargs))
    result = tree_map(to_device, function(*args, **kwargs))
    for tensor in own.values():  # the wrapper's size is fixed
        assert tensor.shape == tensor.behind.shape, f"{function} changes the size of its operand"
    return result


def copy(target, source):
    """Copies values into a tensor, which may be on the other device."""
    if target.device != source.device:
        traffic["reads" if target.device == CPU else "to_device"] += 1
    target_behind, source_behind = (getattr(x, "behind", x) for x in (target, source))
    target_behind.copy_(source_behind)
    return target


def set_up():
    """Registers the device with PyTorch to the end of the process, and returns it."""
    module = backend_registration._DummyBackendModule()
    backend_registration._setup_privateuseone_for_python_backend(NAME, module)
    for function in FACTORIES:
        torch.library.impl(function.name(), NAME, made_on_cpu(function))
    torch.library.impl("aten::_copy_from", NAME, lambda x, to, wait=False: copy(to, x))
    return torch.device(f"{NAME}:0")


def made_on_cpu(function):
    return lambda *args, **kwargs: SecondTensor(function(*args, **kwargs | {"device": CPU}))
