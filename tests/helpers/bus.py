"""Count what is copied to a device; "meta" stands for a GPU."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch.utils._python_dispatch import TorchDispatchMode


class _CopyRecorder(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.sizes: list[int] = []

    def __torch_dispatch__(self, operator, types, args=(), kwargs=None):
        result = operator(*args, **(kwargs or {}))
        if operator.name() == "aten::_to_copy" and not args[0].is_meta:
            self.sizes.append(args[0].nbytes * result.is_meta)
        return result


@contextmanager
def copied_bytes() -> Iterator[list[int]]:
    """Yield a list that receives the bytes of each copy from the CPU to "meta"."""
    recorder = _CopyRecorder()
    with recorder:
        yield recorder.sizes
