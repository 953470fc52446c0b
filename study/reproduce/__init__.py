"""The paper's tables as studies: what each holds, at which scale, and the command that runs them."""
