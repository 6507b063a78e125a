"""Network architectures; what they are trained for is the business of the denoisers."""
