"""A second device, made for tests: tensors that are not the CPU's, with a CPU's tensor behind each.

    set_up()  # once in a process, before its first backward pass
    x = torch.randn(3).to(DEVICE)
    with counting() as traffic:
        x.sum().item()
    traffic.reads  # 1

PyTorch takes it for an accelerator of another maker (its "private use" backend): modules move
there, autograd runs its backward pass in a thread of its own, optimisers fuse. As on a GPU,
operands of two devices are refused, but for a number in a tensor () of the CPU's, and what is read
has to be copied. Unlike a GPU, it refuses an index that is the CPU's.

It shows that a program moves what it has to, and how often it waits for the device. It has no
kernels, no streams, no memory and no autocast of its own, so it cannot show what those of a real
GPU do.

A process keeps it to its end, and PyTorch then answers some questions otherwise, such as whether
there is an accelerator: tests that need it run in a process apart.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils import backend_registration
from torch.utils._pytree import tree_leaves, tree_map

NAME = "second"
CPU = torch.device("cpu")
aten = torch.ops.aten
FACTORIES = (  # what makes a tensor of none; all others are made of these
    aten.empty.memory_format, aten.empty_strided.default, aten.arange.default, aten.arange.start,
    aten.arange.start_step,
)  # fmt: skip

# -------------------------------------------------------------------------------------- counting


@dataclass
class Traffic:
    """What goes between the CPU and the device."""

    to_device: int = 0  # copies, which need not wait
    to_host: int = 0  # copies, which wait for all that the device has to do
    items: int = 0  # numbers, as of `item()`, for which it waits too
    sizes: int = 0  # results whose size only the device knows, as of `x[x > 0]`, likewise

    @property
    def reads(self) -> int:
        """How often the program waits for the device."""
        return self.to_host + self.items + self.sizes


_counters: list[Traffic] = []


@contextmanager
def counting() -> Iterator[Traffic]:
    """Counts what goes between the CPU and the device within a `with`."""
    traffic = Traffic()
    _counters.append(traffic)
    try:
        yield traffic
    finally:
        _counters.remove(traffic)


def count(what: str) -> None:
    """Counts one more of a field of `Traffic`."""
    for traffic in _counters:
        setattr(traffic, what, getattr(traffic, what) + 1)


# --------------------------------------------------------------------------------------- tensors


class SecondTensor(Tensor):
    """A tensor of the second device.

    Args:
        behind: the CPU's, which has its numbers.
    """

    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, behind: Tensor) -> "SecondTensor":
        return Tensor._make_wrapper_subclass(
            cls,
            behind.shape,
            strides=behind.stride(),
            storage_offset=behind.storage_offset(),
            dtype=behind.dtype,
            device=f"{NAME}:0",
        )

    def __init__(self, behind: Tensor) -> None:
        self.behind = behind

    def __repr__(self) -> str:
        return f"{NAME}: {self.behind}"

    def tolist(self) -> Any:  # PyTorch's own refuses subclasses
        return self.cpu().tolist()

    @classmethod
    def __torch_dispatch__(
        cls, function: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        """Returns what an operation with tensors of the device gives."""
        kwargs = kwargs or {}
        if function is aten.copy_.default:
            return copy(*args[:2])
        if function is aten._to_copy.default and kwargs.get("device", args[0].device) == CPU:
            count("to_host")
            return function(args[0].behind, **kwargs)
        refuse_two_devices(function, tree_leaves((args, kwargs)))
        if torch.Tag.data_dependent_output in function.tags:
            count("items")
        if torch.Tag.dynamic_output_shape in function.tags and is_of_unknown_size(function, args):
            count("sizes")
        return compute(function, args, kwargs)


def compute(function: Callable[..., Any], args: Any, kwargs: dict[str, Any]) -> Any:
    """Returns an operation's result, computed by the CPU; a tensor it changes is itself again."""
    own: dict[int, SecondTensor] = {}

    def go_behind(x: Any) -> Any:
        if isinstance(x, SecondTensor):
            own[id(x.behind)] = x
            return x.behind
        return CPU if isinstance(x, torch.device) else x

    def come_back(x: Any) -> Any:
        if id(x) in own:
            return own[id(x)]
        return SecondTensor(x) if isinstance(x, Tensor) else x

    args, kwargs = tree_map(go_behind, (args, kwargs))
    result = tree_map(come_back, function(*args, **kwargs))
    for tensor in own.values():  # a size cannot change behind a tensor's back
        assert tensor.shape == tensor.behind.shape, f"{function} changes the size of its operand"
    return result


def copy(target: Tensor, source: Tensor) -> Tensor:
    """Returns a tensor, given the values of another, which may be on the other device."""
    if target.device != source.device:
        count("to_host" if target.device == CPU else "to_device")
    target_behind, source_behind = (getattr(x, "behind", x) for x in (target, source))
    target_behind.copy_(source_behind)
    return target


def refuse_two_devices(function: Callable[..., Any], operands: list[Any]) -> None:
    """Raises RuntimeError where an operand is not the device's, and no number alone."""
    for x in operands:
        if isinstance(x, Tensor) and x.device == CPU and x.dim() > 0:
            raise RuntimeError(
                f"operands of two devices, {NAME} and cpu {tuple(x.shape)}: {function}"
            )


def is_of_unknown_size(function: Callable[..., Any], args: Any) -> bool:
    """Says whether the size of a result depends on values; an index's does if it is booleans."""
    if function is not aten.index.Tensor:
        return True
    return any(x is not None and x.dtype == torch.bool for x in args[1])


# ------------------------------------------------------------------------------------- the device


def set_up() -> torch.device:
    """Returns the device, which PyTorch knows from now on, to the end of the process."""
    module = backend_registration._DummyBackendModule()
    backend_registration._setup_privateuseone_for_python_backend(NAME, module)
    for function in FACTORIES:
        torch.library.impl(function.name(), "PrivateUse1", made(function))
    torch.library.impl("aten::_copy_from", "PrivateUse1", lambda x, to, wait=False: copy(to, x))
    return torch.device(f"{NAME}:0")


def made(function: Callable[..., Any]) -> Callable[..., SecondTensor]:
    """Returns a function that makes on the device what another makes on the CPU."""
    return lambda *args, **kwargs: SecondTensor(function(*args, **kwargs | {"device": CPU}))
