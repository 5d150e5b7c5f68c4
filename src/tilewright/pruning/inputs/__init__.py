"""What layers see: a model is called on data, and the inputs of its layers are collected, without the padding."""
