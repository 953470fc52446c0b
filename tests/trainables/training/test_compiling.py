"""Compiled training: the same network, or plain execution with one line that says what is missing."""

from __future__ import annotations

import logging
import shutil
import sysconfig
from pathlib import Path

import pytest
import torch
from helpers.networks.toy_problems import assert_equal, run, tiny_spec, trainer

from trainables.training.compiling import Compiled


class TestCompile:
    @pytest.fixture(autouse=True)
    def no_compiler(self, monkeypatch):
        """Do not reset the compiler, which would import it and take seconds."""
        monkeypatch.setattr(torch.compiler, "reset", lambda: None)

    def test_falls_back_with_one_message(self, monkeypatch, caplog):
        def broken(model, **_):
            def call(x):
                raise RuntimeError("no compiler here\nwith a long trace")

            return call

        monkeypatch.setattr(torch, "compile", broken)
        with caplog.at_level(logging.WARNING):
            fallback = run(tiny_spec(epochs=1, compile=True))
        assert_equal(fallback.model, run(tiny_spec(epochs=1)).model)
        assert [record.getMessage() for record in caplog.records] == [
            "`training.compile`: torch.compile failed, training continues without it: no compiler here"
        ]

    @pytest.mark.parametrize(("error", "line"), [
        ("InvalidCxxCompiler: No working C++ compiler found in cpp.cxx: (None, 'g++')\n\nSet TORCH_LOGS",
         "InvalidCxxCompiler: No working C++ compiler found in cpp.cxx: (None, 'g++'); install g++"),
        ("CppCompileError: C++ compile error\n\nOutput:\na.cpp:34:10: fatal error: Python.h: No such file or "
         "directory\n   34 | #include <Python.h>",
         "Python.h: No such file or directory; install Python's headers (python3-dev, python3-devel)"),
        ("CppCompileError: C++ compile error\n\nOutput:\na.cpp:3:1: error: 'x' was not declared",
         "'x' was not declared"),
        ("CppCompileError: C++ compile error\n\nOutput:\n/usr/bin/ld: cannot find -ltorch: No such file or directory\n"
         "collect2: error: ld returned 1 exit status",
         "ld returned 1 exit status; torch lies in a folder with a space in its path: make the environment in another"),
    ])  # fmt: skip
    def test_the_message_names_what_is_missing_and_what_to_install(self, error, line, monkeypatch, caplog):
        def refused(*_, **__):
            raise RuntimeError(error)

        monkeypatch.setattr(torch, "compile", refused)
        with caplog.at_level(logging.WARNING):
            run(tiny_spec(epochs=1, compile=True))
        assert [record.getMessage().partition("without it: ")[2] for record in caplog.records] == [line]

    def test_the_compiled_network_is_trained(self, monkeypatch):
        calls = []
        monkeypatch.setattr(torch, "compile", lambda model, **_: lambda x: calls.append(1) or model(x))
        made = run(tiny_spec("adversarial_training", train_epsilon=0.1, epochs=1, compile=True))
        assert_equal(made.model, run(tiny_spec("adversarial_training", train_epsilon=0.1, epochs=1)).model)
        assert len(calls) == 6 * (3 + 1)

    def test_training_works_on_platforms_without_it(self, monkeypatch, caplog):
        def refused(*_, **__):
            raise RuntimeError("torch.compile is not supported here")

        monkeypatch.setattr(torch, "compile", refused)
        assert run(tiny_spec(epochs=1, compile=True)).done
        assert "not supported here" in caplog.text

    def test_second_order_methods_ignore_it(self, caplog):
        with caplog.at_level(logging.WARNING):
            made = trainer(tiny_spec("locally_linear", train_epsilon=0.1, compile=True))
        assert "differentiates gradients" in caplog.text
        assert not isinstance(made._trained, Compiled)


@pytest.mark.slow
@pytest.mark.skipif(" " in torch.__file__, reason="torch cannot compile from a folder with a space in its path")
@pytest.mark.skipif(shutil.which("g++") is None, reason="needs g++")
@pytest.mark.skipif(not Path(sysconfig.get_path("include"), "Python.h").exists(), reason="needs Python's headers")
@pytest.mark.parametrize(
    "spec",
    [
        # half a minute on a CPU
        pytest.param({"method": "natural"}, marks=pytest.mark.chaos),
        # each mode of the attack's passes is compiled again
        pytest.param({"method": "adversarial_training", "train_epsilon": 0.1}, marks=pytest.mark.gpu),
    ],
)
def test_a_compiled_network_trains_to_the_same_weights(tmp_path, monkeypatch, caplog, spec):
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    spec |= {"epochs": 1, "name": "mlp"}
    with caplog.at_level(logging.WARNING):
        made = run(tiny_spec(**spec, compile=True))
    assert made._trained.compiles
    assert caplog.messages == []
    for name, value in run(tiny_spec(**spec)).model.state_dict().items():
        assert torch.allclose(value, made.model.state_dict()[name], atol=1e-4), name
