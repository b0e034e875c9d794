"""Networks: tensors in, tensors out. No I/O and no choice of device in their constructors."""
