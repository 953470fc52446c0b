"""The same exact search on a GPU, in chunks through torch, without pruning."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from trainables.data.base import Integers, Pixels
from trainables.separation.nearest import Advance, Encoded, Nearest
from trainables.spec import Norm

_QUERIES = 256
_CHUNK_BYTES = 2**28


class TorchSearch:
    """Finds exact nearest neighbours as `trainables.separation.nearest.Encoder` does, on a torch device.

    Its tests run on the CPU's torch; on a CUDA device only the tests marked gpu exercise it.

    Args:
        norm: `linf` or `l2`.
        device: Where the distances are computed.
    """

    def __init__(self, *, norm: Norm, device: torch.device | str) -> None:
        self.norm = norm
        self.device = torch.device(device)

    def encode(self, images: Pixels, labels: Integers, /) -> Encoded:
        """Return images as rows of pixels, which is all this search needs."""
        flat = np.ascontiguousarray(images.reshape(len(images), -1))
        return Encoded(flat, flat[:, :0], np.ascontiguousarray(labels, dtype=np.int64))

    def nearest(
        self,
        queries: Encoded,
        references: Encoded,
        /,
        *,
        same_label: bool = False,
        on_advance: Advance = lambda _: None,
    ) -> Nearest:
        """Find for each query the exact nearest reference of another label, or of the same one."""
        others, other_labels = self._load(references)
        distances, indices = [], []
        for start in range(0, len(queries), _QUERIES):
            images, labels = self._load(queries, slice(start, start + _QUERIES))
            distance, index = self._search(images, labels, others, other_labels, same_label=same_label)
            distances.append(distance.cpu().numpy())
            indices.append(index.cpu().numpy())
            on_advance(len(labels))
        return Nearest(np.concatenate(distances), np.concatenate(indices))

    def _load(self, encoded: Encoded, rows: slice = slice(None)) -> tuple[Tensor, Tensor]:
        images, labels = (torch.tensor(array[rows], device=self.device) for array in (encoded.head, encoded.labels))
        # float64 holds every integer that a squared distance can be.
        return (images if self.norm == "linf" else images.double()), labels

    def _search(
        self, images: Tensor, labels: Tensor, others: Tensor, other_labels: Tensor, *, same_label: bool
    ) -> tuple[Tensor, Tensor]:
        count, num_pixels = images.shape
        most = 255**2 * num_pixels + 1
        best = torch.full((count,), most, dtype=torch.int64, device=self.device)
        index = torch.full_like(best, -1)
        chunk = max(1, _CHUNK_BYTES // (count * (num_pixels if self.norm == "linf" else 16)))
        for start in range(0, len(others), chunk):
            part = slice(start, start + chunk)
            distances = self._distances(images, others[part])
            distances[(labels[:, None] == other_labels[part]) != same_label] = most
            least = distances.amin(dim=1)
            # Of equal values argmin may name any; the smallest index is promised.
            positions = torch.arange(start, start + distances.shape[1], device=self.device)
            first = positions.where(distances == least[:, None], positions[-1]).amin(dim=1)
            index = torch.where(least < best, first, index)
            best = torch.minimum(least, best)
        return best.where(index >= 0, -1), index

    def _distances(self, images: Tensor, others: Tensor) -> Tensor:
        if self.norm == "linf":
            a, b = images[:, None], others[None]
            return (torch.maximum(a, b) - torch.minimum(a, b)).amax(dim=2).long()
        squares = images.square().sum(dim=1)[:, None] + others.square().sum(dim=1)
        return (squares - 2 * images @ others.T).long()
