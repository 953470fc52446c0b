"""The paper's tables as studies at three scales, and the command that runs them."""
