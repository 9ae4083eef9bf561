"""One edit by several processes, as `torchrun` starts them.

Every rank has the whole scene, draws the same views, timesteps and noise, and takes its part of the views. Gradients
are averaged over the ranks and screen-space statistics added up, so that all of them move their scene alike, as one
process with all the views would. One rank alone computes what it did without this module, to the bit.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch
from torch import Tensor

from gs_ssd.devices import upload
from gs_ssd.errors import RankLostError, UserError

NAMES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")  # what torchrun tells a process
PATIENCE = timedelta(minutes=10)  # how long a rank waits for the others, who may be writing a checkpoint


@dataclass(frozen=True)
class Ranks:
    """This process among those that work on the same edit.

    Attributes:
        rank, size: its number and theirs.
        local: its number on its machine, which is that of its GPU.
    """

    rank: int = 0
    size: int = 1
    local: int = 0

    @property
    def first(self) -> bool:
        """Whether this is the rank that writes and speaks."""
        return self.rank == 0

    def check_views(self, count: int) -> None:
        """Raise UserError unless `count` views per step can be shared out evenly."""
        if count % self.size:
            more = -(-count // self.size) * self.size
            raise UserError(
                f"views_per_step={count} can't be shared out among {self.size} ranks; use views_per_step={more}"
            )

    def part(self, count: int) -> slice:
        """Which of `count` views are this rank's."""
        own = count // self.size
        return slice(self.rank * own, (self.rank + 1) * own)

    def noise_like(self, z: Tensor, generator: torch.Generator | None) -> Tensor:
        """Standard normal noise for this rank's latents z [b, ...], drawn for those of all ranks together."""
        count = self.size * len(z)
        noise = torch.randn((count, *z.shape[1:]), generator=generator)[self.part(count)]
        return upload(noise, z.device).to(z.dtype)

    def add_up(self, tensors: Sequence[Tensor]) -> None:
        """Replace tensors by their sums over the ranks, all in one exchange. Raises RankLostError."""
        if self.size == 1 or not tensors:
            return
        kind = torch.promote_types(tensors[0].dtype, torch.float32)
        flat = torch.cat([tensor.detach().to(kind).reshape(-1) for tensor in tensors])
        with self._peers():
            torch.distributed.all_reduce(flat)
        for tensor, total in zip(tensors, flat.split([tensor.numel() for tensor in tensors])):
            tensor.copy_(total.reshape(tensor.shape))

    def average(self, tensors: Sequence[Tensor]) -> None:
        """Replace tensors by their means over the ranks. Raises RankLostError."""
        self.add_up(tensors)
        if self.size > 1:
            for tensor in tensors:
                tensor.div_(self.size)

    def any(self, flag: bool) -> bool:
        """Whether `flag` is set on some rank. Raises RankLostError."""
        total = torch.tensor(float(flag))
        self.add_up([total])
        return bool(total > 0)

    def from_first(self, text: str) -> str:
        """The text of the first rank. Raises RankLostError."""
        texts = [text]
        if self.size > 1:
            with self._peers():
                torch.distributed.broadcast_object_list(texts)
        return texts[0]

    @contextmanager
    def _peers(self) -> Iterator[None]:
        try:
            yield
        except RuntimeError as error:  # what gloo and NCCL raise when a peer is gone
            raise RankLostError(f"one of {self.size} ranks ended") from error

    def check_same(self, what: str, digest: str) -> None:
        """Raise UserError where `digest` differs from the first rank's: they would edit different things."""
        if self.size == 1:
            return
        digests: list[str] = [""] * self.size
        with self._peers():
            torch.distributed.all_gather_object(digests, digest)
        others = [rank for rank, own in enumerate(digests) if own != digests[0]]
        if others:
            raise UserError(
                f"rank {others[0]} has {what} other than rank 0's; give all {self.size} ranks the same command, files "
                "and versions"
            )


ALONE = Ranks()


@contextmanager
def joined() -> Iterator[Ranks]:
    """The ranks that torchrun started, joined for as long as the context lasts; ALONE without torchrun.

    Raises UserError where the environment is not torchrun's, or fewer processes came than it promised.
    """
    promised = os.environ.get("WORLD_SIZE")
    if promised is None or promised == "1":
        yield ALONE
        return
    missing = [name for name in NAMES if not os.environ.get(name, "").strip()]
    if missing:
        raise UserError(
            f"WORLD_SIZE={promised} without {', '.join(missing)}: start with torchrun --nproc-per-node=<count>, "
            "or unset WORLD_SIZE"
        )
    ranks = Ranks(*(int(os.environ[name]) for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK")))
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    try:
        torch.distributed.init_process_group(backend, timeout=PATIENCE)
    except (RuntimeError, ValueError) as error:
        reason = str(error).splitlines()[0][:120]
        raise UserError(f"{promised} ranks could not find each other ({reason}); start them anew") from error
    try:
        here = torch.ones(())
        ranks.add_up([here])
        if here.item() != ranks.size or torch.distributed.get_world_size() != ranks.size:
            raise UserError(f"{here.item():.0f} ranks are here, {promised} were promised; start them anew")
        yield ranks
    finally:
        # gloo's thread drops its last tensor through Python, and aborts the process if that is gone by then
        time.sleep(0.2)
        torch.distributed.destroy_process_group()


def first_to_end() -> bool:
    """Whether no other of torchrun's processes has said its last line yet: of them all, one is shown.

    The one that failed comes first, and those that fail because it is gone are silent.
    """
    if int(os.environ.get("WORLD_SIZE", 1)) < 2 or any(not os.environ.get(name) for name in NAMES):
        return True
    try:
        store = torch.distributed.TCPStore(
            os.environ["MASTER_ADDR"],
            int(os.environ["MASTER_PORT"]),
            is_master=False,
            timeout=timedelta(seconds=20),
        )
        key = f"gs_ssd/ended/{os.environ.get('TORCHELASTIC_RESTART_COUNT', 0)}"
        return store.add(key, 1) == 1
    except (RuntimeError, ValueError):  # the store went with its process
        return True
