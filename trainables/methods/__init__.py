"""Training methods by name; each is one file of this package."""

from trainables.registry import Registry

METHODS = Registry(
    "method",
    {
        "natural": "trainables.methods.natural:Natural",
        "gradient_regularization": "trainables.methods.gradient_regularization:GradientRegularization",
        "locally_linear": "trainables.methods.locally_linear:LocallyLinear",
        "adversarial_training": "trainables.methods.adversarial_training:AdversarialTraining",
        "robust_self_training": "trainables.methods.robust_self_training:RobustSelfTraining",
        "trades": "trainables.methods.trades:Trades",
    },
)
