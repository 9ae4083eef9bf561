"""Score-distillation methods: one formula over noise predictions per file."""

from gs_ssd.guidance.base import Branch, Guidance, Step, encode_prompts, inject_gradient
from gs_ssd.guidance.cds import CDS
from gs_ssd.guidance.csd import CSD
from gs_ssd.guidance.dds import DDS
from gs_ssd.guidance.dreamcatalyst import DreamCatalyst
from gs_ssd.guidance.dreamcatalyst_ip2p import DreamCatalystIP2P
from gs_ssd.guidance.nfsd import NFSD
from gs_ssd.guidance.pds import PDS
from gs_ssd.guidance.sds import SDS
from gs_ssd.guidance.ssd import SSD
from gs_ssd.guidance.ssd_ip2p import SSDIP2P
from gs_ssd.guidance.vsd import VSD

__all__ = [
    "CDS",
    "CSD",
    "DDS",
    "NFSD",
    "PDS",
    "SDS",
    "SSD",
    "SSDIP2P",
    "VSD",
    "Branch",
    "DreamCatalyst",
    "DreamCatalystIP2P",
    "Guidance",
    "Step",
    "encode_prompts",
    "inject_gradient",
]
