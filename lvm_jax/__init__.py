"""Overparameterized latent-variable models: what is recovered?"""
