"""Clusters in a network of their own, without a way out, whose links can be cut, slowed and made to lose."""
