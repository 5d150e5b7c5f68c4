"""Distillation as a training loss: its value equals that of `recover_`, and its gradients can score a dense student."""

import copy

import pytest
import torch
from torch import nn

import tilewright
from tilewright.errors import ArgumentError
from tilewright.pruning import Calibration
from tilewright.training import Distillation, RecoverOptions, recover_

OPTIONS = RecoverOptions(steps=1, hidden=0.5, layers=("0",), output_loss="mse")


def models():
    torch.manual_seed(0)
    teacher = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 4))
    return copy.deepcopy(teacher), teacher


def test_the_loss_is_that_of_recover():
    student, teacher = models()
    tilewright.sparsify_(student, "1:4")
    batch = torch.randn(16, 8)
    value = Distillation(teacher, OPTIONS)(student, batch).item()
    assert value == recover_(student, teacher, [batch], options=OPTIONS).losses[0]
    assert value > 0.01


def gradient(student, teacher, scored):
    loss = Distillation(teacher, OPTIONS, scored=scored)(student, torch.linspace(-1, 1, 128).view(16, 8))
    return loss.item(), torch.autograd.grad(loss, student[0].weight)[0]


def test_a_dense_student_has_gradients_only_where_they_are_to_score():
    student, teacher = models()
    plain, scored = gradient(student, teacher, scored=False), gradient(student, teacher, scored=True)
    assert plain[0] == scored[0] == 0
    assert not plain[1].any()
    assert scored[1].count_nonzero() > 32
    torch.testing.assert_close(scored[1], gradient(student, teacher, scored=True)[1], rtol=0, atol=0)


def test_a_pruned_student_has_the_gradients_of_the_loss_alone():
    student, teacher = models()
    tilewright.sparsify_(student, "1:4")
    plain, scored = gradient(student, teacher, scored=False), gradient(student, teacher, scored=True)
    torch.testing.assert_close(plain[1], scored[1], rtol=0, atol=0)


def test_its_gradients_find_the_weights_that_matter():
    """The first output does not affect the result: its Taylor scores are zero and it is pruned first, however large it is."""
    teacher = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 4))
    with torch.no_grad():
        teacher[0].weight[0] *= 100
        teacher[1].weight[:, 0] = 0
    student = copy.deepcopy(teacher)
    loss = Distillation(teacher, RecoverOptions(steps=1, hidden=0), scored=True)
    data = Calibration([torch.randn(16, 8) for _ in range(8)], loss)
    tilewright.sparsify_(student, "any@12.5%", score="taylor", targets=["0"], data=data)
    assert not student[0].weight[0].any()
    assert student[0].weight[1:].all()


def test_a_student_that_is_its_own_teacher_is_refused():
    student, _ = models()
    with pytest.raises(ArgumentError, match="share the parameter"):
        Distillation(student, OPTIONS)(student, torch.randn(2, 8))
