"""cablectl joins two gateways by an overlay in IPsec transport mode, from one file."""

__version__ = "0.1.0"
