"""What an edit costs: one table of measured constants, and the prediction that `gs-ssd doctor` makes from it.

CPU rows were measured on one thread of a 2-core x86-64 server (AMD EPYC), as processor time, which other work beside it
moves least. Nothing here is measured on a GPU: those rows follow from counts of operations and published speeds, and a
prediction made from them says so.

Nothing here imports torch: a prediction costs milliseconds.
"""

from __future__ import annotations

from dataclasses import dataclass

from gs_ssd.session.footprints import footprint, gpu_peak

MEGA = 1e6


@dataclass(frozen=True)
class PriorCost:
    """Of one family of priors.

    Attributes:
        side: pixels of the pictures that the times are of; they grow with the area.
        prediction: seconds per noise prediction.
        encode: seconds to encode one view and go back.
        load: seconds until it is there.
        memory_mb: per view of this side, weights included; of the GPU's memory where it runs there, 0 for a model
            that `footprints` knows.
    """

    side: int
    prediction: float
    encode: float
    load: float
    memory_mb: float = 0.0


CPU_PRIORS = {
    "embedded": PriorCost(side=128, prediction=0.0145, encode=0.002, load=1.0, memory_mb=30),
    "tiny": PriorCost(side=64, prediction=0.004, encode=0.004, load=0.5, memory_mb=20),
}
CUDA_PRIORS = {  # from counts of operations for an A100; not measured
    "embedded": PriorCost(side=128, prediction=0.003, encode=0.002, load=2.0, memory_mb=500),
    "sd": PriorCost(side=512, prediction=0.013, encode=0.05, load=15.0),
    "ip2p": PriorCost(side=512, prediction=0.013, encode=0.06, load=15.0),
}

# A step asks the network once for all its noise predictions. n of them together take CALL + n (1 - CALL/4): fewer than
# four save less than their share, as the steps of SDS (two) and NFSD (three) showed beside SSD's four.
CALL = 1.2
# What a step of each method costs beyond that, in the same unit: gradients through the network, training.
METHODS = {
    "SSD": 0.0,
    "SSDIP2P": 0.0,
    "DDS": 0.0,
    "PDS": 0.0,
    "DreamCatalyst": 0.0,
    "DreamCatalystIP2P": 0.0,
    "NFSD": 0.0,
    "SDS": 0.0,
    "CSD": 0.0,
    "CDS": 4.1,
    "VSD": 8.7,
    # Per step of the run, pictures edited in between included: as calibrated for the embedded prior.
    "Refit": 3.0,
    "SDEdit": 1.4,
    "DDIMInversion": 1.4,
    "InstructPix2Pix": 3.2,
    "FlowEdit": 2.4,
}


@dataclass(frozen=True)
class DeviceCost:
    """Of rendering and everything around it, in seconds.

    Attributes:
        start: of imports and of composing the settings.
        compile: of the kernels, where they have not been compiled before.
        gaussian: of rendering a picture and going back, per Gaussian.
        pixel: the same per pixel.
        forward: the share of it that rendering alone takes.
        update: of the optimiser and the anchors, per Gaussian and step.
        results: of metrics, pictures and files that every run leaves.
        frame: of a video's frame beside rendering it, per pixel.
        serial: the share of the work that further threads don't make faster.
    """

    start: float
    compile: float
    gaussian: float
    pixel: float
    forward: float
    update: float
    results: float
    frame: float
    serial: float


CPU = DeviceCost(
    start=6.0,
    compile=55.0,
    gaussian=0.25e-6,
    pixel=60e-9,
    forward=0.5,
    update=0.08e-6,
    results=4.0,
    frame=250e-9,
    serial=0.15,
)
CUDA = DeviceCost(
    start=12.0,
    compile=240.0,
    gaussian=0.01e-6,
    pixel=2e-9,
    forward=0.4,
    update=0.01e-6,
    results=8.0,
    frame=150e-9,
    serial=1.0,
)
BASE_MB = 850.0  # torch, diffusers, the kernels, the judge, and what making the results leaves
# Per Gaussian: parameters, gradients, two moments, before and after; 135 numbers for rendering and finding the frame.
COPIES, RENDERING = 6, 135
PIXEL_BYTES = 150.0  # of the larger of a training view and a video's frame


@dataclass(frozen=True)
class Job:
    """What an edit is made of, as far as it costs anything.

    Attributes:
        gaussians: of the scene.
        family, method: of the prior, and the guidance's class.
        predictions: of noise, that a guidance asks for in a step of one view; 0 where none is distilled in a step.
        side: of the training views, pixels; `views` of them in each of `steps` steps.
        frames, frame_side: of the videos.
        degree: of the scene's harmonics.
        asked: views from which the prior is asked before the first step.
    """

    gaussians: int
    family: str
    method: str
    predictions: int
    steps: int
    views: int
    side: int
    frames: int
    frame_side: int
    degree: int = 3
    asked: int = 0


@dataclass(frozen=True)
class Cost:
    """A prediction.

    Attributes:
        seconds: by part of the run, in its order.
        memory_mb: of the process at its peak.
        gpu_mb: of the GPU at its peak; 0 on a CPU.
        measured: whether every constant was measured.
    """

    seconds: dict[str, float]
    memory_mb: float
    gpu_mb: float
    measured: bool

    @property
    def total(self) -> float:
        return sum(self.seconds.values())


def asked(job: Job) -> float:
    """Of the network, for one view in one step, in predictions of a batch of four."""
    batch = CALL + job.predictions * (1 - CALL / 4) if job.predictions else 0.0
    return batch + METHODS[job.method]


def predict(job: Job, *, cuda: bool, threads: int = 1, compiled: bool = True) -> Cost | None:
    """What a job costs; None for a prior that the table doesn't know on that device."""
    prior = (CUDA_PRIORS if cuda else CPU_PRIORS).get(job.family)
    if prior is None or job.method not in METHODS:
        return None
    device = CUDA if cuda else CPU
    faster = device.serial + (1 - device.serial) / max(threads, 1)
    pixels, frame_pixels = job.side**2, job.frame_side**2
    area = pixels / prior.side**2
    rendered = device.gaussian * job.gaussians + device.pixel * pixels
    view = rendered * (1 + device.forward) + (prior.encode + asked(job) * prior.prediction) * area
    large = footprint(job.family)
    own = prior.memory_mb * max(area * job.views, 1.0)
    gpu = own if large is None else 1e3 * gpu_peak(large, side=job.side, views=job.views)
    step = job.views * view + device.update * job.gaussians
    # Five pictures of each, and two predictions in one call.
    outline = (
        5 * rendered * device.forward
        + (2 * prior.encode + (CALL + 2 * (1 - CALL / 4)) * prior.prediction) * area
    )
    numbers = COPIES * (11 + 3 * (job.degree + 1) ** 2) + RENDERING
    picture = device.forward * (device.gaussian * job.gaussians + device.pixel * frame_pixels)
    return Cost(
        seconds={
            "start": device.start + prior.load,
            "kernels": 0.0 if compiled else device.compile,
            "outline": job.asked * outline * faster,
            "steps": job.steps * step * faster,
            "results": device.results + job.frames * (2 * picture * faster + device.frame * frame_pixels),
        },
        memory_mb=BASE_MB
        + 4 * numbers * job.gaussians / MEGA
        + PIXEL_BYTES * max(pixels * job.views, frame_pixels) / MEGA
        + (1500.0 if cuda else own),
        gpu_mb=gpu if cuda else 0.0,
        measured=not cuda,
    )
