"""A simulated accelerator: computed, never measured."""
