"""A network's call as a CUDA graph: its hundreds of kernels are started by one.

A graph reads and writes the same memory every time it runs. So a call copies its inputs into buffers, runs the graph,
and copies the output out. One graph is captured for each set of shapes, with FreeU and without; what can't be captured
(Z-Image cuts its prompts to their lengths, which waits for the device) is asked as usual.

On a CPU there is no graph to capture; the buffers are the same, so that the rest can be tested there.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from gs_ssd.diffusion.diffusers_prior import DiffusersPrior
from gs_ssd.diffusion.text import TextCondition

WARM_UP = 2  # calls before the capture, in which libraries choose their kernels and take their memory
LIMIT = 8  # sets of shapes; each keeps the memory of a call


class CapturedNetwork:
    """Asks a prior's network through a CUDA graph, which the first call with its shapes captures."""

    def __init__(self, prior: DiffusersPrior) -> None:
        self.prior = prior
        self.calls: dict[Any, BufferedCall | None] = {}

    def forget(self) -> None:
        self.calls.clear()

    def __call__(self, z_t: Tensor, time: Tensor, text: TextCondition, freeu: bool) -> Tensor:
        key = (freeu, *((x.shape, x.dtype) for x in (z_t, *text.tensors())))
        if key not in self.calls and len(self.calls) < LIMIT:
            self.calls[key] = self.capture(z_t, time, text, freeu)
        call = self.calls.get(key)
        return self.prior.ask(z_t, time, text, freeu) if call is None else call(z_t, time, text)

    def capture(self, z_t: Tensor, time: Tensor, text: TextCondition, freeu: bool) -> BufferedCall | None:
        """The call for inputs of these shapes; None, with a warning, where it can't be captured."""
        try:
            return BufferedCall(self.prior, z_t, time, text, freeu)
        except RuntimeError as error:
            if isinstance(error, torch.OutOfMemoryError):
                raise
            reason = (str(error).strip() or type(error).__name__).splitlines()[0][:120]
            warnings.warn(
                f"{self.prior.name} runs without a CUDA graph, it can't be captured: {reason}", stacklevel=2
            )
            return None


class BufferedCall:
    """A prior's `ask` on inputs that are always in the same place; on CUDA as a graph."""

    def __init__(
        self, prior: DiffusersPrior, z_t: Tensor, time: Tensor, text: TextCondition, freeu: bool
    ) -> None:
        self.z_t, self.time, self.text = z_t.clone(), time.clone(), text.map(Tensor.clone)
        self.ask: Callable[[], Tensor] = lambda: prior.ask(self.z_t, self.time, self.text, freeu)
        self.graph: torch.cuda.CUDAGraph | None = None
        if z_t.is_cuda:
            with torch.cuda.device(z_t.device):
                self._capture()

    def _capture(self) -> None:
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(WARM_UP):
                self.ask()
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            self.output = self.ask()
        self.graph = graph

    def __call__(self, z_t: Tensor, time: Tensor, text: TextCondition) -> Tensor:
        buffers, inputs = (self.z_t, self.time, *self.text.tensors()), (z_t, time, *text.tensors())
        for buffer, value in zip(buffers, inputs, strict=True):
            buffer.copy_(value)
        if self.graph is None:
            return self.ask()
        self.graph.replay()
        return self.output.clone()
