"""Names of the baselines in metrics.json, in tables and in the report, and what each one shows."""

from __future__ import annotations

LINEAR_PROBE = "logit-adjusted linear probe"
BALANCED_KNN = "class-balanced k-NN"
PLAIN_KNN = "plain k-NN"
PIXEL_KNN = "plain k-NN on pixels"

MEANINGS = {
    LINEAR_PROBE: "A linear classifier on the frozen features, corrected for the class sizes: what a head and a loss "
    "like those of this run give without trained modules.",
    BALANCED_KNN: "As plain k-NN, with votes divided by the number of training chips of their class.",
    PLAIN_KNN: "The training chips with the most similar frozen features vote. Common classes have more votes.",
    PIXEL_KNN: "The training chips with the most similar 16 x 16 pixels vote, without a network.",
}
"""What each baseline shows, by its name."""

EARLIER_NAMES = {
    "linear probe, logit-adjusted": LINEAR_PROBE,
    "k-NN, frozen features, balanced": BALANCED_KNN,
    "k-NN, frozen features": PLAIN_KNN,
    "k-NN, 16 x 16 pixels": PIXEL_KNN,
}
"""Names in metrics.json of rsft 0.1, with their present ones."""
