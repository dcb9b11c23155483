r"""How far two sets of features are from each other: Frechet distance, precision and recall.

    d^2 = |m_1 - m_2|^2 + Tr(S_1 + S_2 - 2 (S_1 S_2)^(1/2))

is the Frechet distance between Gaussians of the means m and the covariances S of the sets. It is
named FID for the features of Inception v3 alone. Two sets of the same law have a distance above 0,
the more so the fewer images they have.

References: Heusel et al. 2017, "GANs Trained by a Two Time-Scale Update Rule" (FID),
arXiv:1706.08500; Kynkäänniemi et al. 2019, "Improved Precision and Recall Metric for Assessing
Generative Models", arXiv:1904.06991.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from unmask.errors import optional_library

NEIGHBOURS = 3
"""The neighbour whose distance is the radius of a ball, in precision and recall."""
_CHUNK = 1024


def frechet_distance(first: np.ndarray, second: np.ndarray) -> float:
    """Return d^2 between two sets of features, (N, D) and (M, D), with at least two rows each.

    With the R of S = R^T R from a QR decomposition of the centred features, the trace of
    (S_1 S_2)^(1/2) is the sum of the singular values of R_1 R_2^T. Unlike the square root of a
    matrix this is exact for singular covariances, those of fewer images than features.
    """
    from scipy.linalg import svdvals

    sets = (first, second)
    centred = [(x - x.mean(0)) / np.sqrt(len(x) - 1) for x in sets]
    root, other = (np.asarray(np.linalg.qr(x, mode="r")) for x in centred)
    common = svdvals(root @ other.T).sum()
    spread = sum(np.square(x).sum() for x in centred)
    shift = np.square(first.mean(0) - second.mean(0)).sum()
    return max(0.0, float(shift + spread - 2 * common))


def precision_recall(
    samples: np.ndarray, real: np.ndarray, neighbours: int = NEIGHBOURS
) -> tuple[float, float]:
    """Return the shares of samples among the real images, and of real images among the samples.

    A point is among the points of a set if it lies in the ball around one of them that reaches to
    its ``neighbours``-th nearest in the set.

    Args:
        samples: Features, (N, D).
        real: Features, (M, D).
        neighbours: At most as many as a set has other points.
    """
    first, second = torch.from_numpy(samples), torch.from_numpy(real)
    return _covered(first, second, neighbours), _covered(second, first, neighbours)


def _covered(points: Tensor, reference: Tensor, neighbours: int) -> float:
    k = 1 + min(neighbours, len(reference) - 1)
    # The nearest of all is the point itself.
    radius = torch.cat(
        [_distances(part, reference).kthvalue(k).values for part in reference.split(_CHUNK)]
    )
    inside = [(_distances(part, reference) <= radius).any(1) for part in points.split(_CHUNK)]
    return float(torch.cat(inside).double().mean())


def _distances(first: Tensor, second: Tensor) -> Tensor:
    # The fast form by a product of matrices does not return 0 for equal points.
    return torch.cdist(first, second, compute_mode="donot_use_mm_for_euclid_dist")


def fid(samples: np.ndarray, real: np.ndarray) -> float:
    """Return the Frechet distance as torchmetrics computes it.

    Raises:
        UserError: If torchmetrics is not installed.
    """
    with optional_library("FID", "fid"):
        from torchmetrics.image.fid import FrechetInceptionDistance
    # The features are computed already.
    same = torch.nn.Identity()
    same.num_features = samples.shape[1]
    metric = FrechetInceptionDistance(feature=same).set_dtype(torch.float64)
    metric.update(torch.from_numpy(real), real=True)
    metric.update(torch.from_numpy(samples), real=False)
    return max(0.0, float(metric.compute()))
