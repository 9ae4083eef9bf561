"""What checkpoints rely on: arguments kept as attributes, states that restore to the bit, and a light import."""

from __future__ import annotations

import inspect
import subprocess
import sys
from dataclasses import replace

import pytest
import torch

from gs_ssd import guidance
from gs_ssd.diffusion.tiny import tiny_prior
from gs_ssd.guidance import CDS, CSD, DDS, SSD, VSD, Guidance, encode_prompts
from tests.guidance.stub import Case

CLASSES = [
    value for value in vars(guidance).values() if inspect.isclass(value) and issubclass(value, Guidance)
]


def arguments(component: object) -> dict:
    return {name: getattr(component, name) for name in inspect.signature(type(component)).parameters}


@pytest.mark.parametrize("method", [c for c in CLASSES if c is not Guidance], ids=lambda c: c.__name__)
def test_every_constructor_argument_stays_an_attribute(method):
    """Every argument moved off its default, as far as its type lets it, and found again."""
    changed = {}
    for name, parameter in inspect.signature(method).parameters.items():
        default = parameter.default
        if name == "score":
            changed[name] = SSD(w_p=2.0)
        elif isinstance(default, bool):
            changed[name] = not default
        elif isinstance(default, int | float):
            changed[name] = default + (1 if isinstance(default, int) else 0.25)
        elif name == "id_schedule":
            changed[name] = "const"
        elif name == "form":
            changed[name] = "velocity"
        elif name == "init":
            changed[name] = "gaussian"
        elif name == "patch_sizes":
            changed[name] = (1, 3)
    built = method(**changed)
    assert arguments(built) == changed
    assert arguments(method(**arguments(built))) == changed


def case(**kwargs) -> Case:
    prior = tiny_prior()
    z, z_src, noise = torch.randn(3, 1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    text = encode_prompts(prior, target="a clown", source="a man")
    return Case(prior, z, z_src, noise, text, 300, generator=torch.Generator().manual_seed(1), **kwargs)


@pytest.mark.slow
@pytest.mark.parametrize("method", [VSD, lambda: CDS(VSD())], ids=["vsd", "cds"])
def test_adapters_and_their_moments_restore_to_the_bit(method):
    step, never_stopped = case(), method()
    for _ in range(3):
        step.g(never_stopped)
    state = {name: tensor.clone() for name, tensor in never_stopped.state_dict().items()}
    random = step.generator.get_state()
    expected = [step.g(never_stopped) for _ in range(3)]

    resumed = method()
    resumed.prepare(step.prior)
    resumed.load_state_dict(state)
    again = replace(step, generator=torch.Generator())
    again.generator.set_state(random)
    assert all(torch.equal(again.g(resumed), grad) for grad in expected)
    assert all(
        torch.equal(tensor, never_stopped.state_dict()[name]) for name, tensor in resumed.state_dict().items()
    )


def test_a_state_that_does_not_fit_is_refused():
    step, vsd = case(), VSD(rank=2)
    vsd.prepare(step.prior)
    other = VSD(rank=3)
    other.prepare(step.prior)
    with pytest.raises(ValueError, match="at this rank"):
        vsd.load_state_dict(other.state_dict())
    with pytest.raises(ValueError, match="incomplete"):
        vsd.load_state_dict({})
    with pytest.raises(ValueError, match="before it is prepared"):
        VSD().load_state_dict({})
    assert DDS().state_dict() == {}
    with pytest.raises(ValueError, match="csd has no state to restore"):
        CSD().load_state_dict(other.state_dict())


@pytest.mark.slow
def test_importing_the_methods_costs_torch_and_little_more():
    code = """
import sys, time, torch
start = time.process_time()
import gs_ssd.guidance
print(time.process_time() - start)
print([name for name in ("diffusers", "transformers", "peft", "hydra", "numba") if name in sys.modules])
"""
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    seconds, heavy = out.stdout.splitlines()
    assert heavy == "[]"
    assert float(seconds) < 0.3
