"""The record of truth: Optuna's storage, who may write it, and the rows that views read."""
