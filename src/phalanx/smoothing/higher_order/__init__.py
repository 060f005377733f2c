"""The gradient certificate: how fast the votes change bounds how far the class can be lost."""
