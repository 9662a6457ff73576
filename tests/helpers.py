"""What several tests need of a model."""

import torch


def randomise(model, std=0.2):
    """Draws all parameters so wide that a wrong formula shows; returns the model."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=std)
    return model


def assert_equal(actual, expected, tolerance=1e-9):
    torch.testing.assert_close(actual, expected, rtol=0, atol=tolerance)
