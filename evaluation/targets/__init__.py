"""The built-in targets: one module a runtime, each optional dependency imported in one place."""
