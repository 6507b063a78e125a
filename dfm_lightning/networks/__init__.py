"""Network architectures; denoisers decide what they are trained for."""
