"""A small UNet on the CPU in ONNX Runtime: the same numbers within rounding, in half to two thirds of the time.

Small networks spend a good part of a call outside their products: in Python, in laying out weights again, and in passes
over memory that a whole graph can join. The export takes about two seconds and holds for any batch and size.
"""

from __future__ import annotations

import io
import warnings
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from gs_ssd.diffusion.text import TextCondition
from gs_ssd.errors import UserError

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

    from gs_ssd.diffusion.diffusers_prior import DiffusersPrior
    from gs_ssd.diffusion.stable_diffusion import StableDiffusionPrior

LARGEST = 50e6  # parameters: above, the products are all that counts, and copies of the weights are dear
AXES = {"z_t": {0: "batch", 2: "height", 3: "width"}, "time": {0: "batch"}, "hidden": {0: "batch"}}


class _Plain(torch.nn.Module):
    """A prior's UNet with tensors in and a tensor out."""

    def __init__(self, prior: StableDiffusionPrior) -> None:
        super().__init__()
        self.unet = prior.unet  # whose weights the export takes along
        self.call = prior.forward

    def forward(self, z_t: Tensor, time: Tensor, hidden: Tensor) -> Tensor:
        return self.call(z_t, time, TextCondition(hidden))


class OnnxUNet:
    """Asks a prior's UNet through ONNX Runtime; the first call exports it. FreeU and ControlNets go around it.

    Raises:
        UserError: the network is none that this is for, or a package is missing; says what to do.
    """

    def __init__(self, prior: DiffusersPrior) -> None:
        from gs_ssd.diffusion.stable_diffusion import StableDiffusionPrior

        if not (isinstance(prior, StableDiffusionPrior) and is_small(prior.network)):
            raise UserError(
                "diffusion.onnx=true is for UNets of one text encoder in float32 on the CPU, "
                f"below {LARGEST / 1e6:.0f} million parameters; leave it out for {prior.name}"
            )
        try:
            import onnx  # noqa: F401  torch's exporter needs it
            import onnxruntime  # noqa: F401
        except ImportError as error:
            raise UserError(f'diffusion.onnx=true needs {error.name}: pip install "gs_ssd[onnx]"') from error
        self.prior = prior
        self.session: InferenceSession | None = None

    def forget(self) -> None:
        self.session = None

    def __call__(self, z_t: Tensor, time: Tensor, text: TextCondition, freeu: bool) -> Tensor:
        if freeu or text.control is not None:
            return self.prior.ask(z_t, time, text, freeu)
        inputs = {"z_t": z_t, "time": time, "hidden": text.hidden}
        if self.session is None:
            self.session = _session(_Plain(self.prior).eval(), inputs)
        arrays = {name: x.contiguous().numpy() for name, x in inputs.items()}
        return torch.from_numpy(self.session.run(None, arrays)[0])


def _session(plain: _Plain, inputs: dict[str, Tensor]) -> InferenceSession:
    import onnxruntime

    buffer = io.BytesIO()
    with warnings.catch_warnings(), torch.no_grad():
        # torch recommends its newer exporter, which takes twenty times as long for the same graph.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            plain,
            tuple(inputs.values()),
            buffer,  # type: ignore[arg-type]  # the older exporter writes to a buffer, which its signature doesn't say
            dynamo=False,
            input_names=list(inputs),
            dynamic_axes=AXES,
        )
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.add_session_config_entry(
        "session.intra_op.allow_spinning", "0"
    )  # the rasterizer's threads need the cores
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(buffer.getvalue(), options, providers=["CPUExecutionProvider"])


def is_small(network: torch.nn.Module) -> bool:
    """Whether a network is a small one in float32 on the CPU."""
    parameters = list(network.parameters())
    small = sum(p.numel() for p in parameters) < LARGEST
    return small and all(p.device.type == "cpu" and p.dtype == torch.float32 for p in parameters)
