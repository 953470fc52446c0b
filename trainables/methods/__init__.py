"""Training methods by name; each is one file of this package."""

from trainables.registry import Registry

METHODS = Registry(
    "method",
    {
        "natural": "trainables.methods.natural:Natural",
        "adversarial_training": "trainables.methods.adversarial_training:AdversarialTraining",
        "trades": "trainables.methods.trades:Trades",
    },
)
