"""What several tests need of a model."""

import itertools

import torch


def randomise(model, std=0.2):
    """Draws all parameters so wide that a wrong formula shows; returns the model."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=std)
    return model


def assert_equal(actual, expected, tolerance=1e-9):
    torch.testing.assert_close(actual, expected, rtol=0, atol=tolerance)


def bytes_stored(model, inputs, lengths):
    """Bytes that the forward pass of a batch stores, except for the model itself."""
    stored = {}

    def pack(tensor):
        storage = tensor.untyped_storage()
        stored[storage.data_ptr()] = (storage.nbytes(), tensor)  # the tensor stays in its place
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        logits = model(inputs, lengths)
    for own in itertools.chain(model.parameters(), model.buffers()):
        stored.pop(own.untyped_storage().data_ptr(), None)
    assert logits.requires_grad
    return sum(size for size, _ in stored.values())
