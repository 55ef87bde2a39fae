"""Samplers by name: plain arguments in, an Optuna sampler out."""

from __future__ import annotations

from search.samplers.optuna_samplers import Gp, Nsga2, Nsga3, Qmc, Random, Tpe
from search.samplers.sensitivity import Sensitivity
from search.samplers.setting import Sampler, Setting

__all__ = [
    "SAMPLERS",
    "Gp",
    "Nsga2",
    "Nsga3",
    "Qmc",
    "Random",
    "Sampler",
    "Sensitivity",
    "Setting",
    "Tpe",
]

SAMPLERS: dict[str, type[Sampler]] = {
    "random": Random,
    "tpe": Tpe,
    "nsga2": Nsga2,
    "nsga3": Nsga3,
    "gp": Gp,
    "qmc": Qmc,
    "sensitivity": Sensitivity,
}
